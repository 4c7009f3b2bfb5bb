"""Binomial counts by inversion of one uniform variate."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.random.bits import counters, key_words, uniform, variate_words
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.normal import normal
from collapse_jax.random.polynomials import evaluate

# Up to this mean (of the rarer outcome) the distribution function is summed term by term; 38 terms
# leave less than 1e-9 of it.
SUMMED, TERMS = 12.0, 38
# A probability near 1 as a float may be off by 2^-25, and so is what it leaves to the rarer
# outcome: in as many trials 1e-4 of a count. With more trials the rarer outcome's own probability
# is taken where it is below the bound; above, it has no more digits than 1 - p.
_TRIALS, _RARE = 4096, 0.125
_LARGEST = 2**31 - 1


def binomial(key: Array, n: ArrayLike, p: ArrayLike, shape: tuple[int, ...] = ()) -> Array:
    """Binomial counts of n trials with probability p.

    Inversion: up to a mean of 12 (of the rarer outcome) the distribution function is summed; above,
    its inverse is the Cornish-Fisher series to the sixth order for a lattice.
    `multinomial(method="individuals")` simulates single draws instead.

    Total variation distance from the exact distribution, in float32:

    | mean            | total variation                                                      |
    |-----------------|----------------------------------------------------------------------|
    | up to 12        | below 2e-6, all of it next to the median                             |
    | just above 12   | 3e-6                                                                 |
    | 20              | 5e-7                                                                 |
    | larger          | 3e-8 standard deviations (6e-4 at n = 2^31 - 1, p = 1/2)             |

    The last is due to single counts whose probability approaches the resolution of 32 random bits;
    the distribution function is accurate to 1e-7. A test needs more than 10^10 draws to detect it,
    or 10^9 for standard deviations above 10^4. An outcome rarer than 2^-33 is never drawn.

    Args:
        n: Trials, 0 .. 2^31 - 1; broadcasts to `shape` and may be traced.
        p: Probability in [0, 1]; broadcasts to `shape` and may be traced. p = 0 gives 0, p = 1
            gives n. Its exact float value is used. Above 4096 trials, 1 - p is computed in float64
            if p is known on the host: 1 - 1e-8 is not 1.

    Returns:
        Counts [shape], int32; -1 where n or p is out of range or nan (`jax.random.binomial` gives
        nan).

    References:
        Hill and Davis 1968, with Sheppard's corrections of the cumulants.
    """
    dtype = jnp.result_type(float)
    known = not isinstance(p, jax.Array)
    rest = np.float64(1) - np.asarray(p, np.float64) if known else 1 - jnp.asarray(p, dtype)
    n, p, rest = (
        jnp.broadcast_to(array, shape)
        for array in (as_counts(n), jnp.asarray(p, dtype), jnp.asarray(rest, dtype))
    )
    return _binomial(*key_words(key), n, p, rest)[0]


def as_counts(n: ArrayLike) -> Array:
    """Numbers of trials as int32; -1 if they are nan or outside 0 .. 2^31 - 1."""
    if not isinstance(n, jax.Array):
        numbers = np.asarray(n)
        fits = (numbers >= 0) & (numbers <= _LARGEST)
        return jnp.asarray(np.where(fits, numbers, -1).astype(np.int32))
    if n.dtype in (jnp.int32, jnp.int16, jnp.int8, jnp.uint16, jnp.uint8):
        return n.astype(jnp.int32)
    return jnp.where((n >= 0) & (n < 2.0**31), n, -1).astype(jnp.int32)


@chains_last
def _binomial(key0, key1, n, p, rest):
    shape = n.shape[:-1] if n.ndim >= p.ndim else p.shape[:-1]
    count = binomial_of_words(variate_words(key0, key1, counters(shape)), n, p, rest)
    return [jnp.where((n >= 0) & (p >= 0) & (p <= 1), count, -1)]


def binomial_of_words(
    words: tuple[Array, ...], n: Array, p: Array, rest: Array | None = None
) -> Array:
    """The counts (int32) at the quantiles that random words stand for; the arrays broadcast.

    Args:
        words: Those of one variate, as `variate_words` gives them.
        n: Trials, int32.
        p: Probabilities, of the default float type.
        rest: 1 - p to its own relative precision, where that is known better than from p.
    """
    shape = jnp.broadcast_shapes(*(array.shape for array in (*words, n, p)))
    n_all, p_all = (jnp.broadcast_to(array, shape) for array in (n, p))
    # Flat, so that vectors do not end where an axis does.
    flat = [jnp.broadcast_to(word, shape).reshape(-1) for word in words]
    rests = None if rest is None else jnp.broadcast_to(rest, shape).reshape(-1)
    counts = _rarer_counts(flat, n_all.reshape(-1), p_all.reshape(-1), rests).reshape(shape)
    return jnp.where(p_all > 0.5, n_all - counts, counts)


def _rarer_counts(words, n, p, rest):
    """Counts [size] of the rarer outcome."""
    rare = jnp.minimum(p, 1 - p)
    if rest is not None:
        rare = jnp.where((p > 0.5) & (rest < _RARE) & (n > _TRIALS), rest, rare)
    summed = n.astype(p.dtype) * rare <= SUMMED

    def few():
        # As in `normal`: the lowest bit says which tail, the others its probability.
        return count_at_tail(uniform(*words) / 2, (words[0] & jnp.uint32(1)) > 0, _terms(n, rare))

    def many():
        return _cornish_fisher(normal(*words), n, rare)

    return jnp.clip(either(summed, few, many), 0, n)


def either(choice: Array, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """jnp.where(choice, yes(), no()) for trees of arrays like `choice` [size].

    A CPU computes one of them alone where all entries agree: a branch costs it nothing, an
    accelerator a halt.
    """

    def both():
        return jax.tree.map(functools.partial(jnp.where, choice), yes(), no())

    def as_needed():
        kinds = _bits_set(jnp.where(choice, jnp.int32(1), jnp.int32(2)))
        return jax.lax.switch(jnp.maximum(kinds - 1, 0), [yes, no, both])

    return jax.lax.platform_dependent(cpu=as_needed, default=both)


def _bits_set(kinds):
    """Which bits any of the kinds [size] (int32) has; []."""
    # Down to a row first, and that folded once: XLA on the CPU would go through all one by one.
    rows = next((rows for rows in (32, 16, 8) if len(kinds) % (2 * rows) == 0), 1)
    if rows > 1:
        row = jax.lax.reduce_or(kinds.reshape(rows, -1), (0,))
        kinds = row[: len(row) // 2] | row[len(row) // 2 :]
    return jax.lax.reduce_or(kinds, (0,))


def _terms(n, rare):
    """The probabilities of 0 .. TERMS; for means up to 20."""
    n = n.astype(rare.dtype)
    odds = rare / (1 - rare)
    scaled = odds * (n + 1)
    terms = [jnp.exp(jnp.where(n * rare <= SUMMED, n * _log_one_minus(rare), 0))]
    for k in range(1, TERMS + 1):
        # Beyond n these are not quite 0, but 1e-7 of the last: the caller keeps counts up to n.
        terms.append(terms[-1] * (scaled * rare.dtype.type(1 / k) - odds))
    return terms


def count_at_tail(tail: Array, upper: Array, terms: list[Array]) -> Array:
    """The count (int32) whose upper or lower tail has probability `tail`.

    Each tail is summed from its far end, so that it keeps its relative precision.

    Args:
        tail: Probabilities below 1/2.
        upper: Whether it is the upper tail.
        terms: The probabilities of the counts 0 .. TERMS, of a law whose mean is at most SUMMED and
            whose median is at most the mean rounded up.
    """
    total = jnp.zeros_like(tail)
    count = of_lower = jnp.zeros_like(tail, jnp.int32)
    for i, term in enumerate(terms[:0:-1]):
        # One sum for both: a lower tail ends where the median is.
        total = total + (jnp.where(upper, term, terms[i]) if i <= SUMMED else term)
        count = count + (total < tail).astype(jnp.int32)
        if i == int(SUMMED):
            of_lower = count
    return jnp.where(upper, TERMS - count, of_lower)


def _log_one_minus(rare):
    """log(1 - rare) for rare in [0, 1/2], with full relative precision: 2 artanh as a series."""
    y = rare / (2 - rare)
    y2 = y * y
    terms = 8 if rare.dtype == jnp.float32 else 17
    return -2 * y * evaluate([1 / (2 * k + 1) for k in range(terms)], y2)


def _cornish_fisher(z, n, rare):
    """The count at the quantile of the standard normal z; for means above SUMMED."""
    whole, fraction = exact_product(n, rare)
    offset = offset_of_normal(
        z, jnp.maximum(n.astype(z.dtype) * rare * (1 - rare), 1), 1 - 2 * rare
    )
    return whole + jnp.floor(fraction + offset + 0.5).astype(jnp.int32)


def offset_of_normal(z: Array, variance: Array, g: Array | float) -> Array:
    """Distance of the count at a quantile from its mean, before rounding to the lattice.

    Derived here: cumulants of the binomial less those of a uniform on (-1/2, 1/2), so that rounding
    a smooth variable gives the lattice distribution; the inverse of its Edgeworth series, expanded
    in s = 1 / sqrt(variance).

    Args:
        z: The standard normal of the same probability.
        variance: n p q.
        g: 1 - 2p, the skewness in units of s; 1 for the Poisson distribution.
    """
    s = 1 / jnp.sqrt(variance)
    z2, g2 = z * z, g * g
    terms = [
        g * (z2 - 1) / 6,
        z * ((3 - 7 * g2) + z2 * (g2 - 3)) / 144,
        g * (9 - g2) * evaluate([-16, 7, 3], z2) / 6480,
        z
        * evaluate(
            [
                4887 + g2 * (6282 - 433 * g2),
                -324 + g2 * (-2124 + 256 * g2),
                -351 + g2 * (-486 + 9 * g2),
            ],
            z2,
        )
        / 622080,
        g
        * evaluate(
            [
                evaluate([8640, -14208, 1472], g2),
                evaluate([-66555, -15546, -923], g2),
                evaluate([5805, 5238, -243], g2),
                evaluate([2700, 936, 12], g2),
            ],
            z2,
        )
        / 6531840.0,
        -z
        * evaluate(
            [
                evaluate([5480865, -12811527, -9971109, -289717], g2),
                evaluate([-14100885, -64863747, -5478939, -289517], g2),
                evaluate([519615, 5859783, 1573641, 4353], g2),
                evaluate([353565, 1827603, 242271, 3753], g2),
            ],
            z2,
        )
        / 9405849600.0,
    ]
    return variance * s * z + evaluate(terms, s)


def exact_product(n: Array, p: Array) -> tuple[Array, Array]:
    """n p as an integer (int32) and a fraction in [0, 1); only the fraction is rounded.

    Args:
        n: int32, 0 .. 2^31 - 1.
        p: In [0, 1], a float.
    """
    if p.dtype == jnp.float64:
        product = n.astype(p.dtype) * p
        whole = jnp.floor(product)
        return whole.astype(jnp.int32), product - whole
    # Twelve significant bits of each factor at a time: such products are exact in float32.
    high_p = jax.lax.bitcast_convert_type(
        jax.lax.bitcast_convert_type(p, jnp.uint32) & jnp.uint32(0xFFFFF000), jnp.float32
    )
    parts_p = [high_p, p - high_p]
    parts_n = [n & 0xFFF, n & 0xFFF000, n & ~0xFFFFFF]
    whole, fraction = jnp.zeros_like(n), jnp.zeros_like(p)
    for part_n in parts_n:
        for part_p in parts_p:
            product = part_n.astype(jnp.float32) * part_p
            floor = jnp.floor(product)
            whole, fraction = whole + floor.astype(jnp.int32), fraction + (product - floor)
    carried = jnp.floor(fraction)
    return whole + carried.astype(jnp.int32), fraction - carried
