"""Linear regression on labels that the previous generation's model generates."""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import check_size_of_params
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.tracing import real_or_traced
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, numbers, one_of, real, whole
from collapse_jax.estimators.designs import (
    check_of,
    check_size,
    checked_design,
    checked_resampled,
    checked_weights,
    drawn_features,
    times,
)
from collapse_jax.numerics import least_squares
from collapse_jax.random.bits import split
from collapse_jax.random.chi_square import chi_square
from collapse_jax.random.normal import normal_vector
from collapse_jax.random.wishart import wishart_factor

__all__ = ["linear_regression", "regression_params"]

METHODS = ("ordinary", "minimum_norm", "ridge")


class RegressionParams(NamedTuple):
    """weights: [dim].

    The noise of the labels and the distribution of the features belong to the family and are the
    same in every generation.
    """

    weights: jax.Array


class RegressionSums(NamedTuple):
    """Sufficient statistics; to pool samples, add every field.

    count: [].
    gram: X'X [dim, dim].
    cross: X'y [dim].
    square: y'y [].
    """

    count: Any
    gram: jax.Array
    cross: jax.Array
    square: jax.Array


@named
def linear_regression(
    dim: int,
    noise: float = 1.0,
    method: Literal["ordinary", "minimum_norm", "ridge"] = "ordinary",
    penalty: float | jax.Array = 0.0,
    design: ArrayLike | None = None,
    feature_covariance: ArrayLike | None = None,
    resampled: bool = False,
) -> Estimator:
    """Linear regression on labels that the previous generation's model generated.

    Points x are rows [n, dim + 1], features first, the label last. The model is
    label = features @ weights + noise * e with e ~ N(0, 1). Only the weights are fitted; there is
    no intercept (give a column of ones in `design`). A fit has converged if the points determine
    all weights; detail["rank"] is the number of directions that they determine.

    Metrics: weights [dim], weight_norm; mean, variance, log_variance of a label. Distances:
    test_error, the excess risk (w - w_real)' C (w - w_real) under the feature covariance C, also
    with a design; squared_distance |w - w_real|^2. `log_prob` is the joint log-density of features
    and label; with a design, that of the label given its features; None for noise = 0.

    Args:
        dim: the number of features, at least 1.
        noise: standard deviation of the labels' noise, at least 0.
        method: "ordinary": a feature that is a linear combination of others gets weight 0, as in
            R's lm. "minimum_norm": the pseudo-inverse, for fewer points than features. "ridge":
            (X'X + n penalty I)^-1 X'y, the minimum of |y - Xw|^2 / n + penalty |w|^2, as in
            Dohmatob et al. 2024. n is the number of points in the fit, so the penalty does not
            become weaker when generations are pooled.
        penalty: the penalty of "ridge", above 0.
        design: None: fresh features in each generation. [T, dim]: the same rows in every generation
            ("same X"); each training set then has exactly T rows, and drawing its statistics costs
            O(dim^2), whatever T is.
        feature_covariance: covariance [dim, dim] of fresh features, which have mean 0; by default
            the identity.
        resampled: whether each training set draws its features from the rows of the design with
            replacement; sets may then have any size.

    Raises:
        InputError: if an argument is out of its range or has another shape, the penalty does not
            belong to the method, or a training set has another size than the design.

    References:
        Dohmatob et al. 2024, "Model collapse demystified"; Gerstgrasser et al. 2024; Kazdan et al.
        2024. Distribution of the statistics: a Wishart Gram matrix T T' (Bartlett), and given it
        X'e = T z and e'e = |z|^2 + chi^2.
    """
    dim = whole("dim", dim, 1)
    noise = real("noise", noise, at_least=0, must_be="a number of at least 0")
    family = _Regression(
        dim,
        noise,
        one_of("method", method, METHODS),
        _checked_penalty(penalty, method),
        checked_design(design, dim),
        _checked_covariance(feature_covariance, dim),
    )
    family = dataclasses.replace(family, resampled=checked_resampled(resampled, family.design))
    return _estimator(family)


def _estimator(family):
    return estimator(
        family.fit,
        family.sample,
        init=family.init,
        statistics=RegressionSums,
        summarise=family.summarise,
        merge=_merge,
        # The Gram matrix of rows drawn with replacement has no law to draw it by.
        draw=None if family.resampled else family.draw,
        check=_check(family),
        metrics={
            "weights": lambda params: params.weights,
            "weight_norm": lambda params: jnp.sqrt(_dot(params.weights, params.weights)),
            "mean": family.label_mean,
            "variance": family.label_variance,
            "log_variance": lambda params: jnp.log(family.label_variance(params)),
        },
        distances={"test_error": family.test_error, "squared_distance": _squared_distance},
        log_prob=family.log_prob if family.noise > 0 else None,
        weighed=_weighed,
    )


def _check(family):
    return check_of(
        f"linear_regression(dim={family.dim})",
        family.dim,
        family.design,
        keeps="all" if family.method == "minimum_norm" else "digits",
        # Of a traced one nothing is known: rows must do without.
        penalty=0.0 if isinstance(family.penalty, jax.Array) else family.penalty,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Regression:
    """The options, and what depends on them. Arrays are constants of the host, float64."""

    dim: int
    noise: float
    method: str
    penalty: float | jax.Array
    design: np.ndarray | None
    covariance: np.ndarray
    resampled: bool = False

    @functools.cached_property
    def feature_root(self):
        """[dim, dim], maps standard normal vectors to features."""
        return np.linalg.cholesky(self.covariance)

    @functools.cached_property
    def design_root(self):
        """R with R R' = X'X, as many columns as its rank."""
        assert self.design is not None
        _, extents, directions = np.linalg.svd(self.design, full_matrices=False)
        some = extents > max(self.design.shape) * np.finfo(float).eps * extents[:1]
        return (directions.T * extents)[:, some]

    def init(self, key, statistics):
        return RegressionParams(jnp.zeros(self.dim))

    def fit(self, key, params, statistics):
        gram, cross = statistics.gram, statistics.cross
        count = jnp.asarray(statistics.count, gram.dtype)
        if self.method == "minimum_norm":
            weights, rank = least_squares.minimum_norm(gram, cross, count)
        else:
            ridged = gram + jnp.eye(self.dim) * (self.penalty * count)
            weights, kept = least_squares.solve(ridged, cross)
            rank = jnp.sum(kept, dtype=jnp.int32)
        rest = statistics.square - 2 * _dot(weights, cross) + _dot(weights, times(gram, weights))
        loss = jnp.maximum(rest, 0) / jnp.maximum(count, 1)
        determined = (rank == self.dim) | (self.method == "minimum_norm")
        return RegressionParams(weights), FitInfo(determined, jnp.asarray(0), loss, {"rank": rank})

    def summarise(self, x, weight):
        return summarise(x, weight, self.dim)

    def sample(self, key, params, n):
        check_size(self.design, n, self.resampled)
        check_size_of_params("weights", len(params.weights), self.dim)
        feature_key, label_key = split(key)
        if self.design is None:
            z = normal_vector(feature_key, n * self.dim).reshape(n, self.dim)
            features = jnp.matmul(z, jnp.asarray(self.feature_root.T), precision="highest")
        else:
            features = drawn_features(
                feature_key, self.design, n, self.dim, params.weights.dtype, self.resampled
            )
        labels = times(features, params.weights) + self.noise * normal_vector(label_key, n)
        return jnp.concatenate([features, labels[:, None]], axis=1)

    def draw(self, key, params, n):
        check_size(self.design, n)
        gram_key, cross_key, rest_key = split(key, 3)
        dtype = params.weights.dtype
        root, gram = self._root_and_gram(gram_key, n, dtype)
        z = normal_vector(cross_key, root.shape[1]) if root.shape[1] else jnp.zeros(0, dtype)
        if self.design is None:
            # Fewer points than features have fewer errors than that, and their Wishart factor fewer
            # columns.
            z = jnp.where(jnp.arange(self.dim) < n, z, 0)
            left = n - self.dim
        else:
            left = len(self.design) - root.shape[1]
        errors = times(root, z)
        left = max(left, 0) if isinstance(left, int) else jnp.maximum(left, 0)
        others = chi_square(rest_key, left)
        fitted = times(gram, params.weights)
        square = (
            _dot(params.weights, fitted)
            + 2 * self.noise * _dot(params.weights, errors)
            + self.noise**2 * (_dot(z, z) + others)
        )
        return RegressionSums(n, gram, fitted + self.noise * errors, square)

    def _root_and_gram(self, key, n, dtype):
        """(root [dim, rank], gram [dim, dim]) with gram = root root' of n rows of features."""
        if self.design is not None:
            gram = jnp.asarray(self.design.T @ self.design, dtype)
            return jnp.asarray(self.design_root, dtype), gram
        standard = wishart_factor(key, n, self.dim)
        root = jnp.matmul(jnp.asarray(self.feature_root, dtype), standard, precision="highest")
        return root, jnp.matmul(root, root.T, precision="highest")

    def log_prob(self, params, x):
        features, label = x[:, : self.dim], x[:, self.dim]
        scaled = (label - times(features, params.weights)) / self.noise
        result = -0.5 * (scaled**2 + jnp.log(2 * jnp.pi)) - jnp.log(self.noise)
        if self.design is not None:
            return result
        whitening = jnp.asarray(np.linalg.inv(self.feature_root).T, features.dtype)
        whitened = jnp.matmul(features, whitening, precision="highest")
        return (
            result
            - 0.5 * (jnp.sum(whitened**2, 1) + self.dim * jnp.log(2 * jnp.pi))
            - np.log(np.diagonal(self.feature_root)).sum()
        )

    @functools.cached_property
    def moments(self):
        """(mean [dim], covariance [dim, dim]) of the features."""
        if self.design is None:
            return np.zeros(self.dim), self.covariance
        covariance = np.cov(self.design.T, bias=True).reshape(self.dim, self.dim)
        return self.design.mean(0), covariance

    def label_mean(self, params):
        return _dot(params.weights, jnp.asarray(self.moments[0], params.weights.dtype))

    def label_variance(self, params):
        covariance = jnp.asarray(self.moments[1], params.weights.dtype)
        return _dot(params.weights, times(covariance, params.weights)) + self.noise**2

    def test_error(self, params, real):
        root = jnp.asarray(self.feature_root.T, params.weights.dtype)
        rotated = times(root, params.weights - real.weights)
        return _dot(rotated, rotated)


def _merge(a, b):
    return RegressionSums(*(ours + theirs for ours, theirs in zip(a, b, strict=True)))


def _weighed(sums, w):
    return RegressionSums(*(field * w for field in sums))


def _squared_distance(params, real):
    return _dot(params.weights - real.weights, params.weights - real.weights)


def example() -> tuple[Estimator, RegressionParams]:
    """Returns (Estimator, params) with three features."""
    return linear_regression(3), regression_params([1.0, -0.5, 0.25])


def regression_params(weights: ArrayLike) -> RegressionParams:
    """Returns parameters with these weights [dim].

    Raises:
        InputError: unless the weights are finite numbers of shape [dim].
    """
    return RegressionParams(checked_weights(weights))


def summarise(x: jax.Array, weight: jax.Array, dim: int) -> RegressionSums:
    """Returns the `RegressionSums` of points x [n, dim + 1] with weights [n].

    A point of weight 0 has no effect, even if it is nan.
    """
    x = jnp.where(weight[:, None] > 0, x, 0)
    features, label = x[:, :dim], x[:, dim]
    weighted = features * weight[:, None]
    gram = jnp.matmul(weighted.T, features, precision="highest")
    return RegressionSums(
        jnp.sum(weight), gram, times(weighted.T, label), _dot(weight * label, label)
    )


def _dot(a, b):
    return jnp.sum(a * b)


def _checked_penalty(penalty, method):
    penalty = real_or_traced("penalty", penalty, at_least=0, must_be="a number of at least 0")
    if isinstance(penalty, jax.Array) and method == "ridge":
        return penalty
    if (method == "ridge") != (penalty > 0):
        raise InputError(
            f"penalty is {penalty:g} with method {method!r}; method 'ridge' needs a penalty above "
            "0, and the other methods take none"
        )
    return penalty


def _checked_covariance(covariance, dim):
    if covariance is None:
        return np.eye(dim)
    covariance = numbers("feature_covariance", covariance)
    if (
        covariance.shape != (dim, dim)
        or not np.allclose(covariance, covariance.T)
        or np.linalg.eigvalsh(covariance)[0] <= 0
    ):
        raise InputError(
            f"feature_covariance {covariance.tolist()} must be [{dim}, {dim}], symmetric "
            "and positive definite"
        )
    return covariance


FAMILY = Family(linear_regression, example)
