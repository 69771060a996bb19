#!/bin/sh
# The outputs of --shard 1/N to N/N, back in the order of the records: a line of each in turn.
#
# Shows:  why a shard is every N-th record: it can be taken from a pipe, whose length nobody knows, and
#         merged line by line. That parts fit together is checked, as far as their names (OUT.I-of-N.jsonl)
#         and their lengths show it.
# Data:   all N parts, in their order, each of one line a record (not of kp-augment --copies):
#         sh examples/cluster/merge.sh OUT.*-of-8.jsonl > OUT.jsonl
#         Compressed parts: zcat each first.
# Takes:  a few seconds for a gigabyte; it holds one line. N is less than `ulimit -n`.
set -eu

[ $# -ge 1 ] || { echo "usage: sh merge.sh PART-1 ... PART-N > ALL" >&2; exit 2; }
place=0
for part in "$@"; do
    place=$((place + 1))
    case $part in *.*-of-*) ;; *) continue ;; esac
    count=${part##*-of-} number=${part%-of-*}
    count=${count%%.*} number=${number##*.}
    if [ "$count" -ne $# ] || [ "$number" -ne "$place" ]; then
        echo "merge.sh: $part is given as part $place of $#; give all $count, 1 first" >&2
        exit 2
    fi
done

exec awk '
    function fail(why) { print "merge.sh: " why > "/dev/stderr"; exit 3 }
    BEGIN {
        do {
            more = 0
            for (i = 1; i < ARGC; i++) {
                found = (getline line < ARGV[i])
                if (found < 0) fail(ARGV[i] " cannot be read")
                if (found && ended != "") fail(ARGV[i] " has more lines than fit to " ended)
                if (found) { print line; more = 1 } else ended = ARGV[i]
            }
        } while (more)
    }' "$@"
