"""Bertrand et al. 2024: lambda synthetic points for each real one.

Their stability conditions bound lambda; a Gaussian needs no bound.
"""

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2310.00429",
    "Bertrand et al. 2024",
    "On the Stability of Iterative Retraining of Generative Models on their own Data",
)


def keep_the_real():
    """Every generation trains on generation 0's real points and n draws of the newest model."""
    return cj.Workflow(
        "keep_the_real",
        lambda supply, data: data,
        lambda key, real, supply, n: (real, supply.merge(real, supply.model(key, n))),
    )


@entry(
    "bertrand-contraction",
    claim="For every ratio lambda of synthetic to real data, the first error of a Gaussian's "
    "mean contracts by lambda/(1 + lambda) < 1 per generation: the published condition is "
    "sufficient, not necessary.",
    status="derived here",
    setting="1-D Gaussian of known variance, M = 100, fresh real data, lambda = 2 and 9, "
    "generations 0 to 20, 200,000 chains",
    oracle="E[mu_0 mu_g] = (lambda/(1 + lambda))^g/M: theory.interventions.mean_contraction; "
    "E[mu_g^2]: theory.known_variance",
    y="M E[mu_0 mu_g]",
)
def contraction(key):
    at, out = np.array([0, 1, 2, 5, 10, 20]), []
    for one, ratio in zip(jax.random.split(key), (2.0, 9.0), strict=True):
        synthetic = ratio / (1 + ratio)
        workflow = cj.workflows.mix(synthetic, 0.0, 1 - synthetic)
        family = cj.estimators.gaussian_mean([[1.0]])
        real = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0]))
        process = cj.generational_process(family, real, workflow, sample_size=100)
        mean = cj.simulate(
            process, one, generations=20, chains=200_000, metrics=("mean",), record=at.tolist()
        )["mean"].astype(np.float64)
        mixture = {"workflow": "mix", "alpha": synthetic, "beta": 0.0, "gamma": 1 - synthetic}
        error = theory.known_variance.expected_squared_mean_error(at, 100, **mixture)
        rate = theory.interventions.mean_contraction(ratio)
        out += [
            compare.means(
                100 * mean * mean[:, :1],
                rate**at,
                at=at,
                what=f"memory of the first mean, lambda = {ratio:g}",
            ),
            compare.means(
                100 * mean**2, 100 * error, at=at, what=f"squared mean, lambda = {ratio:g}"
            ),
        ]
    return out


@entry(
    "bertrand-fixed-real",
    claim="If the same real points are in every training set, the loss of variance stays below "
    "3/(2n + 1), one and a half times that of the first fit, for every ratio lambda.",
    status="derived here",
    setting="1-D Gaussian, ddof = 0, the same 10 real points and 10 lambda fresh synthetic ones, "
    "lambda = 4 and 50, generations 0 to 300, 100,000 chains",
    oracle="theory.ancestry.kept_real_retention, at least 1 - 3/(2 n + 1) for n real points",
    y="variance",
)
def fixed_real(key):
    at, out = np.array([0, 1, 5, 30, 300]), []
    for one, ratio in zip(jax.random.split(key), (4, 50), strict=True):
        made = int(10 * ratio)
        process = cj.generational_process(
            cj.estimators.gaussian(1, ddof=0),
            cj.sources.normal([0.0], [[1.0]]),
            keep_the_real(),
            sample_size=lambda generation, made=made: jnp.where(generation == 0, 10, made),
        )
        trace = cj.simulate(
            process, one, generations=300, chains=100_000, metrics=("variance",), record=at.tolist()
        )
        found, exact = (
            trace["variance"].astype(np.float64),
            theory.ancestry.kept_real_retention(at, 10, made),
        )
        out.append(compare.means(found, exact, at=at, what=f"variance, lambda = {ratio:g}"))
        out.append(
            compare.at_least(
                found, 1 - 3 / 21, at=at, what=f"variance against the bound, lambda = {ratio:g}"
            )
        )
    return out
