"""Alemohammad et al. 2024 (MAD): biased sampling, and the three loops.

Synthetic data alone, with fixed real data, or with fresh real data.
"""

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("2307.01850", "Alemohammad et al. 2024", "Self-Consuming Generative Models Go MAD")
REAL, MADE = 10, 40


def keep_the_real():
    """Every generation trains on generation 0's real points and n draws of the newest model.

    This is the fixed real data loop.
    """
    return cj.Workflow(
        "keep_the_real",
        lambda supply, data: data,
        lambda key, real, supply, n: (real, supply.merge(real, supply.model(key, n))),
    )


def simulated(key, estimator, workflow, size, generations, chains, metrics, record):
    process = cj.generational_process(
        estimator, cj.sources.normal([0.0], [[1.0]]), workflow, sample_size=size
    )
    return cj.simulate(
        process, key, generations=generations, chains=chains, metrics=metrics, record=record
    )


@entry(
    "mad-bias",
    claim="Sampling from N(mu, lambda Sigma) adds log lambda to the drift of the log variance. "
    "lambda < 1 buys quality with faster collapse; one lambda above 1 exactly stops the "
    "drift.",
    status="derived here",
    setting="1-D Gaussian, ddof = 1, M = 20, replace; lambda = 0.95, and the neutral 1.055 as a "
    "temperature; generations 0 to 30, 40,000 chains",
    oracle="theory.interventions.biased_expected_log_variance and neutral_sampling_bias, "
    "theory.gaussian.log_variance_std; the setting: sampling bias lambda of section 2 of "
    "the paper",
    y="mean log variance",
)
def bias(key):
    at, out = np.array([0, 1, 10, 30]), []
    neutral = theory.interventions.neutral_sampling_bias(20, ddof=1)
    cases = (
        (0.95, cj.estimators.gaussian(1, sampling_bias=0.95), cj.workflows.replace()),
        (neutral, cj.estimators.gaussian(1), cj.curation.tempered(neutral)(cj.workflows.replace())),
    )
    for value, estimator, workflow in cases:
        trace = simulated(
            jax.random.fold_in(key, value > 1),
            estimator,
            workflow,
            20,
            30,
            40_000,
            ("log_variance", "mean"),
            at.tolist(),
        )
        logarithm, mean = (trace[name].astype(np.float64) for name in ("log_variance", "mean"))
        expected = theory.interventions.biased_expected_log_variance(at, 20, value, ddof=1)
        spread = theory.gaussian.log_variance_std(at, 20)
        errors = theory.interventions.biased_expected_moments(at, 20, value, ddof=1)[1]
        out += [
            compare.means(logarithm, expected, at=at, what=f"log variance, lambda = {value:.4g}"),
            compare.means(
                (logarithm - expected) ** 2,
                spread**2,
                at=at,
                what=f"its variance, lambda = {value:.4g}",
            ),
            compare.means(mean**2, errors, at=at, what=f"squared mean, lambda = {value:.4g}"),
        ]
    return out


@entry(
    "mad-loops",
    claim="Synthetic data alone loses all variance. A fixed real set in every generation bounds "
    "the loss. The same number of fresh real points per generation keeps more still.",
    status="derived here",
    setting=f"1-D Gaussian, ddof = 0; 50 points per generation, none real, or {REAL} real ones, "
    "always the same or fresh; generations 0 to 200, 50,000 chains",
    oracle="theory.ancestry.retention and kept_real_retention; the three loops: figure 2 of the "
    "paper",
    y="variance",
)
def loops(key):
    at = np.array([0, 1, 5, 20, 200])
    size, share = REAL + MADE, REAL / (REAL + MADE)
    fresh = {
        "workflow": "mix",
        "alpha": 1 - share,
        "beta": 0.0,
        "gamma": share,
        "random_counts": False,
    }
    cases = {
        "alone": (cj.workflows.replace(), size, theory.ancestry.retention(at, size)),
        "fixed": (
            keep_the_real(),
            lambda generation: jnp.where(generation == 0, REAL, MADE),
            theory.ancestry.kept_real_retention(at, REAL, MADE),
        ),
        "fresh": (
            cj.workflows.mix(1 - share, 0.0, share, random_counts=False),
            size,
            theory.ancestry.retention(at, size, **fresh),
        ),
    }
    out, found = [], {}
    for one, (name, (workflow, sizes, expected)) in zip(
        jax.random.split(key, 3), cases.items(), strict=True
    ):
        trace = simulated(
            one,
            cj.estimators.gaussian(1, ddof=0),
            workflow,
            sizes,
            200,
            50_000,
            ("variance",),
            at.tolist(),
        )
        found[name] = trace["variance"].astype(np.float64)
        # Means of 'replace' are carried by rare runs late.
        n = 4 if name == "alone" else 5
        out.append(
            compare.means(found[name][:, :n], expected[:n], at=at[:n], what=f"variance, {name}")
        )
    last = {name: values[:, -1] for name, values in found.items()}
    return [
        *out,
        compare.exceeds(last["fixed"], last["alone"], at=[200], what="fixed above alone"),
        compare.exceeds(last["fresh"], last["fixed"], at=[200], what="fresh above fixed"),
    ]
