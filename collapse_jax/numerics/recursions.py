"""The moment recursions of `collapse_jax.theory` in `jax.numpy`, which can be differentiated.

Each is the expected squared error of a fitted mean over the variance of a real point, generation by
generation; a point of the model has the variance 1 + v2 error. With v2 = -1, 1 minus this error is
the remaining share of the variance (ddof = 0) or of the heterozygosity. Sizes and shares may be
traced, and need not be integers; results have the type of the arguments. The formulas are derived
in `theory`.

replace       theory.exponential_families, 'replace'
accumulate    theory.exponential_families, 'accumulate'
subsample     theory.exponential_families, 'accumulate_subsample'
mix           theory.exponential_families, 'mix' with random counts
spending      theory.spending: real and synthetic points of each generation
weighted      theory.weights: a synthetic point counts w times as much
unbiased      theory.gaussian of ddof = 1 (variance, squared mean error), 'mix'
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def replace(sizes: ArrayLike, *, v2: ArrayLike = 0.0) -> Array:
    """Errors [G] of generations fitted only to `sizes` [G] points of their predecessors."""
    return accumulated_means(jnp.asarray(sizes), jnp.ones_like(jnp.asarray(sizes)), v2)


def accumulate(sizes: ArrayLike, *, v2: ArrayLike = 0.0) -> Array:
    """Errors [G] of generations fitted to all points so far; each adds `sizes` [G]."""
    sizes = jnp.asarray(sizes)
    return accumulated_means(sizes, sizes / jnp.cumsum(sizes), v2)


def accumulated_means(sizes: Array, shares: Array, v2: ArrayLike) -> Array:
    """Errors [G] of means that move by a share [G] of the way to the mean of `sizes` new points."""

    def step(error, of_generation):
        size, share = of_generation
        error = error + (1 + v2 * error) * share**2 / size
        return error, error

    return jax.lax.scan(step, jnp.zeros((), _type(sizes, v2)), (sizes, shares))[1]


def subsample(rounds: int, size: ArrayLike, *, v2: ArrayLike = 0.0) -> Array:
    """Errors [rounds] if each model is fitted to `size` points drawn from all points so far."""
    size = jnp.asarray(size, _type(size, v2))

    def step(carry, t):
        scatter, pool_error = carry
        detour = scatter / jnp.maximum(t * size - 1, 1) / size * (1 - 1 / t)
        error = pool_error + detour
        within = 1 + v2 * error
        new_mean = within / size + detour
        scatter = scatter + (size - 1) * within + t * size / (t + 1) * new_mean
        return (scatter, pool_error + new_mean / (t + 1) ** 2), error

    times = jnp.arange(1, rounds + 1, dtype=size.dtype)
    return jax.lax.scan(step, (size - 1, 1 / size), times)[1]


def mix(shares: ArrayLike, size: ArrayLike, *, v2: ArrayLike = 0.0) -> Array:
    """Errors [G + 1] for sets of `size` points that choose their origins independently.

    Args:
        shares: [G, 3], alpha, beta, gamma of generations 1 to G (`workflows.mix`).
        size: points of every set; a number.
        v2: see the module.
    """
    shares = jnp.asarray(shares)
    size = jnp.asarray(size, _type(shares, size, v2))

    def step(carry, of_generation):
        alpha, beta, gamma = of_generation
        point, pair = carry
        error = (point + (size - 1) * pair) / size
        point = alpha * (error + 1 + v2 * error) + beta * point + gamma
        pair = (alpha**2 + 2 * alpha * beta) * error + beta**2 * pair
        return (point, pair), (point + (size - 1) * pair) / size

    start = jnp.ones_like(size), jnp.zeros_like(size)
    later = jax.lax.scan(step, start, shares.astype(size.dtype))[1]
    return jnp.concatenate([1 / size[None], later])


def unbiased(shares: ArrayLike, size: ArrayLike) -> tuple[Array, Array]:
    """(variance, squared mean error), each [G + 1], of a Gaussian of ddof = 1 under `mix`.

    Both over the population's variance; arguments as in `mix`.
    """
    shares = jnp.asarray(shares)
    size = jnp.asarray(size, _type(shares, size))

    def step(carry, of_generation):
        alpha, beta, gamma = of_generation
        point, pair = carry
        error = (point + (size - 1) * pair) / size
        point = alpha * (error + point - pair) + beta * point + gamma
        pair = (alpha**2 + 2 * alpha * beta) * error + beta**2 * pair
        return (point, pair), (point - pair, (point + (size - 1) * pair) / size)

    start = jnp.ones_like(size), jnp.zeros_like(size)
    spread, error = jax.lax.scan(step, start, shares.astype(size.dtype))[1]
    first = jnp.ones_like(size)[None]
    return jnp.concatenate([first, spread]), jnp.concatenate([first / size, error])


def spending(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    first: ArrayLike,
    workflow: str = "mix",
    v2: ArrayLike = 0.0,
) -> Array:
    """Errors [T + 1] if generation g >= 1 has these numbers of real and synthetic points.

    Args:
        real: [T].
        synthetic: [T]; under "mix" no set may be empty.
        first: real points of generation 0.
        workflow: "mix": they are the training set. "accumulate": they join the pool of all.
        v2: see the module.
    """
    dtype = _type(real, synthetic, first, v2)
    real, synthetic, first = (jnp.asarray(part, dtype) for part in (real, synthetic, first))

    def step(carry, of_generation):
        error, pool = carry
        from_real, from_model = of_generation
        new = from_real + from_model
        kept = jnp.zeros_like(pool) if workflow == "mix" else pool
        total = kept + new
        drawn = (new + v2 * from_model * error) / total**2
        error = ((kept + from_model) / total) ** 2 * error + drawn
        return (error, pool + new), error

    later = jax.lax.scan(step, (1 / first, first), (real, synthetic))[1]
    return jnp.concatenate([1 / first[None], later])


def weighted(
    generations: int,
    real: ArrayLike,
    synthetic: ArrayLike,
    weight: ArrayLike,
    *,
    first: ArrayLike,
    v2: ArrayLike = 0.0,
) -> Array:
    """Errors [generations + 1] if a synthetic point counts `weight` times as much as a real one.

    Args:
        generations: the last one.
        real, synthetic: points of every later set; above 0.
        weight: at least 0.
        first: real points of generation 0.
        v2: see the module.
    """
    dtype = _type(real, synthetic, weight, first, v2)
    real, synthetic, first = (jnp.asarray(part, dtype) for part in (real, synthetic, first))
    share = weight * synthetic / (real + weight * synthetic)
    added = (1 - share) ** 2 / real + share**2 / synthetic
    kept = share**2 * (1 + v2 / synthetic)

    def step(error, _):
        error = kept * error + added
        return error, error

    later = jax.lax.scan(step, 1 / first, None, length=generations)[1]
    return jnp.concatenate([1 / first[None], later])


def _type(*arguments: Any):
    """The float type of what is given."""
    return jnp.result_type(float, *(jnp.asarray(one) for one in arguments))
