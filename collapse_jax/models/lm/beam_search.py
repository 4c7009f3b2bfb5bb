"""Beam search whose key-value cache is never reordered.

All beams of a prompt share its keys and values, and a beam finds its own past by the slots of its
ancestors. `beam_step` says which beams go on.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from collapse_jax.models.lm.beam_step import EXCLUDED, Beams, Ended, Step, best_of, next_beams
from collapse_jax.models.lm.stops import Stops
from collapse_jax.models.lm.token_scores import prefill
from collapse_jax.models.lm.transformer import NEGATIVE, Transformer, capped, for_heads

# Steps between growths of the cache: few enough to save attention over empty slots, many enough to
# compile few bodies.
_SEGMENT = 16


def beam_search(
    model: Transformer,
    decoder: Any,
    new_tokens: int,
    params: dict,
    prompts: jax.Array,
    mask: jax.Array | None = None,
    stops: Stops | None = None,
    returned: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The best continuation [batch, new_tokens] of each prompt of [batch, length].

    `pad_token_id` follows what ends a text.

    Args:
        mask: bool [batch, length], False where a prompt is padded on the left; None if none is.
        stops: What ends a text besides the model's own ends.
        returned: How many continuations of each prompt, best first; None is one.

    Returns:
        The continuations ([batch, returned, new_tokens] where `returned` is given), and bool
        [batch]: whether a score became nan, so that the continuation is meaningless.
    """
    length, beams = prompts.shape[1], decoder.num_beams
    step = Step(model.switches, decoder, new_tokens, stops)
    padded = 0 if mask is None else jnp.sum(~mask, axis=1)
    state, prompt_caches = _first(model, step, params, prompts, mask, padded)

    def one(slots, state, t):  # token number t, with `slots` steps in the cache
        hidden, keys, values = _extend(model, params, state, prompt_caches, mask, length, slots, t)
        logits: Any = model.apply({"params": params}, hidden, method="head")
        ancestors = state.ancestors.at[:, :, t - 1].set(jnp.arange(beams))
        state = state._replace(ancestors=ancestors, keys=keys, values=values)
        return next_beams(step, state, jax.nn.log_softmax(logits), prompts, padded, t), None

    for start in range(1, new_tokens, _SEGMENT):
        stop = min(start + _SEGMENT, new_tokens)
        slots = stop - 1
        state = state._replace(
            keys=_grow(state.keys, slots * beams), values=_grow(state.values, slots * beams)
        )
        state, _ = jax.lax.scan(functools.partial(one, slots), state, jnp.arange(start, stop))
    return best_of(step, state, returned)


def _first(model, step, params, prompts, mask, padded):
    """The beams after the first new token, with empty caches; and the caches of the prompts."""
    config, decoder, new_tokens, stops = step
    batch, beams = len(prompts), decoder.num_beams
    logits, prompt_caches = prefill(model, params, prompts, mask)
    history = jnp.full((batch, beams, new_tokens), config.pad_token_id, jnp.int32)
    empty = prompt_caches[0].key[:, :, :0]
    caches = [empty] * config.num_hidden_layers
    ended, read = (), ()
    if decoder.min_new_tokens is not None or stops is not None:
        excluded, exists = jnp.full((batch, beams), EXCLUDED), jnp.zeros((batch, beams), bool)
        is_open = jnp.ones((batch, decoder.num_beam_groups), bool)
        ended = Ended(history, excluded, exists, is_open)
    if stops is not None:
        read = jnp.broadcast_to(stops.read[:, None], (batch, beams))
    scores, ancestors = jnp.zeros((batch, beams)), jnp.zeros_like(history)
    state = Beams(history[..., 0], scores, ancestors, history, caches, caches, ended, read)
    log_probs = jax.nn.log_softmax(logits)
    return next_beams(step, state, log_probs, prompts, padded, 0), prompt_caches


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
