"""The network that predicts velocities: dense layers that are told the level, or one affine map."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.models.densities.levels import Levels

# Sines and cosines of the level that the layers see.
_FREQUENCIES = 8
# Noise below which a point is taken as it is.
_LEAST_NOISE = 0.02
# Adam's steps are as long for a share, from 0 to about 1, as for the weights of a layer.
_QUICKER = 4.0


class Network(NamedTuple):
    """Sizes. depth: hidden layers; 0: an affine map of its own at every level."""

    dim: int
    width: int
    depth: int


def init_network(network: Network, levels: Levels, key: jax.Array) -> Any:
    """Fresh parameters, at which every velocity is 0."""
    x = jnp.zeros((1, network.dim))
    return _module(network, levels).init(key, x, jnp.zeros(1, jnp.int32))["params"]


def velocity(
    network: Network, levels: Levels, params: Any, x: jax.Array, level: jax.Array
) -> jax.Array:
    """The velocity [n, dim] at noisy points x [n, dim]; level: its number, [n], or [] for all."""
    made: Any = _module(network, levels).apply({"params": params}, x, level)
    return made


def _module(network, levels):
    if network.depth == 0:
        return _Affine(network.dim, len(levels.place))
    waves = levels.place[:, None] * 2.0 ** np.arange(_FREQUENCIES)
    features = np.concatenate([np.sin(waves), np.cos(waves)], 1).astype(np.float32)
    # What multiplies a noisy point in a direction in which points do not vary; finite at no noise.
    alone = levels.of_noise * levels.noise / (levels.noise**2 + _LEAST_NOISE**2)
    return _Layers(
        network.dim,
        network.width,
        network.depth,
        tuple(map(tuple, features)),
        tuple(alone.astype(np.float32)),
    )


class _Affine(nn.Module):
    """x A + b, with A and b of the level."""

    dim: int
    number: int

    @nn.compact
    def __call__(self, x, level):
        zeros = nn.initializers.zeros
        matrix = self.param("matrix", zeros, (self.number, self.dim, self.dim))
        shift = self.param("shift", zeros, (self.number, self.dim))
        if jnp.ndim(level) == 0:
            return x @ matrix[level] + shift[level]
        return jnp.einsum("ni,nij->nj", x, matrix[level]) + shift[level]


class _Layers(nn.Module):
    """Layers with skips; what a layer is told of the level is added before its nonlinearity.

    Of the noise, which has more directions than a layer is wide where points are images, a share
    that is learned for each level and coordinate passes by.
    """

    dim: int
    width: int
    depth: int
    features: tuple  # [levels][2 frequencies]; tuples, so that equal modules are equal
    alone: tuple  # [levels]

    @nn.compact
    def __call__(self, x, level):
        told = jnp.asarray(self.features, x.dtype)
        hidden = jnp.zeros((), x.dtype)
        seen = x
        for _ in range(self.depth):
            at_level = nn.Dense(self.width, use_bias=False)(told)[level]
            hidden = hidden + nn.silu(nn.Dense(self.width)(seen) + at_level)
            seen = hidden
        share = self.param("share", nn.initializers.zeros, (len(self.alone), self.dim))
        passed = (jnp.asarray(self.alone, x.dtype)[:, None] * _QUICKER * share)[level] * x
        return passed + nn.Dense(self.dim, kernel_init=nn.initializers.zeros)(hidden)
