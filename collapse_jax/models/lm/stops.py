"""Stops, which end a text in addition to end-of-text tokens: sequences of tokens, and strings.

All stops together are one automaton (Aho and Corasick 1975) that reads tokens, so that its state
can be part of a beam. A string may begin and end inside a token; bytes are compared.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.models.lm.token_bytes import bytes_of

# Entries of the table: states times words.
_MOST_ENTRIES = 2**26


class Stops(NamedTuple):
    """An automaton over tokens.

    table: int32 [states + 1, vocabulary], the state after a token; the last state is that of a text
        that has ended, and is never left.
    read: int32 [prompts], the state after each prompt: a stop may begin there.
    """

    table: Any
    read: Any


def ends_here(stops: Stops, read: jax.Array) -> jax.Array:
    """Whether each state of an array is that of a text that has ended."""
    return read == stops.table.shape[0] - 1


def stops_of(
    stop: Any, tokenizer: Any, vocabulary: int, prompts: np.ndarray, mask: np.ndarray | None
) -> Stops | None:
    """The automaton of `stop` in arrays, after it has read the prompts; None if nothing stops.

    Args:
        stop: A string, or a sequence of strings and of sequences of token ids; None for none.
        tokenizer: A `TextTokenizer`, needed for strings.
        vocabulary: Ids of the model.
        prompts: int [prompts, length].
        mask: bool [prompts, length], False where padded; None if nothing is.

    Raises:
        InputError: If a stop is neither, is empty, or holds ids outside the vocabulary, or strings
            come without a tokenizer.
    """
    texts, sequences = _told_apart(stop, tokenizer, vocabulary)
    if not texts and not sequences:
        return None
    following, ends = np.zeros((1, 1), np.int32), np.zeros((1, 1), bool)
    if sequences:
        following, hits = _automaton(sequences, vocabulary)
        ends = hits[following]
    if texts:
        by_text, ends_text = _by_token(texts, bytes_of(tokenizer, vocabulary))
        # Both at once: a state for each pair of theirs.
        following = following[:, None] * np.int32(len(by_text)) + by_text[None]
        ends = ends[:, None] | ends_text[None]
        following, ends = (part.reshape(-1, vocabulary) for part in (following, ends))
    read = np.zeros(len(prompts), np.int32)
    for place in range(prompts.shape[1]):
        new = following[read, prompts[:, place]]
        read = new if mask is None else np.where(mask[:, place], new, read)
    states = len(following)
    table = np.where(ends, np.int32(states), following)
    table = np.concatenate([table, np.full((1, vocabulary), states)]).astype(np.int32)
    return Stops(jnp.asarray(table), read.astype(np.int32))


def _told_apart(stop, tokenizer, vocabulary):
    """Strings as bytes, and sequences of ids."""
    texts, sequences = [], []
    for one in [] if stop is None else [stop] if isinstance(stop, str) else _listed(stop):
        if isinstance(one, str) and one:
            texts.append(one.encode("utf-8", "surrogatepass"))
            continue
        try:
            ids = np.asarray(one)
        except ValueError:
            ids = np.zeros(0)
        if ids.ndim != 1 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
            raise InputError(
                f"stop contains {one!r:.200}; it must be a list of texts and of lists of token ids "
                "([[198]] stops at token 198), none of them empty"
            )
        if ids.min() < 0 or ids.max() >= vocabulary:
            raise InputError(
                f"stop contains ids {ids.min()} to {ids.max()}; the model's vocabulary is 0 to "
                f"{vocabulary - 1}"
            )
        sequences.append(ids.tolist())
    if texts and tokenizer is None:
        raise InputError(
            f"stop contains the text {texts[0].decode('utf-8', 'replace')!r:.200}; pass its "
            "tokenizer too, or sequences of token ids"
        )
    states = (1 + sum(map(len, texts))) * (1 + sum(map(len, sequences)))
    if states * vocabulary > _MOST_ENTRIES:
        raise InputError(
            f"stop needs a table of {states} states for {vocabulary} tokens; it must be at most "
            f"{_MOST_ENTRIES // vocabulary} states: give fewer or shorter stops"
        )
    return texts, sequences


def _listed(stop):
    if isinstance(stop, Sequence) and not isinstance(stop, bytes):
        return stop
    raise InputError(
        f"stop is {stop!r:.200}; it must be a text, or a list of texts and of lists of token ids"
    )


def _automaton(patterns, letters):
    """The next state [states, letters], and whether a pattern ends in each state [states]."""
    children, ends = [{}], [False]
    for pattern in patterns:
        node = 0
        for letter in pattern:
            if letter not in children[node]:
                children[node][letter] = len(children)
                children.append({})
                ends.append(False)
            node = children[node][letter]
        ends[node] = True
    following = np.zeros((len(children), letters), np.int32)
    # The state of the longest end of what was read that is itself the beginning of a pattern.
    shorter, queue = [0] * len(children), [0]
    for node in queue:  # shortest first; it grows meanwhile
        if node:
            following[node] = following[shorter[node]]
            ends[node] |= ends[shorter[node]]
        for letter, child in children[node].items():
            shorter[child] = int(following[node, letter])
            following[node, letter] = child
            queue.append(child)
    return following, np.array(ends)


def _by_token(texts, pieces):
    """The same for tokens that are several bytes: [states, vocabulary] each.

    Args:
        texts: Patterns of bytes.
        pieces: The bytes of each token.
    """
    following, hits = _automaton(texts, 256)
    states = np.repeat(np.arange(len(following), dtype=np.int32)[:, None], len(pieces), 1)
    ends = np.zeros(states.shape, bool)
    lengths = np.array([len(piece) for piece in pieces])
    for place in range(lengths.max(initial=0)):
        there = np.flatnonzero(lengths > place)
        letters = np.array([pieces[i][place] for i in there])
        states[:, there] = following[states[:, there], letters]
        ends[:, there] |= hits[states[:, there]]
    return states, ends
