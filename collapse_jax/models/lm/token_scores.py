"""Scores of the next token, as transformers' logits processors make them
(`GenerationMixin.generate`, transformers 5).
"""

import jax
import jax.numpy as jnp

# Vocabularies are searched in groups of this many words.
_GROUP = 128


def token_scores(config, decoder, logits, seen, t):
    """Scores [batch, beams, vocabulary] of new token number t: `seen` tokens [batch, beams, n]
    penalised, end-of-text banned while due.

    logits: [batch, beams, vocabulary], normalised or not, as the decoder wants them.
    """
    scores = logits
    if decoder.repetition_penalty != 1.0:
        picked = jnp.take_along_axis(scores, seen, -1)
        penalised = jnp.where(
            picked < 0, picked * decoder.repetition_penalty, picked / decoder.repetition_penalty
        )
        scores = jnp.put_along_axis(scores, seen, penalised, axis=-1, inplace=False)
    # A comparison and not a write: it is fused into whatever reads the scores.
    is_end = jnp.arange(scores.shape[-1]) == config.eos_token_id
    banned = True if decoder.min_new_tokens is None else t < decoder.min_new_tokens
    return jnp.where(is_end & banned, -jnp.inf, scores)


def filled(history, t):
    """The tokens written so far; the places still empty repeat the first one, which is seen anyway
    (none at t = 0).
    """
    if isinstance(t, int) and t == 0:
        return history[..., :0]
    return jnp.where(jnp.arange(history.shape[-1]) < t, history, history[..., :1])


def best_words(scores, count: int):
    """`jax.lax.top_k` over the last axis of [batch, words], without a sort of all words: (values,
    indices) [batch, count].

    The best words lie in the groups with the best maxima, ties included: an equal word of another
    group comes after them.
    """
    batch, words = scores.shape
    groups = words // _GROUP
    if groups <= 2 * count:
        return jax.lax.top_k(scores, count)
    whole, rest = (
        scores[:, : groups * _GROUP].reshape(batch, groups, _GROUP),
        scores[:, groups * _GROUP :],
    )
    chosen = jnp.sort(jax.lax.top_k(whole.max(-1), count)[1], axis=-1)
    index = jnp.concatenate(
        [
            (chosen[..., None] * _GROUP + jnp.arange(_GROUP)).reshape(batch, -1),
            jnp.broadcast_to(jnp.arange(groups * _GROUP, words), (batch, words - groups * _GROUP)),
        ],
        axis=-1,
    )
    candidates = jnp.concatenate(
        [jnp.take_along_axis(whole, chosen[..., None], axis=1).reshape(batch, -1), rest], axis=-1
    )
    values, places = jax.lax.top_k(candidates, count)
    return values, jnp.take_along_axis(index, places, axis=-1)


def truncate(logits, decoder):
    """Logits [..., vocabulary] after temperature, top-k and nucleus (top-p, Holtzman et al. 2020);
    what is cut becomes -inf.
    """
    logits = logits / decoder.temperature
    if decoder.top_k:
        kth = jax.lax.top_k(logits, min(decoder.top_k, logits.shape[-1]))[0][..., -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    if decoder.top_p < 1:
        order = jnp.argsort(-logits, axis=-1)
        probs = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
        outside = jnp.cumsum(probs, -1) - probs >= decoder.top_p
        cut = jnp.take_along_axis(outside, jnp.argsort(order, axis=-1), -1)
        logits = jnp.where(cut, -jnp.inf, logits)
    return logits


def prefill(model, params, prompts):
    """Logits [batch, 1, vocabulary] after the prompts [batch, length], and each layer's keys and
    values.
    """
    hidden, caches = model.apply({"params": params}, prompts, method="hidden")
    return model.apply({"params": params}, hidden[:, -1:], method="head"), caches
