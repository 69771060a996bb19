#!/bin/sh
# Part 3: iBUG 300-W, 68 points, with ImageNet backbones; a table of them, and a Kaggle submission.
#
# Shows:  what the loader feeds; ResNet-18, 34, 50, 152 and Inception-v3 (this one, as in the report,
#         without augmentation), batch 16, 1e-3 for 15 epochs and 3e-4 for 15; curves; outputs on the
#         test list; kaggle.csv.
# Data:   iBUG 300-W in dlib's layout (see kp-prep ibug --help), its folder as $1 or below $KPTOOLS_DATA
#         or ./data. ImageNet's weights are downloaded; where that cannot be, WEIGHTS=none (from nothing)
#         or ARCHS="resnet18" WEIGHTS=file.pth (which fits one network). Other settings need another OUT=.
# Takes:  on a GPU minutes a backbone; on 2 cores about 30 minutes for resnet18, a night for all.
#
#   sh examples/ibug.sh [IBUG]           KPTOOLS_QUICK=1: a short run of resnet18 from nothing
. "$(dirname -- "$0")/env.sh"

out=${OUT:-out/ibug${KPTOOLS_QUICK:+-quick}}
archs=${ARCHS:-resnet18 resnet34 resnet50 resnet152 inception_v3}
weights=${WEIGHTS:-default}
short=""
[ -n "${KPTOOLS_QUICK:-}" ] && archs=resnet18 weights=none short="--epochs 1 --input-size 64x64"
limit=${KPTOOLS_QUICK:+--limit 80}
mkdir -p "$out"

# boxes from the XML, points from the .pts that each image needs beside it
annotations="--annotations pts --xml labels_ibug_300W_train.xml"
# shellcheck disable=SC2086
try kp-prep ibug "$@" $annotations $limit -o "$out/faces.jsonl"
try kp-augment --rotate 15 --scale 0.1 --shift 0.05 --flip 0.5 \
    --brightness 0.3 --contrast 0.3 --saturation 0.3 "$out/faces.jsonl" -o "$out/augmented.jsonl"
try kp-viz grid --arch resnet18 --count 12 -o "$out/loader.png" "$out/augmented.jsonl" > /dev/null

for arch in $archs; do
    stream=$out/augmented.jsonl
    [ "$arch" = inception_v3 ] && stream=$out/faces.jsonl
    # kp-train holds out a tenth of the photos; the last epoch is scored, so nothing is chosen on them
    # shellcheck disable=SC2086
    try kp-train --arch "$arch" --weights "$weights" $short --keep last --resume \
        -o "$out/$arch.safetensors" "$stream" > "$out/$arch.jsonl"
done
for arch in $archs; do
    kp-eval "$out/$arch.jsonl" | row "$arch" mae nme auc
done | tee "$out/table.txt"
# shellcheck disable=SC2086
kp-viz curves --metric nme -o "$out/curves.png" $(for a in $archs; do echo "$out/$a.log.jsonl"; done)
try kp-viz grid --sort worst --count 12 -o "$out/worst.png" "$out/${archs##* }.jsonl" > /dev/null

# the course's test list (it is not in dlib's archive): boxes, no points. An image that is not there
# gets the mean shape
if ! kp-prep ibug "$@" --xml labels_ibug_300W_test_parsed.xml $limit -o "$out/test-faces.jsonl" \
    2> "$out/missing.log" && [ ! -f "$out/test-faces.jsonl" ]; then
    tail -n 1 "$out/missing.log" >&2
    echo "no test list, so no $out/kaggle.csv" >&2
    exit 0
fi
try kp-predict "$out/${archs%% *}.safetensors" "$out/test-faces.jsonl" -o "$out/test.jsonl" \
    2>> "$out/missing.log"
try kp-eval --submission "$out/kaggle.csv" --fill mean "$out/test.jsonl"
try kp-viz grid --count 12 -o "$out/test.png" "$out/test.jsonl" > /dev/null
