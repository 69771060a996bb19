#!/bin/sh
# Part 5: your own photos.
#
# Shows:  faces found, also where a photo lies on its side, keypoints predicted, and pictures.
# Data:   photos, or folders of them, and a checkpoint that was trained on iBUG (sh examples/ibug.sh or
#         heatmap.sh; the quickstart's network knows drawn faces only).
# Takes:  a third of a second a photo of 12 megapixels on one core to find the faces. The detector YuNet
#         (kptools[detect]) is installed the first time. Its boxes are not those of iBUG, which kp-predict
#         says; dlib's are (pip install dlib-bin, then kp-prep photos --detector dlib).
#
#   sh examples/photos.sh MODEL PHOTO|DIR...      as: out/heatmap/unet.safetensors holiday/
extras='[detect]'
. "$(dirname -- "$0")/env.sh"

[ $# -ge 2 ] || { echo "usage: sh examples/photos.sh MODEL PHOTO|DIR..." >&2; exit 2; }
out=${OUT:-out/photos}
model=$1
shift
mkdir -p "$out"

# exit 1: a photo could not be read, or shows no face; it is a record that says so
try kp-prep photos "$@" -o "$out/faces.jsonl"
try kp-predict "$model" "$out/faces.jsonl" -o "$out/preds.jsonl"
try kp-viz grid --count 48 -o "$out/grid.png" "$out/preds.jsonl" > /dev/null
try kp-viz photos --out "$out/marked" "$out/preds.jsonl" > /dev/null
echo "look at $out/grid.png, and at the photos in $out/marked"
