#!/bin/sh
# Part 1: the tip of the nose on the IMM face database, as the course has it.
#
# Shows:  a small CNN on grey 80x60 images, 25 epochs, at learning rates 1e-3 and 3e-4: both curves in
#         one plot, the MSE of both, two successes and two failures; beside it the best that we found:
#         a U-Net's heatmaps of all 58 points, augmented, of which the nose is kept.
# Data:   IMM (see kp-prep imm --help), its folder as $1 or below $KPTOOLS_DATA or ./data. Persons 1 to
#         32 train, 33 to 40 validate; where the latter are not there, a fifth of the persons is held out.
# Takes:  about 5 minutes on 2 cores, nearly all of it the U-Net; 1 GB of memory.
#
#   sh examples/nose.sh [IMM]            KPTOOLS_QUICK=1: a short run
. "$(dirname -- "$0")/env.sh"

out=${OUT:-out/nose${KPTOOLS_QUICK:+-quick}}
epochs=25 best="1e-3:25,3e-4:15" width=16
[ -n "${KPTOOLS_QUICK:-}" ] && epochs=1 best=1e-3:1 width=4
limit=${KPTOOLS_QUICK:+--limit 60}
mkdir -p "$out"

# shellcheck disable=SC2086
try kp-prep imm "$@" --points nose $limit -o "$out/nose.jsonl"
held=""
grep -q '"split":"val"' "$out/nose.jsonl" || held="--val-fraction 0.2"

# the report's protocol; the last epoch is scored, so that nothing is chosen on the faces scored
for lr in 1e-3 3e-4; do
    try kp-train --arch nose --lr "$lr" --epochs "$epochs" --keep last $held \
        -o "$out/lr-$lr.safetensors" "$out/nose.jsonl" > "$out/lr-$lr.jsonl"
    kp-eval "$out/lr-$lr.jsonl" | row "lr $lr" mse
done
kp-viz curves -o "$out/curves.png" "$out/lr-1e-3.log.jsonl" "$out/lr-3e-4.log.jsonl"
try kp-viz grid --sort best --count 2 --size 480x360 -o "$out/successes.png" "$out/lr-1e-3.jsonl" > /dev/null
try kp-viz grid --sort worst --count 2 --size 480x360 -o "$out/failures.png" "$out/lr-1e-3.jsonl" > /dev/null

# the best: what a point looks like is learnt where it lies, from 58 points in place of one. A flip needs
# the eyes' points in their order, so the pictures that have them reversed are repaired
# shellcheck disable=SC2086
kp-prep imm "$@" --repair $limit |
    kp-augment --rotate 15 --scale 0.1 --shift 0.08 --flip 0.5 \
        --brightness 0.3 --contrast 0.3 --saturation 0.3 |
    try kp-train --arch unet --width "$width" --stride 2 --input-size 160x120 --margin 0 \
        --schedule "$best" --keep last $held -o "$out/best.safetensors" > "$out/best.jsonl"
kp-eval --points nose "$out/best.jsonl" | row heatmaps mse
try kp-viz grid --sort worst --count 4 --size 480x360 -o "$out/best-failures.png" "$out/best.jsonl" > /dev/null
