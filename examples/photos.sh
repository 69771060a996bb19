#!/bin/sh
# Part 5: your own photos.
#
# Shows:  faces found, also where a photo lies on its side, keypoints predicted, and pictures.
# Data:   photos, or folders of them; with a checkpoint of your own before them, that in place of the network
#         in the box. kptools maps the detector's boxes to those of its training.
# Takes:  a third of a second a photo of 12 megapixels on one core to find the faces. The detector YuNet
#         (kptools[detect]) is installed the first time.
#
#   sh examples/photos.sh [MODEL.safetensors] PHOTO|DIR...
extras='[detect]'
. "$(dirname -- "$0")/env.sh"

model=""
case ${1:-} in *.safetensors) model=$1; shift ;; esac
[ $# -ge 1 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
out=${OUT:-out/photos}
mkdir -p "$out"

# exit 1: a photo could not be read, or shows no face; it is a record that says so
try kp-prep photos "$@" -o "$out/faces.jsonl"
try kp-predict ${model:+"$model"} "$out/faces.jsonl" -o "$out/preds.jsonl"
try kp-viz grid --count 48 -o "$out/grid.png" "$out/preds.jsonl" > /dev/null
try kp-viz photos --out "$out/marked" "$out/preds.jsonl" > /dev/null
echo "look at $out/grid.png, and at the photos in $out/marked"
