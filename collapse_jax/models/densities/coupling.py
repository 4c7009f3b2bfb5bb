"""A normalizing flow: each layer transforms some coordinates, conditioned on the others."""

import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.models.densities import spline

TRANSFORMS = ("spline", "affine")
# The log-scale of an affine layer stays within this.
_LARGEST_LOG_SCALE = 3.0


class Coupling(NamedTuple):
    """The flow. width and depth: of the network in each layer; depth 0: an affine one.

    In one dimension there are no other coordinates, and a layer is one map of all points.
    """

    dim: int
    layers: int
    width: int
    depth: int
    transform: Literal["spline", "affine"]
    bins: int

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters, at which the flow is the identity."""
        x = jnp.zeros((1, self.dim))
        keys = jax.random.split(key, self.layers)
        return jax.vmap(lambda key: self._module().init(key, x)["params"])(keys)

    def loss(self, params: Any, key: jax.Array, offset: jax.Array, x: jax.Array) -> jax.Array:
        """Minus the mean log-density [] of points x [n, d], in nats; nothing is drawn."""
        return -jnp.mean(self.log_prob(params, x))

    def log_prob(self, params: Any, x: jax.Array) -> jax.Array:
        """Log-density [n] in nats at points x [n, d], exactly."""
        z, log_slope = self._walked(params, x, inverse=False)
        return log_slope - jnp.sum(z**2, 1) / 2 - self.dim / 2 * jnp.log(2 * jnp.pi)

    def sample(self, params: Any, key: jax.Array, n: int) -> jax.Array:
        """n points [n, d]."""
        return self._walked(params, jax.random.normal(key, (n, self.dim)), inverse=True)[0]

    def _walked(self, params, x, inverse):
        """(the image, the log-determinant [n]) of points [n, d] under all layers."""

        def layer(carry, part):
            x, total = carry
            params, moves = part
            raw = self._module().apply({"params": params}, jnp.where(moves, 0, x))
            image, log_slope = self._transformed(x, raw, inverse)
            x = jnp.where(moves, image, x)
            return (x, total + jnp.sum(jnp.where(moves, log_slope, 0), 1)), None

        parts = params, jnp.asarray(self._masks())
        start = x, jnp.zeros(len(x), x.dtype)
        return jax.lax.scan(layer, start, parts, reverse=inverse)[0]

    def _transformed(self, x, raw, inverse):
        if self.transform == "spline":
            return spline.transformed(x, raw, inverse=inverse)
        log_scale = _LARGEST_LOG_SCALE * jnp.tanh(raw[..., 0] / _LARGEST_LOG_SCALE)
        shift = raw[..., 1]
        if inverse:
            return x * jnp.exp(log_scale) + shift, log_scale
        return (x - shift) * jnp.exp(-log_scale), -log_scale

    def _masks(self):
        """Which coordinates each layer moves, [layers, d]: by the digits of their numbers.

        Two coordinates differ in a digit, so that each is moved by the other in some layer.
        """
        if self.dim == 1:
            return np.ones((self.layers, 1), bool)
        number, layer = np.arange(self.dim), np.arange(self.layers)[:, None]
        digit = layer // 2 % max(1, math.ceil(math.log2(self.dim)))
        return (number >> digit) % 2 == layer % 2

    def _module(self):
        size = spline.size_of(self.bins) if self.transform == "spline" else 2
        return _Conditioner(self.dim, self.width, self.depth, size)


class _Conditioner(nn.Module):
    """What moves each coordinate [n, d, size], from those that stay."""

    dim: int
    width: int
    depth: int
    size: int

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = nn.silu(nn.Dense(self.width)(x))
        x = nn.Dense(self.dim * self.size, kernel_init=nn.initializers.zeros)(x)
        return x.reshape(len(x), self.dim, self.size)
