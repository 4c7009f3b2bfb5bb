"""Unit cases: processes whose profile is known from theory, with the exact numbers beside ours.

Each function simulates one, and returns a `Case`. Sizes are small, so that a case takes seconds.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import collapse_jax.theory as theory
from collapse_jax.app.collapse_profile.profile import profile
from collapse_jax.app.collapse_profile.result import Profile
from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.drivers.genealogy import genealogy_of
from collapse_jax.drivers.simulate import simulate
from collapse_jax.drivers.trace import Trace
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical, categorical_params
from collapse_jax.estimators.gaussian import gaussian
from collapse_jax.estimators.kde import bandwidth_of, kde

# Where a standard normal has 1e-4 of its mass.
_LIMIT = float(stats.norm.ppf(1 - 0.5e-4))
_NORMAL = {"mean": 0.0, "variance": 1.0}


class Case(NamedTuple):
    """A process and what is known of it.

    profile: ours.
    trace: what it was made of.
    exact: metric -> its exact mean over chains [generation].
    verdicts: definition -> (verdict of the mean, of the typical chain) as theory has them; None
        where theory says nothing, or no run can tell.
    """

    profile: Profile
    trace: Trace
    exact: Mapping[str, np.ndarray]
    verdicts: Mapping[str, tuple[str | None, str | None]]


def gaussian_replace(
    key: jax.Array, *, size: int = 10, generations: int = 200, chains: int = 2000
) -> Case:
    """A Gaussian with ddof = 1 under replace: the mean risk diverges, the typical variance goes to
    0.

    The mean variance is 1 for ever. The mean of W2^2 grows by 1 / M a generation; the median
    settles at 5/3 (docs/mean-and-typical-path.md).
    """
    trace = _gaussian(key, workflows.replace(), size, generations, chains)
    at = np.arange(generations + 1)
    exact = {
        "variance": theory.gaussian.expected_variance(at, size, ddof=1),
        "squared_wasserstein2": theory.wasserstein.expected_squared_wasserstein2(at, size, ddof=1),
    }
    known: dict[str, tuple[str | None, str | None]] = {
        "increase": ("met", "met"),
        "divergence": ("met", "not met"),
        "diversity": (None, "met"),
        "tails": (None, None),
    }
    return Case(_profile(trace, "squared_wasserstein2"), trace, exact, known)


def gaussian_accumulate(
    key: jax.Array, *, size: int = 100, generations: int = 100, chains: int = 2000
) -> Case:
    """A Gaussian under accumulate: none of the eight, in nats of test loss.

    As an excess error the loss rises by pi^2 / 6, and settles: `gaussian_accumulate_error`.
    """
    trace = _gaussian(key, workflows.accumulate(), size, generations, chains)
    at = np.arange(generations + 1)
    exact = {
        "variance": theory.gaussian.expected_variance(at, size, ddof=1, workflow="accumulate"),
        "squared_wasserstein2": theory.wasserstein.expected_squared_wasserstein2(
            at, size, ddof=1, workflow="accumulate"
        ),
    }
    known: dict[str, tuple[str | None, str | None]] = {
        definition: ("not met", "not met")
        for definition in (
            *("catastrophic", "increase", "divergence", "diversity"),
            *("tails", "hallucination"),
        )
    }
    return Case(_profile(trace, "kl_real_to_model"), trace, exact, known)


def gaussian_mix(
    key: jax.Array, *, size: int = 50, generations: int = 200, chains: int = 2000
) -> Case:
    """A Gaussian with a tenth of fresh real points: the loss rises, and is bounded."""
    trace = _gaussian(key, workflows.mix(0.9, 0.0, 0.1), size, generations, chains)
    at = np.arange(generations + 1)
    shares = {"workflow": "mix", "alpha": 0.9, "beta": 0.0, "gamma": 0.1}
    exact = {"variance": theory.gaussian.expected_variance(at, size, ddof=1, **shares)}
    known: dict[str, tuple[str | None, str | None]] = {
        "catastrophic": ("not met", "not met"),
        "increase": ("met", "met"),
        "divergence": ("not met", "not met"),
        "diversity": ("not met", "not met"),
    }
    return Case(_profile(trace, "squared_wasserstein2"), trace, exact, known)


def kernels_replace(
    key: jax.Array,
    *,
    size: int = 20,
    bandwidth: float = 0.5,
    generations: int = 60,
    chains: int = 200,
) -> Case:
    """Kernels of fixed width under replace: variance up, ancestors gone.

    The variance tends to (M - 1) h^2 and more than the truth's, while the real draws that have
    descendants left die out, and mass lies where the truth has next to none.
    """
    # 199 quantiles stand for the truth.
    held_out = stats.norm.ppf(np.arange(0.5, 199) / 199)[:, None]
    process = generational_process(
        kde(dim=1, bandwidth=bandwidth, held_out=held_out),
        sources.normal([0.0], [[1.0]]),
        workflows.replace(),
        sample_size=size,
    )
    trace = genealogy_of(
        process,
        key,
        generations=generations,
        chains=chains,
        metrics=("living_ancestors", "variance", "held_out_log_likelihood", outside_mass),
    )
    at = np.arange(generations + 1)
    exact = {
        "variance": theory.kernel_density.expected_variance(at, size, bandwidth=bandwidth),
        "living_ancestors": theory.lineages.expected_living_ancestors(at, size),
    }
    known: dict[str, tuple[str | None, str | None]] = {
        "diversity": ("not met", "not met"),
        "modes": ("met", "met"),
        "hallucination": ("met", "met"),
    }
    return Case(profile(trace), trace, exact, known)


def outside_mass(state: object) -> jax.Array:
    """Mass [] of a kernel density in one dimension where a standard normal has .0001."""
    params = state.params  # pyright: ignore[reportAttributeAccessIssue]
    points, weight = params.data
    width = bandwidth_of(params)
    upper = jax.scipy.stats.norm.sf((_LIMIT - points[:, 0]) / width)
    lower = jax.scipy.stats.norm.cdf((-_LIMIT - points[:, 0]) / width)
    return jnp.sum(weight * (upper + lower)) / jnp.sum(weight)


def categorical_replace(
    key: jax.Array, *, size: int = 50, generations: int = 100, chains: int = 1000
) -> Case:
    """Categories under replace: modes and tails are lost, and no mass is where the truth has none.

    The truth has 20 categories, with probabilities like 1 / rank.
    """
    probabilities = 1 / np.arange(1, 21)
    probabilities /= probabilities.sum()
    family = categorical(len(probabilities))
    process = generational_process(
        family,
        sources.population(family, categorical_params(probabilities)),
        workflows.replace(),
        sample_size=size,
    )
    names = ("heterozygosity", "support", "missing_mass", "kl_model_to_real", "kl_real_to_model")
    trace = simulate(
        process, key, generations=generations, chains=chains, metrics=names, progress=False
    )
    at = np.arange(generations + 1)
    exact = {
        "heterozygosity": theory.categorical.expected_heterozygosity(at, size, probabilities),
        "support": theory.categorical.expected_support(at, size, probabilities),
        "missing_mass": theory.categorical.expected_missing_mass(at, size, probabilities),
    }
    known: dict[str, tuple[str | None, str | None]] = {
        "diversity": ("met", "met"),
        "modes": ("met", "met"),
        "tails": ("met", "met"),
        "hallucination": ("not met", "not met"),
    }
    return Case(profile(trace), trace, exact, known)


CASES: Mapping[str, Callable[..., Case]] = {
    "kernels, replace": kernels_replace,
    "Gaussian (ddof = 1), replace": gaussian_replace,
    "Gaussian, accumulate": gaussian_accumulate,
    "Gaussian, a tenth of fresh real points": gaussian_mix,
    "categories, replace": categorical_replace,
}


def _gaussian(key, workflow, size, generations, chains):
    """Mean, variance and losses of a Gaussian with ddof = 1; the truth is a standard normal."""
    process = generational_process(
        gaussian(dim=1), sources.normal([0.0], [[1.0]]), workflow, sample_size=size
    )
    names = ("mean", "variance", "squared_wasserstein2", "kl_real_to_model")
    return simulate(
        process, key, generations=generations, chains=chains, metrics=names, progress=False
    )


def _profile(trace, loss):
    return profile(trace, metrics={"loss": loss}, family="gaussian", truth=_NORMAL)
