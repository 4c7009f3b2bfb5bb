"""A step of beam search: from scores of the next tokens to the beams that go on.

Scores and endings follow `GenerationMixin.generate` of transformers 5, and those of groups of beams
(Vijayakumar et al. 2016) `group_beam_search` of transformers 4, which 5 left out.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.models.lm.stops import Stops, ends_here
from collapse_jax.models.lm.switches import TransformerConfig
from collapse_jax.models.lm.token_scores import best_words, ends_text, token_scores

# What transformers adds to the score of what must not be chosen.
EXCLUDED = -1e9


class Ended(NamedTuple):
    """The finished sequences of each prompt, best first in each group of beams."""

    history: jax.Array  # [batch, beams, new_tokens]
    scores: jax.Array  # [batch, beams], divided by length ** length_penalty
    exists: jax.Array  # bool [batch, beams], False for places that are still empty
    open: jax.Array  # bool [batch, groups], False once no running beam can do better


class Beams(NamedTuple):
    """The running beams of each prompt."""

    tokens: jax.Array  # [batch, beams], the newest token
    scores: jax.Array  # [batch, beams], summed log-probabilities
    ancestors: jax.Array  # [batch, beams, new_tokens], the slot that held each step of the past
    history: jax.Array  # [batch, beams, new_tokens], the tokens so far
    # Per layer [batch, key_heads, slots * beams, head_dim]: entry t * beams + b is what slot b
    # wrote at step t.
    keys: list
    values: list
    ended: Ended | tuple[()]  # () if no text can end
    stops: jax.Array | tuple[()]  # [batch, beams], how much of a stop was read; () without any


class Step(NamedTuple):
    """What stays the same from step to step.

    stops: what ends a text besides the model's own ends, or None.
    """

    config: TransformerConfig
    decoder: Any
    new_tokens: int
    stops: Stops | None = None


def next_beams(
    step: Step, state: Beams, log_probs: jax.Array, prompts: jax.Array, padded: Any, t: Any
) -> Beams:
    """The beams after token number t.

    Args:
        state: The beams before.
        log_probs: [batch, parents, vocabulary]; one parent before the first token.
        prompts: int [batch, length], with tokens of the text where they are padded.
        padded: Padding tokens of each prompt, 0 or [batch].
        t: int [], from 0.
    """
    if step.decoder.num_beam_groups > 1:
        return _next_of_groups(step, state, log_probs, prompts, padded, t)
    parents = log_probs.shape[1]
    text = (prompts, state.history[:, :parents], padded)
    scores = token_scores(step.config, step.decoder, log_probs, text, t)
    # The first scores have nothing to be added to.
    total = scores if parents < step.decoder.num_beams else state.scores[..., None] + scores
    return _chosen(step, state, total, t)


def best_of(step: Step, state: Beams, returned: int | None) -> tuple[jax.Array, jax.Array]:
    """The best sequences [batch, new_tokens], or [batch, returned, new_tokens], best first.

    Returns:
        The sequences, and bool [batch]: whether they mean nothing, because a score became nan or
        every word was banned.
    """
    state, groups = _all_ended(step, state), step.decoder.num_beam_groups
    # A nan is sorted before every number, and stays in the sum of a beam.
    is_bad = jnp.isnan(state.scores).any(axis=1)
    history, scores = state.history, state.scores
    if state.ended:
        history, scores = state.ended.history, state.ended.scores
    if step.decoder.no_repeat_ngram_size:
        is_bad = is_bad | (scores.max(axis=1) <= EXCLUDED)
    if returned is None and state.ended and groups == 1:
        return history[:, 0], is_bad
    if returned is None:
        best = jnp.argmax(scores, axis=1)
        return jnp.take_along_axis(history, best[:, None, None], axis=1)[:, 0], is_bad
    best = jax.lax.top_k(scores, returned)[1]
    return jnp.take_along_axis(history, best[..., None], axis=1), is_bad


def _next_of_groups(step, state, log_probs, prompts, padded, t):
    """Group by group: a word costs a later group something for each earlier beam that chose it."""
    decoder, (batch, parents, words) = step.decoder, log_probs.shape
    size = decoder.num_beams // decoder.num_beam_groups
    in_group = step._replace(decoder=decoder._replace(num_beams=size))
    times, parts = jnp.zeros((batch, words)), []  # how often each word is chosen at this step
    for group in range(decoder.num_beam_groups):
        own = _group(state, group, size)
        rows = slice(group * size, (group + 1) * size) if parents > 1 else slice(0, 1)
        scores = log_probs[:, rows] - decoder.diversity_penalty * times[:, None]
        text = (prompts, own.history[:, : scores.shape[1]], padded)
        scores = token_scores(step.config, decoder, scores, text, t)
        new = _chosen(in_group, own, own.scores[:, : scores.shape[1], None] + scores, t)
        if own.ended:  # what is done counts as padding from the next step on
            tokens = jnp.where(own.ended.open, new.tokens, step.config.pad_token_id)
            new = new._replace(tokens=tokens)
        times = times.at[jnp.arange(batch)[:, None], new.tokens].add(1)
        # Slots are numbered through all groups.
        parts.append(new)
    return _joined(state, parts)


def _group(state, group, size):
    """The beams of one group."""
    rows, ended = slice(group * size, (group + 1) * size), state.ended
    if ended:
        ended = Ended(
            ended.history[:, rows],
            ended.scores[:, rows],
            ended.exists[:, rows],
            ended.open[:, group : group + 1],
        )
    stops = state.stops if isinstance(state.stops, tuple) else state.stops[:, rows]
    tokens, scores, ancestors, history = (part[:, rows] for part in state[:4])
    return Beams(tokens, scores, ancestors, history, state.keys, state.values, ended, stops)


def _joined(state, groups):
    """The beams of all groups, with the caches of `state`."""
    beams = [group._replace(keys=(), values=()) for group in groups]
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *beams)
    return joined._replace(keys=state.keys, values=state.values)


def _chosen(step, state, total, t):
    """The state after token number t, from total scores [batch, parents, vocabulary]."""
    config, decoder, new_tokens, stops = step
    beams, words = decoder.num_beams, total.shape[-1]
    # Even if every end follows the same parent, enough candidates go on.
    kept = max(2, 1 + len(config.ends)) * beams if state.ended else beams
    # Candidates [batch, kept], numbered parent * words + word.
    scores, flat = _best_candidates(total.reshape(len(total), -1), kept)
    parent, tokens = flat // words, flat % words
    reorder = functools.partial(jnp.take_along_axis, indices=parent[..., None], axis=1)
    history, ancestors = reorder(state.history).at[:, :, t].set(tokens), reorder(state.ancestors)
    ended, read = state.ended, state.stops
    if stops is not None:
        read = stops.table[jnp.take_along_axis(read, parent, axis=1), tokens]
    if ended:
        ends = ends_text(config, tokens)
        if stops is not None:
            ends = ends | ends_here(stops, read)
        if decoder.num_beam_groups == 1:  # groups take in what runs after the last step
            ends = ends | (t == new_tokens - 1)
        found, by_length = scores, scores / (t + 1.0) ** decoder.length_penalty
        if decoder.num_beam_groups > 1:
            # Rounded once: the rule of ending compares a candidate with itself.
            by_length = jax.lax.optimization_barrier(by_length)
        best_end = ends & (jnp.arange(kept) < beams)
        ended = _with_ended(decoder, ended, history, by_length, best_end)
        scores, going_on = jax.lax.top_k(scores + ends * EXCLUDED, beams)
        take = functools.partial(jnp.take_along_axis, indices=going_on[..., None], axis=1)
        tokens, history, ancestors = (
            jnp.take_along_axis(tokens, going_on, axis=1),
            take(history),
            take(ancestors),
        )
        if stops is not None:
            read = jnp.take_along_axis(read, going_on, axis=1)
        ended = ended._replace(
            open=ended.open & _may_improve(step, ended, scores, found, by_length, t)
        )
    return state._replace(
        tokens=tokens,
        scores=scores,
        ancestors=ancestors,
        history=history,
        ended=ended,
        stops=read,
    )


def _best_candidates(total, kept):
    """Scores and numbers [batch, kept] of the best of [batch, n]; padded with -inf if n < kept."""
    count = min(kept, total.shape[-1])
    missing = ((0, 0), (0, kept - count))
    scores, flat = best_words(total, count)
    return jnp.pad(scores, missing, constant_values=-jnp.inf), jnp.pad(flat, missing)


def _with_ended(decoder, ended, history, scores, ending):
    """The best finished sequences: those before, and the candidates that end.

    history: [batch, kept, new_tokens]; scores (divided by the length), ending: [batch, kept].
    """
    full = ended.exists.all(-1, keepdims=True) & (decoder.early_stopping is True)
    scores = scores + EXCLUDED * (full.astype(scores.dtype) + ~ended.open + ~ending)
    scores, order = jax.lax.top_k(jnp.concatenate([ended.scores, scores], 1), ended.scores.shape[1])
    exists = jnp.take_along_axis(jnp.concatenate([ended.exists, ending], 1), order, axis=1)
    history = jnp.take_along_axis(
        jnp.concatenate([ended.history, history], 1), order[..., None], axis=1
    )
    return Ended(history, scores, exists, ended.open)


def _may_improve(step, ended, running, found, by_length, t):
    """Whether [batch, 1] a running beam may still beat the worst finished one.

    running, found: scores [batch, ...], best first, of the beams that go on and of all candidates.
        transformers 5 asks what the best running beam may reach. For groups, transformers 4 asks
        what the best candidate may, even if it ends, and stops early as soon as a group is full.
    by_length: `found`, divided by the length so far.
    """
    decoder = step.decoder
    to_the_end = decoder.early_stopping == "never" and decoder.length_penalty > 0
    length = step.new_tokens if to_the_end else t + 1.0
    in_groups = decoder.num_beam_groups > 1
    possible = (found if in_groups else running)[:, :1] / length**decoder.length_penalty
    if in_groups and not to_the_end:
        possible = by_length[:, :1]
    worst = jnp.where(ended.exists, ended.scores.min(-1, keepdims=True), EXCLUDED)
    may = (possible > worst).any(-1, keepdims=True)
    if in_groups and decoder.early_stopping is True:
        return may & ~ended.exists.all(-1, keepdims=True)
    return may


def _all_ended(step, state):
    """With the running beams of groups among the finished sequences; others are there already."""
    groups = step.decoder.num_beam_groups
    if not state.ended or groups == 1:
        return state
    size, parts = step.decoder.num_beams // groups, []
    for group in range(groups):
        own = _group(state, group, size)
        everyone = jnp.ones_like(own.scores, bool)
        by_length = own.scores / float(step.new_tokens) ** step.decoder.length_penalty
        ended = _with_ended(step.decoder, own.ended, own.history, by_length, everyone)
        parts.append(own._replace(ended=ended))
    return _joined(state, parts)
