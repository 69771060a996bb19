#!/bin/sh
# A minute with kptools: points on drawn faces and on your own photos, then a network that learns.
#
# Shows:  the network in the box on faces that it never saw, with the score and a contact sheet; the same on
#         your own photos, if you name some; a short training, and its curves.
# Data:   none, or photos, or folders of them. A few hundred faces are drawn (kp-prep synth).
# Takes:  half a minute on 2 cores with bf16 after the install, 1 GB of memory, 10 MB in out/quickstart.
#
#   sh examples/quickstart.sh [PHOTO|DIR...]
extras='[detect]'
. "$(dirname -- "$0")/env.sh"

out=${OUT:-out/quickstart}
count=360 epochs=5
[ -n "${KPTOOLS_QUICK:-}" ] && count=40 epochs=1
mkdir -p "$out"

# points on faces that nobody has trained on, and how far off they are
kp-prep synth --count 24 --seed 2 --split test --out "$out/new" | kp-predict -o "$out/preds.jsonl"
kp-eval --format table "$out/preds.jsonl"
kp-viz grid --count 24 -o "$out/grid.png" "$out/preds.jsonl" > /dev/null

# the same on your own photos
if [ $# -gt 0 ]; then
    try kp-prep photos "$@" -o "$out/faces.jsonl"
    try kp-predict "$out/faces.jsonl" -o "$out/photos.jsonl"
    try kp-viz grid --count 48 -o "$out/photos.png" "$out/photos.jsonl" > /dev/null
fi

# a training of one's own, from nothing: too short to be good, long enough to see the error fall
kp-prep synth --count "$count" --seed 1 --out "$out/train" --val-fraction 0.1 |
    kp-augment --rotate 10 --flip 0.5 --brightness 0.3 |
    kp-train --arch resnet18 --weights none --input-size 64x64 --epochs "$epochs" \
        -o "$out/model.safetensors" > "$out/val.jsonl"
kp-viz curves -o "$out/curves.png" "$out/model.log.jsonl"

echo "look at $out/grid.png (truth red, prediction blue)${1:+, $out/photos.png} and $out/curves.png"
