#!/bin/bash
# Extract flow (or trajectories) of a folder of videos as a Slurm array: one shard a task.
#
#   VIDEOS=/data/UCF-101 OUT=/data/flow sbatch scripts/slurm_extract.sh
#   STAGE=extract-trajectories OUT=/data/trajectories VIDEOS=/data/UCF-101 \
#       sbatch --array=1-32 scripts/slurm_extract.sh --kind idt
#
# Arguments go to the command. The folders must be on a file system that all nodes see, and the
# array has to begin at 1. Submit it again after a failure: what is finished is not done again.
# `flowpipe status "$OUT"` says how far all shards are.
#SBATCH --job-name=flowpipe
#SBATCH --array=1-8
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=1G
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

: "${VIDEOS:?the folder of videos}" "${OUT:?the output folder}"
if [ "${SLURM_ARRAY_TASK_MIN:?run me with sbatch}" != 1 ]; then
    echo "the array begins at $SLURM_ARRAY_TASK_MIN; shards are counted from 1" >&2
    exit 2
fi
exec flowpipe "${STAGE:-extract-flow}" "$VIDEOS" --out "$OUT" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --jobs "${SLURM_CPUS_PER_TASK:-1}" "$@"
