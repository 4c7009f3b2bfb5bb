"""A run of `cj.run` from Python: scikit-learn's mixture, whose fit is on the host."""

import argparse

import jax
import numpy as np
from sklearn.mixture import GaussianMixture

import collapse_jax as cj


def main(arguments: list[str]) -> None:
    """Runs it with the arguments --chains, --generations and --out."""
    parser = argparse.ArgumentParser()
    for name, kind in (("--chains", int), ("--generations", int), ("--out", str)):
        parser.add_argument(name, type=kind, required=True)
    given = parser.parse_args(arguments)
    process = cj.generational_process(
        cj.from_sklearn(GaussianMixture(2)),
        cj.sources.dataset(np.random.default_rng(1).normal(size=100)),
        cj.workflows.replace(),
        sample_size=20,
    )
    cj.run(
        process,
        jax.random.key(0),
        generations=given.generations,
        chains=given.chains,
        folder=given.out,
        metrics=("mean", "variance"),
    )
