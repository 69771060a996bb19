#!/bin/sh
# The whole pipe on drawn faces, trained from nothing.
#
# Shows:  prep, augment, train, predict, eval and a contact sheet, on faces the network never saw.
# Data:   none; 2,000 faces are drawn (kp-prep synth), and 200 more to test on.
# Takes:  about 8 minutes on 2 cores after the install, 2 GB of memory, 50 MB in out/drawn.
#
#   sh examples/drawn.sh            KPTOOLS_QUICK=1: a minute, and a poor network
. "$(dirname -- "$0")/env.sh"

out=${OUT:-out/drawn}
count=2000 epochs=16
[ -n "${KPTOOLS_QUICK:-}" ] && count=60 epochs=1
mkdir -p "$out"

kp-prep synth --count "$count" --seed 1 --out "$out/faces" --val-fraction 0.1 -o "$out/faces.jsonl"

kp-augment --rotate 20 --scale 0.15 --shift 0.08 --flip 0.5 --brightness 0.3 --contrast 0.3 \
    "$out/faces.jsonl" |
    kp-train --arch resnet18 --weights none --input-size 96x96 --epochs "$epochs" \
        -o "$out/model.safetensors" > "$out/val.jsonl"

# faces of another seed: none of them was trained or validated on
kp-prep synth --count $((count / 10)) --seed 2 --out "$out/new" --split test |
    kp-predict "$out/model.safetensors" -o "$out/preds.jsonl"

kp-eval --format table "$out/preds.jsonl"
kp-viz grid --count 24 -o "$out/grid.png" "$out/preds.jsonl" > /dev/null
kp-viz curves -o "$out/curves.png" "$out/model.log.jsonl"
echo "look at $out/grid.png (truth red, prediction blue) and $out/curves.png"
