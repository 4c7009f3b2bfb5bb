"""Continuations of token blocks: beam search, greedy and sampling, each one jitted function with a key-value cache.

End-of-text is banned, as `min_new_tokens = max_new_tokens` does in transformers, whose scores this file follows
(`GenerationMixin.generate`, transformers 5). All beams of a prompt share the prompt's keys and values; a beam finds its own
past by the slots of its ancestors, so that no cache is ever reordered.
"""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.lm.devices import place
from collapse_jax.lm.opt import NEGATIVE, OPT
from collapse_jax.workbench import Workbench, fingerprint, key_name

# Steps between growths of the attended cache: short enough to save attention over empty slots, long enough to compile few bodies.
_SEGMENT = 16
# What is generated goes to the workbench this often: a kill loses no more, and a run makes no more than some hundred small files.
_SAVE_SECONDS = 20.0


class BeamSearch(NamedTuple):
    """Deterministic beam search. repetition_penalty: 1 is none; prompt tokens count too (Keskar et al. 2019)."""

    num_beams: int = 5
    repetition_penalty: float = 1.0


class Greedy(NamedTuple):
    """The most probable token at each step."""

    repetition_penalty: float = 1.0


class Sampling(NamedTuple):
    """Ancestral sampling. top_k 0 and top_p 1 switch the truncations off; they follow the temperature, in this order."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


Decoder = BeamSearch | Greedy | Sampling


def generate(
    model: OPT,
    params: dict,
    prompts,
    decoder: Decoder = BeamSearch(),
    new_tokens: int = 64,
    *,
    key: jax.Array | None = None,
    batch_size: int = 64,
    progress=lambda done: None,
    workbench: Workbench = Workbench(),
) -> np.ndarray:
    """The new tokens [prompts, new_tokens] (int32) that follow each unpadded prompt of `prompts` [prompts, length].

    key: needed by `Sampling`; prompt i draws from `fold_in(key, i)`, whatever the batch size.
    progress: called with the number of prompts done after each batch.
    workbench: keeps what is generated every 20 seconds; called again, with the same key, this goes on from there. The key must then
    be this draw's own. The batch is spread over all devices where their number divides it.
    Raises `InputError` for an empty or ill-typed batch, token ids outside the vocabulary, too many positions, a missing key.
    """
    prompts = np.asarray(prompts)
    _check_generate(model, prompts, decoder, new_tokens, key, batch_size)
    if not len(prompts):
        return np.zeros((0, new_tokens), np.int32)
    key = jax.random.key(0) if key is None else key
    batch_size = min(batch_size, len(prompts))
    params = place(params, batch_size)
    tokens, saved = np.zeros((len(prompts), new_tokens), np.int32), 0
    name, made_of = f"tokens-{key_name(key)}", fingerprint(model, decoder, new_tokens, prompts)
    while saved < len(prompts) and (piece := workbench.load(f"{name}-{saved}", made_of)) is not None:
        stop = saved + len(piece["tokens"])
        tokens[saved:stop], saved = piece["tokens"], stop
        progress(stop)
    since = time.monotonic()
    for start in range(saved, len(prompts), batch_size):
        index = np.minimum(np.arange(start, start + batch_size), len(prompts) - 1)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
        batch, keys = place((jnp.asarray(prompts[index], jnp.int32), keys), batch_size, 0)
        stop = min(start + batch_size, len(prompts))
        tokens[start:stop] = np.asarray(_generate_batch(model, decoder, new_tokens, params, batch, keys))[: stop - start]
        if stop == len(prompts) or time.monotonic() - since >= _SAVE_SECONDS:
            workbench.save(f"{name}-{saved}", made_of, {"tokens": tokens[saved:stop]})
            saved, since = stop, time.monotonic()
        progress(stop)
    return tokens


def check_decoder(decoder: Decoder) -> None:
    """Raises `InputError` for a setting of a decoder that has no meaning."""
    if not decoder.repetition_penalty > 0:
        raise InputError(f"repetition_penalty is {decoder.repetition_penalty}; it must be above 0 (1 is none)")
    if isinstance(decoder, BeamSearch) and decoder.num_beams < 1:
        raise InputError(f"num_beams is {decoder.num_beams}; it must be at least 1")
    if isinstance(decoder, Sampling):
        if not decoder.temperature > 0:
            raise InputError(f"temperature is {decoder.temperature}; it must be above 0 (use Greedy for the limit)")
        if decoder.top_k < 0:
            raise InputError(f"top_k is {decoder.top_k}; it must be 0 (off) or positive")
        if not 0 < decoder.top_p <= 1:
            raise InputError(f"top_p is {decoder.top_p}; it must be in (0, 1]")


def _check_generate(model, prompts, decoder, new_tokens, key, batch_size):
    check_decoder(decoder)
    config = model.config
    if prompts.ndim != 2 or not np.issubdtype(prompts.dtype, np.integer) or prompts.shape[1] < 1:
        raise InputError(f"prompts have shape {prompts.shape} and type {prompts.dtype}; they must be integers [prompts, length >= 1]")
    if prompts.size and not (0 <= prompts.min() and prompts.max() < config.vocab_size):
        raise InputError(f"prompts hold ids {prompts.min()} to {prompts.max()}; the model's vocabulary is 0 to {config.vocab_size - 1}")
    if new_tokens < 1 or batch_size < 1:
        raise InputError(f"new_tokens is {new_tokens} and batch_size {batch_size}; both must be at least 1")
    if prompts.shape[1] + new_tokens > config.max_position_embeddings:
        raise InputError(
            f"{prompts.shape[1]} prompt tokens and {new_tokens} new ones exceed max_position_embeddings {config.max_position_embeddings}"
        )
    if isinstance(decoder, Sampling) and key is None:
        raise InputError("Sampling needs a key: pass key=jax.random.key(...)")


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate_batch(model, decoder, new_tokens, params, prompts, keys):
    if isinstance(decoder, BeamSearch):
        return _beam_search(model, decoder, new_tokens, params, prompts)
    return _one_beam(model, decoder, new_tokens, params, prompts, keys)


class _Beams(NamedTuple):
    """State of a beam search after some steps.

    tokens: [batch, beams] the newest token of each beam. scores: [batch, beams] summed log-probabilities.
    ancestors: [batch, beams, new_tokens] the slot that held each step of the beam's past.
    history: [batch, beams, new_tokens] the beam's tokens so far. keys, values: per layer [batch, heads, slots, head_dim].
    """

    tokens: jax.Array
    scores: jax.Array
    ancestors: jax.Array
    history: jax.Array
    keys: list
    values: list


def _beam_search(model, decoder, new_tokens, params, prompts):
    batch, length = prompts.shape
    beams = decoder.num_beams
    logits, prompt_caches = _prefill(model, params, prompts)
    log_probs = _scores(model.config, decoder, logits, prompts[:, None], jax.nn.log_softmax)[:, 0]
    first = min(beams, log_probs.shape[-1])
    no_beam = ((0, 0), (0, beams - first))  # more beams than words: the rest wait at -inf
    scores, tokens = (jnp.pad(a, no_beam, constant_values=c) for a, c in zip(jax.lax.top_k(log_probs, first), (-jnp.inf, 0), strict=True))
    history = jnp.zeros((batch, beams, new_tokens), jnp.int32).at[:, :, 0].set(tokens)
    empty = jnp.zeros((batch, model.config.num_attention_heads, 0, model.config.head_dim), logits.dtype)
    layers = model.config.num_hidden_layers
    state = _Beams(tokens, scores, jnp.zeros_like(history), history, [empty] * layers, [empty] * layers)

    def step(slots, state, t):
        hidden, keys, values = _extend(model, params, state, prompt_caches, length, slots, t)
        logits = model.apply({"params": params}, hidden, method="head")
        seen = jnp.concatenate([jnp.broadcast_to(prompts[:, None], (batch, beams, length)), _filled(state.history, t)], -1)
        total = state.scores[..., None] + _scores(model.config, decoder, logits, seen, jax.nn.log_softmax)
        scores, flat = jax.lax.top_k(total.reshape(batch, -1), beams)
        parent, tokens = flat // total.shape[-1], flat % total.shape[-1]
        ancestors = state.ancestors.at[:, :, t - 1].set(jnp.arange(beams))
        reorder = functools.partial(jnp.take_along_axis, indices=parent[..., None], axis=1)
        history = reorder(state.history).at[:, :, t].set(tokens)
        return _Beams(tokens, scores, reorder(ancestors), history, keys, values), None

    for start in range(1, new_tokens, _SEGMENT):
        stop = min(start + _SEGMENT, new_tokens)
        slots = stop - 1
        state = state._replace(keys=_grow(state.keys, slots * beams), values=_grow(state.values, slots * beams))
        state, _ = jax.lax.scan(functools.partial(step, slots), state, jnp.arange(start, stop))
    best = jnp.argmax(state.scores, axis=1)
    return jnp.take_along_axis(state.history, best[:, None, None], axis=1)[:, 0]


def _extend(model, params, state, prompt_caches, length, slots, t):
    """Hidden states of the newest tokens, which stand at step t - 1, and the caches with their keys and values written in."""
    batch, beams = state.tokens.shape
    own_slot = jnp.where(jnp.arange(slots) == t - 1, jnp.arange(beams)[:, None], state.ancestors[:, :, :slots])
    written = jnp.arange(slots) < t
    visible = (own_slot[..., None] == jnp.arange(beams)) & written[:, None]
    visible = visible.reshape(batch, 1, beams, slots * beams)
    keys, values = list(state.keys), list(state.values)

    def attend_in(layer):
        def attend(query, own):
            at = (0, 0, (t - 1) * beams, 0)
            keys[layer] = jax.lax.dynamic_update_slice(keys[layer], own.key, at)
            values[layer] = jax.lax.dynamic_update_slice(values[layer], own.value, at)
            past = prompt_caches[layer]
            to_prompt = jnp.einsum("bhqd,bhkd->bhqk", query, past.key)
            to_own = jnp.where(visible, jnp.einsum("bhqd,bhkd->bhqk", query, keys[layer]), NEGATIVE)
            weights = jax.nn.softmax(jnp.concatenate([to_prompt, to_own], -1).astype(jnp.float32)).astype(query.dtype)
            mixed = jnp.einsum("bhqk,bhkd->bhqd", weights[..., :length], past.value)
            return mixed + jnp.einsum("bhqk,bhkd->bhqd", weights[..., length:], values[layer])

        return attend

    attends = [attend_in(layer) for layer in range(len(keys))]
    hidden, _ = model.apply({"params": params}, state.tokens, length + t - 1, attends, method="extend")
    return hidden, keys, values


def _one_beam(model, decoder, new_tokens, params, prompts, keys):
    """Greedy and sampling: one sequence a prompt, whose cache is simply appended to."""
    batch, length = prompts.shape
    logits, caches = _prefill(model, params, prompts)
    history = jnp.zeros((batch, 1, new_tokens), jnp.int32)
    pad = ((0, 0), (0, 0), (0, new_tokens), (0, 0))
    caches = [tuple(jnp.pad(array, pad) for array in layer) for layer in caches]

    def choose(logits, history, t):
        seen = jnp.concatenate([prompts[:, None], _filled(history, t)], -1)
        scores = _scores(model.config, decoder, logits, seen, lambda x: x)[:, 0]
        if isinstance(decoder, Greedy):
            return jnp.argmax(scores, -1)
        scores = truncate(scores, decoder)
        return jax.vmap(lambda key, s: jax.random.categorical(jax.random.fold_in(key, t), s))(keys, scores)

    def step(carry, t):
        history, caches = carry
        written = jnp.arange(length + new_tokens) < length + t
        caches = list(caches)

        def attend_in(layer):
            def attend(query, own):
                at = (0, 0, length + t - 1, 0)
                past = tuple(jax.lax.dynamic_update_slice(a, b, at) for a, b in zip(caches[layer], own, strict=True))
                caches[layer] = past
                scores = jnp.where(written, jnp.einsum("bhqd,bhkd->bhqk", query, past[0]), NEGATIVE)
                return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores.astype(jnp.float32)).astype(query.dtype), past[1])

            return attend

        newest = jax.lax.dynamic_index_in_dim(history, t - 1, 2, keepdims=False)
        attends = [attend_in(layer) for layer in range(len(caches))]
        hidden, _ = model.apply({"params": params}, newest, length + t - 1, attends, method="extend")
        tokens = choose(model.apply({"params": params}, hidden, method="head"), history, t)
        return (history.at[:, 0, t].set(tokens), caches), None

    history = history.at[:, 0, 0].set(choose(logits, history, 0))
    (history, _), _ = jax.lax.scan(step, (history, caches), jnp.arange(1, new_tokens))
    return history[:, 0]


def truncate(logits, decoder: Sampling):
    """Logits [..., vocabulary] after temperature, top-k and nucleus (top-p, Holtzman et al. 2020); what is cut becomes -inf."""
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


def _prefill(model, params, prompts):
    """Logits [batch, 1, vocabulary] after the prompts, and each layer's keys and values."""
    hidden, caches = model.apply({"params": params}, prompts, method="hidden")
    return model.apply({"params": params}, hidden[:, -1:], method="head"), caches


def _scores(config, decoder, logits, seen, normalise):
    """Scores [batch, beams, vocabulary]: normalised, `seen` tokens [batch, beams, n] penalised, end-of-text banned."""
    scores = normalise(logits.astype(jnp.float32))
    if decoder.repetition_penalty != 1.0:
        picked = jnp.take_along_axis(scores, seen, -1)
        penalised = jnp.where(picked < 0, picked * decoder.repetition_penalty, picked / decoder.repetition_penalty)
        scores = jnp.put_along_axis(scores, seen, penalised, axis=-1, inplace=False)
    return scores.at[..., config.eos_token_id].set(-jnp.inf)


def _filled(history, t):
    """The tokens written so far; the places still empty repeat the first one, which is seen anyway (none at t = 0)."""
    if isinstance(t, int) and t == 0:
        return history[..., :0]
    return jnp.where(jnp.arange(history.shape[-1]) < t, history, history[..., :1])


def _grow(caches, slots):
    return [jnp.pad(cache, ((0, 0), (0, 0), (0, slots - cache.shape[2]), (0, 0))) for cache in caches]
