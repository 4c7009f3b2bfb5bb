#!/bin/bash
# A TPU pod: the same command on every host; JAX finds the others automatically.
#
#   TPU=my-pod ZONE=us-central2-b OUT=/mnt/shared/runs bash experiments/launch/tpu_pod.sh
#
# OUT must be a folder that all hosts mount (NFS, or a bucket through a file system that can rename files).
set -euo pipefail

on_every_host() {
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

# Once, with this repository on the shared disk:
#   on_every_host "python3 -m pip install /path/on/that/disk[tpu]"
on_every_host "collapse-jax lm --distributed --preset fig1b --precision bfloat16 --batch-size 128 --out $OUT/fig1b"
