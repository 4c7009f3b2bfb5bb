"""Linear regression whose labels the previous generation's fit makes, drawn through the exact law
of its normal equations.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, FitInfo
from collapse_jax.errors import InputError, numbers
from collapse_jax.numerics import least_squares
from collapse_jax.random.bits import split
from collapse_jax.random.chi_square import chi_square
from collapse_jax.random.normal import normal_vector
from collapse_jax.random.wishart import wishart_factor

METHODS = ("ordinary", "minimum_norm", "ridge")


class RegressionParams(NamedTuple):
    """weights: [dim].

    The noise of the labels and the law of the features are the family's, the same in every
    generation.
    """

    weights: jax.Array


class RegressionSums(NamedTuple):
    """Evidence of a linear regression; every field adds. count: []. gram: X'X [dim, dim]. cross:
    X'y [dim]. square: y'y [].
    """

    count: Any
    gram: jax.Array
    cross: jax.Array
    square: jax.Array


@named
def linear_regression(
    dim: int,
    noise: float = 1.0,
    method: str = "ordinary",
    penalty: float = 0.0,
    design=None,
    feature_covariance=None,
) -> Estimator:
    """Linear regression of `dim` features on labels that the previous fit made; x is [n, dim + 1],
    the features and then the label.

    The model is label = features @ weights + noise * e, e ~ N(0, 1); only the weights are fitted,
    there is no intercept (give a
    column of ones in `design`). Features: fresh N(0, feature_covariance) in each generation, [dim,
    dim], the identity by default;
    or design [T, dim]: the same rows in every generation ("same X"), and then each set has exactly
    T rows and its draw costs
    dim^2 and not T. method: "ordinary" (a feature that the others explain gets weight 0, as in R's
    lm), "minimum_norm" (the pseudo-inverse, for T < dim), "ridge": (X'X + n penalty I)^-1 X'y, the
    minimum of |y - Xw|^2 / n + penalty |w|^2 (the convention
    of Dohmatob et al. 2024, with n the points that are fitted, so that a pool of generations gets
    no weaker penalty).
    A fit is converged where the points determine the weights; detail["rank"] says how many
    directions they do.
    Metrics: weights [dim], weight_norm; mean, variance, log_variance of a label. Distances:
    test_error, the excess risk
    (w - w_real)' C (w - w_real) under the feature covariance C, also with a design;
    squared_distance |w - w_real|^2.
    log_prob: of features and label together; with a design of the label given its features; None
    for noise = 0.
    Raises `InputError` for a dim below 1, negative noise or penalty, a penalty of another method
    than ridge (or none for it), shapes
    that do not fit, and for sets of another size than T where there is a design.
    Source: Dohmatob et al. 2024, "Model collapse demystified"; Gerstgrasser et al. 2024; Kazdan et
    al. 2024. Law of the statistics: a Wishart Gram matrix T T' (Bartlett), X'e = T z and e'e =
    |z|^2 + chi^2 given it.
    """
    design, covariance = _checked(dim, noise, method, penalty, design, feature_covariance)
    rows = None if design is None else len(design)
    # Host constants: feature_root maps standard normal features to theirs; design_root R has R R' =
    # X'X, as many columns as its rank.
    feature_root = np.linalg.cholesky(covariance)
    if design is not None:
        _, extents, directions = np.linalg.svd(design, full_matrices=False)
        alive = extents > max(design.shape) * np.finfo(float).eps * extents[:1]
        design_root = (directions.T * extents)[:, alive]
        label_covariance, feature_mean = (
            np.cov(design.T, bias=True).reshape(dim, dim),
            design.mean(0),
        )
    else:
        label_covariance, feature_mean = covariance, np.zeros(dim)

    def check_size(n):
        if rows is not None and not (isinstance(n, int | np.integer) and n == rows):
            asked = f"{n}" if isinstance(n, int | np.integer) else "a random number"
            raise InputError(
                f"design has {rows} rows, and {asked} of points is asked for; with a "
                f"design every set must have {rows}"
            )

    def fit(key, params, statistics):
        count = jnp.asarray(statistics.count, statistics.gram.dtype)
        if method == "minimum_norm":
            weights, rank = least_squares.minimum_norm(statistics.gram, statistics.cross, count)
        else:
            ridged = statistics.gram + jnp.eye(dim) * (penalty * count)
            weights, kept = least_squares.solve(ridged, statistics.cross)
            rank = jnp.sum(kept, dtype=jnp.int32)
        rest = (
            statistics.square
            - 2 * _dot(weights, statistics.cross)
            + _dot(weights, _times(statistics.gram, weights))
        )
        loss = jnp.maximum(rest, 0) / jnp.maximum(count, 1)
        determined = (rank == dim) | (method == "minimum_norm")
        return RegressionParams(weights), FitInfo(determined, jnp.asarray(0), loss, {"rank": rank})

    def sample(key, params, n):
        check_size(n)
        feature_key, label_key = split(key)
        if design is None:
            features = jnp.matmul(
                normal_vector(feature_key, n * dim).reshape(n, dim),
                jnp.asarray(feature_root.T),
                precision="highest",
            )
        else:
            features = jnp.asarray(design, params.weights.dtype)
        labels = _times(features, params.weights) + noise * normal_vector(label_key, n)
        return jnp.concatenate([features, labels[:, None]], axis=1)

    def draw(key, params, n):
        check_size(n)
        gram_key, cross_key, rest_key = split(key, 3)
        dtype = params.weights.dtype
        if design is None:
            root = jnp.matmul(
                jnp.asarray(feature_root, dtype),
                wishart_factor(gram_key, n, dim),
                precision="highest",
            )
            gram = jnp.matmul(root, root.T, precision="highest")
            left = n - dim
        else:
            root, gram = jnp.asarray(design_root, dtype), jnp.asarray(design.T @ design, dtype)
            left = rows - design_root.shape[1]
        z = normal_vector(cross_key, root.shape[1]) if root.shape[1] else jnp.zeros(0, dtype)
        if (
            design is None
            # Fewer points than features have fewer errors than that, and their Wishart factor fewer
            # columns.
        ):
            z = jnp.where(jnp.arange(dim) < n, z, 0)
        errors = _times(root, z)
        others = chi_square(
            rest_key, max(left, 0) if isinstance(left, int) else jnp.maximum(left, 0)
        )
        fitted = _times(gram, params.weights)
        square = (
            _dot(params.weights, fitted)
            + 2 * noise * _dot(params.weights, errors)
            + noise**2 * (_dot(z, z) + others)
        )
        return RegressionSums(n, gram, fitted + noise * errors, square)

    def log_prob(params, x):
        features, label = x[:, :dim], x[:, dim]
        scaled = (label - _times(features, params.weights)) / noise
        result = -0.5 * (scaled**2 + jnp.log(2 * jnp.pi)) - jnp.log(noise)
        if design is not None:
            return result
        whitened = jnp.matmul(
            features,
            jnp.asarray(np.linalg.inv(feature_root).T, features.dtype),
            precision="highest",
        )
        return (
            result
            - 0.5 * (jnp.sum(whitened**2, 1) + dim * jnp.log(2 * jnp.pi))
            - np.log(np.diagonal(feature_root)).sum()
        )

    def label_variance(params):
        return (
            _dot(
                params.weights,
                _times(jnp.asarray(label_covariance, params.weights.dtype), params.weights),
            )
            + noise**2
        )

    def test_error(params, real):
        rotated = _times(
            jnp.asarray(feature_root.T, params.weights.dtype), params.weights - real.weights
        )
        return _dot(rotated, rotated)

    return estimator(
        fit,
        sample,
        init=lambda key, statistics: RegressionParams(jnp.zeros(dim)),
        summarise=lambda x, weight: summarise(x, weight, dim),
        draw=draw,
        merge=lambda a, b: RegressionSums(*(one + other for one, other in zip(a, b, strict=True))),
        metrics={
            "weights": lambda params: params.weights,
            "weight_norm": lambda params: jnp.sqrt(_dot(params.weights, params.weights)),
            "mean": lambda params: _dot(
                params.weights, jnp.asarray(feature_mean, params.weights.dtype)
            ),
            "variance": label_variance,
            "log_variance": lambda params: jnp.log(label_variance(params)),
        },
        distances={
            "test_error": test_error,
            "squared_distance": lambda params, real: _dot(
                params.weights - real.weights, params.weights - real.weights
            ),
        },
        statistics=RegressionSums,
        log_prob=log_prob if noise > 0 else None,
    )


def example():
    """(Estimator, params) of a regression on three features."""
    return linear_regression(3), regression_params([1.0, -0.5, 0.25])


def regression_params(weights) -> RegressionParams:
    """Parameters from weights [dim]. Raises `InputError` unless they are finite numbers in one row."""
    values = numbers("weights", weights)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(f"weights {values.tolist()} must be [dim], finite")
    return RegressionParams(jnp.asarray(values, jnp.result_type(float)))


def summarise(x, weight, dim: int) -> RegressionSums:
    """`RegressionSums` of points x [n, dim + 1] with weights [n]; a point of weight 0 does not
    count, whatever it holds.
    """
    x = jnp.where(weight[:, None] > 0, x, 0)
    features, label = x[:, :dim], x[:, dim]
    weighted = features * weight[:, None]
    gram = jnp.matmul(weighted.T, features, precision="highest")
    return RegressionSums(
        jnp.sum(weight), gram, _times(weighted.T, label), _dot(weight * label, label)
    )


def _dot(a, b):
    return jnp.sum(a * b)


def _times(matrix, vector):
    return jnp.matmul(matrix, vector, precision="highest")


def _checked(dim, noise, method, penalty, design, feature_covariance):
    """(design or None, feature covariance) as float64 arrays, or `InputError`."""
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise InputError(f"dim is {dim!r}; it must be an integer of at least 1")
    for name, value in (("noise", noise), ("penalty", penalty)):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value < float("inf")
        ):
            raise InputError(f"{name} is {value!r}; it must be a number of at least 0")
    if method not in METHODS:
        raise InputError(f"method is {method!r}; it must be one of {', '.join(METHODS)}")
    if (method == "ridge") != (penalty > 0):
        raise InputError(
            f"penalty is {penalty:g} with method {method!r}; 'ridge' needs one above 0, "
            "and no other method has one"
        )
    covariance = (
        np.eye(dim) if feature_covariance is None else np.asarray(feature_covariance, float)
    )
    if (
        covariance.shape != (dim, dim)
        or not np.allclose(covariance, covariance.T)
        or np.linalg.eigvalsh(covariance)[0] <= 0
    ):
        raise InputError(
            f"feature_covariance {covariance.tolist()} must be [{dim}, {dim}], symmetric "
            "and positive definite"
        )
    if design is not None:
        design = np.asarray(design, float)
        if (
            design.ndim != 2
            or design.shape[1] != dim
            or not len(design)
            or not np.isfinite(design).all()
        ):
            raise InputError(f"design has shape {design.shape}; it must be [T, {dim}], finite")
    return design, covariance
