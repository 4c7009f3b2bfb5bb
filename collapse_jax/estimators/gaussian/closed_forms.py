"""What theory knows of Gaussian chains: means, quantiles, and chains that a mean needs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.closed_forms import Setting


def _is_unbiased(setting):
    bias = setting.options["sampling_bias"]
    return isinstance(bias, int | float) and bias == 1


def means(setting: Setting, generation: ArrayLike) -> dict[str, np.ndarray]:
    """Name -> expected value at each generation, of what is known."""
    from collapse_jax.theory import accumulation, real_batches  # here: theory imports scipy.stats
    from collapse_jax.theory import gaussian as theory

    (options, size, workflow), dim = setting, setting.options["dim"]
    ddof = options["ddof"]
    if (size == 1 and ddof == 1) or not _is_unbiased(setting):
        return {}
    if "real_share" in workflow:
        variance, _ = real_batches.gaussian_moments(generation, size, ddof=ddof, **workflow)
        return {"variance": variance}
    known = {"variance": theory.expected_variance(generation, size, ddof=ddof, **workflow)}
    if workflow["workflow"] == "replace" and size > dim:
        known["log_variance"] = theory.expected_log_variance(generation, size, ddof=ddof, dim=dim)
    if workflow["workflow"] == "accumulate" and dim == 1:
        known["log_variance"] = accumulation.expected_log_variance(generation, size, ddof=ddof)
    return known


def _known_in_law(setting):
    """Whether more than means is known: under `replace`, from two points on."""
    replaced = setting.workflow["workflow"] == "replace"
    return replaced and setting.sample_size >= 2 and _is_unbiased(setting)


def quantiles(
    setting: Setting, generation: ArrayLike, probabilities: Sequence[float]
) -> dict[str, np.ndarray]:
    """Name -> quantiles [probability, generation], of what is known."""
    from collapse_jax.theory import gaussian as theory

    options, size, _ = setting
    if options["dim"] != 1 or not _known_in_law(setting):
        return {}
    curves = [
        theory.log_variance_quantile(p, generation, size, ddof=options["ddof"])
        for p in probabilities
    ]
    return {"log_variance": np.array(curves), "variance": np.exp(curves)}


def chains_for_means(
    setting: Setting, generation: ArrayLike, relative_error: float
) -> dict[str, np.ndarray]:
    """Name -> chains that its mean takes to have the relative error, at each generation."""
    from collapse_jax.theory import gaussian as theory
    from collapse_jax.theory import monte_carlo

    (options, size, _), dim = setting, setting.options["dim"]
    if not _known_in_law(setting):
        return {}
    with np.errstate(all="ignore"):
        if dim == 1:
            needed = monte_carlo.runs_for_expected_variance(generation, size, relative_error)
            return {"variance": needed}
        ddof = options["ddof"]
        square = monte_carlo.expected_squared_traces(generation, size, np.ones(dim), ddof=ddof)[1]
        mean = dim * theory.expected_variance(generation, size, ddof=ddof)
        needed = (square / mean**2 - 1) / relative_error**2
    return {"variance": np.where(np.isfinite(needed), needed, np.inf)}
