"""A denoising network: its training, its samples, their density, its exact moments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.models.densities.levels import Levels, Walk
from collapse_jax.models.densities.network import Network, init_network, velocity

# Newton's steps by which a step of the sampler is undone; each doubles the digits.
_NEWTON_STEPS = 12
# A step that is not undone to this many roundings has no density that can be told.
_UNDONE = 1e-3


class Denoiser(NamedTuple):
    """The network, the noise levels it learns at, and the steps of the sampler."""

    network: Network
    levels: Levels
    walk: Walk

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters."""
        return init_network(self.network, self.levels, key)

    def loss(self, params: Any, key: jax.Array, offset: jax.Array, x: jax.Array) -> jax.Array:
        """Mean squared error [] of the velocity at noisy points made of x [n, d].

        Each level has an equal share of the batch, up to rounding, which reduces the variance of
        the gradient; offset, from 0 to 1, moves the boundaries between the shares.
        """
        count, number = len(x), len(self.levels.place)
        spread = (jnp.arange(count) + offset) * (number / count)
        level = jnp.minimum(spread.astype(jnp.int32), number - 1)
        noise = jax.random.normal(key, x.shape)

        def at_level(values):
            return jnp.asarray(values, x.dtype)[level][:, None]

        noisy = at_level(self.levels.signal) * x + at_level(self.levels.noise) * noise
        wanted = at_level(self.levels.of_signal) * x + at_level(self.levels.of_noise) * noise
        return jnp.mean((self._velocity(params, noisy, level) - wanted) ** 2)

    def sample(self, params: Any, key: jax.Array, n: int) -> jax.Array:
        """n points [n, d]."""
        start_key, walk_key = jax.random.split(key)
        x = jax.random.normal(start_key, (n, self.network.dim))
        drawn = self.is_drawn()

        def go(x, level):
            x = self._step(params, x, level)
            if drawn:
                z = jax.random.normal(jax.random.fold_in(walk_key, level), x.shape)
                x = x + jnp.asarray(self.walk.jitter, x.dtype)[level] * z
            return x, None

        return jax.lax.scan(go, x, jnp.arange(len(self.walk.keep)))[0]

    def is_drawn(self) -> bool:
        """Whether the sampler draws noise after the start."""
        return bool(self.walk.jitter.any())

    def log_prob(self, params: Any, x: jax.Array) -> jax.Array:
        """Log-density [n] in nats of what `sample` gives, at points x [n, d].

        It is exact for the given levels: each step of the sampler is a map, which Newton's method
        inverts, and the determinants of the Jacobians are included. The result is nan if a step
        could not be inverted.
        """
        return jax.vmap(lambda point: self._log_prob_of_one(params, point))(x)

    def _log_prob_of_one(self, params, point):
        def undo(carry, level):
            after, log_density = carry

            def forward(x):
                return self._step(params, x[None], level)[0]

            def newton(x, _):
                return x - jnp.linalg.solve(jax.jacfwd(forward)(x), forward(x) - after), None

            before = jax.lax.scan(newton, after, None, length=_NEWTON_STEPS)[0]
            off = jnp.max(jnp.abs(forward(before) - after))
            lost = ~(off <= _UNDONE * (1 + jnp.max(jnp.abs(after))))
            volume = jnp.linalg.slogdet(jax.jacfwd(forward)(before))[1]
            return (before, log_density - volume + jnp.where(lost, jnp.nan, 0)), None

        levels = jnp.arange(len(self.walk.keep))[::-1]
        (z, log_density), _ = jax.lax.scan(undo, (point, jnp.zeros(())), levels)
        return log_density - jnp.sum(z**2) / 2 - len(z) / 2 * jnp.log(2 * jnp.pi)

    def moments(self, params: Any) -> tuple[jax.Array, jax.Array]:
        """Mean [d] and covariance [d, d] of what `sample` gives, exactly, of affine networks.

        An affine step maps 0 and the unit vectors; what it does to all others follows.
        """
        unit = jnp.eye(self.network.dim)

        def go(carry, level):
            mean, covariance = carry
            shift = self._step(params, jnp.zeros((1, self.network.dim)), level)[0]
            matrix = self._step(params, unit, level) - shift
            jitter = jnp.asarray(self.walk.jitter, unit.dtype)[level]
            covariance = jnp.matmul(matrix.T, covariance @ matrix) + jitter**2 * unit
            return (mean @ matrix + shift, covariance), None

        start = jnp.zeros(self.network.dim), unit
        return jax.lax.scan(go, start, jnp.arange(len(self.walk.keep)))[0]

    def _velocity(self, params, x, level):
        return velocity(self.network, self.levels, params, x, level)

    def _step(self, params, x, level):
        """The walk from a level to the next, without the noise that is drawn there."""
        keep, push = (
            jnp.asarray(part, x.dtype)[level] for part in (self.walk.keep, self.walk.push)
        )
        first = self._velocity(params, x, level)
        moved = keep * x + push * first
        if not self.walk.corrected:
            return moved
        return keep * x + push * (first + self._velocity(params, moved, level + 1)) / 2
