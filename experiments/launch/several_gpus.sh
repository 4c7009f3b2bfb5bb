#!/bin/bash
# One machine with several GPUs. One process uses all GPUs that it can see; no other process is needed.
#
#   bash experiments/launch/several_gpus.sh
set -euo pipefail

# Chains: distributed over all GPUs.
collapse-jax simulate --chains 1000000 --generations 10000 --record log --keep summary --out runs/million-chains

# Training: each batch is distributed; its size should be a multiple of the number of GPUs.
collapse-jax pretrain --devices 4 --batch-size 64 --steps 8000 --out runs/opt-tiny-four-gpus

# Several seeds of a model that fits one GPU: one process and one GPU per seed needs no exchange, and so is fastest.
# All of them work in one run folder; the last call collects and plots the results.
run=(collapse-jax lm --preset fig1b --seeds 4 --precision bfloat16 --out runs/fig1b)
for seed in 0 1 2 3; do
    CUDA_VISIBLE_DEVICES=$seed "${run[@]}" --only-seeds "$seed" &
done
wait
"${run[@]}"
