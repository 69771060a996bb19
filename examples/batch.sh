#!/bin/sh
# Many folders of photos, three ways: a shell loop, a Makefile rule, and GNU parallel.
#
# Shows:  what makes the tools fit for batch work: a file appears whole or not at all, --resume goes
#         on where a run was cut off, and the exit status says what happened.
# Data:   folders of records DIR/*.jsonl (with points, for the scores) and a checkpoint:
#         sh examples/batch.sh MODEL DIR [DIR ...]     After a change of MODEL remove the *.preds.jsonl;
#         until then kp-predict --resume refuses them, since another MODEL made them (*.run.json).
# Takes:  as long as the photos; make and parallel are used where they are installed.
. "$(dirname -- "$0")/env.sh"

[ $# -ge 2 ] || { echo "usage: sh examples/batch.sh MODEL DIR [DIR ...]" >&2; exit 2; }
model=$1
shift

# 1. A loop. Run it again after a crash: finished files are not done twice.
for dir in "$@"; do
    for faces in "$dir"/*.jsonl; do
        case $faces in *.preds.jsonl) continue ;; esac
        status=0
        kp-predict "$model" "$faces" -o "${faces%.jsonl}.preds.jsonl" --resume || status=$?
        case $status in
            0) ;;
            1) echo "$faces: some faces failed; they are records with a status" >&2 ;;
            *) exit "$status" ;;
        esac
    done
done

# 2. A Makefile rule: a target is only there when it is whole.
if command -v make > /dev/null; then
    for dir in "$@"; do
        make --silent --directory "$dir" --file "$root/examples/batch.mk"
    done
fi

# 3. GNU parallel: a job a file, one thread each.
if command -v parallel > /dev/null; then
    parallel --will-cite --jobs 2 \
        'kp-eval {} > {.}.by-parallel.json || [ $? -eq 1 ]' \
        ::: $(for dir in "$@"; do ls "$dir"/*.preds.jsonl; done)
fi
