"""Continuations of token blocks: beam search, greedy and sampling, each a jitted function."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError, one_of, real, whole
from collapse_jax.models.lm.beam_search import beam_search
from collapse_jax.models.lm.decode_batch import prompts_at_once
from collapse_jax.models.lm.draws import best_word, random_word
from collapse_jax.models.lm.prompts import checked_prompts, refuse_bad_scores
from collapse_jax.models.lm.token_scores import ends_text, filled, prefill, token_scores, truncate
from collapse_jax.models.lm.transformer import NEGATIVE, Transformer, capped
from collapse_jax.runs.distributed import largest, to_host
from collapse_jax.runs.scratch import fingerprint, key_name
from collapse_jax.runs.session import Session

# Seconds between saves to the scratch: a kill loses no more, and a run writes some hundred small
# files at most.
_SAVE_SECONDS = 20.0


class BeamSearch(NamedTuple):
    """Deterministic beam search; all fields mean what they mean in transformers.

    num_beams: sequences kept at each step.
    repetition_penalty: 1 is none; tokens of the prompt count too (Keskar et al. 2019).
    min_new_tokens: end-of-text is banned before so many new tokens; None bans it throughout.
    length_penalty: the score of a finished sequence is divided by length ** length_penalty.
    early_stopping: True, False or "never": when no better finished sequence is waited for.
    """

    num_beams: int = 5
    repetition_penalty: float = 1.0
    min_new_tokens: int | None = None
    length_penalty: float = 1.0
    early_stopping: bool | str = False


class Greedy(NamedTuple):
    """The most probable token at each step; fields as in `BeamSearch`."""

    repetition_penalty: float = 1.0
    min_new_tokens: int | None = None


class Sampling(NamedTuple):
    """Ancestral sampling; other fields as in `BeamSearch`.

    temperature: divides the logits, before both truncations.
    top_k: from the k most probable tokens only; 0 is off.
    top_p: nucleus sampling, after top_k; 1 is off.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    min_new_tokens: int | None = None


Decoder = BeamSearch | Greedy | Sampling


def generate(
    model: Transformer,
    params: dict,
    prompts: Any,
    decoder: Decoder = BeamSearch(),
    new_tokens: int = 64,
    *,
    key: jax.Array | None = None,
    batch_size: int | None = None,
    attention_mask: Any = None,
    session: Session = Session(),
) -> np.ndarray:
    """The tokens that follow each prompt.

    Args:
        prompts: int [prompts, length]; shorter ones are padded on the left, under a mask.
        decoder: How tokens are chosen.
        new_tokens: How many follow each prompt.
        key: Needed by `Sampling`; prompt i draws from `fold_in(key, i)`, in any batch size.
        batch_size: Prompts decoded at once; None leaves it to `prompts_at_once`.
        attention_mask: As in `checked_prompts`.
        session: Devices, scratch (written every 20 seconds) and progress (stage "generate").

    Returns:
        int32 [prompts, new_tokens]. Where the decoder allows an end-of-text, padding follows it.

    Raises:
        InputError: If prompts are ill-typed, padded without a mask or outside the vocabulary,
            positions do not suffice, or the key is missing.
        DivergenceError: If the scores of a next token are nan or infinite.
    """
    _check_generate(decoder, new_tokens, key, batch_size)
    prompts, mask = checked_prompts(model.switches, prompts, new_tokens, attention_mask)
    count, total = len(prompts), len(prompts) * new_tokens
    if not count:
        return np.zeros((0, new_tokens), np.int32)
    key, place = jax.random.key(0) if key is None else key, session.placement
    size = min(batch_size or count, count)
    if batch_size is None:
        size = prompts_at_once(model, decoder, prompts.shape[1], new_tokens, count, place)
    params = place.place_parameters(params, size)
    tokens, saved = np.zeros((count, new_tokens), np.int32), 0
    read = (prompts,) if mask is None else (prompts, mask)
    name, made_of = f"tokens-{key_name(key)}", fingerprint(model, decoder, new_tokens, *read)
    for piece in _saved(session.scratch, name, made_of, count):
        stop = saved + len(piece)
        tokens[saved:stop], saved = piece, stop
        session.progress("generate", stop * new_tokens, total)
    since = time.monotonic()
    for start in range(saved, count, size):
        stop = min(start + size, count)
        index = np.minimum(np.arange(start, start + size), count - 1)
        made, is_bad = _made(model, decoder, new_tokens, params, read, key, index, place)
        refuse_bad_scores(params, is_bad, start, count)
        tokens[start:stop] = made[: stop - start]
        if stop == count or largest(time.monotonic() - since >= _SAVE_SECONDS):
            session.scratch.save(f"{name}-{saved}", made_of, {"tokens": tokens[saved:stop]})
            saved, since = stop, time.monotonic()
        session.progress("generate", stop * new_tokens, total)
    return tokens


def _made(model, decoder, new_tokens, params, read, key, index, place):
    """The continuations of prompts by number, on the host, and whether their scores are bad.

    read: the prompts, and their mask if they have one.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    batch = [read[0][index].astype(np.int32), *(rows[index] for rows in read[1:])]
    batch, keys = place.place((batch, keys), len(index), 0)
    made = _generate_batch(model, decoder, new_tokens, params, batch[0], keys, *batch[1:])
    return tuple(map(to_host, made))


def _saved(scratch, name, made_of, count):
    """The parts of a set of continuations that an earlier call kept, in order."""
    saved = 0
    while saved < count and (piece := scratch.load(f"{name}-{saved}", made_of)) is not None:
        yield piece["tokens"]
        saved += len(piece["tokens"])


def check_decoder(decoder: Decoder) -> None:
    """Raises `InputError` for the first setting of a decoder that is out of range."""
    if not isinstance(decoder, Decoder):
        raise InputError(f"decoder is {decoder!r:.200}; it must be BeamSearch, Greedy or Sampling")
    penalty = "finite and above 0 (1 is none)"
    real("repetition_penalty", decoder.repetition_penalty, above=0, must_be=penalty)
    if decoder.min_new_tokens is not None:
        at_least = "0 or more, or None (no end at all)"
        whole("min_new_tokens", decoder.min_new_tokens, 0, must_be=at_least)
    if isinstance(decoder, BeamSearch):
        whole("num_beams", decoder.num_beams, 1)
        choices = "True, False or 'never'"
        one_of("early_stopping", decoder.early_stopping, (True, False, "never"), must_be=choices)
    if isinstance(decoder, Sampling):
        limit = "finite and above 0 (use Greedy for the limit)"
        real("temperature", decoder.temperature, above=0, must_be=limit)
        whole("top_k", decoder.top_k, 0, must_be="0 (off) or positive")
        real("top_p", decoder.top_p, above=0, at_most=1)


def _check_generate(decoder, new_tokens, key, batch_size):
    check_decoder(decoder)
    sizes = (new_tokens, 1 if batch_size is None else batch_size)
    if not all(isinstance(size, int | np.integer) and size >= 1 for size in sizes):
        raise InputError(
            f"new_tokens is {new_tokens} and batch_size {batch_size}; both must be integers of at "
            "least 1"
        )
    if isinstance(decoder, Sampling) and key is None:
        raise InputError("Sampling needs a key: pass key=jax.random.key(...)")
    if key is not None:
        try:
            jax.random.key_data(key)
        except TypeError:
            raise InputError(f"key is {key!r:.80}; it must be a key of jax.random.key") from None


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate_batch(model, decoder, new_tokens, params, prompts, keys, mask=None):
    """Continuations [batch, new_tokens], and whether the scores of each are no numbers [batch]."""
    if isinstance(decoder, BeamSearch):
        return beam_search(model, decoder, new_tokens, params, prompts, mask)
    return _one_beam(model, decoder, new_tokens, params, prompts, mask, keys)


def _one_beam(model, decoder, new_tokens, params, prompts, mask, keys):
    """Greedy and sampling: one sequence [new_tokens] a prompt, which appends to its cache."""
    batch, length = prompts.shape
    product = functools.partial(
        jnp.einsum, precision=model.precision, preferred_element_type=jnp.float32
    )
    config, cap = model.switches, model.switches.attention_cap
    logits, caches = prefill(model, params, prompts, mask)
    padded = 0 if mask is None else jnp.sum(~mask, axis=1)
    history = jnp.zeros((batch, 1, new_tokens), jnp.int32)
    pad = ((0, 0), (0, 0), (0, new_tokens), (0, 0))
    # Per layer keys and values [batch, key_heads, length + new_tokens, head_dim].
    caches = [tuple(jnp.pad(array, pad) for array in layer) for layer in caches]
    choose = functools.partial(_chosen, config, decoder, prompts, keys)

    def attend_in(layer, caches, at):
        places, window = jnp.arange(length + new_tokens), config.window(layer)
        seen = places <= at
        if window is not None:
            seen = seen & (places > at - window)
        if mask is not None:
            is_text = jnp.pad(mask, ((0, 0), (0, new_tokens)), constant_values=True)
            seen = seen & is_text[:, None, None]

        def attend(query, own):  # query: [batch, key_heads, query heads of each, head_dim]
            place = (0, 0, at, 0)
            past = tuple(
                jax.lax.dynamic_update_slice(a, b, place)
                for a, b in zip(caches[layer], own, strict=True)
            )
            caches[layer] = past
            scores = capped(product("bhqd,bhkd->bhqk", query, past[0]), cap)
            weights = jax.nn.softmax(jnp.where(seen, scores, NEGATIVE)).astype(query.dtype)
            return product("bhqk,bhkd->bhqd", weights, past[1]).astype(query.dtype)

        return attend

    def step(carry, t):
        history, caches, is_bad = carry[0], list(carry[1]), carry[2]
        at = length + t - 1  # the position of the newest token
        newest = jax.lax.dynamic_index_in_dim(history, t - 1, 2, keepdims=False)
        attends = [attend_in(layer, caches, at) for layer in range(len(caches))]
        hidden, _ = model.apply({"params": params}, newest, at - padded, attends, method="extend")
        logits = model.apply({"params": params}, hidden, method="head")
        tokens, is_none = choose(logits, history, t)
        return (history.at[:, 0, t].set(tokens), caches, is_bad | is_none), None

    tokens, is_bad = choose(logits, history, 0)
    history = history.at[:, 0, 0].set(tokens)
    carry = (history, caches, is_bad)
    (history, _, is_bad), _ = jax.lax.scan(step, carry, jnp.arange(1, new_tokens))
    return history[:, 0], is_bad


def _chosen(config, decoder, prompts, keys, logits, history, t):
    """New token number t [batch], and whether its score is no finite number [batch].

    Of logits [batch, 1, vocabulary] and history [batch, 1, new].
    """
    seen = jnp.concatenate([prompts[:, None], filled(history, t)], -1)
    scores = token_scores(config, decoder, logits, seen, t)[:, 0]
    if isinstance(decoder, Greedy):
        tokens = best_word(scores)
    else:
        scores = truncate(scores, decoder)
        tokens = random_word(jax.vmap(jax.random.fold_in, (0, None))(keys, t), scores)
    # The largest of some numbers and a nan is the nan.
    is_bad = ~jnp.isfinite(jnp.take_along_axis(scores, tokens[:, None], axis=-1)[:, 0])
    if decoder.min_new_tokens is None:
        return tokens, is_bad
    is_end = ends_text(config, history[:, 0])
    ended = (is_end & (jnp.arange(history.shape[-1]) < t)).any(-1)
    return jnp.where(ended, config.pad_token_id, tokens), is_bad
