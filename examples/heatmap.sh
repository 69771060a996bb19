#!/bin/sh
# Part 4: heatmaps from a U-Net, and what a better decoder is worth.
#
# Shows:  labels as pictures; a U-Net on 200x200 crops, boxes enlarged by a quarter on each side (kp-train
#         counts the points that still lie outside), Bernoulli loss; its maps over faces; argmax, quarter,
#         dark and softargmax compared on one set of saved maps, without training again.
# Data:   iBUG 300-W in dlib's layout, its folder as $1 or below $KPTOOLS_DATA or ./data.
# Takes:  about 27 minutes on 2 cores (a narrow U-Net, WIDTH=16, maps at half the input), 2 GB of memory.
#         The report's: WIDTH=64 STRIDE=1, for a GPU. Other settings need another OUT=.
#
#   sh examples/heatmap.sh [IBUG]        KPTOOLS_QUICK=1: a short run
. "$(dirname -- "$0")/env.sh"

out=${OUT:-out/heatmap${KPTOOLS_QUICK:+-quick}}
width=${WIDTH:-16} stride=${STRIDE:-2} epochs=${EPOCHS:-20} limit="" input=200x200
[ -n "${KPTOOLS_QUICK:-}" ] && width=4 stride=4 epochs=1 limit="--limit 60" input=64x64
mkdir -p "$out"

annotations="--annotations pts --xml labels_ibug_300W_train.xml"
# shellcheck disable=SC2086
try kp-prep ibug "$@" $annotations $limit -o "$out/faces.jsonl"
head -4 "$out/faces.jsonl" | try kp-heatmap encode --out "$out/labels" --pictures -o "$out/labels.jsonl"

kp-augment --rotate 15 --scale 0.1 --shift 0.05 --flip 0.5 \
    --brightness 0.3 --contrast 0.3 --saturation 0.3 "$out/faces.jsonl" |
    try kp-train --arch unet --width "$width" --stride "$stride" --input-size "$input" \
        --epochs "$epochs" --keep last --resume -o "$out/unet.safetensors" > "$out/val.jsonl"
kp-viz curves -o "$out/curves.png" "$out/unet.log.jsonl"

try kp-predict "$out/unet.safetensors" --heatmaps "$out/maps" "$out/val.jsonl" -o "$out/mapped.jsonl"
for decode in argmax quarter dark softargmax; do
    kp-heatmap decode --decode "$decode" "$out/mapped.jsonl" | tee "$out/$decode.jsonl" |
        kp-eval | row "$decode" mae nme auc
done | tee "$out/table.txt"
try kp-viz heatmap --count 4 --size 360x360 -o "$out/heatmaps.png" "$out/mapped.jsonl" > /dev/null
try kp-viz grid --sort worst --count 12 -o "$out/worst.png" "$out/dark.jsonl" > /dev/null
