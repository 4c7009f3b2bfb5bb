"""Scores of the next token, as transformers 5 makes them (`GenerationMixin.generate`)."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from collapse_jax.models.lm.switches import TransformerConfig
from collapse_jax.models.lm.transformer import KeyValue, Transformer

# Vocabularies are searched in groups of this many words.
_GROUP = 128


def token_scores(
    config: TransformerConfig,
    decoder: Any,
    logits: jax.Array,
    text: tuple[jax.Array, jax.Array, Any],
    t: Any,
) -> jax.Array:
    """Scores of new token number t: repetitions penalised, then what may not follow is banned.

    Args:
        config: The model's sizes and special tokens.
        decoder: A `Decoder`.
        logits: [batch, beams, vocabulary], normalised or not, as the decoder wants them.
        text: Prompts [batch, length], with tokens of the text where they are padded; the history
            [batch, beams, new_tokens]; and how many tokens of each prompt are padding, 0 or
            [batch].
        t: int [], from 0.

    Returns:
        [batch, beams, vocabulary].
    """
    prompts, history, padded = text
    scores, (batch, length) = logits, prompts.shape
    before = jnp.broadcast_to(prompts[:, None], (batch, logits.shape[1], length))
    seen = jnp.concatenate([before, filled(history, t)], -1)
    if decoder.repetition_penalty != 1.0:
        picked = jnp.take_along_axis(scores, seen, -1)
        penalised = jnp.where(
            picked < 0, picked * decoder.repetition_penalty, picked / decoder.repetition_penalty
        )
        scores = jnp.put_along_axis(scores, seen, penalised, axis=-1, inplace=False)
    if decoder.no_repeat_ngram_size:
        scores = _without_repeats(scores, decoder.no_repeat_ngram_size, seen, length + t, padded)
    # A comparison, not a write: it is fused into whatever reads the scores.
    is_end = ends_text(config, jnp.arange(scores.shape[-1]))
    banned = True if decoder.min_new_tokens is None else t < decoder.min_new_tokens
    return jnp.where(is_end & banned, -jnp.inf, scores)


def _without_repeats(scores, size, tokens, count, padded):
    """Scores, -inf for each word that would repeat an n-gram of the text before it.

    Args:
        scores: [batch, beams, vocabulary].
        size: Tokens of an n-gram.
        tokens: int [batch, beams, n], of which the first `count` are there.
        padded: int [] or [batch], how many of those are padding; no n-gram reaches into it.
    """
    starts = jnp.arange(tokens.shape[-1] - size + 1)
    if not len(starts):
        return scores
    # Shorter texts than size - 1 have no n-gram at all, so it does not matter what is cut there.
    newest = jax.lax.dynamic_slice_in_dim(tokens, jnp.maximum(count - size + 1, 0), size - 1, -1)
    repeats = (starts + size - 1 < count) & (starts >= jnp.reshape(padded, (-1, 1, 1)))
    repeats = jnp.broadcast_to(repeats, (*tokens.shape[:-1], len(starts)))
    for i in range(size - 1):
        repeats = repeats & (tokens[..., i : i + len(starts)] == newest[..., i : i + 1])
    # A word outside the vocabulary is dropped.
    words = jnp.where(repeats, tokens[..., size - 1 :], scores.shape[-1])
    rows = jnp.indices(words.shape, sparse=True)[:-1]
    return scores.at[(*rows, words)].set(-jnp.inf, mode="drop")


def ends_text(config: TransformerConfig, tokens: jax.Array) -> jax.Array:
    """Whether each token of an array ends a text."""
    is_end = tokens == config.ends[0]
    for end in config.ends[1:]:
        is_end = is_end | (tokens == end)
    return is_end


def filled(history: jax.Array, t: Any) -> jax.Array:
    """The first t tokens of [..., n]; later places repeat the first, which is seen anyway.

    Without any place if t is the int 0.
    """
    if isinstance(t, int) and t == 0:
        return history[..., :0]
    return jnp.where(jnp.arange(history.shape[-1]) < t, history, history[..., :1])


def best_words(scores: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """`jax.lax.top_k` over the last axis of [batch, words], without sorting all words.

    The best words lie in the groups with the best maxima. Ties agree too: among equal words, that
    of the earlier group comes first.

    Returns:
        Values and indices, [batch, count] each.
    """
    batch, words = scores.shape
    groups = words // _GROUP
    if groups <= 2 * count:
        return jax.lax.top_k(scores, count)
    cut = groups * _GROUP
    grouped, rest = scores[:, :cut].reshape(batch, groups, _GROUP), scores[:, cut:]
    chosen = jnp.sort(jax.lax.top_k(grouped.max(-1), count)[1], axis=-1)  # [batch, count] groups
    index = jnp.concatenate(
        [
            (chosen[..., None] * _GROUP + jnp.arange(_GROUP)).reshape(batch, -1),
            jnp.broadcast_to(jnp.arange(cut, words), (batch, words - cut)),
        ],
        axis=-1,
    )
    # [batch, count * _GROUP + rest], numbered by `index`.
    candidates = jnp.concatenate(
        [jnp.take_along_axis(grouped, chosen[..., None], axis=1).reshape(batch, -1), rest], axis=-1
    )
    values, places = jax.lax.top_k(candidates, count)
    return values, jnp.take_along_axis(index, places, axis=-1)


def truncate(logits: jax.Array, decoder: Any) -> jax.Array:
    """Logits [..., vocabulary] after temperature and every truncation; what is cut becomes -inf.

    The order is that of transformers: temperature, top-k, top-p, min-p, typical.

    References:
        Holtzman et al. 2020 (nucleus sampling), Nguyen et al. 2024 (min-p), Meister et al. 2023
        (locally typical sampling).
    """
    logits = logits / decoder.temperature
    if decoder.top_k:
        words = logits.shape[-1]
        kth = best_words(logits.reshape(-1, words), min(decoder.top_k, words))[0][:, -1]
        kth = kth.reshape(*logits.shape[:-1], 1)
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    if decoder.top_p < 1:
        order = jnp.argsort(-logits, axis=-1)
        probs = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
        outside = jnp.cumsum(probs, -1) - probs >= decoder.top_p
        # Written to where it came from: a second sort takes half of the time.
        cut = jnp.put_along_axis(outside, order, outside, axis=-1, inplace=False)
        logits = jnp.where(cut, -jnp.inf, logits)
    if decoder.min_p > 0:
        # A share of the largest probability is a distance below the largest logit.
        least = logits.max(-1, keepdims=True) + math.log(decoder.min_p)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if decoder.typical_p < 1:
        logits = _typical(logits, decoder.typical_p)
    return logits


def _typical(logits, mass):
    """Logits of the words whose information is nearest to the entropy; they hold the mass."""
    log_probs = jax.nn.log_softmax(logits)
    probs = jnp.exp(log_probs)
    information = -jnp.where(probs > 0, log_probs, 0)
    entropy = jnp.sum(probs * information, -1, keepdims=True)
    # A word that is cut already is as far as can be.
    distance = jnp.where(probs > 0, jnp.abs(information - entropy), jnp.inf)
    return jnp.where(distance > _least_that_holds(distance, probs, mass), -jnp.inf, logits)


def _least_that_holds(distance, probs, mass):
    """The least distance [..., 1] up to which words hold the mass.

    Found by halving the range of all floats, 31 times: a sort of the vocabulary takes many times as
    long on a CPU.
    """
    # Floats of at least 0 are ordered as their bits are.
    bits = jax.lax.bitcast_convert_type(distance.astype(jnp.float32), jnp.int32)

    def halve(_, ends):
        low, high = ends
        middle = low + (high - low) // 2
        held = jnp.sum(jnp.where(bits <= middle, probs, 0), -1, keepdims=True)
        return jnp.where(held >= mass, low, middle + 1), jnp.where(held >= mass, middle, high)

    low = jnp.zeros_like(bits[..., :1])
    everything = jax.lax.bitcast_convert_type(jnp.full(low.shape, jnp.inf, jnp.float32), jnp.int32)
    _, found = jax.lax.fori_loop(0, 31, halve, (low, everything))
    return jax.lax.bitcast_convert_type(found, jnp.float32)


def prefill(
    model: Transformer, params: dict, prompts: jax.Array, mask: jax.Array | None = None
) -> tuple[jax.Array, list[KeyValue]]:
    """Logits [batch, 1, vocabulary] after prompts [batch, length], and each layer's `KeyValue`.

    mask: bool [batch, length], False where padded on the left; None if nothing is.
    """
    applied: Any = model.apply({"params": params}, prompts, mask, method="hidden")
    hidden, caches = applied
    logits: Any = model.apply({"params": params}, hidden[:, -1:], method="head")
    return logits, caches
