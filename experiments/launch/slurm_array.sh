#!/bin/bash
# An array over presets and seeds: each task runs one seed on one GPU; the tasks of a preset share one run folder.
#
#   job=$(sbatch --parsable experiments/launch/slurm_array.sh)
#   for preset in fig1b fig1c; do    # when all are done: collects and plots the results
#       sbatch --dependency=afterok:$job --wrap "collapse-jax lm --preset $preset --seeds 5 --precision bfloat16 --out runs/$preset"
#   done
#
# Both presets of the paper, five seeds each. A task that is preempted, or out of time, gets a SIGTERM first: it saves its current work
# within the generation, and resumes from there when it is queued again. `exec` lets the signal reach Python.
#SBATCH --job-name=collapse-array
#SBATCH --array=0-9
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -euo pipefail

presets=(fig1b fig1c)
preset=${presets[SLURM_ARRAY_TASK_ID / 5]}
seed=$((SLURM_ARRAY_TASK_ID % 5))

exec collapse-jax lm --preset "$preset" --seeds 5 --only-seeds "$seed" --precision bfloat16 --out "runs/$preset"
