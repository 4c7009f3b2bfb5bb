"""Distances of a categorical model to a real distribution, whichever categories it lists."""

import jax
import jax.numpy as jnp

from collapse_jax.estimators.categorical.params import shares
from collapse_jax.random.chains_last import chains_last

# The share of the real distribution that is its tail, and what its sum in float32 may exceed it by.
_TAIL, _ROUNDING = 0.1, 1e-6
_FAR_SMALLER = 2.0**-12


def _of_listed(categories, real):
    """(real probabilities [k, chains] of listed categories, whether each place is in use).

    categories: [k, chains]; places at the end of a list that are not in use repeat an earlier one.
    real: [K, chains], or [K, 1].
    """
    chains = jnp.broadcast_shapes(categories.shape[-1:], real.shape[-1:])
    categories, real = (
        jnp.broadcast_to(array, (len(array), *chains)) for array in (categories, real)
    )
    used = jnp.concatenate([jnp.ones_like(categories[:1], bool), categories[1:] > categories[:-1]])
    return jnp.where(used, jnp.take_along_axis(real, categories, axis=0), 0), used


def _divergence(p, q):
    """p log(p / q) - p + q >= 0: its sum is the KL divergence, without cancellation."""
    some = jnp.where(p > 0, p, 1)
    beyond = (q - p) / some
    # 1 + beyond has no digits of a far smaller q left.
    apart = jnp.where(q < _FAR_SMALLER * p, jnp.log(q / some), jnp.log1p(beyond))
    return jnp.where(p > 0, p * (beyond - apart), q)


def _with_unlisted(of_listed, listed, used, real):
    """Sum over listed categories, plus what `real` [K, chains] has in those that are not listed.

    listed: [k, chains], what `real` has in the listed ones.
    """
    unlisted = jnp.maximum(jnp.sum(real, axis=0) - jnp.sum(listed, axis=0), 0)
    return jnp.sum(of_listed, axis=0) + jnp.where(jnp.sum(used, axis=0) < len(real), unlisted, 0)


@chains_last
def _missing_mass(weights, categories, real):
    listed, used = _of_listed(categories, real)
    return [_with_unlisted(jnp.where(weights > 0, 0, listed), listed, used, real)]


@chains_last
def _tail_lost(weights, categories, real):
    order = jnp.argsort(real, axis=0, stable=True)
    held = jnp.cumsum(jnp.take_along_axis(real, order, axis=0), axis=0)
    is_tail = (held <= (_TAIL + _ROUNDING) * held[-1]).astype(real.dtype)
    is_tail = jnp.take_along_axis(is_tail, jnp.argsort(order, axis=0), axis=0)
    theirs = jnp.sum(is_tail * real, axis=0)
    listed, _ = _of_listed(categories, is_tail)
    ours = jnp.sum(listed * shares(weights), axis=0)
    return [jnp.where(theirs > 0, (theirs - ours) / jnp.where(theirs > 0, theirs, 1), 0)]


@chains_last
def _total_variation(weights, categories, real):
    listed, _ = _of_listed(categories, real)
    return [jnp.sum(jnp.maximum(shares(weights) - listed, 0), axis=0)]


@chains_last
def _squared_distance(weights, categories, real):
    listed, used = _of_listed(categories, real)
    return [_with_unlisted((shares(weights) - listed) ** 2, listed**2, used, real**2)]


@chains_last
def _kl_model_to_real(weights, categories, real):
    listed, used = _of_listed(categories, real)
    return [_with_unlisted(_divergence(shares(weights), listed), listed, used, real)]


@chains_last
def _kl_real_to_model(weights, categories, real):
    ours, (listed, _) = shares(weights), _of_listed(categories, real)
    kept = jnp.sum((listed > 0) & (weights > 0), axis=0)
    near = jnp.sum(jnp.where(weights > 0, _divergence(listed, ours), 0), axis=0)
    return [jnp.where(kept < jnp.sum(real > 0, axis=0), jnp.inf, near)]


@chains_last
def _squared_wasserstein2(weights, categories, real):
    listed, _ = _of_listed(categories, real)
    weights, categories, real = (
        jnp.broadcast_to(array, (len(array), listed.shape[-1])).T
        for array in (weights, categories, real)
    )
    return [jax.vmap(_squared_wasserstein2_of_one)(weights, categories, real)]


def _squared_wasserstein2_of_one(weights, categories, real):
    """Of indices: equal quantiles are paired, piece by piece between the steps of both laws."""
    below, below_real = (
        cumulative / cumulative[-1] for cumulative in (jnp.cumsum(weights), jnp.cumsum(real))
    )
    steps = jnp.sort(jnp.concatenate([below, below_real]))
    middle = (steps + jnp.pad(steps, (1, 0))[:-1]) / 2
    ours = categories[jnp.searchsorted(below, middle)]
    return jnp.sum(
        jnp.diff(steps, prepend=0)
        * (ours - jnp.searchsorted(below_real, middle)).astype(real.dtype) ** 2
    )


@chains_last
def _wasserstein2(weights, categories, real):
    return [
        jnp.sqrt(squared) for squared in _squared_wasserstein2.kernel(weights, categories, real)
    ]


DISTANCES = {
    "missing_mass": _missing_mass,
    "tail_lost": _tail_lost,
    "total_variation": _total_variation,
    "squared_distance": _squared_distance,
    "kl_model_to_real": _kl_model_to_real,
    "kl_real_to_model": _kl_real_to_model,
    "squared_wasserstein2": _squared_wasserstein2,
    "wasserstein2": _wasserstein2,
}
