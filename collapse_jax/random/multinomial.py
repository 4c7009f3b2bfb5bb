"""Counts of independent draws, with and without replacement: exact integer totals."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from collapse_jax.errors import InputError, one_key, one_of
from collapse_jax.random.binomial import as_counts, binomial_of_words
from collapse_jax.random.bits import key_words, threefry2x32, uniform, variate_words, whole_below
from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.derivatives import CHOICES, step_function

# A binomial costs about as much as this many single draws (measured:
# experiments/benchmarks/samplers.py).
_DRAWS_A_BINOMIAL = 2
METHODS = ("auto", "binomials", "individuals")
# Cumulated floats are off by 2^-24 of their sum: among so many single draws by 2e-4 of a count.
# More draws are made among integers.
DRAWS_AMONG_FLOATS = 4096
# Up to so many chains, and from so many categories, vectors run over categories as well: over a
# row of so many counts, and so many rows of a block. Beyond, a loop over categories costs a CPU
# less (measured: experiments/benchmarks/samplers.py few).
FEW_CHAINS, MANY_CATEGORIES = 16, 4096
_LANES, _ROWS = 64, 8


def multinomial(
    key: Array, n: int | Array, probabilities: ArrayLike, *, method: str = "auto"
) -> Array:
    """Multinomial counts of n draws.

    Rare categories keep their relative precision in any order: each binomial takes its probability
    and the remaining probability as two quotients, each with a relative error of 2e-7 (sums are
    exact for integer counts, compensated for floats). Up to 4096 draws of a category the absolute
    error may be 2^-25 instead, which is 1e-4 of a count.

    Args:
        n: Draws, 0 .. 2^31 - 1; an int, or traced.
        probabilities: [K], non-negative, not all 0. They need not sum to 1, and may be integer
            counts with a sum below 2^31. A category of probability 0 is never drawn.
        method: "auto" uses individuals for a known n below K / 2, else binomials. "binomials" draws
            each category given the earlier ones, at a cost of O(K) for any n; `binomial` describes
            its accuracy. "individuals" simulates single draws, at a cost of O(n log K), and needs a
            known n. Each probability is then accurate to 2^-32 of their sum, or 2^-25 up to 4096
            draws.

    Returns:
        Counts [K], int32, that sum to n; all are -1 if n is out of range, a probability is
        negative, infinite or nan, or all are 0 with n > 0.

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
    if known and not 0 <= n < 2**31:
        return jnp.full(categories, -1, jnp.int32)
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
        Counts [k], int32; all -1 in the cases of `multinomial`.
    """
    return _conditional(*key_words(key), as_counts(n), weights, categories)[0]


def _drawable(n, weights):
    """Whether n draws [chains] have a law under weights [k, chains]."""
    least, most = jnp.min(weights, axis=0), jnp.max(weights, axis=0)
    # Comparisons with nan are false, and a nan is both the least and the most.
    return (n >= 0) & (least >= 0) & (most < jnp.inf) & ((most > 0) | (n == 0))


@chains_last
def _conditional(key0, key1, n, weights, categories):
    chains = max(array.shape[-1] for array in (key0, n, weights, categories))
    n = jnp.broadcast_to(n, (chains,))
    drawable = _drawable(n, weights)
    if jnp.issubdtype(weights.dtype, jnp.integer):
        counts = _of_counts(key0, key1, n, weights, categories)
    else:
        counts = _of_floats(key0, key1, n, weights, categories)
    return [jnp.where(drawable, counts, -1)]


def _of_counts(key0, key1, n, weights, categories):
    """Counts [k, chains] of n draws [chains] by integer weights, each given those before it."""
    if _in_blocks(n, weights):
        return in_blocks(key0, key1, n, weights, categories)

    def of_category(carry, row):
        left, rest = carry
        weight, category = row
        after = rest - weight
        count = _drawn(_words(key0, key1, category), left, weight, rest, after)
        return (left - count, after), count

    start = (n, jnp.broadcast_to(jnp.sum(weights, axis=0), n.shape))
    return jax.lax.scan(of_category, start, (weights, categories))[1]


def _of_floats(key0, key1, n, weights, categories):
    """Counts [k, chains] by float weights, as `_of_counts`."""
    weights = weights.astype(jnp.result_type(float))
    _, rest = jax.lax.scan(
        _compensated_sum, (jnp.zeros_like(weights[0]),) * 2, weights, reverse=True
    )
    after = jnp.concatenate([rest[1:], jnp.zeros_like(rest[:1])])
    if _in_blocks(n, weights):
        return in_blocks(key0, key1, n, weights, categories, rest, after)

    def of_category(left, row):
        weight, category, rest, after = row
        count = _drawn(_words(key0, key1, category), left, weight, rest, after)
        return left - count, count

    return jax.lax.scan(of_category, n, (weights, categories, rest, after))[1]


def _in_blocks(n, weights):
    return len(n) <= FEW_CHAINS and len(weights) >= MANY_CATEGORIES


def _words(key0, key1, category):
    return variate_words(key0, key1, category.astype(jnp.uint32))


def _drawn(words, left, weight, rest, after):
    """The count of `left` draws among what has weight `rest`, of which `after` comes later."""
    dtype = jnp.result_type(float)
    total = jnp.where(rest > 0, rest, 1).astype(dtype)
    probability = jnp.where(rest > 0, weight.astype(dtype) / total, 0)
    return binomial_of_words(words, left, jnp.minimum(probability, 1), after.astype(dtype) / total)


def in_blocks(
    key0: Array,
    key1: Array,
    n: Array,
    weights: Array,
    categories: Array,
    rest: Array | None = None,
    after: Array | None = None,
) -> Array:
    """The counts that a loop over the categories gives, of many categories at a time.

    A count depends on those before it by how many draws they leave. Within a block that number is
    first taken to be what is expected, then what the counts so drawn leave, until it stays. Each
    round makes at least one more category right; two or three rounds make all of them right, more
    where few categories are left.

    Args:
        key0, key1: Key words [chains] or [1], uint32.
        n: Draws [chains], int32.
        weights: [k, chains] or [k, 1].
        categories: [k, chains] or [k, 1], int32.
        rest, after: [k, chains] or [k, 1], the weight from each category on and after it. Integer
            weights need neither.

    Returns:
        Counts [k, chains].

    References:
        Derived here (the fixed point of a recursion is unique).
    """
    chains, rows = len(n), len(weights)
    side = max(_LANES // chains, 1)

    def cut(array):
        """[blocks, _ROWS, side, chains or 1] of [k, chains or 1]: down a column, then the next."""
        padded = jnp.pad(array, ((0, -rows % (_ROWS * side)), (0, 0)))
        return padded.reshape(-1, side, _ROWS, array.shape[-1]).swapaxes(1, 2)

    def of_block(carry, block):
        left, total = carry
        weight, category, *sums = block
        words = _words(key0, key1, category)
        if sums:
            of_rest, of_after = sums
        else:
            each = jnp.broadcast_to(weight, (*weight.shape[:2], chains))
            before, of_all = _sums_before(each)
            of_rest, total = total - before, total - of_all
            of_after = of_rest - weight
        counts, taken = _counts_of_block(words, left, weight, of_rest, of_after)
        return (left - taken, total), counts

    sums = () if rest is None or after is None else (rest, after)
    total = jnp.broadcast_to(jnp.sum(weights, axis=0), (chains,))
    blocks = tuple(cut(array) for array in (weights, categories, *sums))
    counts = jax.lax.scan(of_block, (n, total), blocks)[1]
    return counts.swapaxes(1, 2).reshape(-1, chains)[:rows]


def _counts_of_block(words, left, weight, rest, after):
    """(counts [rows, side, chains] of a block, their sums [chains]) of `left` draws [chains]."""
    first = rest[:1, :1].astype(jnp.float32)
    guess = left * (rest.astype(jnp.float32) / jnp.where(first > 0, first, 1))
    guess = jnp.clip(guess.astype(jnp.int32), 0, left)

    def again(carry):
        _, lefts, *_ = carry
        counts = _drawn(words, lefts, weight, rest, after)
        taken, of_all = _sums_before(counts)
        return lefts, jnp.maximum(left - taken, 0), counts, of_all

    # The first two differ, so that there is a round.
    start = (~guess, guess, jnp.zeros_like(guess), jnp.zeros_like(left))
    _, _, counts, taken = jax.lax.while_loop(
        lambda carry: _differ(carry[0], carry[1]), again, start
    )
    return counts, taken


def _differ(a, b):
    """Whether any entry differs; over rows first, which XLA on the CPU does in vectors."""
    return jnp.max(jax.lax.reduce_or(a ^ b, (0,)).astype(jnp.uint32)) > 0


def _sums_before(numbers):
    """(sums [rows, side, chains] of what comes before each number, sums [chains] of all)."""
    above, of_column = _before(numbers), jnp.sum(numbers, axis=0)
    return above + _before(of_column), jnp.sum(of_column, axis=0)


def _before(numbers):
    """Sums of what is earlier on the first axis.

    By all pairs: XLA's cumulative sums take a CPU many small steps, and each costs more than this.
    """
    places = jnp.arange(len(numbers)).reshape(-1, *[1] * (numbers.ndim - 1))
    return jnp.sum(jnp.where(places < places[:, None], numbers, 0), axis=1)


def _compensated_sum(carry, weight):
    """Kahan's sum: plain sums of 50,000 equal floats put an error of 1e-3 into the law."""
    total, excess = carry
    addend = weight - excess
    new = total + addend
    return (new, (new - total) - addend), new


@chains_last
def _individuals(key0, key1, probabilities, *, n):
    chains = max(key0.shape[-1], probabilities.shape[-1])
    keys = [jnp.broadcast_to(word, (chains,)) for word in (key0, key1)]

    def of_chain(key0, key1, weights):
        hit = categories_of_draws(key0, key1, weights, n)
        return jnp.zeros(len(weights), jnp.int32).at[hit].add(1)

    shared = probabilities.shape[-1] != chains
    counts = jax.vmap(of_chain, (0, 0, None if shared else 0))(
        keys[0], keys[1], probabilities[:, 0] if shared else probabilities.T
    ).T
    return [jnp.where(_drawable(jnp.int32(n), probabilities), counts, -1)]


def categories_of_draws(key0: Array, key1: Array, weights: Array, n: int) -> Array:
    """Places [n] of n independent draws among weights [K], by inversion.

    A category of weight 0 is never drawn. Each has its probability to 2^-32 of their sum (2^-25 for
    floats up to 4096 draws).

    Args:
        key0, key1: Key words [], uint32.
        weights: int32 counts with a sum below 2^31, or floats.
        n: Draws, known.
    """
    index = jnp.arange(n, dtype=jnp.uint32)
    dtype = jnp.result_type(float)
    if n <= DRAWS_AMONG_FLOATS or dtype == jnp.float64:
        # The sum of a tree rounds differently in each entry: a category of width 0 ends where the
        # one before it does.
        widths = weights.astype(dtype)
        cumulative = jax.lax.cummax(jnp.where(widths > 0, jnp.cumsum(widths), 0))
        return inverted(cumulative, uniform(*variate_words(key0, key1, index)))
    ends = (
        jnp.cumsum(weights).astype(jnp.uint32)
        if jnp.issubdtype(weights.dtype, jnp.integer)
        else ends_of_floats(weights)
    )
    ball = whole_below(threefry2x32(key0, key1, jnp.uint32(0), index), ends[-1])
    return jnp.searchsorted(ends, ball, side="right")


def inverted(cumulative: Array, u: Array) -> Array:
    """Places [n] of uniform numbers u [n] in cumulated weights [K], ascending from above 0."""
    total = cumulative[-1]
    # Strictly below the last entry, so that a category of weight 0 is never hit.
    below = jnp.minimum(u * total, total * (1 - jnp.finfo(u.dtype).epsneg))
    places = jnp.searchsorted(cumulative, below, side="right")
    return step_function(places, cumulative, CHOICES)


def ends_of_floats(weights: Array) -> Array:
    """Cumulated float weights [K] as uint32, the last between 2^30 and 2^31.

    Summed with what rounding loses, so each is right to a whole number.
    """

    def add(carry, weight):
        total, lost = carry
        new = total + weight
        small, large = jnp.minimum(total, weight), jnp.maximum(total, weight)
        carry = new, lost + (small - (new - large))
        return carry, carry

    zero = jnp.zeros_like(weights[0])
    (total, _), sums = jax.lax.scan(add, (zero, zero), weights)
    # By a power of two, which rounds nothing.
    cumulated, lost = (jnp.ldexp(part, 31 - jnp.frexp(total)[1]) for part in sums)
    whole = jnp.floor(cumulated)
    rest = (cumulated - whole) + lost
    # A float's digits end before its whole number does: what is lost may be of either sign.
    ends = whole.astype(jnp.uint32) + jnp.round(rest).astype(jnp.int32).astype(jnp.uint32)
    return jax.lax.cummax(ends)


def multivariate_hypergeometric(key: Array, counts: Array, n: ArrayLike) -> Array:
    """Counts of n draws without replacement from an urn.

    The balls are drawn one by one, so the result is exact, at a cost of O(n K).

    Args:
        counts: [K], int32, balls of each colour: at least n and at most 2^31 - 1 in all.
        n: Draws; may be traced.

    Returns:
        Counts [K], int32; all -1 if n is negative or above the number of balls, or a count is
        negative.
    """
    one_key("key", key)
    drawn = jnp.asarray(n)
    drawable = (drawn >= 0) & (drawn <= jnp.sum(counts)) & (jnp.min(counts) >= 0)

    def draw(i, carry):
        left, taken = carry
        ends = jnp.cumsum(left)
        ball = jax.random.randint(jax.random.fold_in(key, i), (), 0, ends[-1], ends.dtype)
        colour = jnp.searchsorted(ends, ball, side="right")
        return left.at[colour].add(-1), taken.at[colour].add(1)

    taken = jax.lax.fori_loop(0, n, draw, (counts, jnp.zeros_like(counts)))[1]
    return jnp.where(drawable, taken, -1)
