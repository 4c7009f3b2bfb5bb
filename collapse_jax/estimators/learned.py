"""Shared parts of the families of trained networks: standardisation, starts, moments, densities."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.core.data_checks import PointCheck, check_size_of_params, reals
from collapse_jax.core.factory import estimator
from collapse_jax.core.types import Estimator, FitInfo
from collapse_jax.errors import InputError, one_key, one_of, whole
from collapse_jax.models.densities.denoiser import Denoiser
from collapse_jax.models.densities.levels import Levels, Walk
from collapse_jax.models.densities.network import Network
from collapse_jax.models.densities.training import (
    Standard,
    Training,
    check_training,
    placed,
    standard_of,
    standardised,
    train,
)

STARTS = ("fresh", "previous")
_WIDTH = 64
# Coordinates up to which the density of a sampler is offered, which takes Jacobians.
_MOST_FOR_DENSITY = 16
# And up to which an affine network has a matrix at each level.
_MOST_FOR_AFFINE = 64
# Images behind the moments of a model; of points there are 4,096.
_IMAGES = 1000


class LearnedParams(NamedTuple):
    """standard: location and scale of the training points. network: parameters, a dict."""

    standard: Standard
    network: Any


class Learned(NamedTuple):
    """A family of networks.

    name: the family's name.
    network: with `init(key)`, `loss(params, key, offset, x)`, `sample(params, key, n)`, `log_prob`.
    shape: the shape of a point: (dim,), or that of an image.
    training: the settings of the training.
    start: "fresh" or "previous".
    standardise: whether points are standardised before each fit.
    has_density: whether `log_prob` of the network is the density of its samples.
    moments: params of the network -> exact (mean [d], covariance [d, d]); None: from draws.
    """

    name: str
    network: Any
    shape: tuple[int, ...]
    training: Training
    start: str
    standardise: bool
    has_density: bool
    moments: Callable[[Any], tuple[jax.Array, jax.Array]] | None = None

    @property
    def dim(self) -> int:
        """Coordinates of a point."""
        return math.prod(self.shape)

    def estimator(self) -> Estimator:
        """The family as an estimator."""
        metrics = {}
        if self.is_image():
            metrics = {"mean": self._pixels(_mean), "variance": self._pixels(_variance)}
            metrics["log_variance"] = self._pixels(lambda x: jnp.log(_variance(x)))
        elif self.moments is not None:
            metrics = {"mean": self._mean, "variance": self._variance}
            metrics["log_variance"] = self._log_variance
        return estimator(
            self.fit,
            self.sample,
            init=self.init,
            check=self._check(),
            metrics=metrics,
            log_prob=self.log_prob if self.has_density else None,
        )

    def is_image(self) -> bool:
        """Whether a point is an image, with values from 0 to 1."""
        return len(self.shape) > 1

    def init(self, key: jax.Array, data: Any) -> LearnedParams:
        """A fresh network of mean 0 and scale 1."""
        scale = jnp.ones(()) if self.is_image() else jnp.ones(self.dim)
        return LearnedParams(Standard(jnp.zeros(self.dim), scale), self.network.init(key))

    def fit(self, key: jax.Array, params: Any, data: Any) -> tuple[LearnedParams, FitInfo]:
        """Returns (the trained network, `FitInfo`); loss is the mean over the last tenth of steps.

        `FitInfo.detail["losses"]` [steps] is the loss of each batch; "gradient_norm" [] is the
        Euclidean norm of a batch's gradient, averaged over the last tenth of the steps.
        """
        start_key, train_key = jax.random.split(key)
        x = jnp.where((data.weight > 0)[:, None], data.x.reshape(len(data.x), -1), 0)
        standard = self.init(start_key, data).standard
        if self.standardise:
            standard = standard_of(x, data.weight, each=not self.is_image())
        begun = params.network if self.start == "previous" else self.network.init(start_key)
        z = standardised(standard, x)
        network, losses, norms = train(
            self.network.loss, begun, train_key, z, data.weight, self.training
        )
        tenth = max(1, len(losses) // 10)
        last = jnp.mean(losses[-tenth:])
        steps = jnp.asarray(self.training.steps)
        detail = {"losses": losses, "gradient_norm": jnp.mean(norms[-tenth:])}
        info = FitInfo(jnp.isfinite(last), steps, last, detail)
        return LearnedParams(standard, network), info

    def sample(self, key: jax.Array, params: LearnedParams, n: int) -> jax.Array:
        """Returns points [n, ...]; images are clipped to [0, 1]."""
        one_key("key", key)
        check_size_of_params("coordinates", params.standard.mean.shape[0], self.dim)
        x = placed(params.standard, self.network.sample(params.network, key, n))
        return jnp.clip(x, 0, 1).reshape(n, *self.shape) if self.is_image() else x

    def log_prob(self, params: LearnedParams, x: jax.Array) -> jax.Array:
        """Returns the log-density [n] in nats at points x [n, d].

        If all training points were equal in a coordinate, it is inf at their value and -inf
        elsewhere.
        """
        standard = params.standard
        gone = standard.scale <= 0
        off = jnp.any(gone & (x != standard.mean), axis=1)
        logs = self.network.log_prob(params.network, standardised(standard, x))
        logs = logs - jnp.sum(jnp.log(jnp.where(gone, 1, standard.scale)))
        return jnp.where(off, -jnp.inf, jnp.where(jnp.any(gone), jnp.inf, logs))

    def _check(self):
        if not self.is_image():
            return reals(self.name, self.dim)
        name = f"{self.name}({self.shape})"
        return PointCheck(name, "values from 0 to 1", self.shape, low=0, high=1, hint=_hint)

    def _pixels(self, moment):
        return lambda params: moment(self.sample(jax.random.key(0), params, _IMAGES))

    def _moments(self, params):
        assert self.moments is not None  # the metrics below are offered where it is there
        return self.moments(params.network)

    def _covariance(self, params):
        scale = params.standard.scale
        return self._moments(params)[1] * scale[:, None] * scale

    def _mean(self, params):
        centre = placed(params.standard, self._moments(params)[0])
        return centre if self.dim > 1 else centre[0]

    def _variance(self, params):
        return jnp.mean(jnp.diagonal(self._covariance(params)))

    def _log_variance(self, params):
        return jnp.linalg.slogdet(self._covariance(params))[1] / self.dim


def denoising(
    name: str,
    dim: int | Sequence[int],
    levels: Levels,
    walk: Walk,
    width: int | None,
    depth: int,
    training: Training,
    start: str,
    standardise: bool,
) -> Learned:
    """Returns the family of a denoising network, with its arguments checked; see `Learned`.

    Raises:
        InputError: for the first argument that is out of range.
    """
    shape, depth = _checked_shape(dim), whole("depth", depth, 0)
    count = math.prod(shape)
    if depth == 0 and count > _MOST_FOR_AFFINE:
        raise InputError(
            f"depth is 0 with {count} coordinates; it must be at least 1 for more than "
            f"{_MOST_FOR_AFFINE} coordinates, because depth 0 fits a matrix at each level"
        )
    network = Denoiser(Network(count, checked_width(width, depth), depth), levels, walk)
    return Learned(
        name,
        network,
        shape,
        check_training(training),
        checked_start(start),
        one_of("standardise", standardise, (True, False)),
        has_density=count <= _MOST_FOR_DENSITY and len(shape) == 1 and not network.is_drawn(),
        moments=network.moments if depth == 0 else None,
    )


def _checked_shape(dim):
    """The shape of a point, from a number of dimensions or the shape of an image."""
    must_be = "a number of at least 1, or the shape of an image, such as (28, 28)"
    if isinstance(dim, tuple | list) and len(dim) > 1:
        return tuple(whole("dim", size, 1, must_be=must_be) for size in dim)
    return (whole("dim", dim, 1, must_be=must_be),)


def checked_width(width: int | None, depth: int) -> int:
    """Returns the width of hidden layers, 64 by default.

    Raises:
        InputError: if the width is out of range, or is given although there are no hidden layers.
    """
    if width is None:
        return _WIDTH
    if depth == 0:
        raise InputError(
            f"width is {width!r} with depth 0, which has no hidden layers and ignores it; give "
            "depth=1 or more"
        )
    return whole("width", width, 1)


def checked_start(start: str) -> str:
    """Returns "fresh" or "previous"; raises `InputError` for anything else."""
    return one_of("start", start, STARTS)


def random_output(params: LearnedParams, size: float = 0.5) -> LearnedParams:
    """Returns parameters whose last layers, which start at 0, are normal draws of a fixed key."""
    leaves, structure = jax.tree.flatten(params.network)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [
        jnp.where(jnp.any(leaf != 0), leaf, size * jax.random.normal(key, leaf.shape))
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return params._replace(network=jax.tree.unflatten(structure, drawn))


def _mean(x):
    return jnp.mean(x)


def _variance(x):
    return jnp.mean(jnp.var(x, axis=0, ddof=1))


def _hint(smallest, largest):
    return "divide by 255" if smallest >= 0 and 1 < largest <= 255 else ""
