#!/bin/sh
#SBATCH --job-name=kp-predict
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --requeue
# A Slurm array: each task predicts every eighth face (--shard), and one command merges what they wrote.
#
# Shows:  --shard auto, which reads the array's number of tasks; --resume, so that a task that Slurm
#         stopped and queued again goes on; --allow-failures, so that a face that fails does not make
#         the task one that failed.
# Data:   records FACES.jsonl (or .gz, .zst), a checkpoint, and kptools on the PATH of the nodes:
#         sbatch examples/cluster/slurm.sh MODEL FACES.jsonl OUT
#         sh examples/cluster/merge.sh OUT.*-of-8.jsonl > OUT.jsonl     once all tasks are done
#         Of another number of tasks: sbatch --array=1-100 ...
#         To do a task again: scontrol requeue JOB_TASK. (sbatch --array=3 is an array of one task:
#         all faces. It writes OUT.1-of-1.jsonl.)
# Takes:  an eighth of the time of one process.
set -eu

[ $# -eq 3 ] || { echo "usage: sbatch slurm.sh MODEL FACES.jsonl OUT" >&2; exit 2; }
: "${SLURM_ARRAY_TASK_ID:?is set by sbatch --array}"
cpus=${SLURM_CPUS_PER_TASK:-1}
task=$(((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN) / ${SLURM_ARRAY_TASK_STEP:-1} + 1))
# with zeros before it, so that OUT.* lists the parts in their order
name=$(printf '%s.%04d-of-%d.jsonl' "$3" "$task" "$SLURM_ARRAY_TASK_COUNT")

exec kp-predict "$1" "$2" --shard auto --resume --allow-failures \
    --workers "$cpus" --threads "$cpus" -o "$name"
