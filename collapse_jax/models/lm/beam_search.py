"""Beam search whose key-value cache is never reordered.

All beams of a prompt share its keys and values, and a beam finds its own past by the slots of its
ancestors. Scores and endings follow `GenerationMixin.generate` of transformers 5.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.models.lm.token_scores import (
    best_words,
    ends_text,
    filled,
    prefill,
    token_scores,
)
from collapse_jax.models.lm.transformer import NEGATIVE, Transformer, capped, for_heads

# Steps between growths of the cache: few enough to save attention over empty slots, many enough to
# compile few bodies.
_SEGMENT = 16
# What transformers adds to the score of what must not be chosen.
_EXCLUDED = -1e9


class _Ended(NamedTuple):
    """The finished sequences of each prompt, best first."""

    history: jax.Array  # [batch, beams, new_tokens]
    scores: jax.Array  # [batch, beams], divided by length ** length_penalty
    exists: jax.Array  # bool [batch, beams], False for places that are still empty
    open: jax.Array  # bool [batch], False once no running beam can do better


class _Beams(NamedTuple):
    """The running beams of each prompt."""

    tokens: jax.Array  # [batch, beams], the newest token
    scores: jax.Array  # [batch, beams], summed log-probabilities
    ancestors: jax.Array  # [batch, beams, new_tokens], the slot that held each step of the past
    history: jax.Array  # [batch, beams, new_tokens], the tokens so far
    # Per layer [batch, key_heads, slots * beams, head_dim]: entry t * beams + b is what slot b
    # wrote at step t.
    keys: list
    values: list
    ended: _Ended | tuple[()]  # () if end-of-text is banned throughout


def beam_search(
    model: Transformer,
    decoder: Any,
    new_tokens: int,
    params: dict,
    prompts: jax.Array,
    mask: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The best continuation [batch, new_tokens] of each prompt of [batch, length].

    `pad_token_id` follows an end-of-text.

    Args:
        mask: bool [batch, length], False where a prompt is padded on the left; None if none is.

    Returns:
        The continuations, and bool [batch]: whether a score became nan, so that the continuation
        means nothing.
    """
    batch, length = prompts.shape
    beams, config = decoder.num_beams, model.switches
    state, prompt_caches = _first(model, decoder, new_tokens, params, prompts, mask)

    def step(slots, state, t):  # token number t, with `slots` steps in the cache
        hidden, keys, values = _extend(model, params, state, prompt_caches, mask, length, slots, t)
        logits: Any = model.apply({"params": params}, hidden, method="head")
        seen = jnp.concatenate(
            [jnp.broadcast_to(prompts[:, None], (batch, beams, length)), filled(state.history, t)],
            -1,
        )
        total = state.scores[..., None] + token_scores(
            config, decoder, jax.nn.log_softmax(logits), seen, t
        )
        ancestors = state.ancestors.at[:, :, t - 1].set(jnp.arange(beams))
        state = state._replace(ancestors=ancestors, keys=keys, values=values)
        return _chosen(config, decoder, new_tokens, state, total, t), None

    for start in range(1, new_tokens, _SEGMENT):
        stop = min(start + _SEGMENT, new_tokens)
        slots = stop - 1
        state = state._replace(
            keys=_grow(state.keys, slots * beams), values=_grow(state.values, slots * beams)
        )
        state, _ = jax.lax.scan(functools.partial(step, slots), state, jnp.arange(start, stop))
    # A nan is sorted before every number, and stays in the sum of a beam.
    is_nan = jnp.isnan(state.scores).any(axis=1)
    if state.ended:
        return state.ended.history[:, 0], is_nan
    best = jnp.argmax(state.scores, axis=1)
    return jnp.take_along_axis(state.history, best[:, None, None], axis=1)[:, 0], is_nan


def _first(model, decoder, new_tokens, params, prompts, mask):
    """The beams after the first new token, with empty caches; and the caches of the prompts."""
    batch, beams, config = len(prompts), decoder.num_beams, model.switches
    logits, prompt_caches = prefill(model, params, prompts, mask)
    history = jnp.full((batch, beams, new_tokens), config.pad_token_id, jnp.int32)
    empty = prompt_caches[0].key[:, :, :0]
    caches = [empty] * config.num_hidden_layers
    ended = ()
    if decoder.min_new_tokens is not None:
        excluded, exists = jnp.full((batch, beams), _EXCLUDED), jnp.zeros((batch, beams), bool)
        ended = _Ended(history, excluded, exists, jnp.ones(batch, bool))
    scores, ancestors = jnp.zeros((batch, beams)), jnp.zeros_like(history)
    state = _Beams(history[..., 0], scores, ancestors, history, caches, caches, ended)
    log_probs = token_scores(config, decoder, jax.nn.log_softmax(logits), prompts[:, None], 0)
    return _chosen(config, decoder, new_tokens, state, log_probs, 0), prompt_caches


def _chosen(config, decoder, new_tokens, state, total, t):
    """The state after token number t, from total scores [batch, parents, vocabulary]."""
    beams, words = decoder.num_beams, total.shape[-1]
    # Even if every end follows the same parent, enough candidates go on.
    kept = max(2, 1 + len(config.ends)) * beams if state.ended else beams
    # Candidates [batch, kept], numbered parent * words + word.
    scores, flat = _best_candidates(total.reshape(len(total), -1), kept)
    parent, tokens = flat // words, flat % words
    reorder = functools.partial(jnp.take_along_axis, indices=parent[..., None], axis=1)
    history, ancestors = reorder(state.history).at[:, :, t].set(tokens), reorder(state.ancestors)
    ended = state.ended
    if ended:
        ends = ends_text(config, tokens) | (t == new_tokens - 1)
        ended = _with_ended(decoder, ended, history, scores, ends & (jnp.arange(kept) < beams), t)
        scores, going_on = jax.lax.top_k(scores + ends * _EXCLUDED, beams)
        take = functools.partial(jnp.take_along_axis, indices=going_on[..., None], axis=1)
        tokens, history, ancestors = (
            jnp.take_along_axis(tokens, going_on, axis=1),
            take(history),
            take(ancestors),
        )
        ended = ended._replace(
            open=ended.open & _may_improve(decoder, new_tokens, ended, scores, t)
        )
    return state._replace(
        tokens=tokens, scores=scores, ancestors=ancestors, history=history, ended=ended
    )


def _best_candidates(total, kept):
    """Scores and numbers [batch, kept] of the best of [batch, n]; padded with -inf if n < kept."""
    count = min(kept, total.shape[-1])
    missing = ((0, 0), (0, kept - count))
    scores, flat = best_words(total, count)
    return jnp.pad(scores, missing, constant_values=-jnp.inf), jnp.pad(flat, missing)


def _with_ended(decoder, ended, history, scores, ending, t):
    """The best finished sequences: those before, and the candidates that end with token number t.

    history: [batch, kept, new_tokens]; scores, ending: [batch, kept].
    """
    scores = scores / (t + 1.0) ** decoder.length_penalty
    full = ended.exists.all(-1, keepdims=True) & (decoder.early_stopping is True)
    scores = scores + _EXCLUDED * (full.astype(scores.dtype) + ~ended.open[:, None] + ~ending)
    scores, order = jax.lax.top_k(jnp.concatenate([ended.scores, scores], 1), ended.scores.shape[1])
    exists = jnp.take_along_axis(jnp.concatenate([ended.exists, ending], 1), order, axis=1)
    history = jnp.take_along_axis(
        jnp.concatenate([ended.history, history], 1), order[..., None], axis=1
    )
    return _Ended(history, scores, exists, ended.open)


def _may_improve(decoder, new_tokens, ended, running, t):
    """Whether [batch] a running beam may still beat the worst finished one (transformers' rule).

    running: [batch, beams], scores of the running beams, best first.
    """
    length = (
        new_tokens if decoder.early_stopping == "never" and decoder.length_penalty > 0 else t + 1.0
    )
    possible = running[:, :1] / length**decoder.length_penalty
    worst = jnp.where(ended.exists, ended.scores.min(-1, keepdims=True), _EXCLUDED)
    return (possible > worst).any(-1)


def _extend(model, params, state, prompt_caches, mask, length, slots, t):
    """Hidden states [batch, beams, hidden_size] of the newest tokens, and the caches with them.

    The newest tokens stand at step t - 1.
    """
    batch, beams = state.tokens.shape
    # [batch, beams, slots]: the slot that holds each step of a beam's past.
    own_slot = jnp.where(
        jnp.arange(slots) == t - 1, jnp.arange(beams)[:, None], state.ancestors[:, :, :slots]
    )
    written = jnp.arange(slots) < t
    # [batch, 1, beams, slots * beams]: the cache entries that a beam sees.
    visible = (own_slot[..., None] == jnp.arange(beams)) & written[:, None]
    visible = visible.reshape(batch, 1, beams, slots * beams)
    keys, values, config = list(state.keys), list(state.values), model.switches
    # The position of what is written at each cache entry.
    entries = length + jnp.repeat(jnp.arange(slots), beams)
    product = functools.partial(
        jnp.einsum, precision=model.precision, preferred_element_type=jnp.float32
    )

    cap = config.attention_cap

    def attend_in(layer):
        window = config.window(layer)
        seen = visible if window is None else visible & (entries > length + t - 1 - window)
        seen = for_heads(seen, config)

        def attend(query, own):  # query: [batch, key_heads, beams of each query head, head_dim]
            at = (0, 0, (t - 1) * beams, 0)
            keys[layer] = jax.lax.dynamic_update_slice(keys[layer], own.key, at)
            values[layer] = jax.lax.dynamic_update_slice(values[layer], own.value, at)
            past = prompt_caches[layer]
            to_prompt = capped(product("bhqd,bhkd->bhqk", query, past.key), cap)
            if window is not None and window < length + slots:
                in_reach = jnp.arange(length) > length + t - 1 - window
                to_prompt = jnp.where(in_reach, to_prompt, NEGATIVE)
            if mask is not None:
                to_prompt = jnp.where(mask[:, None, None], to_prompt, NEGATIVE)
            to_own = capped(product("bhqd,bhkd->bhqk", query, keys[layer]), cap)
            to_own = jnp.where(seen, to_own, NEGATIVE)
            weights = jax.nn.softmax(jnp.concatenate([to_prompt, to_own], -1)).astype(query.dtype)
            mixed = product("bhqk,bhkd->bhqd", weights[..., :length], past.value)
            return (
                mixed + product("bhqk,bhkd->bhqd", weights[..., length:], values[layer])
            ).astype(query.dtype)

        return attend

    attends = [attend_in(layer) for layer in range(len(keys))]
    position = length + t - 1
    if mask is not None:
        position = position - jnp.sum(~mask, axis=1)
    hidden, _ = model.apply({"params": params}, state.tokens, position, attends, method="extend")
    return hidden, keys, values


def _grow(caches, entries):
    """Caches [batch, heads, entries, head_dim], with zeros behind what they hold."""
    return [
        jnp.pad(cache, ((0, 0), (0, 0), (0, entries - cache.shape[2]), (0, 0))) for cache in caches
    ]
