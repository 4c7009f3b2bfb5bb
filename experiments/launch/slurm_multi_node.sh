#!/bin/bash
# One job over several nodes: one process per GPU, found by JAX through Slurm. --out must be on a file system that all nodes share.
#
#   sbatch experiments/launch/slurm_multi_node.sh
#
# All GPUs of a node are visible to each of its processes, which take one each by their local number: give no --gpus-per-task.
# A process that ends early ends the job within a minute; queued again, it resumes, with any number of nodes.
#SBATCH --job-name=collapse-nodes
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail

# A million chains, each process a sixteenth of them.
srun --kill-on-bad-exit=1 collapse-jax simulate --distributed --chains 1000000 --generations 10000 --record log --keep summary \
    --out runs/million-chains

# The language model, each batch of 128 distributed over 16 GPUs, the parameters split into 16 parts (leave that out if they fit one GPU).
srun --kill-on-bad-exit=1 collapse-jax lm --distributed --shard-parameters --preset fig1c --precision bfloat16 --batch-size 128 \
    --out runs/fig1c-sharded
