"""Unigram, bigram and trigram models of token blocks.

A maximum-likelihood n-gram is its training data, sorted by context.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core import points
from collapse_jax.core.data_checks import PointCheck, check_size_of_params, labels, starts_at_one
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Dataset, Estimator, Family, FitInfo, State
from collapse_jax.errors import InputError, real, whole
from collapse_jax.numerics import discrete
from collapse_jax.random.bits import key_words, threefry2x32, uniform, whole_below

__all__ = ["ngram", "ngram_params", "ngram_perplexity"]

# Two columns are sorted as one number where it fits 32 bits: XLA sorts a single array several times
# as fast as two.
_LARGEST_PACKED = 2**16 - 1
# The counter of the second variate of a token, which says whether smoothing makes it.
_SMOOTHED = 2**31


class NGramParams(NamedTuple):
    """A training set as its transitions, sorted.

    A transition is a token and the order - 1 tokens before it, within one block.

    columns: order arrays [N] int32, lexicographically sorted: the token before, the one before
        that, and the token itself last.
    offset: [V + 1] int32, where each value of the first column starts; offset[V] is the number of
        transitions. What is behind is empty.
    following: (start, count) [N] int32 of the transitions that may come next, with what a dead
        context backs off to; () where looked up.
    starts: order - 1 arrays [n] int32, the first tokens of the blocks in their order.
    blocks: [], how many of the starts are filled.
    """

    columns: tuple[jax.Array, ...]
    offset: jax.Array
    following: tuple[jax.Array, ...]
    starts: tuple[jax.Array, ...]
    blocks: jax.Array


@named
def ngram(
    order: Literal[1, 2, 3], vocabulary_size: int, block_length: int, smoothing: float = 0.0
) -> Estimator:
    """Unigram, bigram or trigram model of token blocks; x is int32 [n, block_length].

    The law of a block: its first order - 1 tokens are those of a block of the training set, chosen
    uniformly; every further token follows its order - 1 predecessors. Transitions are counted
    within blocks alone, so the order of blocks means nothing, and what a workflow pools or
    subsamples is a training set again. A whole corpus as one stream (Suresh et al. 2024) is one
    block of its length; blocks of some hundred tokens are sampled in parallel and differ from it by
    a fresh start at each. A table [V, V] is never made: memory is O(tokens). A token costs a
    uniform choice among the occurrences of its context.

    `log_prob` is of a block given its first order - 1 tokens; `continued` is the next block of each
    given one. Metrics, of the training set: vocabulary (distinct tokens), distinct_ngrams (distinct
    transitions), probabilities [V] of tokens, and of these entropy in nats, heterozygosity, mean,
    variance, log_variance (of the token's number); conditional_entropy: nats a token of the
    training set under its own model. Distances: surviving_vocabulary (share of the reference's
    distinct tokens that are there), missing_mass, total_variation (of the tokens' probabilities),
    cross_entropy_model_to_real and cross_entropy_real_to_model (nats a token of the first's
    training set under the second; inf once something is impossible).

    Args:
        order: 1, 2 or 3.
        vocabulary_size: V, at least 1.
        block_length: at least the order.
        smoothing: kappa of p = (count + kappa) / (count of the context + kappa V); a context that
            was never seen has the uniform law. 0 is maximum likelihood. Such a context (one that
            only ends blocks, or in a text that is scored) then has the law of the longest of its
            ends that something follows: a trigram's backs off to the bigram, that to the unigram.
            So no token comes back that had died, which the uniform law, the limit of small kappa,
            would not give.

    Raises:
        InputError: if an argument is out of its range, or blocks have another length.

    References:
        Suresh et al. 2024 (arXiv 2412.17646), the setting; sampling from sorted occurrences:
        derived here.
    """
    return _estimator(_checked(order, vocabulary_size, block_length, smoothing))


def _estimator(family):
    cross_entropy = family.cross_entropy
    return estimator(
        family.fit,
        family.sample,
        metrics=METRICS | {"conditional_entropy": lambda params: cross_entropy(params, params)},
        distances=DISTANCES
        | {
            "cross_entropy_model_to_real": cross_entropy,
            "cross_entropy_real_to_model": lambda params, other: cross_entropy(other, params),
        },
        continued=family.continued,
        # A smoothed token may be nobody's copy.
        copied=None if family.smoothing else family.copied,
        log_prob=family.log_prob,
        weighed="counts its points in whole numbers",
        check=PointCheck(
            f"ngram(vocabulary_size={family.vocabulary_size}, block_length={family.block_length})",
            labels(family.vocabulary_size).replace("label", "token"),
            (family.block_length,),
            whole=True,
            low=0,
            high=family.vocabulary_size - 1,
            hint=starts_at_one(family.vocabulary_size, "tokens"),
        ),
    )


def _checked(order, vocabulary_size, block_length, smoothing):
    order = whole("order", order, 1, 3, must_be="1 (unigram), 2 (bigram) or 3 (trigram)")
    return _NGram(
        order,
        whole("vocabulary_size", vocabulary_size, 1),
        whole("block_length", block_length, order),
        checked_smoothing(smoothing),
    )


class _NGram(NamedTuple):
    """The options, and what depends on them."""

    order: int
    vocabulary_size: int
    block_length: int
    smoothing: float

    def fit(self, key, params, data):
        if data.x.shape[1:] != (self.block_length,):
            raise InputError(
                f"block_length is {self.block_length}, but the training set has shape "
                f"{data.x.shape}; it must be [n, block_length]"
            )
        data = points.compact(data, len(data.weight))
        return _fitted(data, self.order, self.vocabulary_size, self.smoothing), FitInfo.exact()

    def sample(self, key, params, n):
        check_size_of_params("tokens", params.offset.size - 1, self.vocabulary_size)
        first = [column[_begun(key, params, n)] for column in params.starts]
        rest = self.block_length - len(first)
        tokens = _generated(key, params, first[::-1], n, rest, self.smoothing)
        return jnp.concatenate([column[:, None] for column in first] + [tokens], axis=1)

    def copied(self, key, params, data, n):
        """The places [n, block_length] among all tokens of the training set, block by block."""
        # Numbered as `_fitted` sorts them: places of transitions, in the order of their tokens.
        filled = jnp.nonzero(data.weight > 0, size=len(data.weight), fill_value=0)[0]
        length, order = self.block_length, self.order
        columns = _transitions(data.x[filled], order)
        there = (jnp.arange(len(filled)) < params.blocks)[:, None]
        columns[0] = jnp.where(there, columns[0], self.vocabulary_size)
        place = filled[:, None] * length + jnp.arange(order - 1, length)
        flat = [column.ravel() for column in (*columns, place.astype(jnp.int32))]
        ordered = jax.lax.sort(tuple(flat), num_keys=order, is_stable=False)[-1]
        block = _begun(key, params, n)
        first = [column[block] for column in params.starts]
        rest = length - len(first)
        chosen = _generated(key, params, first[::-1], n, rest, 0.0, chosen=True)
        begun = filled[block][:, None] * length + jnp.arange(order - 1)
        return jnp.concatenate([begun.astype(jnp.int32), ordered[chosen]], axis=1)

    def continued(self, key, params, x):
        newest_first = [x[:, -1 - back] for back in range(self.order - 1)]
        return _generated(key, params, newest_first, len(x), self.block_length, self.smoothing)

    def cross_entropy(self, params, reference):
        present = jnp.arange(params.columns[-1].size) < params.offset[-1]
        nats = -_log_law(reference, params.columns, self.smoothing)
        return jnp.sum(jnp.where(present, nats, 0)) / jnp.maximum(params.offset[-1], 1)

    def log_prob(self, params, x):
        return log_prob(params, x, self.smoothing)


def example() -> tuple[Estimator, NGramParams]:
    """(Estimator, params) of a bigram of five tokens, fitted to six blocks of twelve."""
    sequence = np.array([0, 1, 2, 0, 1, 3, 0, 2, 4, 1, 0, 1, 2, 2, 3, 1, 0, 4], np.int32)
    return ngram(2, 5, 12), ngram_params(
        2, 5, np.stack([np.roll(sequence, shift)[:12] for shift in range(0, 18, 3)])
    )


def ngram_params(
    order: Literal[1, 2, 3], vocabulary_size: int, x: ArrayLike, smoothing: float = 0.0
) -> NGramParams:
    """The model fitted to blocks x [n, block_length] of tokens 0 .. vocabulary_size - 1.

    Raises:
        InputError: for other tokens or no blocks, and where `ngram` does.
    """
    x = np.asarray(x)
    if (
        x.ndim != 2
        or x.dtype.kind not in "iu"
        or not x.size
        or x.min() < 0
        or x.max() >= vocabulary_size
    ):
        raise InputError(
            f"blocks of shape {x.shape} must be [n, block_length] of integers from 0 to "
            f"{vocabulary_size - 1} (vocabulary_size - 1)"
        )
    family = ngram(order, vocabulary_size, x.shape[1], smoothing)
    return jax.jit(family.fit)(
        jax.random.key(0), None, points.of_sample(jnp.asarray(x, jnp.int32))
    )[0]


def log_prob(params: NGramParams, x: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Log-probability [n] in nats of blocks, each given its first order - 1 tokens.

    Args:
        params: the model.
        x: [n, block_length].
        smoothing: kappa, which need not be the one that the model samples with. With 0, what was
            never seen is -inf.
    """
    columns = _transitions(x, len(params.columns))
    shape = columns[-1].shape
    return jnp.sum(
        _log_law(params, [column.ravel() for column in columns], smoothing).reshape(shape), axis=1
    )


def ngram_perplexity(
    x: ArrayLike, smoothing: float = 0.0, name: str = "perplexity"
) -> Callable[[State], jax.Array]:
    """A metric: the perplexity [] of held-out text under a model of `ngram`.

    exp of minus the mean log-probability of all tokens that the model predicts (the first order - 1
    of each block are given).

    Args:
        x: [n, block_length], integers from 0.
        smoothing: kappa. With 0 it is inf once a transition of the text was never seen.
        name: what the metric is called.

    Returns:
        A function of a state.

    Raises:
        InputError: if x is something else, or smoothing out of its range.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.dtype.kind not in "iu" or not x.size or x.min() < 0:
        raise InputError(
            f"held-out text of shape {x.shape} must be blocks [n, block_length] of "
            "integers that are not negative"
        )
    smoothing = checked_smoothing(smoothing)

    def metric(state):
        order = len(state.params.columns)
        if x.shape[1] < order:
            raise InputError(
                f"held-out blocks have {x.shape[1]} tokens; an order of {order} needs at least as "
                "many"
            )
        predicted = x.shape[0] * (x.shape[1] - order + 1)
        total = jnp.sum(log_prob(state.params, jnp.asarray(x, jnp.int32), smoothing))
        return jnp.exp(-total / predicted)

    metric.__name__ = name
    return metric


def checked_smoothing(smoothing: float) -> float:
    """Smoothing as a float.

    Raises:
        InputError: unless it is 0 or a kappa from 1e-30 to 1e20.
    """
    must_be = "0 (maximum likelihood) or a number from 1e-30 to 1e20"
    kappa = real("smoothing", smoothing, at_least=0, must_be=must_be)
    if kappa:
        real("smoothing", kappa, at_least=1e-30, at_most=1e20, must_be=must_be)
    return kappa


def _transitions(x, order):
    """Of blocks x [n, L]: the columns of `NGramParams`, order arrays [n, L - order + 1]."""
    length = x.shape[1]
    return [x[:, order - 2 - back : length - 1 - back] for back in range(order - 1)] + [
        x[:, order - 1 :]
    ]


def _fitted(data: Dataset, order, vocabulary_size, smoothing) -> NGramParams:
    filled = data.weight > 0
    columns = _transitions(data.x, order)
    columns[0] = jnp.where(filled[:, None], columns[0], vocabulary_size)  # behind everything
    params = _sorted_model([column.ravel() for column in columns], vocabulary_size)
    params = params._replace(
        starts=tuple(data.x[:, place] for place in range(order - 1)),
        blocks=jnp.sum(filled, dtype=jnp.int32),
    )
    if order == 1 or smoothing > 0:
        return params
    return params._replace(
        following=_backed_off(params, [params.columns[-1], *params.columns[: order - 2]])
    )


def _sorted_model(columns, vocabulary_size):
    """The model of transitions as columns [N] in any order.

    The first column is vocabulary_size where a slot is empty.
    """
    if len(columns) > 1 and vocabulary_size <= _LARGEST_PACKED:
        base = jnp.uint32(vocabulary_size + 1)
        both, *rest = jax.lax.sort(
            (columns[0].astype(jnp.uint32) * base + columns[1].astype(jnp.uint32), *columns[2:]),
            num_keys=len(columns) - 1,
            is_stable=False,
        )
        columns = ((both // base).astype(jnp.int32), (both % base).astype(jnp.int32), *rest)
    else:
        columns = jax.lax.sort(tuple(columns), num_keys=len(columns), is_stable=False)
    counts = jnp.zeros(vocabulary_size, jnp.int32).at[columns[0]].add(1, mode="drop")
    return NGramParams(
        tuple(columns), jnp.pad(jnp.cumsum(counts, dtype=jnp.int32), (1, 0)), (), (), jnp.int32(0)
    )


def _find(params, query):
    """(start, count) of the transitions whose first columns are `query`, arrays of one shape."""
    low, high = jnp.int32(0), params.offset[-1]
    for place, (column, value) in enumerate(zip(params.columns, query, strict=False)):
        if place == 0:
            low, high = params.offset[value], params.offset[value + 1]
        else:
            low, high = (
                _first_not_below(column, value, low, high),
                _first_not_below(column, value + 1, low, high),
            )
    return low, high - low


@jax.jit
def _first_not_below(column, value, low, high):
    """The first place in [low, high) whose entry is not below `value`, or high.

    The column ascends there.
    """

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        below = (low < high) & (column[jnp.minimum(middle, column.size - 1)] < value)
        return jnp.where(below, middle + 1, low), jnp.where(below, high, middle)

    return jax.lax.fori_loop(0, column.size.bit_length(), halve, (low, high))[0]


def _backed_off(params, context):
    """(start, count) of the transitions from the longest end of a context that has any.

    context: arrays, newest token first.
    """
    start, count = _find(params, context)
    for length in range(len(context) - 1, -1, -1):
        wider_start, wider_count = _find(params, context[:length])
        start, count = (
            jnp.where(count > 0, start, wider_start),
            jnp.where(count > 0, count, wider_count),
        )
    return start, count


def _begun(key, params, n):
    """Which block of the training set each of n new ones begins with, int32 [n]."""
    words = threefry2x32(*key_words(key), jnp.uint32(0), jnp.arange(n, dtype=jnp.uint32))
    return _choice(words, params.blocks)


def _generated(key, params, context, n, length, smoothing, chosen=False):
    """Tokens [n, length] that follow from contexts: order - 1 arrays [n], newest first.

    The bits of a token are told apart by its place.

    chosen: True gives the places of the chosen transitions in the place of their tokens; for a
        smoothing of 0.
    """
    key0, key1 = key_words(key)
    rows = jnp.arange(n, dtype=jnp.uint32)
    tokens = params.columns[-1]
    last = tokens.size - 1

    def words(place, stream=0):
        return threefry2x32(key0, key1, place.astype(jnp.uint32) | jnp.uint32(stream), rows)

    if len(params.columns) == 1 and smoothing == 0:
        place = jax.vmap(lambda place: _choice(words(place), params.offset[-1]))(
            1 + jnp.arange(length)
        )
        place = jnp.minimum(place, last)
        return (place if chosen else tokens[place]).T

    def likeliest(span, place):
        start, count = span
        taken = jnp.minimum(start + _choice(words(place), count), last)
        span = tuple(column[taken] for column in params.following)
        if len(context) == 2:
            # After a pair whose newer token was never followed: the one before the new token is not
            # the chosen transition's.
            dead, alone = count == params.offset[-1], _backed_off(params, [tokens[taken]])
            span = tuple(
                jnp.where(dead, short, own) for short, own in zip(alone, span, strict=True)
            )
        return span, taken if chosen else tokens[taken]

    def smoothed(context, place):
        start, count = (jnp.broadcast_to(part, (n,)) for part in _find(params, context))
        seen = tokens[jnp.minimum(start + _choice(words(place), count), last)]
        size = params.offset.size - 1
        share = jnp.where(count > 0, 1 / (1 + count / jnp.float32(smoothing * size)), 1)
        decision, which = words(place, _SMOOTHED)
        token = jnp.where(
            uniform(decision) < share,
            _choice((which, jnp.zeros_like(which)), jnp.int32(size)),
            seen,
        )
        return [token, *context][: len(context)], token

    step, carry = (
        (smoothed, list(context)) if smoothing > 0 else (likeliest, _backed_off(params, context))
    )
    return jax.lax.scan(step, carry, 1 + jnp.arange(length))[1].T


def _choice(words, count):
    """Uniform on 0 .. count - 1, int32."""
    return whole_below(words, count).astype(jnp.int32)


def _log_law(params, columns, smoothing):
    """Log-probability [N] of the last of `columns` [N] given the others."""
    count = _find(params, columns[:-1])[1]
    seen = _find(params, columns)[1]
    if smoothing > 0:
        size = params.offset.size - 1
        return jnp.log(seen + smoothing) - jnp.log(count + smoothing * size)
    own = jnp.log(seen) - jnp.log(jnp.maximum(count, 1))
    if len(columns) == 1:
        return own
    # A model of lower order over the same transitions: they must be sorted without the oldest
    # token.
    size = params.offset.size - 1
    *shorter, _, last = params.columns
    if not shorter:
        last = jnp.where(jnp.arange(last.size) < params.offset[-1], last, size)
    lower = _sorted_model([*shorter, last], size)
    return jnp.where(count > 0, own, _log_law(lower, [*columns[:-2], columns[-1]], smoothing))


def _counts(params):
    """How often each token [V] is in the training set, int32."""
    size = params.offset.size - 1
    counts = jnp.zeros(size, jnp.int32)
    predicted = [(params.columns[-1], params.offset[-1])]
    for column, filled in predicted + [(column, params.blocks) for column in params.starts]:
        token = jnp.where(jnp.arange(column.size) < filled, column, size)
        counts = counts.at[token].add(1, mode="drop")
    return counts


def probabilities(params: NGramParams) -> jax.Array:
    """Shares [V] of the tokens in the training set, summing to 1."""
    counts = _counts(params)
    return counts / jnp.maximum(jnp.sum(counts), 1).astype(jnp.result_type(float))


def vocabulary(params: NGramParams) -> jax.Array:
    """Number of distinct tokens [] in the training set, int32."""
    return jnp.sum(_counts(params) > 0, dtype=jnp.int32)


def distinct_ngrams(params: NGramParams) -> jax.Array:
    """Number of distinct transitions [] in the training set, int32."""
    new = jnp.arange(params.columns[0].size) == 0
    for column in params.columns:
        new = new | (column != jnp.roll(column, 1))
    return jnp.sum(new & (jnp.arange(new.size) < params.offset[-1]), dtype=jnp.int32)


def _mean(params):
    return discrete.mean(probabilities(params), jnp.arange(params.offset.size - 1))


def _variance(params):
    return discrete.variance(probabilities(params), jnp.arange(params.offset.size - 1))


METRICS = {
    "mean": _mean,
    "variance": _variance,
    "log_variance": lambda params: jnp.log(_variance(params)),
    "probabilities": probabilities,
    "vocabulary": vocabulary,
    "distinct_ngrams": distinct_ngrams,
    "entropy": lambda params: discrete.entropy(probabilities(params)),
    "heterozygosity": lambda params: discrete.heterozygosity(probabilities(params)),
}


def surviving_vocabulary(params: NGramParams, reference: NGramParams) -> jax.Array:
    """Share [] of the distinct tokens of the reference's training set that are in the model's."""
    known = _counts(reference) > 0
    return jnp.sum(known & (_counts(params) > 0)) / jnp.maximum(jnp.sum(known), 1)


def missing_mass(params: NGramParams, reference: NGramParams) -> jax.Array:
    """Share [] of the reference's training set made of tokens that the model has lost."""
    return jnp.sum(jnp.where(_counts(params) > 0, 0, probabilities(reference)))


def total_variation(params: NGramParams, reference: NGramParams) -> jax.Array:
    """Half the sum [] of the differences of the tokens' shares."""
    return jnp.sum(jnp.maximum(probabilities(params) - probabilities(reference), 0))


DISTANCES = {
    "surviving_vocabulary": surviving_vocabulary,
    "missing_mass": missing_mass,
    "total_variation": total_variation,
}
FAMILY = Family(ngram, example)
