"""Continuations of token blocks: beam search, greedy and sampling, each a jitted function."""

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError, one_key, whole
from collapse_jax.models.lm.beam_search import beam_search
from collapse_jax.models.lm.decode_batch import prompts_at_once
from collapse_jax.models.lm.decoders import (
    LATER_FIELDS,
    BeamSearch,
    Decoder,
    Greedy,
    Sampling,
    check_decoder,
)
from collapse_jax.models.lm.draws import best_word, random_word
from collapse_jax.models.lm.prompts import checked_prompts, refuse_bad_scores
from collapse_jax.models.lm.stops import ends_here, stops_of
from collapse_jax.models.lm.text_prompts import as_tokens
from collapse_jax.models.lm.token_scores import ends_text, prefill, token_scores, truncate
from collapse_jax.models.lm.transformer import NEGATIVE, Transformer, capped
from collapse_jax.runs.distributed import largest, to_host
from collapse_jax.runs.scratch import AsFirstWritten, fingerprint, key_name
from collapse_jax.runs.session import Session

__all__ = ["BeamSearch", "Decoder", "Greedy", "Sampling", "check_decoder", "generate"]

# Seconds between saves to the scratch: a kill loses no more, and a run writes some hundred small
# files at most.
_SAVE_SECONDS = 20.0
# Prompt i draws from fold_in(key, i), and continuation c of it, from 1 on, from
# fold_in(fold_in(key, _AGAIN + c), i): no prompt has so high a number.
_AGAIN = 2**31


class _Work(NamedTuple):
    """What is asked for.

    read: the prompts, and their mask if they have one.
    stops: what ends a text, or None.
    returned: continuations of each prompt, None for one without an axis of its own.
    size: prompts at once. copies: continuations of each of them at once.
    """

    model: Transformer
    decoder: Decoder
    new_tokens: int
    read: tuple
    stops: Any
    returned: int | None
    size: int
    copies: int


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
    num_return_sequences: int | None = None,
    stop: Any = None,
    tokenizer: Any = None,
    session: Session = Session(),
) -> np.ndarray:
    """Returns the tokens that a model writes after each prompt.

    Args:
        prompts: int [prompts, length], shorter ones padded on the left under a mask; or a list of
            lists of any lengths; or a list of texts, with `tokenizer`.
        decoder: How tokens are chosen.
        new_tokens: Number of new tokens per prompt.
        key: Needed by `Sampling`; prompt i uses `fold_in(key, i)`, whatever the batch size.
        batch_size: Number of continuations computed at once; None uses `prompts_at_once`.
        attention_mask: As in `checked_prompts`.
        num_return_sequences: Number of continuations per prompt. `Sampling` gives independent ones,
            and the first equals the only one without this argument. `BeamSearch` gives the best
            ones, best first.
        stop: Sequences that end a text in addition to the model's end-of-text tokens: a text, or a
            list of texts and of lists of token ids. A stop may begin in the prompt, and it is part
            of the continuation.
        tokenizer: A `TextTokenizer`, for texts among `prompts` and `stop`.
        session: Devices, scratch (written every 20 seconds) and progress (stage "generate").

    Returns:
        int32 [prompts, new_tokens], or [prompts, num_return_sequences, new_tokens] where that is
        given. Padding follows an end-of-text, where the decoder allows one, and a stop.

    Raises:
        InputError: If prompts are ill-typed, empty, padded without a mask or outside the
            vocabulary, there are too few positions, a stop is invalid, the decoder cannot return
            that many continuations, or the key or the tokenizer is missing.
        DivergenceError: If the scores of a next token are nan or infinite, or every token would
            repeat an n-gram.
    """
    _check_generate(decoder, new_tokens, key, batch_size, num_return_sequences)
    prompts = as_tokens(prompts, tokenizer)
    prompts, mask = checked_prompts(model.switches, prompts, new_tokens, attention_mask)
    stops = stops_of(stop, tokenizer, model.switches.vocab_size, prompts, mask)
    read = (prompts,) if mask is None else (prompts, mask)
    work = _Work(model, decoder, new_tokens, read, stops, num_return_sequences, 1, 1)
    key = jax.random.key(0) if key is None else key
    return _all_made(_sized(work, batch_size, session.placement), params, key, session)


def _sized(work, batch_size, placement):
    """The work with its sizes: the copies of a prompt are made at once as far as they fit."""
    copies = (work.returned or 1) if isinstance(work.decoder, Sampling) else 1
    count, length = work.read[0].shape
    if batch_size is None and count:
        batch_size = prompts_at_once(
            work.model, work.decoder, length, work.new_tokens, count * copies, placement
        )
    rows = min(batch_size or 1, count * copies)
    copies = max(1, min(copies, rows))
    return work._replace(size=max(1, rows // copies), copies=copies)


def _all_made(work, params, key, session):
    """The continuations of all prompts, batch by batch, on the host."""
    count, size, new_tokens = len(work.read[0]), work.size, work.new_tokens
    several = () if work.returned is None else (work.returned,)
    tokens, saved = np.zeros((count, *several, new_tokens), np.int32), 0
    if not count:
        return tokens
    params = session.placement.place_parameters(params, size * work.copies)
    name, made_of = f"tokens-{key_name(key)}", _made_of(work)
    each = (work.returned or 1) * new_tokens
    for piece in _saved(session.scratch, name, made_of, count):
        stop = saved + len(piece)
        tokens[saved:stop], saved = piece, stop
        session.progress("generate", stop * each, count * each)
    since = time.monotonic()
    for start in range(saved, count, size):
        stop = min(start + size, count)
        index = np.minimum(np.arange(start, start + size), count - 1)
        made, is_bad = _made(work, params, key, index, session.placement)
        refuse_bad_scores(params, is_bad, start, count, work.decoder.no_repeat_ngram_size)
        tokens[start:stop] = made[: stop - start]
        if stop == count or largest(time.monotonic() - since >= _SAVE_SECONDS):
            session.scratch.save(f"{name}-{saved}", made_of, {"tokens": tokens[saved:stop]})
            saved, since = stop, time.monotonic()
        session.progress("generate", stop * each, count * each)
    return tokens


def _made_of(work):
    """The fingerprint of what continuations are computed from."""
    asked = [] if work.stops is None else [*map(np.asarray, work.stops)]
    if work.returned is not None:
        asked.append(work.returned)
    decoder = AsFirstWritten(work.decoder, LATER_FIELDS)
    return fingerprint(work.model, decoder, work.new_tokens, *work.read, *asked)


def _made(work, params, key, index, placement):
    """The continuations of prompts by number, on the host, and whether their scores are bad."""
    if work.returned is None or not isinstance(work.decoder, Sampling):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
        return _batch_made(work, params, index, keys, placement)
    parts, bad = [], np.zeros(len(index), bool)
    for first in range(0, work.returned, work.copies):
        numbers = np.minimum(np.arange(first, first + work.copies), work.returned - 1)
        made, is_bad = _batch_made(work, params, index, _keys(key, index, numbers), placement)
        parts.append(made.reshape(len(index), work.copies, -1))
        bad |= is_bad.reshape(len(index), -1).any(1)
    return np.concatenate(parts, axis=1)[:, : work.returned], bad


def _keys(key, index, numbers):
    """Keys [prompts * copies] of continuations by number of each prompt."""
    roots = [key if c == 0 else jax.random.fold_in(key, _AGAIN + int(c)) for c in numbers]
    folded = jax.vmap(jax.vmap(jax.random.fold_in, (0, None)), (None, 0))
    return folded(jnp.stack(roots), index).reshape(-1)


def _batch_made(work, params, index, keys, placement):
    """One call of the compiled function; several keys for each prompt are copies of it."""
    copies = len(keys) // len(index)
    rows = index
    if copies > 1 and placement.count() > 1:  # devices share rows, not copies
        rows = np.repeat(index, copies)
    batch = [work.read[0][rows].astype(np.int32), *(part[rows] for part in work.read[1:])]
    stops, read = work.stops, None
    if stops is not None:
        read = stops.read[np.repeat(index, copies)]
    batch, keys, read = placement.place((batch, keys, read), len(rows), 0)
    if stops is not None:
        stops = stops._replace(table=placement.place(stops.table, len(rows)), read=read)
    mask = batch[1] if len(batch) > 1 else None
    made = _generate_batch(
        work.model,
        work.decoder,
        work.new_tokens,
        params,
        batch[0],
        keys,
        mask,
        stops,
        returned=work.returned if isinstance(work.decoder, BeamSearch) else None,
    )
    return tuple(map(to_host, made))


def _saved(scratch, name, made_of, count):
    """The parts of a set of continuations that an earlier call kept, in order."""
    saved = 0
    while saved < count and (piece := scratch.load(f"{name}-{saved}", made_of)) is not None:
        yield piece["tokens"]
        saved += len(piece["tokens"])


def _check_generate(decoder, new_tokens, key, batch_size, returned):
    check_decoder(decoder)
    sizes = (new_tokens, 1 if batch_size is None else batch_size)
    if not all(isinstance(size, int | np.integer) and size >= 1 for size in sizes):
        raise InputError(
            f"new_tokens is {new_tokens} and batch_size {batch_size}; both must be integers of at "
            "least 1"
        )
    if returned is not None:
        whole("num_return_sequences", returned, 1, _AGAIN - 1)
        most = decoder.num_beams if isinstance(decoder, BeamSearch) else 1
        if returned > most and not isinstance(decoder, Sampling):
            raise InputError(
                f"num_return_sequences is {returned}; {decoder!r:.100} finds at most {most}"
            )
    if isinstance(decoder, Sampling) and key is None:
        raise InputError("Sampling needs a key: pass key=jax.random.key(...)")
    if key is not None:
        one_key("key", key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), static_argnames=("returned",))
def _generate_batch(
    model, decoder, new_tokens, params, prompts, keys, mask=None, stops=None, *, returned=None
):
    """Continuations [batch, new_tokens], and whether the scores of each are no numbers [batch].

    Of `BeamSearch` [batch, returned, new_tokens], where `returned` is given. With several keys for
    each prompt, as many rows follow each other in the place of one.
    """
    if isinstance(decoder, BeamSearch):
        return beam_search(model, decoder, new_tokens, params, prompts, mask, stops, returned)
    return _one_beam(model, decoder, new_tokens, params, prompts, mask, keys, stops)


def _one_beam(model, decoder, new_tokens, params, prompts, mask, keys, stops):
    """Greedy and sampling: one sequence [new_tokens] a prompt, which appends to its cache."""
    product = functools.partial(
        jnp.einsum, precision=model.precision, preferred_element_type=jnp.float32
    )
    config, cap = model.switches, model.switches.attention_cap
    logits, caches = prefill(model, params, prompts, mask)
    copies = len(keys) // len(prompts)
    if copies > 1:
        prompts, mask, logits, caches = jax.tree.map(
            lambda rows: jnp.repeat(rows, copies, axis=0), (prompts, mask, logits, caches)
        )
    batch, length = prompts.shape
    padded = 0 if mask is None else jnp.sum(~mask, axis=1)
    history = jnp.zeros((batch, 1, new_tokens), jnp.int32)
    pad = ((0, 0), (0, 0), (0, new_tokens), (0, 0))
    # Per layer keys and values [batch, key_heads, length + new_tokens, head_dim].
    caches = [tuple(jnp.pad(array, pad) for array in layer) for layer in caches]
    choose = functools.partial(_chosen, config, decoder, (prompts, padded), keys, stops)

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
        history, caches, is_bad, read = carry[0], list(carry[1]), carry[2], carry[3]
        at = length + t - 1  # the position of the newest token
        newest = jax.lax.dynamic_index_in_dim(history, t - 1, 2, keepdims=False)
        attends = [attend_in(layer, caches, at) for layer in range(len(caches))]
        hidden, _ = model.apply({"params": params}, newest, at - padded, attends, method="extend")
        logits = model.apply({"params": params}, hidden, method="head")
        tokens, is_none, read = choose(logits, history, read, t)
        return (history.at[:, 0, t].set(tokens), caches, is_bad | is_none, read), None

    read = () if stops is None else stops.read
    tokens, is_bad, read = choose(logits, history, read, 0)
    history = history.at[:, 0, 0].set(tokens)
    carry = (history, caches, is_bad, read)
    (history, _, is_bad, _), _ = jax.lax.scan(step, carry, jnp.arange(1, new_tokens))
    return history[:, 0], is_bad


def _chosen(config, decoder, text, keys, stops, logits, history, read, t):
    """New token number t [batch], whether its score is no finite number, and the state of stops.

    Of logits [batch, 1, vocabulary], history [batch, 1, new] and the state before (`Stops.read`).
    """
    prompts, padded = text
    scores = token_scores(config, decoder, logits, (prompts, history, padded), t)[:, 0]
    if isinstance(decoder, Greedy):
        tokens = best_word(scores)
    else:
        scores = truncate(scores, decoder)
        tokens = random_word(jax.vmap(jax.random.fold_in, (0, None))(keys, t), scores)
    # The largest of some numbers and a nan is the nan.
    is_bad = ~jnp.isfinite(jnp.take_along_axis(scores, tokens[:, None], axis=-1)[:, 0])
    ended = None
    if decoder.min_new_tokens is not None:
        is_end = ends_text(config, history[:, 0])
        ended = (is_end & (jnp.arange(history.shape[-1]) < t)).any(-1)
    if stops is not None:
        stopped = ends_here(stops, read)
        ended = stopped if ended is None else ended | stopped
        read = stops.table[read, tokens]
    if ended is None:
        return tokens, is_bad, read
    return jnp.where(ended, config.pad_token_id, tokens), is_bad & ~ended, read
