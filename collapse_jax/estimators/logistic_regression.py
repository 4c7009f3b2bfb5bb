"""Logistic regression whose labels the previous generation's fit makes, by damped Newton steps;
separated samples are named as such.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, FitInfo
from collapse_jax.errors import InputError, numbers
from collapse_jax.numerics import least_squares
from collapse_jax.random.bits import key_words, split, uniform, variate_words
from collapse_jax.random.normal import normal_vector

# A separated sample has no best weights: they are scaled until its smallest margin is this, and a
# label of it flips with e^-30,
SEPARATED_MARGIN = 30.0
# but never so far that one of its margins is above this.
LARGEST_MARGIN = 1e6
_STEP_SIZES = 0.5 ** np.arange(8)
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)


class LogisticParams(NamedTuple):
    """weights: [dim]. separated: bool [], whether the weights stand for infinite ones, in their
    direction.
    """

    weights: jax.Array
    separated: jax.Array


@named
def logistic_regression(
    dim: int, design=None, steps: int = 30, tolerance: float = 1e-8, penalty: float = 0.0
) -> Estimator:
    """Logistic regression of `dim` features on labels 0 and 1 that the previous fit made; x is [n,
    dim + 1], features, then label.

    P(label = 1) = 1 / (1 + exp(-features @ weights)); no intercept (give a column of ones in
    `design`). Features: fresh N(0, I) in
    each generation, or design [T, dim]: the same rows in every generation ("same X"), each set then
    has exactly T of them, and
    logged labels of a real set may come with them as `sources.dataset`. Minimised: the mean
    log-loss + penalty / 2 |w|^2
    (scikit-learn's C is 1 / (n penalty)), from weights 0 by Newton steps, each halved up to 7 times
    to the best of its sizes, until
    the squared Newton decrement (the squared distance to the optimum in standard errors) is below
    `tolerance`, `steps` at the most;
    else converged is False. Features that others explain get weight 0.
    Without a penalty, a sample whose labels some weights all get right is separated: the likelihood
    has no maximum. Then the weights
    keep the direction of the last Newton step, scaled so that the smallest margin |features @
    weights| of the sample is 30 and the largest at most 10^6; params.separated and
    detail["separated"] say so. A sample that is separated but for points on the
    boundary itself (possible with discrete features) is not recognised; its weights stay finite by
    the cap, converged False.
    Metrics: weights [dim], weight_norm, separated; mean, the probability of label 1; variance and
    log_variance of a label given its features, 0 and -inf in the limit where labels are frozen
    (over the features N(0, I), or over the rows of the design).
    Distances: squared_distance |w - w_real|^2, angle (radians, in which the two boundaries meet),
    cosine, excess_log_loss (nats a
    label beyond the real model's, under N(0, I), by quadrature). log_prob: of features and label
    together; with a design of the
    label given its features; -inf for a label that is neither 0 nor 1.
    Raises `InputError` for a dim or steps below 1, a negative tolerance or penalty, a design that
    is not [T, dim], and for sets of another size than T where there is a design.
    Source: Dey and Donoho 2024, "Universality of the pi^2/6 pathway in avoiding model collapse";
    Newton: standard.
    """
    design = _checked(dim, design, steps, tolerance, penalty)
    rows = None if design is None else len(design)

    def init(key, statistics):
        return LogisticParams(jnp.zeros(dim), jnp.asarray(False))

    def fit(key, params, data):
        weights, info = newton(
            data.x[:, :dim], data.x[:, dim], data.weight, steps, tolerance, penalty
        )
        return LogisticParams(weights, info.detail["separated"]), info

    def sample(key, params, n):
        if rows is not None and not (isinstance(n, int | np.integer) and n == rows):
            asked = f"{n}" if isinstance(n, int | np.integer) else "a random number"
            raise InputError(
                f"design has {rows} rows, and {asked} of points is asked for; with a "
                f"design every set must have {rows}"
            )
        feature_key, label_key = split(key)
        dtype = params.weights.dtype
        features = (
            normal_vector(feature_key, n * dim).reshape(n, dim)
            if design is None
            else jnp.asarray(design, dtype)
        )
        u = uniform(*variate_words(*key_words(label_key), jnp.arange(n, dtype=jnp.uint32)))
        # log u - log(1 - u) below the logit: as u below its probability, and right in both tails.
        label = jnp.log(u) - jnp.log1p(-u) < _times(features, params.weights)
        return jnp.concatenate([features, label[:, None].astype(dtype)], axis=1)

    def log_prob(params, x):
        features, label = x[:, :dim], x[:, dim]
        logit = _times(features, params.weights)
        result = jnp.where((label == 0) | (label == 1), -_loss(logit, label), -jnp.inf)
        return (
            result
            if design is not None
            else result - 0.5 * (jnp.sum(features**2, 1) + dim * jnp.log(2 * jnp.pi))
        )

    def mean(params):
        if design is None:
            return jnp.full((), 0.5, params.weights.dtype)
        return jnp.mean(
            jax.nn.sigmoid(_times(jnp.asarray(design, params.weights.dtype), params.weights))
        )

    def log_variance(params):
        if design is None:
            return jnp.log(_expected_slope(_norm(params.weights)))
        size = jnp.abs(_times(jnp.asarray(design, params.weights.dtype), params.weights))
        return jax.scipy.special.logsumexp(-size - 2 * jnp.log1p(jnp.exp(-size))) - np.log(rows)

    return estimator(
        fit,
        sample,
        init=init,
        metrics={
            "weights": lambda params: params.weights,
            "weight_norm": lambda params: _norm(params.weights),
            "separated": lambda params: params.separated,
            "mean": mean,
            "variance": lambda params: jnp.exp(log_variance(params)),
            "log_variance": log_variance,
        },
        distances={
            "squared_distance": lambda params, real: jnp.sum((params.weights - real.weights) ** 2),
            "angle": _angle,
            "cosine": lambda params, real: jnp.cos(_angle(params, real)),
            "excess_log_loss": _excess_log_loss,
        },
        log_prob=log_prob,
    )


def example():
    """(Estimator, params) of a regression on three features."""
    return logistic_regression(3), logistic_params([1.0, -0.5, 0.25])


def logistic_params(weights) -> LogisticParams:
    """Parameters from weights [dim]. Raises `InputError` unless they are finite numbers in one row."""
    values = numbers("weights", weights)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(f"weights {values.tolist()} must be [dim], finite")
    return LogisticParams(jnp.asarray(values, jnp.result_type(float)), jnp.asarray(False))


def newton(features, label, weight, steps: int, tolerance, penalty) -> tuple[jax.Array, FitInfo]:
    """(weights [dim], FitInfo) of features [n, dim], labels [n] and weights of the points [n]; see
    `logistic_regression`.

    detail: separated []; loss: the mean log-loss with its penalty.
    """
    here = weight > 0
    features, label = jnp.where(here[:, None], features, 0), jnp.where(here, label, 0)
    dim, total = features.shape[1], jnp.maximum(jnp.sum(weight), 1)
    sizes = jnp.asarray(_STEP_SIZES, features.dtype)

    def objective(logit, square):
        return jnp.sum(weight * _loss(logit, label), -1) + penalty * total / 2 * square

    def go_on(carry):
        step, _, _, decrement = carry
        return (step < steps) & (decrement > tolerance)

    def improve(carry):
        step, weights, logit, _ = carry
        residual = jnp.where(label > 0.5, jax.nn.sigmoid(-logit), -jax.nn.sigmoid(logit))
        slope = weight * jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)
        gradient = _times(features.T, weight * residual) - penalty * total * weights
        curvature = jnp.matmul(
            features.T * slope, features, precision="highest"
        ) + penalty * total * jnp.eye(dim)
        direction, _ = least_squares.solve(curvature, gradient)
        along = _times(features, direction)
        ends = weights + sizes[:, None] * direction
        losses = objective(logit + sizes[:, None] * along, jnp.sum(ends**2, 1))
        # The longest step within rounding of the best: near the optimum all are alike, and the full
        # one converges quadratically.
        close = losses <= jnp.min(losses) * (1 + 4 * jnp.finfo(losses.dtype).eps)
        best = ends[jnp.argmax(close)]
        return step + 1, best, _times(features, best), jnp.sum(gradient * direction)

    start = (
        jnp.asarray(0),
        jnp.zeros(dim, features.dtype),
        jnp.zeros_like(label),
        jnp.asarray(jnp.inf, features.dtype),
    )
    taken, weights, logit, decrement = jax.lax.while_loop(go_on, improve, start)
    margin = jnp.where(here, jnp.where(label > 0.5, logit, -logit), jnp.inf)
    smallest, largest = jnp.min(margin), jnp.max(jnp.where(here, jnp.abs(logit), 0))
    separated = (smallest > 0) & jnp.any(here) & (penalty == 0)
    scale = jnp.minimum(
        SEPARATED_MARGIN / jnp.where(separated, smallest, 1),
        LARGEST_MARGIN / jnp.maximum(largest, 1e-30),
    )
    weights = jnp.where(separated, weights * scale, weights)
    loss = objective(jnp.where(separated, scale, 1) * logit, jnp.sum(weights**2)) / total
    info = FitInfo((decrement <= tolerance) & ~separated, taken, loss, {"separated": separated})
    return weights, info


def _loss(logit, label):
    """Log-loss in nats of labels 0 and 1 under logits."""
    return jax.nn.softplus(jnp.where(label > 0.5, -logit, logit))


def _times(matrix, vector):
    return jnp.matmul(matrix, vector, precision="highest")


def _norm(weights):
    return jnp.sqrt(jnp.sum(weights**2))


def _angle(params, real):
    """Angle [] between two weight vectors in radians, right down to 0; pi/2 where one has no
    length.
    """
    lengths = _norm(params.weights), _norm(real.weights)
    a, b = (
        one.weights / jnp.where(length > 0, length, 1)
        for one, length in zip((params, real), lengths, strict=True)
    )
    angle = 2 * jnp.arctan2(_norm(a - b), _norm(a + b))
    return jnp.where((lengths[0] > 0) & (lengths[1] > 0), angle, jnp.pi / 2)


def _half_normal_mean(function, size):
    """E f(|size z|) over standard normal z, for an f that has died out at 40; Gauss and Legendre on
    the part that counts.
    """
    end = jnp.minimum(8.0, 40 / jnp.maximum(size, 1e-30))
    z = end * jnp.asarray((_NODES + 1) / 2, size.dtype)
    values = function(size * z) * jnp.exp(-(z**2) / 2)
    return jnp.sum(values * jnp.asarray(_NODE_WEIGHTS / 2, size.dtype)) * end * np.sqrt(2 / np.pi)


def _expected_slope(size):
    """E sigmoid'(size z) over standard normal z: the mean variance of a label, and by Stein's lemma
    E[z sigmoid(size z)] / size.
    """
    return _half_normal_mean(lambda t: jnp.exp(-t) / (1 + jnp.exp(-t)) ** 2, size)


def _expected_softplus(size):
    return size / np.sqrt(2 * np.pi) + _half_normal_mean(lambda t: jnp.log1p(jnp.exp(-t)), size)


def _excess_log_loss(params, real):
    """Mean log-loss of one model under another's labels minus the other's own, features N(0, I);
    one-dimensional by Stein's lemma.
    """
    size, real_size = _norm(params.weights), _norm(real.weights)
    slope = _expected_slope(real_size)
    product = jnp.sum((params.weights - real.weights) * real.weights)
    return jnp.maximum(
        _expected_softplus(size) - _expected_softplus(real_size) - product * slope, 0
    )


def _checked(dim, design, steps, tolerance, penalty):
    """The design as a float64 array or None, or `InputError`."""
    for name, value in (("dim", dim), ("steps", steps)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; it must be an integer of at least 1")
    for name, value in (("tolerance", tolerance), ("penalty", penalty)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value < float("inf")
        ):
            raise InputError(f"{name} is {value!r}; it must be a number of at least 0")
    if design is None:
        return None
    design = np.asarray(design, float)
    if (
        design.ndim != 2
        or design.shape[1] != dim
        or not len(design)
        or not np.isfinite(design).all()
    ):
        raise InputError(f"design has shape {design.shape}; it must be [T, {dim}], finite")
    return design
