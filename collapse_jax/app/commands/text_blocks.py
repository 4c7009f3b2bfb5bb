"""The blocks of a run's corpus: tokenised once, as far as needed, and stored in the run folder."""

import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from collapse_jax.app.config import LMConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm.block_file import read_blocks, write_blocks
from collapse_jax.models.lm.corpus import TextTokenizer, shorter_than_a_block, stream_blocks
from collapse_jax.models.lm.notice import Say
from collapse_jax.models.lm.texts import Rows, name_of, open_text
from collapse_jax.runs import distributed
from collapse_jax.runs.session import Session

FOLDER = "tokens"
_DECISIVE = ("block_length", "train_blocks", "valid_blocks", "test_blocks", "blocks_from")
# Blocks of the training text that are not trained on, for a control that is given them.
OTHERS = "others"


class TextBlocks(NamedTuple):
    """The blocks that a run reads from its corpus.

    blocks: int32 [N, length] of "train", "valid", "test", and of `OTHERS` if the run is a control
        that needs them; the files are mapped into memory.
    digests: hash of the rows of each split.
    """

    blocks: dict[str, np.ndarray]
    digests: dict[str, str]


def blocks_of_corpus(
    config: LMConfig,
    tokenizer: TextTokenizer,
    vocabulary: int,
    *,
    run: pathlib.Path | None = None,
    session: Session = Session(),
    say: Say | None = None,
) -> TextBlocks:
    """Returns the blocks that settings ask for, from the run folder if `keep_blocks` stored them.

    Args:
        tokenizer: Of the model.
        vocabulary: Vocabulary size of the model.
        run: The path of the run folder, which need not exist.
        session: Progress (stage "encode").
        say: Called with lines on the files that are read; by default they are logged.

    Raises:
        InputError: If the corpus cannot be read, is too short, or has token ids outside the model's
            vocabulary.
    """
    text = open_text(name_of("corpus", config.corpus), say, config.text_column)
    made_from = _made_from(config, tokenizer, text.digests)
    if run is not None and made_from is not None:
        kept = read_blocks(run / FOLDER, made_from)
        if kept is not None:
            return TextBlocks(kept, text.digests)
    blocks: dict[str, np.ndarray] = {}
    for split, rows in text.rows.items():
        whole = split == "train" and config.control == "real"
        found = _cut(config, split, rows, tokenizer, vocabulary, whole, _nearest(run), session)
        numbers = _numbers(len(found), getattr(config, f"{split}_blocks"), config.blocks_from)
        blocks[split] = found[numbers]
        if whole:
            blocks[OTHERS] = np.delete(found, np.arange(len(found))[numbers], axis=0)
    return TextBlocks(blocks, text.digests)


def keep_blocks(
    run: pathlib.Path,
    config: LMConfig,
    tokenizer: TextTokenizer,
    blocks: Mapping[str, np.ndarray],
    digests: Mapping[str, str],
) -> None:
    """Stores blocks in an opened run folder, so that the next call need not tokenise.

    Args:
        run: The path of the folder.
        blocks, digests: As of `TextBlocks`.
    """
    made_from = _made_from(config, tokenizer, digests)
    if made_from is None or not distributed.is_first():
        return
    if read_blocks(run / FOLDER, made_from) is None:
        write_blocks(run / FOLDER, blocks, made_from)


def _made_from(config, tokenizer, digests) -> dict[str, Any] | None:
    """The inputs on which blocks depend; None if some are unknown."""
    if not tokenizer.identity:
        return None
    values = vars(config)
    control = {"control": "real"} if config.control == "real" else {}
    return {
        "tokenizer": tokenizer.identity,
        "text": dict(digests),
        **{name: values[name] for name in _DECISIVE},
        **control,
    }


def _cut(config, split, rows: Rows, tokenizer, vocabulary, whole, where, session):
    """The blocks of a split, from the start as far as needed, in a temporary file."""
    wanted, length, count = getattr(config, f"{split}_blocks"), config.block_length, 0
    is_enough = wanted if wanted and config.blocks_from == "start" and not whole else None
    with _unnamed_file(where) as file:
        for batch in stream_blocks(rows, tokenizer, length):
            if batch.size and batch.max() >= vocabulary:
                raise InputError(
                    f"tokenizer {tokenizer.name!r} gives ids up to {batch.max()}, but the model's "
                    f"vocabulary has {vocabulary}; give the model's own tokenizer"
                )
            batch.tofile(file)
            count += len(batch)
            session.progress("encode", count * length, None)
            if is_enough is not None and count >= is_enough:
                break
        if not count:
            raise shorter_than_a_block(length)
        if wanted > count:
            raise InputError(
                f"{split}_blocks is {wanted}, but the corpus has {count} blocks; give at most "
                "that, or 0 for all"
            )
        file.flush()
        return np.memmap(file, np.int32, "r", shape=(count, length))


def _unnamed_file(where):
    """An open file without a name, which ends with this process; in that folder if possible."""
    try:
        return tempfile.TemporaryFile(dir=where)
    except OSError:  # opening the run folder there says why
        return tempfile.TemporaryFile()


def _numbers(count, wanted, blocks_from):
    """Numbers of the blocks: the first `wanted` of `count`, or as many evenly spaced; 0 is all."""
    if not wanted or blocks_from == "start":
        return slice(wanted or None)
    return (2 * np.arange(wanted) + 1) * count // (2 * wanted)


def _nearest(run):
    """The innermost existing folder above a run, on the disk that will store the blocks."""
    if run is None:
        return None
    return next((parent for parent in run.resolve().parents if parent.is_dir()), None)
