#!/bin/sh
# GNU parallel on one machine (or with --sshlogin on several): blocks of records to as many processes.
#
# Shows:  predictions by several processes, in the order of the records, from a pipe. Each block is the
#         input of a kp-predict of its own, which takes some seconds to start: blocks are large. On a
#         machine alone kp-predict uses all cores by itself; this is for several machines or GPUs.
#         The status of parallel is the number of processes that failed (101: more than 100), or, as
#         here with --halt, that of the first. kp-predict would end with 1 where a face failed:
#         --allow-failures makes that 0, so that only a process that could not finish counts.
# Data:   records on stdin; kptools and parallel on the PATH:
#         sh examples/cluster/parallel.sh JOBS [kp-predict's arguments] < faces.jsonl > preds.jsonl
#         Use preds.jsonl only if the status is 0. On stderr, stdin:3 is line 3 of a block.
# Takes:  the time of one process through JOBS, and the start.
set -eu

[ $# -ge 1 ] || { echo "usage: sh parallel.sh JOBS [ARGUMENT ...] < faces.jsonl > preds.jsonl" >&2; exit 2; }
jobs=$1
shift

exec parallel --will-cite --pipe --keep-order --block "${BLOCK:-10M}" --jobs "$jobs" --quote \
    --halt now,fail=1 kp-predict --allow-failures --workers 1 --threads 1 "$@"
