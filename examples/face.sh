#!/bin/sh
# Part 2: all 58 points on the IMM face database, as the course has it.
#
# Shows:  the data without and with augmentation; the network of the report, 20 epochs at 3e-4 with
#         batches of 4, 8 and 16, then 100 more at 1e-4 from the checkpoint of batch 8, as one curve;
#         successes, failures, and the filters that it learned; beside it the best that we found, a
#         U-Net's heatmaps.
# Data:   IMM (see kp-prep imm --help), its folder as $1 or below $KPTOOLS_DATA or ./data. Persons 1 to
#         32 train, 33 to 40 validate; where the latter are not there, a fifth of the persons is held out.
# Takes:  about 7 minutes on 2 cores, 1 GB of memory.
#
#   sh examples/face.sh [IMM]            KPTOOLS_QUICK=1: a short run
. "$(dirname -- "$0")/env.sh"

out=${OUT:-out/face${KPTOOLS_QUICK:+-quick}}
short=20 long=100 best="1e-3:25,3e-4:15" width=16
[ -n "${KPTOOLS_QUICK:-}" ] && short=1 long=1 best=1e-3:1 width=4
limit=${KPTOOLS_QUICK:+--limit 60}
mkdir -p "$out"

# a flip needs the eyes' points in their order, so the pictures that have them reversed are repaired
# shellcheck disable=SC2086
try kp-prep imm "$@" --repair $limit -o "$out/faces.jsonl"
held=""
grep -q '"split":"val"' "$out/faces.jsonl" || held="--val-fraction 0.2"
try kp-augment --rotate 15 --shift 0.05 --flip 0.5 --brightness 0.3 --contrast 0.3 --saturation 0.3 \
    "$out/faces.jsonl" -o "$out/augmented.jsonl"
try kp-viz grid --count 6 --size 480x360 -o "$out/data.png" "$out/faces.jsonl" > /dev/null
try kp-viz grid --count 6 --size 480x360 -o "$out/augmented.png" "$out/augmented.jsonl" > /dev/null

for batch in 4 8 16; do
    try kp-train --arch face --epochs "$short" --batch-size "$batch" --keep last $held \
        -o "$out/batch-$batch.safetensors" "$out/augmented.jsonl" > "$out/batch-$batch.jsonl"
done
kp-viz curves -o "$out/batches.png" "$out"/batch-4.log.jsonl "$out"/batch-8.log.jsonl \
    "$out"/batch-16.log.jsonl

try kp-train --arch face --init "$out/batch-8.safetensors" --lr 1e-4 --epochs "$long" --keep last $held \
    -o "$out/face.safetensors" "$out/augmented.jsonl" > "$out/val.jsonl"
kp-eval "$out/val.jsonl" | row face mse nme
kp-viz curves -o "$out/curve.png" "$out/face.safetensors"
try kp-viz grid --sort best --count 2 --size 480x360 -o "$out/successes.png" "$out/val.jsonl" > /dev/null
try kp-viz grid --sort worst --count 2 --size 480x360 -o "$out/failures.png" "$out/val.jsonl" > /dev/null
kp-viz filters -o "$out/filters.png" "$out/face.safetensors"

kp-augment --rotate 15 --scale 0.1 --shift 0.08 --flip 0.5 --brightness 0.3 --contrast 0.3 --saturation 0.3 \
    "$out/faces.jsonl" |
    try kp-train --arch unet --width "$width" --stride 2 --input-size 160x120 --margin 0 \
        --schedule "$best" --keep last $held -o "$out/best.safetensors" > "$out/best.jsonl"
kp-eval "$out/best.jsonl" | row heatmaps mse nme
try kp-viz grid --sort worst --count 4 --size 480x360 -o "$out/best-failures.png" "$out/best.jsonl" > /dev/null
