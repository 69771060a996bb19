#!/bin/sh
# Part 3: iBUG 300-W, 68 points, with ImageNet backbones; a table of them, and a Kaggle submission.
#
# Shows:  what the loader feeds; ResNet-18, 34, 50, 152 and Inception-v3 (this one, as in the report,
#         without augmentation), batch 16, 1e-3 for 15 epochs and 3e-4 for 15; curves; outputs on the
#         test list; kaggle.csv.
# Data:   iBUG 300-W in dlib's layout (see kp-prep ibug --help), its folder as $1 or below $KPTOOLS_DATA
#         or ./data. ImageNet's weights are downloaded; where that cannot be, WEIGHTS=none (from nothing)
#         or ARCHS="resnet18" WEIGHTS=file.pth.
# Takes:  on a GPU minutes a backbone; on 2 cores about 30 minutes for resnet18, a night for all.
#
#   sh examples/ibug.sh [IBUG]           KPTOOLS_QUICK=1: a short run of resnet18 from nothing
. "$(dirname -- "$0")/env.sh"

out=${OUT:-out/ibug}
archs=${ARCHS:-resnet18 resnet34 resnet50 resnet152 inception_v3}
weights=${WEIGHTS:-default}
short=""
[ -n "${KPTOOLS_QUICK:-}" ] && archs=resnet18 weights=none short="--epochs 1 --input-size 64x64"
limit=${KPTOOLS_QUICK:+--limit 80}
mkdir -p "$out"

# boxes from the XML, points from the .pts beside each image where there are any
annotations="--annotations pts --xml labels_ibug_300W_train.xml"
# shellcheck disable=SC2086
kp-prep ibug "$@" $annotations $limit -o "$out/faces.jsonl"
kp-augment --rotate 15 --scale 0.1 --shift 0.05 --flip 0.5 \
    --brightness 0.3 --contrast 0.3 --saturation 0.3 "$out/faces.jsonl" -o "$out/augmented.jsonl"
kp-viz grid --arch resnet18 --count 12 -o "$out/loader.png" "$out/augmented.jsonl" > /dev/null

for arch in $archs; do
    stream=$out/augmented.jsonl
    [ "$arch" = inception_v3 ] && stream=$out/faces.jsonl
    # kp-train holds out a tenth of the photos. The last epoch is scored, so that nothing is chosen on them
    # shellcheck disable=SC2086
    kp-train --arch "$arch" --weights "$weights" $short --keep last --resume \
        -o "$out/$arch.safetensors" "$stream" > "$out/$arch.jsonl"
done
for arch in $archs; do
    kp-eval "$out/$arch.jsonl" | row "$arch" mae nme auc
done | tee "$out/table.txt"
# shellcheck disable=SC2086
kp-viz curves --metric nme -o "$out/curves.png" $(for a in $archs; do echo "$out/$a.log.jsonl"; done)
kp-viz grid --sort worst --count 12 -o "$out/worst.png" "$out/${archs##* }.jsonl" > /dev/null

# the course's test list: boxes, no points. Images that are not there get the mean shape.
status=0
kp-prep ibug "$@" --xml labels_ibug_300W_test_parsed.xml $limit 2> "$out/missing.log" |
    kp-predict "$out/${archs%% *}.safetensors" -o "$out/test.jsonl" 2>> "$out/missing.log" || status=$?
[ "$status" -le 1 ] || exit "$status"
kp-eval --submission "$out/kaggle.csv" --fill mean "$out/test.jsonl" || [ $? -eq 1 ]
kp-viz grid --count 12 -o "$out/test.png" "$out/test.jsonl" > /dev/null || [ $? -eq 1 ]
