"""A text as one flat file of tokens: written as a stream, memory-mapped, cut into windows."""

import contextlib
import itertools
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.runs.archives import load_arrays
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.session import Session

# A text that shares so many tokens in a row with another quotes it: common phrases are shorter.
SHARED_RUN = 13
# Rows encoded at once, and characters after which a batch ends with fewer rows.
_ROWS_PER_BATCH, _CHARACTERS_PER_BATCH = 1000, 1 << 20
# Runs hashed at once: 8 MiB for each of the few arrays that this takes.
_RUNS_PER_CHUNK = 1 << 20
_DTYPES = ("<u2", "<u4")
_AGAIN = "delete the file tokens.json there, and repeat the command to compute the tokens again"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class TokenFile(NamedTuple):
    """A text that `write_tokens` wrote.

    tokens: [N] uint16 or uint32, a memmap.
    rows: int64 [R], where each row of the text begins.
    works: int64 [W], where each row after a blank one begins.
    """

    tokens: np.ndarray
    rows: np.ndarray
    works: np.ndarray


class Windows(NamedTuple):
    """Consecutive windows of `length` tokens.

    train: [W, length], a view of the file.
    held_out: int32 [H, length], from its end.
    left_out: bool [W], windows of `train` that must not be trained on.
    """

    train: np.ndarray
    held_out: np.ndarray
    left_out: np.ndarray


def write_tokens(
    folder: pathlib.Path,
    rows: Iterable[str],
    tokenizer: TextTokenizer,
    made_from: dict,
    *,
    session: Session = Session(),
) -> None:
    """Encodes rows into FOLDER/tokens.bin for `read_tokens`, with one batch in memory at a time.

    Every row is encoded by itself, as for fine-tuning. tokens.json is written last, so that
    `read_tokens` ignores what a killed call leaves.

    Args:
        made_from: What the tokens depend on, as JSON values; kept beside them.
        session: Progress (stage "encode").

    Raises:
        InputError: If a token is outside the tokenizer's vocabulary.
    """
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    starts, blank, total = [np.zeros(0, np.int64)], [np.zeros(0, bool)], 0
    with contextlib.ExitStack() as files:
        # In reverse order they get their names: tokens.json last.
        about, places, flat = (
            files.enter_context(atomic(folder / name, sync=name == "tokens.bin"))
            for name in ("tokens.json", "rows.npz", "tokens.bin")
        )
        with open(flat, "wb") as file:
            for batch in _batches(rows):
                tokens, lengths = _encode(tokenizer, batch)
                _check_ids(tokenizer, tokens)
                tokens.astype(dtype).tofile(file)
                starts.append(total + np.cumsum(lengths) - lengths)
                blank.append(np.array([not row for row in batch]))
                total += len(tokens)
                session.progress("encode", total, None)
        starts, blank = np.concatenate(starts), np.concatenate(blank)
        with open(places, "wb") as file:
            np.savez(file, rows=starts, works=starts[1:][blank[:-1]])
        description = {"tokens": total, "dtype": dtype.str, "made_from": made_from}
        about.write_text(json.dumps(description, indent=2) + "\n")


def flat_tokens(tokenizer: TextTokenizer, rows: Iterable[str]) -> np.ndarray:
    """All tokens [N] (int64) of rows encoded one by one."""
    return np.concatenate(
        [np.zeros(0, np.int64), *(_encode(tokenizer, batch)[0] for batch in _batches(rows))]
    )


def read_tokens(folder: pathlib.Path, made_from: dict) -> TokenFile | None:
    """The tokens in a folder, or None if they were not written to the end.

    Raises:
        InputError: If they were made from something else than `made_from`, or are damaged.
    """
    try:
        about = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
        differing = [name for name in made_from if about["made_from"].get(name) != made_from[name]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / 'tokens.json'} cannot be read ({error!r}); {_AGAIN}") from None
    if differing:
        raise InputError(
            f"{folder} contains tokens of another {' and '.join(differing)} (changed since the run "
            "started); choose another --out"
        )
    try:
        if about["dtype"] not in _DTYPES:
            raise ValueError(f"tokens of type {about['dtype']!r:.40}")
        tokens = np.memmap(folder / "tokens.bin", about["dtype"], "r", shape=(about["tokens"],))
        places = load_arrays(folder / "rows.npz")
        return TokenFile(tokens, places["rows"], places["works"])
    except Exception as error:  # damaged files raise almost anything
        raise InputError(
            f"{folder} contains damaged tokens ({type(error).__name__}: {error}); {_AGAIN}"
        ) from None


def cut_windows(file: TokenFile, length: int, held_out: float) -> Windows:
    """The consecutive windows of a text; the remainder of each part is dropped.

    The cut lies between the two works (rows apart by a blank one) nearest to the wanted share; if
    no such cut holds out half to twice of it, between two rows; failing that, within a row.

    Args:
        file: The text.
        length: Tokens of a window.
        held_out: Share of the tokens, from the end, to hold out; at least one window is.

    Raises:
        InputError: If the text has fewer than two windows.
    """
    total = len(file.tokens)
    if total < 2 * length:
        raise InputError(
            f"the corpus has {total} tokens; 2 windows of block_length {length} are the least"
        )
    wanted = min(max(round(held_out * total), length), total - length)
    cut = total - wanted
    for starts in (file.works, file.rows):
        held = total - starts
        starts = starts[
            (held >= wanted / 2) & (held <= 2 * wanted) & (held >= length) & (starts >= length)
        ]
        if len(starts):
            cut = int(starts[np.abs(total - starts - wanted).argmin()])
            break
    train = file.tokens[: cut // length * length].reshape(-1, length)
    end = file.tokens[cut : cut + (total - cut) // length * length]
    return Windows(train, end.reshape(-1, length).astype(np.int32), np.zeros(len(train), bool))


def leave_out_shared(
    windows: Windows, others: Sequence[np.ndarray], *, session: Session = Session()
) -> Windows:
    """Leaves out every training window that touches a run of `SHARED_RUN` tokens found elsewhere.

    Runs are compared by 64-bit hashes: no shared run is missed, and two different ones are taken
    for the same with a probability of about (pairs compared) / 2**64.

    Args:
        windows: Of the text.
        others: int [M] each, flat tokens of the same tokenizer.
        session: Progress (stage "compare").
    """
    tokens, length = windows.train.reshape(-1), windows.train.shape[1]
    known = np.unique(np.concatenate([_hashes(np.asarray(other)) for other in others]))
    left_out = windows.left_out.copy()
    for first in range(0, len(tokens), _RUNS_PER_CHUNK):
        hashes = _hashes(tokens[first : first + _RUNS_PER_CHUNK + SHARED_RUN - 1])
        if len(known) and len(hashes):
            nearest = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)]
            starts = first + np.flatnonzero(nearest == hashes)
            for offset in range(SHARED_RUN):
                left_out[(starts + offset) // length] = True
        session.progress("compare", min(first + _RUNS_PER_CHUNK, len(tokens)), len(tokens))
    return windows._replace(left_out=left_out)


def _check_ids(tokenizer, tokens):
    if tokens.size and not (0 <= tokens.min() and tokens.max() < tokenizer.vocab_size):
        raise InputError(
            f"tokenizer {tokenizer.name!r} gives ids {tokens.min()} to {tokens.max()}, outside its "
            f"{tokenizer.vocab_size} entries; give one whose ids are 0 to its size - 1"
        )


def _encode(tokenizer, batch):
    encoded = tokenizer.encode(batch)
    lengths = np.array([len(row) for row in encoded], np.int64)
    return np.fromiter(itertools.chain.from_iterable(encoded), np.int64, lengths.sum()), lengths


def _hashes(tokens):
    """uint64 [N - 12]: the polynomial of each run's tokens in an odd constant, modulo 2**64."""
    count = len(tokens) - SHARED_RUN + 1
    hashes = np.zeros(max(count, 0), np.uint64)
    for offset in range(SHARED_RUN if count > 0 else 0):
        hashes = hashes * _MULTIPLIER + tokens[offset : offset + count].astype(np.uint64)
    return hashes


def _batches(rows):
    batch, characters = [], 0
    for row in rows:
        batch.append(row)
        characters += len(row)
        if len(batch) == _ROWS_PER_BATCH or characters >= _CHARACTERS_PER_BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
