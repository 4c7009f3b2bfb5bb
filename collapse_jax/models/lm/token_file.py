"""A text as one flat file of tokens: written as a stream, read by memmap, cut into windows, and
freed of another corpus's words.
"""

import itertools
import json
import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.models.lm.corpus import TextTokenizer

# A text that shares so many tokens in a row with another quotes it: common phrases are shorter.
SHARED_RUN = 13
# Rows encoded at once, and characters after which a batch ends however few rows it has.
_ROWS_PER_BATCH, _CHARACTERS_PER_BATCH = 1000, 1 << 20
# Runs hashed at once: 8 MiB for each of the few arrays that this takes.
_RUNS_PER_CHUNK = 1 << 20
_AGAIN = "delete the file tokens.json there, and the same command makes the tokens again"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class TokenFile(NamedTuple):
    """tokens: [N] uint16 or uint32, a memmap. rows, works: int64, where each row of the text
    begins, and each row after a blank one.
    """

    tokens: np.ndarray
    rows: np.ndarray
    works: np.ndarray


class Windows(NamedTuple):
    """Windows of `length` tokens, one after another. train: [W, length], a view of the file.
    held_out: [H, length], from its end.

    left_out: bool [W], the windows of `train` that are not to be trained on.
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
    progress=lambda done: None,
) -> None:
    """Encodes rows as they come into FOLDER/tokens.bin, which `read_tokens` opens; no more than a
    batch of them is held in memory.

    Every row is encoded by itself, as for fine-tuning. made_from: what the tokens depend on, as
    JSON values; kept beside them. tokens.json is written last, so that a killed call leaves nothing
    that `read_tokens` takes for whole.
    progress: called with the number of tokens so far. Raises `InputError` for a token outside the
    tokenizer's vocabulary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4")
    starts, blank, total = [np.zeros(0, np.int64)], [np.zeros(0, bool)], 0
    partial = {
        name: folder / f".{name}.partial" for name in ("tokens.bin", "rows.npz", "tokens.json")
    }
    with open(partial["tokens.bin"], "wb") as file:
        for batch in _batches(rows):
            tokens, lengths = _encode(tokenizer, batch)
            if tokens.size and not (0 <= tokens.min() and tokens.max() < tokenizer.vocab_size):
                ids = (
                    f"ids {tokens.min()} to {tokens.max()}, outside its {tokenizer.vocab_size} "
                    "entries"
                )
                raise InputError(
                    f"tokenizer {tokenizer.name!r} gives {ids}; give one whose ids are 0 "
                    "to its size less 1"
                )
            tokens.astype(dtype).tofile(file)
            starts.append(total + np.cumsum(lengths) - lengths)
            blank.append(np.array([not row for row in batch]))
            total += len(tokens)
            progress(total)
        file.flush()
        os.fsync(file.fileno())
    starts, blank = np.concatenate(starts), np.concatenate(blank)
    with open(partial["rows.npz"], "wb") as file:
        np.savez(file, rows=starts, works=starts[1:][blank[:-1]])
    partial["tokens.json"].write_text(
        json.dumps({"tokens": total, "dtype": dtype.str, "made_from": made_from}, indent=2) + "\n"
    )
    for name, path in partial.items():
        path.replace(folder / name)


def flat_tokens(tokenizer: TextTokenizer, rows: Iterable[str]) -> np.ndarray:
    """All tokens [N] (int64) of rows encoded one by one."""
    return np.concatenate(
        [np.zeros(0, np.int64), *(_encode(tokenizer, batch)[0] for batch in _batches(rows))]
    )


def read_tokens(folder: pathlib.Path, made_from: dict) -> TokenFile | None:
    """The tokens in a folder, or None where they were not written to the end.

    Raises `InputError` where they were made from something else than `made_from`, or are damaged.
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
            f"{folder} holds tokens of another {' and '.join(differing)} (changed since "
            "the run began); choose another --out"
        )
    try:
        tokens = np.memmap(folder / "tokens.bin", about["dtype"], "r", shape=(about["tokens"],))
        with np.load(folder / "rows.npz") as file:
            return TokenFile(tokens, file["rows"], file["works"])
    except Exception as error:  # damaged files raise almost anything
        raise InputError(
            f"{folder} holds damaged tokens ({type(error).__name__}: {error}); {_AGAIN}"
        ) from None


def cut_windows(file: TokenFile, length: int, held_out: float) -> Windows:
    """The windows of a text: consecutive, the remainder of each part dropped.

    The last share `held_out` of the tokens, and at least one window of them, is held out. The cut
    lies between the two works (rows
    apart by a blank one) that are nearest to this share, or between two rows where no cut between
    works gives half to twice of it,
    or within a row where no row does either.
    Raises `InputError` for a text of fewer than two windows.
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
    train, end = (
        file.tokens[: cut // length * length],
        file.tokens[cut : cut + (total - cut) // length * length],
    )
    return Windows(
        train.reshape(-1, length),
        end.reshape(-1, length).astype(np.int32),
        np.zeros(cut // length, bool),
    )


def leave_out_shared(
    windows: Windows, others: list[np.ndarray], progress=lambda done: None
) -> Windows:
    """The same, with every training window left out that touches a run of `SHARED_RUN` tokens which
    is in one of `others` too.

    others: int [M] each, flat tokens of the same tokenizer. Runs are compared by 64-bit hashes: no
    shared run is missed, and two different ones are taken for the same with a probability of about
    (pairs compared) / 2**64.
    progress: called with the number of tokens that were looked at.
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
        progress(min(first + _RUNS_PER_CHUNK, len(tokens)))
    return windows._replace(left_out=left_out)


def _encode(tokenizer, batch):
    encoded = tokenizer.encode(batch)
    lengths = np.array([len(row) for row in encoded], np.int64)
    return np.fromiter(itertools.chain.from_iterable(encoded), np.int64, lengths.sum()), lengths


def _hashes(tokens):
    """A 64-bit number [N - 12] for each run: the polynomial of its tokens in an odd constant,
    modulo 2**64.
    """
    count = len(tokens) - SHARED_RUN + 1
    found = np.zeros(max(count, 0), np.uint64)
    for offset in range(SHARED_RUN if count > 0 else 0):
        found = found * _MULTIPLIER + tokens[offset : offset + count].astype(np.uint64)
    return found


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
