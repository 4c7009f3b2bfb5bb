"""Text in: rows of a corpus, a tokenizer, and blocks of tokens as the released code builds them."""

import functools
import hashlib
import itertools
import json
import os
import pathlib
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from collapse_jax.errors import InputError, whole
from collapse_jax.models.lm.bounded import encoded, no_panics
from collapse_jax.models.lm.embedded_text import Corpus, embedded_corpus
from collapse_jax.models.lm.notice import Say, tell
from collapse_jax.models.lm.text_files import read_rows, stream_rows, whole_text
from collapse_jax.models.lm.texts import StreamedRows, name_of, open_text
from collapse_jax.models.lm.tokenizer_settings import (
    SPECIAL_TOKENS,
    TOKENIZER_FILES,
    beyond_the_file,
    made_deterministic,
    special_ids,
)
from collapse_jax.models.lm.training_text import (
    fingerprint,
    tell_training,
    training_files,
    training_rows,
)

__all__ = [
    "Corpus",
    "TextTokenizer",
    "blocks_of",
    "embedded_corpus",
    "fingerprint",
    "load_corpus",
    "load_tokenizer",
    "read_rows",
    "stream_rows",
    "tell_training",
    "tokenizer_files",
    "training_files",
    "training_rows",
]

# Batches of 1,000 rows in each of 4 shards, remainders dropped: of 1 to 16 shards, only 4 give the
# released code's block counts.
_ROWS_PER_BATCH = 1000
_SHARDS = 4
_EMBEDDED_VOCABULARY = 2048
_SMALLEST_VOCABULARY, _LARGEST_VOCABULARY = 260, 1_000_000
_TOKENIZER_NAME = re.compile(r"([\w.-]{1,96}/)?[\w.-]{1,96}", re.ASCII)
_SPECIAL = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class TextTokenizer(NamedTuple):
    """A tokenizer.

    name: where it came from.
    encode: rows -> token ids of each row, after the beginning-of-text id.
    decode: ids -> text.
    vocab_size: ids in use.
    special: ids of "bos_token", "eos_token", "pad_token" and "unk_token", if its files name them.
    entries: () -> the vocabulary's entry of each id, or None. They make it possible to find a stop
        inside a token, to the byte.
    identity: a hash of everything that determines its encoding; "" if that is unknown.
    backend: the underlying `tokenizers.Tokenizer`, which decodes single tokens; None without one.
    """

    name: str
    encode: Callable[[list[str]], list[list[int]]]
    decode: Callable[[list[int]], str]
    vocab_size: int
    special: Mapping[str, int] = types.MappingProxyType({})
    entries: Callable[[], list[str | None]] | None = None
    identity: str = ""
    backend: Any = None


def load_corpus(source: str, say: Say | None = None, text_column: str | None = None) -> Corpus:
    """Returns the three splits of a text.

    Args:
        source: "embedded" (the text that comes with Python), a local file or folder, or a name on
            the hub: "wikitext-2-raw-v1" (or another WikiText), "tinystories", "xsum", or any
            owner/name or owner/name:configuration. A file is cut into 80 %, 10 % and 10 %. A folder
            contains a file, numbered shards or a sub-folder for each split. Its name must have a
            whole word of the split: train or training; valid, validation, val or dev; test or
            testing. "wiki.train.tokens" has one; "latest.txt" and "invalid.txt" do not. A file with
            the word "raw" is left out if there is one without. Files are .txt .raw .tokens .json
            .jsonl .parquet, plain or .xz or .gz. If a hub data set has only one of validation and
            test, it is divided into two halves.
        say: Called with one line: which files are read, their size, what is left out, and how many
            rows of the held-out splits also occur in the training text. By default the line is
            logged, as a warning if a text is left out or many rows are shared.
        text_column: Column of parquet, JSON or a hub data set; by default "text", and "document"
            for xsum.

    Raises:
        InputError: If something is missing, empty or unreadable, or if a name does not identify its
            split.
    """
    rows = open_text(name_of("corpus", source), say, text_column).rows
    return Corpus(**{split: list(part) for split, part in rows.items()})


def load_tokenizer(source: str, say: Say | None = None) -> TextTokenizer:
    """Returns a tokenizer by name, which encodes as `AutoTokenizer` of transformers by default.

    A text is never truncated or padded, and gives the same ids at every call: truncation, padding
    and dropout of merges in a tokenizer.json are switched off.

    Args:
        source: A local folder (tokenizer.json, or vocab.json and merges.txt), a GGUF file, a hub
            name, or "embedded": a byte-level BPE of 2,048 entries, trained on the embedded corpus
            in a second.
        say: Called with a line that names what was switched off, if anything was; by default the
            line is logged as a warning.

    Raises:
        InputError: If it cannot be loaded.
    """
    source = name_of("tokenizer", source)
    if source == "embedded":
        tokenizer = _train_embedded()
        ids = {kind: tokenizer.token_to_id(token) for kind, token in _SPECIAL.items()}
        return _wrap(source, tokenizer, ids, say)
    path = pathlib.Path(source).expanduser()
    if (path / "tokenizer.json").is_file():
        return _from_file(source, path, say)
    if path.suffix == ".gguf" and path.is_file():
        return _from_gguf(source, path, say)
    if path.exists() and not (path / "vocab.json").is_file():
        raise InputError(
            f"tokenizer folder {source!r} contains neither tokenizer.json nor vocab.json and "
            "merges.txt"
        )
    return _from_transformers(source, path if path.exists() else source, say)


def _from_gguf(source, path, say):
    from collapse_jax.models.lm.gguf_file import tokenizer_of

    tokenizer, special = tokenizer_of(path)
    return _wrap(
        source,
        tokenizer,
        {kind: tokenizer.token_to_id(text) for kind, text in special.items()},
        say,
    )


def _from_file(source, folder, say):
    from tokenizers import Tokenizer

    try:
        with no_panics(source):
            tokenizer = Tokenizer.from_file(os.fspath(folder / "tokenizer.json"))
    except InputError:
        raise
    except Exception as error:  # tokenizers raises bare Exception for a broken file
        raise InputError(f"tokenizer {folder / 'tokenizer.json'} cannot be read: {error}") from None
    beyond = beyond_the_file(folder)
    if beyond:
        return _from_transformers(source, folder, say, f": {beyond}, beyond tokenizer.json")
    return _wrap(source, tokenizer, special_ids(folder, tokenizer), say)


def tokenizer_files(
    source: str, rows: Iterable[str] = (), say: Say | None = None
) -> dict[str, str]:
    """The files of a tokenizer's folder by name, for `load_tokenizer` and for transformers.

    Args:
        source: "embedded"; "train:N", a byte-level BPE of N entries that puts </s> (id 2) before
            every text, as OPT's own does; or a local folder, whose files are taken as they are.
        rows: What "train:N" is trained on.
        say: As in `load_tokenizer`.

    Raises:
        InputError: If N is below 260 (256 bytes and 4 special entries) or above a million, or the
            folder has no tokenizer.
    """
    trained = re.fullmatch("train:([0-9]{1,12})", source)
    if trained and int(trained[1]) < _SMALLEST_VOCABULARY:
        raise InputError(
            f"tokenizer is {source!r}; it must have at least {_SMALLEST_VOCABULARY} "
            "entries (256 bytes and 4 special ones)"
        )
    if trained and int(trained[1]) > _LARGEST_VOCABULARY:
        raise InputError(
            f"tokenizer is {source!r}; it must have at most {_LARGEST_VOCABULARY} entries"
        )
    if trained or source == "embedded":
        tokenizer = _train_bpe(rows, int(trained[1])) if trained else _train_embedded()
        config = (
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | _SPECIAL, indent=2) + "\n"
        )
        return {
            "tokenizer.json": tokenizer.to_str(pretty=True) + "\n",
            "tokenizer_config.json": config,
        }
    folder = pathlib.Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"tokenizer is {source!r}; it must be a folder, 'embedded', or 'train:N' for N entries"
        )
    load_tokenizer(source, say)
    return {
        name: (folder / name).read_text(encoding="utf-8")
        for name in TOKENIZER_FILES
        if (folder / name).is_file()
    }


def blocks_of(
    rows: list[str] | StreamedRows, tokenizer: TextTokenizer, length: int = 64
) -> np.ndarray:
    """Blocks of tokens [N, length] (int32) with the released code's block counts.

    Rows are encoded one by one and concatenated batch by batch; each batch's remainder is dropped.
    A batch is up to 1,000 rows of one of four contiguous shards.

    Raises:
        InputError: If the length is below 2, the rows are a single text or together shorter than
            one block, or the tokenizer gives an invalid id.
    """
    blocks = list(stream_blocks(rows, tokenizer, length))
    if not any(map(len, blocks)):
        raise shorter_than_a_block(length)
    return np.concatenate(blocks)


def shorter_than_a_block(length: int) -> InputError:
    """The error for a text that is shorter than one block."""
    return InputError(
        f"the corpus is shorter than one block of {length} tokens; give more text or a "
        "smaller block_length"
    )


def stream_blocks(
    rows: list[str] | StreamedRows, tokenizer: TextTokenizer, length: int = 64
) -> Iterator[np.ndarray]:
    """The blocks of `blocks_of`, a batch [n, length] after another; n may be 0."""
    if isinstance(rows, str):
        raise InputError(f"rows is one text, {rows!r:.80}; it must be a list of texts")
    whole("block_length", length, 2)
    following = iter(rows)
    for shard in np.array_split(np.arange(len(rows)), _SHARDS):
        for start in range(0, len(shard), _ROWS_PER_BATCH):
            size = min(_ROWS_PER_BATCH, len(shard) - start)
            batch = list(itertools.islice(following, size))
            tokens = [token for row in tokenizer.encode(batch) for token in row]
            kept = len(tokens) // length * length
            if min(tokens, default=0) < 0:
                raise InputError(
                    f"tokenizer {tokenizer.name!r} gives id {min(tokens)}; 0 is the smallest"
                )
            if max(tokens, default=0) > np.iinfo(np.int32).max:
                raise InputError(
                    f"tokenizer {tokenizer.name!r} gives id {max(tokens)}; 2147483647 is "
                    "the largest"
                )
            yield np.array(tokens[:kept], np.int32).reshape(-1, length)


@functools.cache
def _train_embedded():
    return _train_bpe(embedded_corpus().train, _EMBEDDED_VOCABULARY)


def _train_bpe(rows, size):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(rows, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", 2)]
    )
    return tokenizer


def _wrap(name, tokenizer, special, say):
    _say_off(name, tokenizer, say)
    return TextTokenizer(
        name,
        lambda rows: [encoding.ids for encoding in _encoded(name, tokenizer.encode_batch, rows)],
        lambda ids: tokenizer.decode([int(i) for i in ids], skip_special_tokens=False),
        tokenizer.get_vocab_size(),
        special,
        lambda: [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())],
        _identity(tokenizer),
        tokenizer,
    )


def _identity(tokenizer):
    """Changes with the version of the package, too."""
    import tokenizers

    text = f"{tokenizers.__version__} {tokenizer.to_str()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _say_off(name, tokenizer, say):
    off = made_deterministic(tokenizer)
    if off:
        line = (
            f"tokenizer {name}: its file asks for {' and '.join(off)}, which is switched off; "
            "every text is encoded as a whole, and identically at each call"
        )
        tell(say, line, matters=True)


def _encoded(name, encode, rows):
    """encode(rows), which ends; a row that is no text is one line instead of a TypeError."""
    if isinstance(rows, str):
        raise InputError(
            f"tokenizer {name!r} is given one text, {rows!r:.80}; give a list of texts"
        )
    try:
        return encoded(name, encode, rows)
    except TypeError:
        for number, row in enumerate(rows):
            where = f"tokenizer {name!r}, row {number}"
            if not isinstance(row, str):
                raise InputError(f"{where}: {row!r:.200} is not a text") from None
            whole_text(row, where)
        raise


def _from_transformers(name, source, say, why=""):
    if isinstance(source, str) and not _TOKENIZER_NAME.fullmatch(source):
        raise InputError(
            f"tokenizer {name!r} is neither a local folder nor a hub name (owner/name); give one, "
            "or 'embedded'"
        )
    try:
        import transformers
        from transformers import AutoTokenizer

        # Said although it is the default: no code of a repository is ever run.
        tokenizer = AutoTokenizer.from_pretrained(os.fspath(source), trust_remote_code=False)
    except ImportError:
        raise InputError(
            f"tokenizer {name!r} needs the package 'transformers'{why}: pip install transformers"
        ) from None
    except Exception as error:  # transformers and the hub client raise many kinds
        raise InputError(
            f"tokenizer {name!r} cannot be loaded ({type(error).__name__}); give a local folder"
        ) from None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # AutoTokenizer cuts and pads only where it is told to, but keeps a dropout.
        _say_off(name, backend, say)
    ids = {kind: getattr(tokenizer, f"{kind}_id", None) for kind in SPECIAL_TOKENS}
    kind_name = type(tokenizer).__name__

    def encode(rows):
        return [tokenizer(row)["input_ids"] for row in rows]

    return TextTokenizer(
        name,
        lambda rows: _encoded(name, encode, rows),
        lambda ids: tokenizer.decode([int(i) for i in ids]),
        len(tokenizer),
        {kind: number for kind, number in ids.items() if number is not None},
        lambda: tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        # What transformers adds to the file is a matter of its version and the class.
        "" if backend is None else f"{_identity(backend)} {transformers.__version__} {kind_name}",
        backend,
    )
