"""Losses, perplexities and entropies of blocks of tokens under a model."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from collapse_jax.errors import InputError, whole
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.models.lm.vocabulary_loss import (
    losses_and_entropies,
    separate_losses,
    summed_loss,
)
from collapse_jax.runs.distributed import to_host
from collapse_jax.runs.session import Session


def perplexity(
    model: Transformer, params: dict, blocks: Any, *, batch_size: int = 64
) -> np.ndarray:
    """Perplexity of each block: exp of its mean negative log-likelihood per predicted token.

    Args:
        blocks: int [blocks, length >= 2]; the first token of a block is given.
        batch_size: Blocks at once; does not change the result.

    Returns:
        [blocks] (float64).

    Raises:
        InputError: If the blocks have another shape, ids outside the vocabulary, or batch_size is
            below 1.
    """
    return np.exp(mean_loss(model, params, blocks, batch_size=batch_size))


def mean_loss(
    model: Transformer,
    params: dict,
    blocks: Any,
    *,
    batch_size: int = 64,
    loss_from: int = 0,
    session: Session = Session(),
) -> np.ndarray:
    """Mean negative log-likelihood per predicted token of each block, in nats.

    Args:
        blocks: int [blocks, length >= 2]; the first token of a block is given.
        batch_size: Blocks at once; does not change the result.
        loss_from: First position that counts, below the length; the tokens before it are given.
        session: Devices and progress (stage "score").

    Returns:
        [blocks] (float64).

    Raises:
        InputError: If the blocks have another shape, ids outside the vocabulary, or batch_size is
            below 1.
    """
    blocks = check_blocks(model, blocks)
    whole("batch_size", batch_size, 1)
    if not len(blocks):
        return np.zeros(0, np.float64)
    (losses,) = in_batches(
        lambda params, rows: (_mean_loss(model, params, rows, loss_from),),
        params,
        (blocks,),
        batch_size,
        session,
    )
    return losses.astype(np.float64)


def mean_entropy(
    model: Transformer, params: dict, blocks: Any, *, batch_size: int = 64
) -> np.ndarray:
    """Entropy of the model's prediction of the next token, in nats: the mean over each block.

    The mean is over the length - 1 positions whose next token is in the block, those of the loss.

    Args:
        blocks: int [blocks, length >= 2].
        batch_size: Blocks at once; does not change the result.

    Returns:
        [blocks] (float64), each from 0 to log(vocabulary).

    Raises:
        InputError: If the parameters are not those of the model, or as in `mean_loss`.
    """
    check_params(model, params)
    return mean_loss_and_entropy(model, params, blocks, batch_size=batch_size)[1]


def mean_loss_and_entropy(
    model: Transformer,
    params: dict,
    blocks: Any,
    *,
    first: int = 1,
    batch_size: int = 64,
    session: Session = Session(),
) -> tuple[np.ndarray, np.ndarray]:
    """`mean_loss` and `mean_entropy` by one forward pass.

    Entropies come from the logits of the losses. That costs one more pass over them and no product:
    4 ns a logit on a CPU core, a twelfth of scoring OPT-125m.

    Args:
        blocks: int [blocks, length >= 2].
        first: The first token of each block that is predicted; those before it are a prompt.
        batch_size: Blocks at once; does not change the result.
        session: Devices and progress (stage "score").

    Returns:
        Losses and entropies, [blocks] each (float64). The losses are those of `mean_loss`, to the
        last bit.

    Raises:
        InputError: As in `mean_loss`, or if `first` is not from 1 to length - 1.
    """
    blocks = check_blocks(model, blocks)
    whole("batch_size", batch_size, 1)
    whole("first", first, 1, blocks.shape[1] - 1)
    if not len(blocks):
        return np.zeros(0, np.float64), np.zeros(0, np.float64)
    losses, entropies = in_batches(
        lambda params, rows: _mean_loss_and_entropy(model, first, params, rows),
        params,
        (blocks,),
        batch_size,
        session,
    )
    return losses.astype(np.float64), entropies.astype(np.float64)


def in_batches(
    program: Callable[..., tuple[jax.Array, ...]],
    params: dict,
    arrays: tuple[np.ndarray, ...],
    batch_size: int,
    session: Session = Session(),
) -> tuple[np.ndarray, ...]:
    """What a program gives for all rows of arrays, some at a time.

    Args:
        program: (params, *rows) -> arrays [batch, ...], of `batch_size` rows or of all. The last
            batch is filled up with its last row.
        params: Of the model.
        arrays: Each [rows >= 1, ...].
        batch_size: Rows at once.
        session: Devices and progress (stage "score", in entries of the first array).

    Returns:
        Arrays [rows, ...].
    """
    count, entries = len(arrays[0]), arrays[0].size
    size = min(batch_size, count)
    params = session.placement.place_parameters(params, size)
    parts = []
    for start in range(0, count, size):
        index = np.minimum(np.arange(start, start + size), count - 1)
        rows = [session.placement.place(array[index], size, 0) for array in arrays]
        parts.append([to_host(found)[: count - start] for found in program(params, *rows)])
        done = min(start + size, count)
        session.progress("score", done * (entries // count), entries)
    return tuple(np.concatenate(found) for found in zip(*parts, strict=True))


def token_losses(
    model: Transformer,
    params: dict,
    tokens: Int[Array, "batch length"],
    *,
    loss_from: int = 0,
    deterministic: bool = True,
    rngs: Any = None,
) -> Float[Array, "batch predicted"]:
    """Negative log-likelihood in nats of every token after the first.

    Logits of at most as many tokens as in training exist at once.

    Args:
        loss_from: First position whose token is predicted; 0 and 1 are all that can be.
    """
    first = max(loss_from, 1)
    hidden, _ = _hidden(model, params, tokens, deterministic, rngs)
    matrix, cap = model.head_matrix(params), model.switches.logit_cap
    states = hidden[:, first - 1 : -1]
    return separate_losses(states, matrix, tokens[:, first:], model.precision, cap)


def batch_loss(
    model: Transformer,
    params: dict,
    tokens: Int[Array, "batch length"],
    weights: Float[Array, " batch"],
    *,
    loss_from: int = 0,
    total_weight: Any = None,
    deterministic: bool = True,
    rngs: Any = None,
) -> Float[Array, ""]:
    """The mean of `token_losses` over tokens and weighted sequences; made for gradients.

    Args:
        total_weight: [], that of the batch of which this is a part: the parts' results then add up
            to the batch's.
    """
    first = max(loss_from, 1)
    hidden, _ = _hidden(model, params, tokens, deterministic, rngs)
    matrix = model.head_matrix(params)
    cap = model.switches.logit_cap
    states, targets = hidden[:, first - 1 : -1], tokens[:, first:]
    total: Any = summed_loss(states, matrix, targets, weights, model.precision, cap)
    weight = jnp.sum(weights) if total_weight is None else total_weight
    return total / (weight * (tokens.shape[1] - first))


def check_blocks(model: Transformer, blocks: Any) -> np.ndarray:
    """Blocks of tokens as int32 [blocks, length].

    Raises:
        InputError: If they are not integers [blocks, length >= 2], longer than the model's
            positions, or outside its vocabulary.
    """
    try:
        blocks = np.asarray(blocks)
    except ValueError:  # rows of different lengths
        raise InputError(
            f"blocks are {blocks!r:.200}, of different lengths; they must be integers [blocks, "
            "length >= 2]"
        ) from None
    if blocks.ndim != 2 or blocks.shape[1] < 2 or not np.issubdtype(blocks.dtype, np.integer):
        raise InputError(
            f"blocks have shape {blocks.shape} and type {blocks.dtype}; they must be "
            "integers [blocks, length >= 2]"
        )
    config = model.config
    if blocks.shape[1] > config.max_position_embeddings:
        raise InputError(
            f"blocks of {blocks.shape[1]} tokens exceed max_position_embeddings "
            f"{config.max_position_embeddings}"
        )
    if blocks.size and not (0 <= blocks.min() and blocks.max() < config.vocab_size):
        raise InputError(
            f"blocks contain ids {blocks.min()} to {blocks.max()}; the model's vocabulary is 0 to "
            f"{config.vocab_size - 1}"
        )
    return blocks.astype(np.int32)


def check_params(model: Transformer, params: Any) -> None:
    """Refuses parameters that are not those of the model.

    Raises:
        InputError: If one is missing, is not known, or has another shape; the text names it.
    """
    if not isinstance(params, Mapping):
        raise InputError(
            f"params is {type(params).__name__}; it must be the dict of parameters of the model"
        )
    of_model: Any = model
    expected, found = _shapes(of_model), _named_shapes(params)
    if set(found) == {f"params/{name}" for name in expected}:
        raise InputError("params contains everything under 'params'; give params['params']")
    for name in sorted(expected.keys() - found.keys()):
        raise InputError(f"params lacks {name!r}, which this model has")
    for name in sorted(found.keys() - expected.keys()):
        raise InputError(f"params has {name!r}, which this model does not have")
    for name, shape in expected.items():
        if found[name] != shape:
            raise InputError(
                f"params: {name!r} has shape {list(found[name])}; this model's has {list(shape)}"
            )


def _named_shapes(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(np.shape(leaf))
        for path, leaf in leaves
    }


@functools.lru_cache(8)
def _shapes(model):
    """Name -> shape of each parameter; nothing is computed."""
    tokens = jax.ShapeDtypeStruct((1, 2), np.int32)
    made: Any = jax.eval_shape(model.init, jax.random.key(0), tokens)
    return _named_shapes(made["params"])


def _hidden(model, params, tokens, deterministic, rngs) -> Any:
    return model.apply(
        {"params": params}, tokens, deterministic=deterministic, rngs=rngs, method="hidden"
    )


@functools.partial(jax.jit, static_argnums=(0, 3))
def _mean_loss(model, params, tokens, loss_from=0):
    return jnp.mean(token_losses(model, params, tokens, loss_from=loss_from), axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _mean_loss_and_entropy(model, first, params, tokens):
    hidden, _ = _hidden(model, params, tokens, True, None)
    matrix, cap = model.head_matrix(params), model.switches.logit_cap
    found = losses_and_entropies(
        hidden[:, first - 1 : -1], matrix, tokens[:, first:], model.precision, cap
    )
    return tuple(jnp.mean(array, axis=1) for array in found)
