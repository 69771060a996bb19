#!/bin/sh
# The network in the box, from nothing: 68 points, learnt from drawn faces alone.
#
# Shows:  faces drawn on all cores, a U-Net trained on them from scratch, its weights in half precision.
# Data:   none. Records of real, annotated faces as the second argument are what it is scored on.
# Takes:  90 minutes on one core with bf16 (AMD EPYC with AVX-512), 8 GB of memory, 0.6 GB of disk. The
#         arithmetic runs on one thread, so that any number of cores gives the same bytes.
#
#   sh examples/box.sh OUT.safetensors [FACES.jsonl]
#
# KPTOOLS_QUICK=1: a short run, and a poor network. What was cut off is resumed.
. "$(dirname -- "$0")/env.sh"

[ $# -ge 1 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
out=$1 real=${2:-} work=${1%.safetensors}.work
count=20000 epochs=7 size=128x128 width=16
[ -n "${KPTOOLS_QUICK:-}" ] && count=60 epochs=1 size=64x64 width=4
mkdir -p "$work"

[ -s "$work/faces.jsonl" ] ||
    kp-prep synth --count "$count" --seed 1 --out "$work/faces" -o "$work/faces.jsonl"

# all faces are trained on, and the last epoch is kept: nothing is chosen on any face
kp-augment --preset face "$work/faces.jsonl" |
    kp-train --arch unet --width "$width" --stride 2 --shape-prior 2 --input-size "$size" --align 0.8 \
        --optimizer adamw --weight-decay 0.05 --lr 1e-3 --decay cosine --average 0.998 \
        --batch-size 8 --epochs "$epochs" --val-fraction 0 --keep last --seed 0 --threads 1 \
        --resume -o "$work/network.safetensors"
python -m kptools.models.box "$work/network.safetensors" "$out"

if [ -n "$real" ]; then
    try kp-predict "$out" "$real" -o "$work/preds.jsonl"
    kp-eval --format table "$work/preds.jsonl"
    try kp-viz grid --sort worst --count 12 -o "$work/worst.png" "$work/preds.jsonl" > /dev/null
fi
