#!/bin/sh
# Part 4: heatmaps from a U-Net, and what a better decoder is worth.
#
# Shows:  labels as pictures; a U-Net on 200x200 crops, boxes enlarged so that every point lies inside,
#         Bernoulli loss; its maps over faces; argmax, quarter, dark and softargmax compared on one set
#         of saved maps, without training again.
# Data:   iBUG 300-W in dlib's layout, its folder as $1 or below $KPTOOLS_DATA or ./data.
# Takes:  about 25 minutes on 2 cores, by the 73 s that an epoch takes (a narrow U-Net, WIDTH=16, maps at
#         half the input); 2 GB of memory. The
#         report's: WIDTH=64 STRIDE=1, for a GPU.
#
#   sh examples/heatmap.sh [IBUG]        KPTOOLS_QUICK=1: a short run
. "$(dirname -- "$0")/env.sh"

out=${OUT:-out/heatmap}
width=${WIDTH:-16} stride=${STRIDE:-2} epochs=${EPOCHS:-20} limit="" input=200x200
[ -n "${KPTOOLS_QUICK:-}" ] && width=4 stride=4 epochs=1 limit="--limit 60" input=64x64
mkdir -p "$out"

annotations="--annotations pts --xml labels_ibug_300W_train.xml"
# shellcheck disable=SC2086
kp-prep ibug "$@" $annotations $limit -o "$out/faces.jsonl"
head -4 "$out/faces.jsonl" | kp-heatmap encode --out "$out/labels" --pictures -o "$out/labels.jsonl"

kp-augment --rotate 15 --scale 0.1 --shift 0.05 --flip 0.5 \
    --brightness 0.3 --contrast 0.3 --saturation 0.3 "$out/faces.jsonl" |
    kp-train --arch unet --width "$width" --stride "$stride" --input-size "$input" \
        --epochs "$epochs" --keep last --resume -o "$out/unet.safetensors" > "$out/val.jsonl"
kp-viz curves -o "$out/curves.png" "$out/unet.log.jsonl"

kp-predict "$out/unet.safetensors" --heatmaps "$out/maps" "$out/val.jsonl" -o "$out/mapped.jsonl"
for decode in argmax quarter dark softargmax; do
    kp-heatmap decode --decode "$decode" "$out/mapped.jsonl" | tee "$out/$decode.jsonl" |
        kp-eval | row "$decode" mae nme auc
done | tee "$out/table.txt"
kp-viz heatmap --count 4 -o "$out/heatmaps.png" "$out/mapped.jsonl" > /dev/null
kp-viz grid --sort worst --count 12 -o "$out/worst.png" "$out/dark.jsonl" > /dev/null
