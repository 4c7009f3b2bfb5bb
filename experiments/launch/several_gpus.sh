#!/bin/bash
# One box of several GPUs. One process uses all it can see; nothing has to be started beside it.
#
#   bash experiments/launch/several_gpus.sh
set -euo pipefail

# Chains: spread over all GPUs.
collapse-jax simulate --chains 1000000 --generations 10000 --record log --keep summary --out runs/million-chains

# Training: each batch is dealt out; its size should be a multiple of the number of GPUs.
collapse-jax pretrain --devices 4 --batch-size 64 --steps 8000 --out runs/opt-tiny-four-gpus

# Several seeds of a model that fits one GPU: a process a seed on a GPU of its own needs no exchange at all, and so is fastest.
# All of them work in one run folder; the last call records and draws what they made.
run=(collapse-jax lm --preset fig1b --seeds 4 --precision bfloat16 --out runs/fig1b)
for seed in 0 1 2 3; do
    CUDA_VISIBLE_DEVICES=$seed "${run[@]}" --only-seeds "$seed" &
done
wait
"${run[@]}"
