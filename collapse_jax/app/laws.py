"""Which closed form judges which simulated chain: from settings to `theory`."""

import numpy as np
from scipy import special

from collapse_jax.app.config import SimulateConfig
from collapse_jax.theory import accumulation, ancestry, categorical, gaussian, monte_carlo

_LARGEST_MATRIX = 2000


def expected_means(config: SimulateConfig, generation) -> dict[str, np.ndarray]:
    """Metric -> its exact mean over chains at each generation [generations], for the metrics that
    have a closed form.
    """
    config = config.resolved()
    shares = {"workflow": config.workflow}
    if config.workflow == "mix":
        shares |= {"alpha": config.alpha, "beta": config.beta, "gamma": config.gamma}
    if config.family == "gaussian":
        if config.sample_size == 1 and config.ddof == 1:
            return {}
        means = {
            "variance": gaussian.expected_variance(
                generation, config.sample_size, ddof=config.ddof, **shares
            )
        }
        if config.workflow == "replace" and config.sample_size > config.dim:
            means["log_variance"] = gaussian.expected_log_variance(
                generation, config.sample_size, ddof=config.ddof, dim=config.dim
            )
        if config.workflow == "accumulate" and config.dim == 1:
            means["log_variance"] = accumulation.expected_log_variance(
                generation, config.sample_size, ddof=config.ddof
            )
        return means
    if config.family != "categorical":
        return {}
    initial = 1 - 1 / config.num_categories
    means = {
        "heterozygosity": initial * ancestry.retention(generation, config.sample_size, **shares)
    }
    if config.workflow == "replace" and config.sample_size <= _LARGEST_MATRIX:
        means["support"] = categorical.expected_support(
            generation, config.sample_size, initial_probabilities(config)
        )
        # All categories are alike, so one stands for all.
        one = categorical.expectation_over_counts(
            lambda count: special.entr(count / config.sample_size),
            generation,
            config.sample_size,
            initial_probabilities(config)[:1],
        )
        means["entropy"] = config.num_categories * one[..., 0]
    if config.workflow == "accumulate":
        distinct = categorical.expected_distinct_in_sample(
            config.sample_size, initial_probabilities(config)
        )
        means["support"] = np.full(np.shape(generation), float(distinct))
    return means


def chains_for_means(
    config: SimulateConfig, generation, relative_error: float = 0.05
) -> dict[str, np.ndarray]:
    """Metric -> chains whose average is its exact mean within relative_error (a standard error)
    [generations]; known for the variance of the Gaussian under `replace`, and infinite where beyond
    a float.
    """
    config = config.resolved()
    if (config.family, config.workflow) != ("gaussian", "replace") or config.sample_size < 2:
        return {}
    with np.errstate(all="ignore"):
        if config.dim == 1:
            return {
                "variance": monte_carlo.runs_for_expected_variance(
                    generation, config.sample_size, relative_error
                )
            }
        square = monte_carlo.expected_squared_traces(
            generation, config.sample_size, np.ones(config.dim), ddof=config.ddof
        )[1]
        mean = config.dim * gaussian.expected_variance(
            generation, config.sample_size, ddof=config.ddof
        )
        needed = (square / mean**2 - 1) / relative_error**2
    return {"variance": np.where(np.isfinite(needed), needed, np.inf)}


def expected_quantiles(config: SimulateConfig, generation, probabilities) -> dict[str, np.ndarray]:
    """Metric -> its exact quantiles [probabilities, generations]; known for the 1-D Gaussian under
    `replace`.
    """
    config = config.resolved()
    if (config.family, config.workflow, config.dim) != (
        "gaussian",
        "replace",
        1,
    ) or config.sample_size < 2:
        return {}
    curves = [
        gaussian.log_variance_quantile(p, generation, config.sample_size, ddof=config.ddof)
        for p in probabilities
    ]
    return {"log_variance": np.array(curves), "variance": np.exp(curves)}


def initial_probabilities(config: SimulateConfig) -> np.ndarray:
    """The real distribution [K] of a categorical simulation: uniform."""
    return np.full(config.num_categories, 1 / config.num_categories)
