"""Unigram, bigram and trigram models of token blocks.

A maximum-likelihood n-gram is its training data, sorted by context.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core import points
from collapse_jax.core.data_checks import PointCheck, check_size_of_params, labels, starts_at_one
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, whole
from collapse_jax.estimators.ngram.held_out import checked_smoothing, log_prob
from collapse_jax.estimators.ngram.measures import DISTANCES, METRICS
from collapse_jax.estimators.ngram.sampling import begun, generated
from collapse_jax.estimators.ngram.transitions import NGramParams, fitted, log_law, transitions


@named
def ngram(
    order: Literal[1, 2, 3], vocabulary_size: int, block_length: int, smoothing: float = 0.0
) -> Estimator:
    """Unigram, bigram or trigram model of blocks of tokens.

    Points x are int32 [n, block_length]. A block is sampled as follows: its first order - 1 tokens
    are those of a uniformly chosen block of the training set; each further token is drawn given its
    order - 1 predecessors, by a uniform choice among the occurrences of that context. Transitions
    are counted within blocks, so the order of the blocks has no effect, and a workflow can pool or
    subsample training sets. To model a whole corpus as one stream (Suresh et al. 2024), give one
    block of its length. Blocks of a few hundred tokens are sampled in parallel; they differ from
    the stream because each block starts afresh. Memory is O(tokens): no table [V, V] is stored.

    `log_prob` is the log-probability of a block given its first order - 1 tokens; `continued` is
    the next block after each given one. Metrics of the training set: vocabulary (number of distinct
    tokens), distinct_ngrams (number of distinct transitions), probabilities [V] of tokens, and
    their entropy in nats and heterozygosity; mean, variance and log_variance of the token's number;
    conditional_entropy, nats per token of the training set under its own model. Distances:
    surviving_vocabulary (the share of the reference's distinct tokens that the model still has),
    missing_mass, total_variation (of the token probabilities), cross_entropy_model_to_real and
    cross_entropy_real_to_model (nats per token of the first's training set under the second; inf
    once a token of it is impossible).

    Args:
        order: 1 (unigram), 2 (bigram) or 3 (trigram).
        vocabulary_size: V, at least 1.
        block_length: tokens per block, at least the order.
        smoothing: kappa in p = (count + kappa) / (count of the context + kappa V). With kappa > 0 a
            context that was never seen has the uniform distribution. 0 is maximum likelihood; an
            unseen context (one that occurs only at the end of blocks, or only in a text that is
            scored) then backs off to a shorter one, a trigram to the bigram and a bigram to the
            unigram. With backing off a lost token never comes back; with the uniform distribution
            (the limit of small kappa) it could.

    Raises:
        InputError: if an argument is out of its range, or the blocks have another length.

    References:
        Suresh et al. 2024 (arXiv 2412.17646) for the setting; sampling from sorted occurrences is
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
        return fitted(data, self.order, self.vocabulary_size, self.smoothing), FitInfo.exact()

    def sample(self, key, params, n):
        check_size_of_params("tokens", params.offset.size - 1, self.vocabulary_size)
        first = [column[begun(key, params, n)] for column in params.starts]
        rest = self.block_length - len(first)
        tokens = generated(key, params, first[::-1], n, rest, self.smoothing)
        return jnp.concatenate([column[:, None] for column in first] + [tokens], axis=1)

    def copied(self, key, params, data, n):
        """The places [n, block_length] among all tokens of the training set, block by block."""
        # Numbered as `fitted` sorts them: places of transitions, in the order of their tokens.
        filled = jnp.nonzero(data.weight > 0, size=len(data.weight), fill_value=0)[0]
        length, order = self.block_length, self.order
        columns = transitions(data.x[filled], order)
        there = (jnp.arange(len(filled)) < params.blocks)[:, None]
        columns[0] = jnp.where(there, columns[0], self.vocabulary_size)
        place = filled[:, None] * length + jnp.arange(order - 1, length)
        flat = [column.ravel() for column in (*columns, place.astype(jnp.int32))]
        ordered = jax.lax.sort(tuple(flat), num_keys=order, is_stable=False)[-1]
        block = begun(key, params, n)
        first = [column[block] for column in params.starts]
        rest = length - len(first)
        chosen = generated(key, params, first[::-1], n, rest, 0.0, chosen=True)
        opening = filled[block][:, None] * length + jnp.arange(order - 1)
        return jnp.concatenate([opening.astype(jnp.int32), ordered[chosen]], axis=1)

    def continued(self, key, params, x):
        newest_first = [x[:, -1 - back] for back in range(self.order - 1)]
        return generated(key, params, newest_first, len(x), self.block_length, self.smoothing)

    def cross_entropy(self, params, reference):
        present = jnp.arange(params.columns[-1].size) < params.offset[-1]
        nats = -log_law(reference, params.columns, self.smoothing)
        return jnp.sum(jnp.where(present, nats, 0)) / jnp.maximum(params.offset[-1], 1)

    def log_prob(self, params, x):
        return log_prob(params, x, self.smoothing)


def example() -> tuple[Estimator, NGramParams]:
    """Returns (Estimator, params): a bigram over five tokens, fitted to six blocks of twelve."""
    sequence = np.array([0, 1, 2, 0, 1, 3, 0, 2, 4, 1, 0, 1, 2, 2, 3, 1, 0, 4], np.int32)
    return ngram(2, 5, 12), ngram_params(
        2, 5, np.stack([np.roll(sequence, shift)[:12] for shift in range(0, 18, 3)])
    )


def ngram_params(
    order: Literal[1, 2, 3], vocabulary_size: int, x: ArrayLike, smoothing: float = 0.0
) -> NGramParams:
    """Returns the model fitted to blocks x [n, block_length] of tokens 0 .. vocabulary_size - 1.

    Raises:
        InputError: for other tokens, for no blocks, and in the cases in which `ngram` raises it.
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


FAMILY = Family(ngram, example)
