#!/bin/sh
# Part 1: the tip of the nose on the IMM face database, as the course has it.
#
# Shows:  a small CNN on grey 80x60 images, 25 epochs, at learning rates 1e-3 and 3e-4: both curves in
#         one plot, the MSE of both, two successes and two failures.
# Data:   IMM (see kp-prep imm --help), its folder as $1 or below $KPTOOLS_DATA or ./data. Persons 1 to
#         32 train, 33 to 40 validate; where the latter are not there, a fifth of the persons is held out.
# Takes:  about half a minute on 2 cores, 1 GB of memory.
#
#   sh examples/nose.sh [IMM]            KPTOOLS_QUICK=1: a short run
. "$(dirname -- "$0")/env.sh"

out=${OUT:-out/nose}
epochs=25
[ -n "${KPTOOLS_QUICK:-}" ] && epochs=1
mkdir -p "$out"

kp-prep imm "$@" --points nose -o "$out/nose.jsonl"
held=""
grep -q '"split":"val"' "$out/nose.jsonl" || held="--val-fraction 0.2"

# the report's protocol; the last epoch is scored, so that nothing is chosen on the faces scored
for lr in 1e-3 3e-4; do
    kp-train --arch nose --lr "$lr" --epochs "$epochs" --keep last $held \
        -o "$out/lr-$lr.safetensors" "$out/nose.jsonl" > "$out/lr-$lr.jsonl"
    echo "lr $lr: $(kp-eval --format json "$out/lr-$lr.jsonl" | sed 's/.*"mse":\([^,]*\).*/MSE \1/')"
done
kp-viz curves -o "$out/curves.png" "$out/lr-1e-3.log.jsonl" "$out/lr-3e-4.log.jsonl"
kp-viz grid --sort best --count 2 -o "$out/successes.png" "$out/lr-1e-3.jsonl" > /dev/null
kp-viz grid --sort worst --count 2 -o "$out/failures.png" "$out/lr-1e-3.jsonl" > /dev/null
