"""Log-probability and perplexity of held-out text under an n-gram model."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.types import State
from collapse_jax.errors import InputError, real
from collapse_jax.estimators.ngram.transitions import NGramParams, log_law, transitions


def log_prob(params: NGramParams, x: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Log-probability [n] in nats of blocks, each given its first order - 1 tokens.

    Args:
        params: the model.
        x: [n, block_length].
        smoothing: kappa, which need not be the one that the model samples with. With 0, what was
            never seen is -inf.
    """
    columns = transitions(x, len(params.columns))
    shape = columns[-1].shape
    return jnp.sum(
        log_law(params, [column.ravel() for column in columns], smoothing).reshape(shape), axis=1
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
