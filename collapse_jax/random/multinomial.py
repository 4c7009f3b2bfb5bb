"""Counts of independent draws, with and without replacement: exact integer totals."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.errors import InputError, one_of
from collapse_jax.random.binomial import binomial_of_words
from collapse_jax.random.bits import key_words, uniform, variate_words
from collapse_jax.random.chains_last import chains_last

# A binomial costs about as much as this many single draws (measured:
# experiments/benchmarks/samplers.py).
_DRAWS_A_BINOMIAL = 2
METHODS = ("auto", "binomials", "individuals")


def multinomial(
    key: Array, n: int | Array, probabilities: ArrayLike, *, method: str = "auto"
) -> Array:
    """Multinomial counts of n draws.

    Args:
        n: Draws; an int, or traced.
        probabilities: [K], non-negative, not all 0. They need not sum to 1, and may be integer
            counts. A category of probability 0 is never drawn.
        method: "auto" takes individuals for a known n below K / 2, else binomials. "binomials"
            draws each category given those before it, at a cost of O(K) whatever n is; see
            `binomial` for how exact. "individuals" draws one by one, at a cost of O(n log K), with
            a known n.

    Returns:
        Counts [K], int32, that sum to n.

    Raises:
        InputError: If the method is unknown, or "individuals" with a traced n.

    References:
        Devroye 1986, "Non-Uniform Random Variate Generation", XI.1 (conditional binomials), III.2
        (inversion).
    """
    one_of("method", method, METHODS)
    known = isinstance(n, int)
    if method == "individuals" and not known:
        raise InputError(
            "method is 'individuals' with a traced n; it must be a known int, or method 'binomials'"
        )
    probabilities = jnp.asarray(probabilities)
    categories = probabilities.shape[0]
    if method == "individuals" or (
        method == "auto" and known and n * _DRAWS_A_BINOMIAL < categories
    ):
        return _individuals(*key_words(key), probabilities, n=n)[0]
    return multinomial_of_categories(key, n, probabilities, jnp.arange(categories, dtype=jnp.int32))


def multinomial_of_categories(key: Array, n: ArrayLike, weights: Array, categories: Array) -> Array:
    """Multinomial counts of n draws among the listed categories.

    Leaving out categories of weight 0 changes no count of the others.

    Args:
        n: Draws; may be traced.
        weights: [k], int32 counts or floats.
        categories: [k], int32, ascending where the weight is positive: the numbers by which the
            random bits are told apart.

    Returns:
        Counts [k], int32.
    """
    return _conditional(*key_words(key), jnp.asarray(n, jnp.int32), weights, categories)[0]


@chains_last
def _conditional(key0, key1, n, weights, categories):
    chains = max(array.shape[-1] for array in (key0, n, weights, categories))
    n = jnp.broadcast_to(n, (chains,))
    dtype = jnp.result_type(float)

    def draw(left, weight, category, rest):
        probability = jnp.where(
            rest > 0, weight.astype(dtype) / jnp.where(rest > 0, rest, 1).astype(dtype), 0
        )
        return binomial_of_words(
            variate_words(key0, key1, category.astype(jnp.uint32)),
            left,
            jnp.minimum(probability, 1),
        )

    if jnp.issubdtype(weights.dtype, jnp.integer):

        def of_count(carry, row):
            left, rest = carry
            weight, category = row
            count = draw(left, weight, category, rest)
            return (left - count, rest - weight), count

        start = (n, jnp.broadcast_to(jnp.sum(weights, axis=0), (chains,)))
        return [jax.lax.scan(of_count, start, (weights, categories))[1]]

    def of_share(left, row):
        count = draw(left, *row)
        return left - count, count

    weights = weights.astype(dtype)
    _, rest = jax.lax.scan(
        _compensated_sum, (jnp.zeros_like(weights[0]),) * 2, weights, reverse=True
    )
    return [jax.lax.scan(of_share, n, (weights, categories, rest))[1]]


def _compensated_sum(carry, weight):
    """Kahan's sum: plain sums of 50,000 equal floats put an error of 1e-3 into the law."""
    total, excess = carry
    addend = weight - excess
    new = total + addend
    return (new, (new - total) - addend), new


@chains_last
def _individuals(key0, key1, probabilities, *, n):
    chains = max(key0.shape[-1], probabilities.shape[-1])
    dtype = jnp.result_type(float)
    widths = probabilities.T.astype(dtype)
    # The sum of a tree rounds differently in each entry: a category of width 0 ends where the one
    # before it does.
    cumulative = jax.lax.cummax(jnp.where(widths > 0, jnp.cumsum(widths, axis=1), 0), axis=1)
    index = jnp.arange(n, dtype=jnp.uint32)
    u = uniform(*variate_words(key0[:, None], key1[:, None], index))

    def of_chain(cumulative, u):
        # Strictly below the last entry, so that a category of width 0 is never hit.
        hit = jnp.searchsorted(
            cumulative,
            jnp.minimum(u * cumulative[-1], cumulative[-1] * (1 - jnp.finfo(dtype).epsneg)),
            side="right",
        )
        return jnp.zeros(len(cumulative), jnp.int32).at[hit].add(1)

    return [
        jax.vmap(of_chain, (0 if len(cumulative) == chains else None, 0))(
            cumulative if len(cumulative) == chains else cumulative[0],
            jnp.broadcast_to(u, (chains, n)),
        ).T
    ]


def multivariate_hypergeometric(key: Array, counts: Array, n: ArrayLike) -> Array:
    """Counts of n draws without replacement from an urn.

    Drawn one by one, so exact, at a cost of O(n K).

    Args:
        counts: [K], int32, balls of each colour: at least n and at most 2^31 - 1 in all.
        n: Draws; may be traced.

    Returns:
        Counts [K], int32.
    """

    def draw(i, carry):
        left, taken = carry
        ends = jnp.cumsum(left)
        ball = jax.random.randint(jax.random.fold_in(key, i), (), 0, ends[-1], ends.dtype)
        colour = jnp.searchsorted(ends, ball, side="right")
        return left.at[colour].add(-1), taken.at[colour].add(1)

    return jax.lax.fori_loop(0, n, draw, (counts, jnp.zeros_like(counts)))[1]
