"""One-dimensional Gaussian mixtures fitted to infinitely many points: loss by misspecification.

A mixture is a triple (weights, means, standard deviations) of arrays [..., K]. Without sampling
error, maximum likelihood gives the model of least KL(truth || model), which is the projection of
the real distribution (the truth) on the family. A refit to that model changes nothing.
"""

import numpy as np
from numpy.typing import ArrayLike

# Nodes, and deviations beyond the outermost mean: the trapezoid rule is exact to rounding for
# mixtures whose deviations are above a hundredth of the range.
_NODES, _REACH = 4001, 12.0

# (weights, means, deviations), each [..., K].
Mixture = tuple[ArrayLike, ArrayLike, ArrayLike]


def log_density(mixture: Mixture, x: ArrayLike) -> np.ndarray:
    """Log-density [..., nodes] in nats at x [nodes]; weights may be 0."""
    weights, means, deviations = (np.asarray(part, float)[..., None, :] for part in mixture)
    with np.errstate(divide="ignore", over="ignore"):
        z = (np.asarray(x, float)[:, None] - means) / deviations
        logs = np.log(weights) - np.log(deviations) - z**2 / 2 - np.log(2 * np.pi) / 2
    return np.logaddexp.reduce(logs, axis=-1)


def moments(mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """(mean, variance) [...]: the Gaussian with these is the mixture's projection on the Gaussians.

    Standard: the law of total variance; moment matching minimises KL(truth || model) in an
    exponential family.
    """
    weights, means, deviations = (np.asarray(part, float) for part in mixture)
    mean = np.sum(weights * means, axis=-1)
    return mean, np.sum(weights * (deviations**2 + (means - mean[..., None]) ** 2), axis=-1)


def kl(truth: Mixture, model: Mixture) -> np.ndarray:
    """KL(truth || model) in nats [...], by the trapezoid rule.

    Args:
        truth: One mixture, arrays [K].
        model: Mixtures, arrays [..., K].
    """
    for part in (truth, model):
        if not np.all(np.asarray(part[2], float) > 0):
            raise ValueError("deviations must be positive")
    x, step = nodes_of(truth)
    logs = log_density(truth, x)
    return step * np.sum(np.exp(logs) * (logs - log_density(model, x)), axis=-1)


def kl_to_gaussian(truth: Mixture, mean: float, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """KL(truth || Normal(mean, variance)) in nats, as two parts that sum to it.

    The first part is due to misspecification; it does not depend on the model, so that later
    generations do not add to it. Derived: -E log q depends on the truth only through its first two
    moments; the second part is the KL of two Gaussians.

    Returns:
        (KL of the truth to its projection, KL of the projection to the model).

    References:
        Csiszar 1975 (Pythagoras of information projections).
    """
    centre, spread = moments(truth)
    first = kl(truth, ([1.0], [centre], [np.sqrt(spread)]))
    return first, (np.log(variance / spread) + (spread + (centre - mean) ** 2) / variance - 1) / 2


def population_em(truth: Mixture, start: Mixture, steps: int) -> Mixture:
    """The mixture [K] after `steps` steps of expectation-maximisation on the truth's density.

    References:
        Dempster, Laird and Rubin 1977, with sums over points replaced by integrals.
    """
    x, step = nodes_of(truth, start)
    mass = step * np.exp(log_density(truth, x))
    weights, means, deviations = (np.array(part, float) for part in start)
    for _ in range(steps):
        z = (x[:, None] - means) / deviations
        logs = np.log(weights) - np.log(deviations) - z**2 / 2
        shares = mass[:, None] * np.exp(logs - np.logaddexp.reduce(logs, axis=1)[:, None])
        weights = shares.sum(0)
        means = (shares * x[:, None]).sum(0) / weights
        deviations = np.sqrt((shares * (x[:, None] - means) ** 2).sum(0) / weights)
        weights = weights / weights.sum()
    return weights, means, deviations


def nodes_of(*mixtures: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """(x [nodes], their distance) of a grid up to 12 standard deviations beyond the means."""
    low = min(
        np.min(np.asarray(means) - _REACH * np.asarray(deviations))
        for _, means, deviations in mixtures
    )
    high = max(
        np.max(np.asarray(means) + _REACH * np.asarray(deviations))
        for _, means, deviations in mixtures
    )
    x = np.linspace(low, high, _NODES)
    return x, x[1] - x[0]
