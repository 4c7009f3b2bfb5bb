"""Continuations of token blocks: beam search, greedy and sampling, each one jitted function with a
key-value cache.
"""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.models.lm.beam_search import beam_search
from collapse_jax.models.lm.decode_batch import prompts_at_once
from collapse_jax.models.lm.devices import Placement
from collapse_jax.models.lm.opt import NEGATIVE, OPT
from collapse_jax.models.lm.token_scores import filled, prefill, token_scores, truncate
from collapse_jax.runs.distributed import largest, to_host
from collapse_jax.runs.scratch import Scratch, fingerprint, key_name

# What is generated goes to the scratch this often: a kill loses no more, and a run makes no more
# than some hundred small files.
_SAVE_SECONDS = 20.0


class BeamSearch(NamedTuple):
    """Deterministic beam search.

    repetition_penalty: 1 is none; prompt tokens count too (Keskar et al. 2019). min_new_tokens:
    end-of-text is banned before so many
    new tokens; None bans it throughout. Where sequences may end, their scores are divided by length
    ** length_penalty, and
    early_stopping (True, False or "never") says when no better one is waited for, all as in
    transformers.
    """

    num_beams: int = 5
    repetition_penalty: float = 1.0
    min_new_tokens: int | None = None
    length_penalty: float = 1.0
    early_stopping: bool | str = False


class Greedy(NamedTuple):
    """The most probable token at each step."""

    repetition_penalty: float = 1.0
    min_new_tokens: int | None = None


class Sampling(NamedTuple):
    """Ancestral sampling. top_k 0 and top_p 1 switch the truncations off; they follow the
    temperature, in this order.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int | None = None


Decoder = BeamSearch | Greedy | Sampling


def generate(
    model: OPT,
    params: dict,
    prompts,
    decoder: Decoder = BeamSearch(),
    new_tokens: int = 64,
    *,
    key: jax.Array | None = None,
    batch_size: int | None = None,
    progress=lambda done: None,
    scratch: Scratch = Scratch(),
    placement: Placement = Placement(),
) -> np.ndarray:
    """The new tokens [prompts, new_tokens] (int32) that follow each unpadded prompt of `prompts`
    [prompts, length].

    Where the decoder allows an end-of-text, the places after it hold the padding token.
    key: needed by `Sampling`; prompt i draws from `fold_in(key, i)`, whatever the batch size.
    batch_size: prompts decoded at once; None leaves it to `prompts_at_once`.
    progress: called with the number of prompts done after each batch.
    scratch: keeps what is generated every 20 seconds; called again, with the same key, this goes on
    from there. The key must then
    be this draw's own. placement: the devices that share each batch where their number divides it.
    Raises `InputError` for an empty or ill-typed batch, token ids outside the vocabulary, too many
    positions, a missing key.
    """
    prompts = np.asarray(prompts)
    _check_generate(model, prompts, decoder, new_tokens, key, batch_size)
    if not len(prompts):
        return np.zeros((0, new_tokens), np.int32)
    key = jax.random.key(0) if key is None else key
    if batch_size is None:
        batch_size = prompts_at_once(
            model, decoder, prompts.shape[1], new_tokens, len(prompts), placement
        )
    else:
        batch_size = min(batch_size, len(prompts))
    params = placement.place_parameters(params, batch_size)
    tokens, saved = np.zeros((len(prompts), new_tokens), np.int32), 0
    name, made_of = f"tokens-{key_name(key)}", fingerprint(model, decoder, new_tokens, prompts)
    while saved < len(prompts) and (piece := scratch.load(f"{name}-{saved}", made_of)) is not None:
        stop = saved + len(piece["tokens"])
        tokens[saved:stop], saved = piece["tokens"], stop
        progress(stop)
    since = time.monotonic()
    for start in range(saved, len(prompts), batch_size):
        index = np.minimum(np.arange(start, start + batch_size), len(prompts) - 1)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
        batch, keys = placement.place((prompts[index].astype(np.int32), keys), batch_size, 0)
        stop = min(start + batch_size, len(prompts))
        tokens[start:stop] = to_host(
            _generate_batch(model, decoder, new_tokens, params, batch, keys)
        )[: stop - start]
        if stop == len(prompts) or largest(time.monotonic() - since >= _SAVE_SECONDS):
            scratch.save(f"{name}-{saved}", made_of, {"tokens": tokens[saved:stop]})
            saved, since = stop, time.monotonic()
        progress(stop)
    return tokens


def check_decoder(decoder: Decoder) -> None:
    """Raises `InputError` for a setting of a decoder that has no meaning."""
    if not 0 < decoder.repetition_penalty < np.inf:
        raise InputError(
            f"repetition_penalty is {decoder.repetition_penalty}; it must be finite and "
            "above 0 (1 is none)"
        )
    if decoder.min_new_tokens is not None and decoder.min_new_tokens < 0:
        raise InputError(
            f"min_new_tokens is {decoder.min_new_tokens}; it must be 0 or more, or None "
            "(no end at all)"
        )
    if isinstance(decoder, BeamSearch):
        if decoder.num_beams < 1:
            raise InputError(f"num_beams is {decoder.num_beams}; it must be at least 1")
        if decoder.early_stopping not in (True, False, "never"):
            raise InputError(
                f"early_stopping is {decoder.early_stopping!r}; it must be True, False or 'never'"
            )
    if isinstance(decoder, Sampling):
        if not 0 < decoder.temperature < np.inf:
            raise InputError(
                f"temperature is {decoder.temperature}; it must be finite and above 0 (use "
                "Greedy for the limit)"
            )
        if decoder.top_k < 0:
            raise InputError(f"top_k is {decoder.top_k}; it must be 0 (off) or positive")
        if not 0 < decoder.top_p <= 1:
            raise InputError(f"top_p is {decoder.top_p}; it must be in (0, 1]")


def _check_generate(model, prompts, decoder, new_tokens, key, batch_size):
    check_decoder(decoder)
    config = model.config
    if prompts.ndim != 2 or not np.issubdtype(prompts.dtype, np.integer) or prompts.shape[1] < 1:
        raise InputError(
            f"prompts have shape {prompts.shape} and type {prompts.dtype}; they must be "
            "integers [prompts, length >= 1]"
        )
    if prompts.size and not (0 <= prompts.min() and prompts.max() < config.vocab_size):
        raise InputError(
            f"prompts hold ids {prompts.min()} to {prompts.max()}; the model's vocabulary "
            f"is 0 to {config.vocab_size - 1}"
        )
    if new_tokens < 1 or (batch_size is not None and batch_size < 1):
        raise InputError(
            f"new_tokens is {new_tokens} and batch_size {batch_size}; both must be at least 1"
        )
    if prompts.shape[1] + new_tokens > config.max_position_embeddings:
        raise InputError(
            f"{prompts.shape[1]} prompt tokens and {new_tokens} new ones exceed "
            f"max_position_embeddings {config.max_position_embeddings}"
        )
    if isinstance(decoder, Sampling) and key is None:
        raise InputError("Sampling needs a key: pass key=jax.random.key(...)")


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate_batch(model, decoder, new_tokens, params, prompts, keys):
    if isinstance(decoder, BeamSearch):
        return beam_search(model, decoder, new_tokens, params, prompts)
    return _one_beam(model, decoder, new_tokens, params, prompts, keys)


def _one_beam(model, decoder, new_tokens, params, prompts, keys):
    """Greedy and sampling: one sequence a prompt, whose cache is simply appended to."""
    batch, length = prompts.shape
    product = functools.partial(
        jnp.einsum, precision=model.precision, preferred_element_type=jnp.float32
    )
    logits, caches = prefill(model, params, prompts)
    history = jnp.zeros((batch, 1, new_tokens), jnp.int32)
    pad = ((0, 0), (0, 0), (0, new_tokens), (0, 0))
    caches = [tuple(jnp.pad(array, pad) for array in layer) for layer in caches]

    def choose(logits, history, t):
        seen = jnp.concatenate([prompts[:, None], filled(history, t)], -1)
        scores = token_scores(model.config, decoder, logits, seen, t)[:, 0]
        if isinstance(decoder, Greedy):
            tokens = jnp.argmax(scores, -1)
        else:
            scores = truncate(scores, decoder)
            tokens = jax.vmap(lambda key, s: jax.random.categorical(jax.random.fold_in(key, t), s))(
                keys, scores
            )
        if decoder.min_new_tokens is None:
            return tokens
        ended = ((history[:, 0] == model.config.eos_token_id) & (jnp.arange(new_tokens) < t)).any(
            -1
        )
        return jnp.where(ended, model.config.pad_token_id, tokens)

    def step(carry, t):
        history, caches = carry
        written = jnp.arange(length + new_tokens) < length + t
        caches = list(caches)

        def attend_in(layer):
            def attend(query, own):
                at = (0, 0, length + t - 1, 0)
                past = tuple(
                    jax.lax.dynamic_update_slice(a, b, at)
                    for a, b in zip(caches[layer], own, strict=True)
                )
                caches[layer] = past
                scores = jnp.where(written, product("bhqd,bhkd->bhqk", query, past[0]), NEGATIVE)
                return product(
                    "bhqk,bhkd->bhqd", jax.nn.softmax(scores).astype(query.dtype), past[1]
                ).astype(query.dtype)

            return attend

        newest = jax.lax.dynamic_index_in_dim(history, t - 1, 2, keepdims=False)
        attends = [attend_in(layer) for layer in range(len(caches))]
        hidden, _ = model.apply(
            {"params": params}, newest, length + t - 1, attends, method="extend"
        )
        tokens = choose(model.apply({"params": params}, hidden, method="head"), history, t)
        return (history.at[:, 0, t].set(tokens), caches), None

    history = history.at[:, 0, 0].set(choose(logits, history, 0))
    (history, _), _ = jax.lax.scan(step, (history, caches), jnp.arange(1, new_tokens))
    return history[:, 0]
