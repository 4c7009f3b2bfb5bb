"""Poisson regression on counts that the previous generation's model generates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import check_size_of_params
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.estimators.designs import (
    check_of,
    check_size,
    checked_options,
    checked_resampled,
    checked_weights,
    drawn_features,
    times,
    with_features,
)
from collapse_jax.metrics.divergence import exponential_beyond_line
from collapse_jax.numerics import least_squares
from collapse_jax.random.bits import split
from collapse_jax.random.derivatives import CHOICES, step_function
from collapse_jax.random.poisson import poisson

__all__ = ["poisson_regression", "poisson_regression_params"]

# Rates are at most e^20, which 32 bits count.
LARGEST_LOG_RATE = 20.0
_STEP_SIZES = 0.5 ** np.arange(12)


class PoissonRegressionParams(NamedTuple):
    """weights: [dim]."""

    weights: jax.Array


@named
def poisson_regression(
    dim: int,
    design: ArrayLike | None = None,
    steps: int = 30,
    tolerance: float = 1e-8,
    penalty: float = 0.0,
    resampled: bool = False,
) -> Estimator:
    """Poisson regression on counts that the previous generation's model generated.

    Points x are rows [n, dim + 1], features first, the count last. The model is
    count ~ Poisson(exp(features @ weights)); there is no intercept (give a column of ones in
    `design`). The fit minimises the mean of rate - count log rate, plus penalty / 2 |w|^2, by
    Newton's method from weights 0; a line search tries each step at full size and halved up to 11
    times. A feature that is a linear combination of others gets weight 0. Sampling limits log rates
    to 20. If every count is 0, the likelihood has no maximum; the weights are then finite because
    `steps` is finite, and converged is False.

    Metrics: weights [dim], weight_norm; mean, variance and log_variance of a count (over features
    N(0, I), or over the rows of the design). Distances: squared_distance |w - w_real|^2;
    excess_log_loss, nats per count in excess of the real model's, for features N(0, I). `log_prob`
    is the joint log-density of features and count; with a design, that of the count given its
    features; -inf if the count is not a whole number of at least 0.

    Args:
        dim: the number of features, at least 1.
        design: None: fresh features N(0, I) in each generation. [T, dim]: the same rows in every
            generation ("same X"); each training set then has exactly T rows.
        resampled: whether each training set draws its features from the rows of the design with
            replacement; sets may then have any size.
        steps: the largest number of Newton steps; if they do not suffice, converged is False.
        tolerance: the fit stops when the squared Newton decrement (the squared distance to the
            optimum in standard errors) is below this.
        penalty: at least 0 (scikit-learn's alpha).

    Raises:
        InputError: if an argument is out of its range or has another shape, or a training set has
            another size than the design.

    References:
        He, Xu and Cheng 2025, arXiv 2502.18049, use it in a generational chain; Newton's method:
        standard.
    """
    options = checked_options(dim, design, steps, tolerance, penalty)
    return _estimator(_Poisson(*options, checked_resampled(resampled, options[1])))


def _estimator(family):
    return estimator(
        family.fit,
        family.sample,
        init=lambda key, data: PoissonRegressionParams(jnp.zeros(family.dim)),
        check=check_of(
            f"poisson_regression(dim={family.dim})",
            family.dim,
            family.design,
            labels="counts",
            keeps="directions",
            penalty=family.penalty,
        ),
        metrics={
            "weights": lambda params: params.weights,
            "weight_norm": lambda params: jnp.sqrt(jnp.sum(params.weights**2)),
            "mean": lambda params: jnp.exp(family.log_moments(params)[0]),
            "variance": lambda params: jnp.exp(family.log_variance(params)),
            "log_variance": family.log_variance,
        },
        distances={
            "squared_distance": lambda params, real: jnp.sum((params.weights - real.weights) ** 2),
            "excess_log_loss": _excess_log_loss,
        },
        log_prob=family.log_prob,
    )


class _Poisson(NamedTuple):
    """The options, and what depends on them."""

    dim: int
    design: np.ndarray | None
    steps: int
    tolerance: float
    penalty: float
    resampled: bool = False

    def fit(self, key, params, data):
        features, count = data.x[:, : self.dim], data.x[:, self.dim]
        weights, info = newton(
            features, count, data.weight, self.steps, self.tolerance, self.penalty
        )
        return PoissonRegressionParams(weights), info

    def sample(self, key, params, n):
        check_size(self.design, n, self.resampled)
        check_size_of_params("weights", len(params.weights), self.dim)
        feature_key, count_key = split(key)
        dtype = params.weights.dtype
        features = drawn_features(feature_key, self.design, n, self.dim, dtype, self.resampled)
        rate = jnp.exp(jnp.minimum(times(features, params.weights), LARGEST_LOG_RATE))
        count = step_function(poisson(count_key, rate, (n,)), rate, CHOICES)
        return jnp.concatenate([features, count[:, None].astype(dtype)], axis=1)

    def log_prob(self, params, x):
        features, count = x[:, : self.dim], x[:, self.dim]
        log_rate = times(features, params.weights)
        held = (count >= 0) & (count == jnp.floor(count))
        counted = jnp.where(held, count, 0)
        result = counted * log_rate - jnp.exp(log_rate) - jax.scipy.special.gammaln(counted + 1)
        result = jnp.where(held, result, -jnp.inf)
        return with_features(result, features, self.design)

    def log_moments(self, params):
        """(log E rate, log E rate^2) over the features."""
        weights = params.weights
        if self.design is None:
            square = jnp.sum(weights**2)
            return square / 2, 2 * square
        log_rate = times(jnp.asarray(self.design, weights.dtype), weights)
        total = jax.scipy.special.logsumexp(jnp.stack([log_rate, 2 * log_rate]), axis=1)
        return tuple(total - np.log(len(self.design)))

    def log_variance(self, params):
        """Log of the variance of a count, which is E rate^2 - (E rate)^2 + E rate."""
        first, second = self.log_moments(params)
        spread = jnp.where(second > 2 * first, -jnp.expm1(2 * first - second), 0)
        return jnp.logaddexp(first, second + jnp.log(spread))


def example() -> tuple[Estimator, PoissonRegressionParams]:
    """Returns (Estimator, params) with three features."""
    return poisson_regression(3), poisson_regression_params([0.5, -0.3, 0.2])


def poisson_regression_params(weights: ArrayLike) -> PoissonRegressionParams:
    """Returns parameters with these weights [dim].

    Raises:
        InputError: unless the weights are finite numbers of shape [dim].
    """
    return PoissonRegressionParams(checked_weights(weights))


def newton(
    features: jax.Array,
    count: jax.Array,
    weight: jax.Array,
    steps: int,
    tolerance: float,
    penalty: float,
) -> tuple[jax.Array, FitInfo]:
    """Returns (weights [dim], FitInfo) of the fit by Newton's method; see `poisson_regression`.

    Args:
        features: [n, dim].
        count: [n], whole numbers of at least 0.
        weight: [n], the points' weights; a point of weight 0 has no effect, even if it is nan.
        steps, tolerance, penalty: see `poisson_regression`.

    Returns:
        The weights and the `FitInfo`, whose loss is the mean of rate - count log rate, plus the
        penalty.
    """
    filled = weight > 0
    total = jnp.where(jnp.any(filled), jnp.sum(weight), 1)
    features = jnp.where(filled[:, None], features, 0)
    points = _Points(features, jnp.where(filled, count, 0), weight, penalty * total)

    def go_on(carry):
        step, _, decrement = carry
        return (step < steps) & (decrement > tolerance)

    dtype = features.dtype
    start = jnp.asarray(0), jnp.zeros(features.shape[1], dtype), jnp.asarray(jnp.inf, dtype)
    taken, weights, decrement = jax.lax.while_loop(go_on, points.improved, start)
    loss = points.objective(weights[None])[0] / total
    seen = jnp.any(points.count > 0) | (penalty > 0) | ~jnp.any(filled)
    return weights, FitInfo((decrement <= tolerance) & seen, taken, loss)


class _Points(NamedTuple):
    """The data of the loss; features and counts are 0 where the weight is 0.

    features: [n, dim]. count, weight: [n]. ridge: [], the penalty of all points.
    """

    features: jax.Array
    count: jax.Array
    weight: jax.Array
    ridge: jax.Array

    def objective(self, weights):
        """Sums [sizes] of the losses under weights [sizes, dim], with the penalty."""
        log_rate = jnp.matmul(weights, self.features.T, precision="highest")
        # What overflows is no step to take.
        loss = jnp.sum(self.weight * (jnp.exp(log_rate) - self.count * log_rate), -1)
        return loss + self.ridge / 2 * jnp.sum(weights**2, -1)

    def improved(self, carry):
        """One step: (step, weights [dim], decrement []) -> the same after it."""
        step, weights, _ = carry
        sizes = jnp.asarray(_STEP_SIZES, self.features.dtype)
        rate = jnp.exp(times(self.features, weights))
        gradient = times(self.features.T, self.weight * (self.count - rate)) - self.ridge * weights
        direction = least_squares.newton_direction(
            self.features, self.weight * rate, self.ridge, gradient
        )
        ends = weights + sizes[:, None] * direction  # [sizes, dim]
        losses = self.objective(ends)
        losses = jnp.where(jnp.isnan(losses), jnp.inf, losses)
        # The longest step within rounding of the best: near the optimum all are alike, and the full
        # one converges quadratically.
        best = jnp.min(losses)
        close = losses <= best + jnp.abs(best) * (4 * jnp.finfo(losses.dtype).eps)
        return step + 1, ends[jnp.argmax(close)], jnp.sum(gradient * direction)


def _excess_log_loss(params, real):
    """Mean loss of a model on counts of the real model, minus the real model's mean loss.

    Features are N(0, I): E exp(x'w) = exp(|w|^2 / 2) and, by Stein's lemma, E x exp(x'w) = w times
    that.
    """
    away = params.weights - real.weights
    square = jnp.sum(away**2) / 2
    grown = jnp.sum(away * real.weights) + square  # of the log of the mean rate
    mean_rate = jnp.exp(jnp.sum(real.weights**2) / 2)
    return mean_rate * (exponential_beyond_line(grown) + square)


FAMILY = Family(poisson_regression, example)
