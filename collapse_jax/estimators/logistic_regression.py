"""Logistic regression on labels that the previous generation's model generates."""

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
from collapse_jax.numerics import least_squares
from collapse_jax.random.bits import key_words, split, uniform, variate_words
from collapse_jax.random.derivatives import CHOICES, step_function

__all__ = ["logistic_params", "logistic_regression"]

# A separated sample has no best weights: they are scaled until its smallest margin is this, and a
# label of it flips with e^-30,
SEPARATED_MARGIN = 30.0
# but never so far that one of its margins is above this.
LARGEST_MARGIN = 1e6
_STEP_SIZES = 0.5 ** np.arange(8)
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)


class LogisticParams(NamedTuple):
    """The weights, and whether the fit had no finite solution.

    weights: [dim].
    separated: bool [], whether the weights represent infinite weights in the same direction.
    """

    weights: jax.Array
    separated: jax.Array


@named
def logistic_regression(
    dim: int,
    design: ArrayLike | None = None,
    steps: int = 30,
    tolerance: float = 1e-8,
    penalty: float = 0.0,
    resampled: bool = False,
) -> Estimator:
    """Logistic regression on labels that the previous generation's model generated.

    Points x are rows [n, dim + 1], features first, the label (0 or 1) last. The model is
    P(label = 1) = 1 / (1 + exp(-features @ weights)); there is no intercept (give a column of ones
    in `design`). The fit minimises the mean log-loss + penalty / 2 |w|^2 by Newton's method from
    weights 0; a line search tries each step at full size and halved up to 7 times. A feature that
    is a linear combination of others gets weight 0.

    Without a penalty, the likelihood has no maximum if some weights classify every label of the
    sample correctly (the sample is separated). Then the weights keep the direction of the last
    Newton step. They are scaled so that the smallest margin |features @ weights| of the sample is
    30 and the largest is at most 10^6, and params.separated and detail["separated"] are True.
    Separation with points on the boundary itself, which is possible with discrete features, is not
    detected; the weights are then finite because `steps` is finite, and converged is False.

    Metrics: weights [dim], weight_norm, separated; mean, the probability of label 1; variance and
    log_variance of a label given its features (0 and -inf in the limit in which the features
    determine the label). They are averages over features N(0, I), or over the rows of the design.
    Distances: squared_distance |w - w_real|^2; angle between the two decision boundaries in
    radians; cosine of it; excess_log_loss, nats per label in excess of the real model's, for
    features N(0, I), by quadrature. `log_prob` is the joint log-density of features and label; with
    a design, that of the label given its features; -inf for a label that is neither 0 nor 1.

    Args:
        dim: the number of features, at least 1.
        design: None: fresh features N(0, I) in each generation. [T, dim]: the same rows in every
            generation ("same X"); each training set then has exactly T rows. Observed labels of
            these rows can be given as `sources.dataset`.
        resampled: whether each training set draws its features from the rows of the design with
            replacement; sets may then have any size.
        steps: the largest number of Newton steps; if they do not suffice, converged is False.
        tolerance: the fit stops when the squared Newton decrement (the squared distance to the
            optimum in standard errors) is below this.
        penalty: at least 0 (scikit-learn's C is 1 / (n penalty)).

    Raises:
        InputError: if an argument is out of its range or has another shape, or a training set has
            another size than the design.

    References:
        Dey and Donoho 2024, "Universality of the pi^2/6 pathway in avoiding model collapse";
        Newton's method: standard.
    """
    options = checked_options(dim, design, steps, tolerance, penalty)
    return _estimator(_Logistic(*options, checked_resampled(resampled, options[1])))


def _estimator(family):
    return estimator(
        family.fit,
        family.sample,
        init=family.init,
        check=check_of(
            f"logistic_regression(dim={family.dim})",
            family.dim,
            family.design,
            labels="binary",
            keeps="directions",
            penalty=family.penalty,
        ),
        metrics={
            "weights": lambda params: params.weights,
            "weight_norm": lambda params: _norm(params.weights),
            "separated": lambda params: params.separated,
            "mean": family.mean,
            "variance": lambda params: jnp.exp(family.log_variance(params)),
            "log_variance": family.log_variance,
        },
        distances={
            "squared_distance": lambda params, real: jnp.sum((params.weights - real.weights) ** 2),
            "angle": _angle,
            "cosine": lambda params, real: jnp.cos(_angle(params, real)),
            "excess_log_loss": _excess_log_loss,
        },
        log_prob=family.log_prob,
    )


class _Logistic(NamedTuple):
    """The options, and what depends on them."""

    dim: int
    design: np.ndarray | None
    steps: int
    tolerance: float
    penalty: float
    resampled: bool = False

    def init(self, key, data):
        return LogisticParams(jnp.zeros(self.dim), jnp.asarray(False))

    def fit(self, key, params, data):
        features, label = data.x[:, : self.dim], data.x[:, self.dim]
        weights, info = newton(
            features, label, data.weight, self.steps, self.tolerance, self.penalty
        )
        return LogisticParams(weights, info.detail["separated"]), info

    def sample(self, key, params, n):
        check_size(self.design, n, self.resampled)
        check_size_of_params("weights", len(params.weights), self.dim)
        feature_key, label_key = split(key)
        dtype = params.weights.dtype
        features = drawn_features(feature_key, self.design, n, self.dim, dtype, self.resampled)
        u = uniform(*variate_words(*key_words(label_key), jnp.arange(n, dtype=jnp.uint32)))
        # log u - log(1 - u) below the logit: as u below its probability, and right in both tails.
        noise = jnp.log(u) - jnp.log1p(-u)
        logit = times(features, params.weights)
        label = step_function(noise < logit, logit, CHOICES)
        return jnp.concatenate([features, label[:, None].astype(dtype)], axis=1)

    def log_prob(self, params, x):
        features, label = x[:, : self.dim], x[:, self.dim]
        logit = times(features, params.weights)
        result = jnp.where((label == 0) | (label == 1), -_loss(logit, label), -jnp.inf)
        return with_features(result, features, self.design)

    def mean(self, params):
        if self.design is None:
            return jnp.full((), 0.5, params.weights.dtype)
        return jnp.mean(jax.nn.sigmoid(self._logits(params)))

    def log_variance(self, params):
        if self.design is None:
            return jnp.log(_expected_slope(_norm(params.weights)))
        size = jnp.abs(self._logits(params))
        total = jax.scipy.special.logsumexp(-size - 2 * jnp.log1p(jnp.exp(-size)))
        return total - np.log(len(self.design))

    def _logits(self, params):
        """[T], of the rows of the design."""
        return times(jnp.asarray(self.design, params.weights.dtype), params.weights)


def example() -> tuple[Estimator, LogisticParams]:
    """Returns (Estimator, params) with three features."""
    return logistic_regression(3), logistic_params([1.0, -0.5, 0.25])


def logistic_params(weights: ArrayLike) -> LogisticParams:
    """Returns parameters with these weights [dim].

    Raises:
        InputError: unless the weights are finite numbers of shape [dim].
    """
    return LogisticParams(checked_weights(weights), jnp.asarray(False))


def newton(
    features: jax.Array,
    label: jax.Array,
    weight: jax.Array,
    steps: int,
    tolerance: float,
    penalty: float,
) -> tuple[jax.Array, FitInfo]:
    """Returns (weights [dim], FitInfo) of the fit by Newton's method; see `logistic_regression`.

    Args:
        features: [n, dim].
        label: [n], 0 or 1.
        weight: [n], the points' weights; a point of weight 0 has no effect, even if it is nan.
        steps, tolerance, penalty: see `logistic_regression`.

    Returns:
        The weights and the `FitInfo`: loss is the mean log-loss plus the penalty, and
        detail["separated"] [] is whether the sample is separated.
    """
    filled = weight > 0
    points = _Points(
        jnp.where(filled[:, None], features, 0),
        jnp.where(filled, label, 0),
        weight,
        jnp.where(jnp.any(filled), jnp.sum(weight), 1),
        penalty,
    )

    def go_on(carry):
        step, _, _, decrement = carry
        return (step < steps) & (decrement > tolerance)

    start = (
        jnp.asarray(0),
        jnp.zeros(features.shape[1], features.dtype),
        jnp.zeros_like(points.label),
        jnp.asarray(jnp.inf, features.dtype),
    )
    taken, weights, logit, decrement = jax.lax.while_loop(go_on, points.improved, start)
    separated, scale = points.separation(logit)
    weights = jnp.where(separated, weights * scale, weights)
    loss = points.objective(jnp.where(separated, scale, 1) * logit, jnp.sum(weights**2))
    converged = (decrement <= tolerance) & ~separated
    info = FitInfo(converged, taken, loss / points.total, {"separated": separated})
    return weights, info


class _Points(NamedTuple):
    """The data of the loss; features and labels are 0 where the weight is 0.

    features: [n, dim]. label, weight: [n]. total: [], the sum of the weights.
    """

    features: jax.Array
    label: jax.Array
    weight: jax.Array
    total: jax.Array
    penalty: float

    def objective(self, logit, square):
        """Sum of the log-losses of logits [..., n], plus the penalty of weights of this |w|^2."""
        loss = jnp.sum(self.weight * _loss(logit, self.label), -1)
        return loss + self.penalty * self.total / 2 * square

    def improved(self, carry):
        """One step: (step, weights [dim], logit [n], decrement []) -> the same after it."""
        step, weights, logit, _ = carry
        features, ridge = self.features, self.penalty * self.total
        sizes = jnp.asarray(_STEP_SIZES, features.dtype)
        residual = jnp.where(self.label > 0.5, jax.nn.sigmoid(-logit), -jax.nn.sigmoid(logit))
        slope = self.weight * jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)
        gradient = times(features.T, self.weight * residual) - ridge * weights
        direction = least_squares.newton_direction(features, slope, ridge, gradient)
        along = times(features, direction)
        ends = weights + sizes[:, None] * direction  # [sizes, dim]
        losses = self.objective(logit + sizes[:, None] * along, jnp.sum(ends**2, 1))
        # The longest step within rounding of the best: near the optimum all are alike, and the full
        # one converges quadratically.
        close = losses <= jnp.min(losses) * (1 + 4 * jnp.finfo(losses.dtype).eps)
        best = ends[jnp.argmax(close)]
        return step + 1, best, times(features, best), jnp.sum(gradient * direction)

    def separation(self, logit):
        """(whether the logits [n] separate the labels, the factor that scales the weights then)."""
        filled = self.weight > 0
        margin = jnp.where(filled, jnp.where(self.label > 0.5, logit, -logit), jnp.inf)
        smallest, largest = jnp.min(margin), jnp.max(jnp.where(filled, jnp.abs(logit), 0))
        separated = (smallest > 0) & jnp.any(filled) & (self.penalty == 0)
        scale = jnp.minimum(
            SEPARATED_MARGIN / jnp.where(separated, smallest, 1),
            LARGEST_MARGIN / jnp.maximum(largest, 1e-30),
        )
        return separated, scale


def _loss(logit, label):
    """Log-loss in nats of labels 0 and 1 under logits."""
    return jax.nn.softplus(jnp.where(label > 0.5, -logit, logit))


def _norm(weights):
    return jnp.sqrt(jnp.sum(weights**2))


def _angle(params, real):
    """Angle [] between two weight vectors in radians, accurate near 0; pi/2 if one of them is 0."""
    lengths = _norm(params.weights), _norm(real.weights)
    a, b = (
        model.weights / jnp.where(length > 0, length, 1)
        for model, length in zip((params, real), lengths, strict=True)
    )
    angle = 2 * jnp.arctan2(_norm(a - b), _norm(a + b))
    return jnp.where((lengths[0] > 0) & (lengths[1] > 0), angle, jnp.pi / 2)


def _half_normal_mean(function, size):
    """E f(|size z|) over standard normal z, for f = 0 beyond 40, by Gauss-Legendre quadrature."""
    end = jnp.minimum(8.0, 40 / jnp.maximum(size, 1e-30))
    z = end * jnp.asarray((_NODES + 1) / 2, size.dtype)
    values = function(size * z) * jnp.exp(-(z**2) / 2)
    return jnp.sum(values * jnp.asarray(_NODE_WEIGHTS / 2, size.dtype)) * end * np.sqrt(2 / np.pi)


def _expected_slope(size):
    """E sigmoid'(size z) over standard normal z: the mean variance of a label.

    By Stein's lemma also E[z sigmoid(size z)] / size.
    """
    return _half_normal_mean(lambda t: jnp.exp(-t) / (1 + jnp.exp(-t)) ** 2, size)


def _expected_softplus(size):
    return size / np.sqrt(2 * np.pi) + _half_normal_mean(lambda t: jnp.log1p(jnp.exp(-t)), size)


def _excess_log_loss(params, real):
    """Mean log-loss of a model on labels of the real model, minus the real model's mean log-loss.

    Features are N(0, I); the integral is one-dimensional by Stein's lemma.
    """
    size, real_size = _norm(params.weights), _norm(real.weights)
    slope = _expected_slope(real_size)
    product = jnp.sum((params.weights - real.weights) * real.weights)
    return jnp.maximum(
        _expected_softplus(size) - _expected_softplus(real_size) - product * slope, 0
    )


FAMILY = Family(logistic_regression, example)
