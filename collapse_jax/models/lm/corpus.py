"""Text in: rows of a corpus, a tokenizer, and blocks of tokens as the released code builds them."""

import functools
import gzip
import hashlib
import json
import lzma
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from collapse_jax.errors import InputError, whole
from collapse_jax.models.lm.bounded import encoded, no_panics

# Batches of 1,000 rows in each of 4 shards, remainders dropped: of 1 to 16 shards, only 4 give the
# released code's block counts.
_ROWS_PER_BATCH = 1000
_SHARDS = 4
_SPLITS = {"train": ("train",), "valid": ("valid", "validation", "dev"), "test": ("test",)}
_SUFFIXES = (".txt", ".raw", ".jsonl", ".parquet")
_EMBEDDED_VOCABULARY = 2048
_SMALLEST_VOCABULARY, _LARGEST_VOCABULARY = 260, 1_000_000
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
_TOKENIZER_NAME = re.compile(r"([\w.-]{1,96}/)?[\w.-]{1,96}", re.ASCII)
_SPECIAL = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class Corpus(NamedTuple):
    """Rows of text by split; a blank row is "", any other ends as it did in its file."""

    train: list[str]
    valid: list[str]
    test: list[str]


class TextTokenizer(NamedTuple):
    """A tokenizer.

    name: where it came from.
    encode: rows -> token ids of each row, after the beginning-of-text id.
    decode: ids -> text.
    vocab_size: ids in use.
    """

    name: str
    encode: Callable[[list[str]], list[list[int]]]
    decode: Callable[[list[int]], str]
    vocab_size: int


def load_corpus(source: str) -> Corpus:
    """The three splits of a text.

    Args:
        source: "embedded" (the text that comes with Python), a local file or folder, or
            "wikitext-2-raw-v1" (or another WikiText) from the hub. A file is cut into 80 %, 10 %
            and 10 %. A folder holds one file per split, whose name contains train, valid (or
            validation, dev) or test; among several, one without "raw" in its name goes first.
            Files are .txt .raw .jsonl .parquet, plain or .xz or .gz.

    Raises:
        InputError: If something is missing, empty or unreadable.
    """
    path = pathlib.Path(source).expanduser()
    if source == "embedded":
        corpus = embedded_corpus()
    elif path.is_dir():
        corpus = Corpus(**{split: read_rows(_split_file(path, split)) for split in _SPLITS})
    elif path.is_file():
        rows = read_rows(path)
        first, second = len(rows) * 8 // 10, len(rows) * 9 // 10
        corpus = Corpus(rows[:first], rows[first:second], rows[second:])
    elif re.fullmatch(r"wikitext-(2|103)(-raw)?-v1", source):
        corpus = _from_hub(source)
    else:
        raise InputError(
            f"corpus {source!r} is neither a file nor a folder; give one, or 'embedded', or a hub "
            "name such as wikitext-2-raw-v1"
        )
    for split, rows in corpus._asdict().items():
        if not any(row.strip() for row in rows):
            raise InputError(f"corpus {source!r}: its {split} split is empty; it must hold text")
    return corpus


def embedded_corpus() -> Corpus:
    """The reference text in every CPython (`pydoc_data.topics`), one paragraph per row.

    One topic in 10 is for validation, and one for the test.
    """
    from pydoc_data.topics import topics

    splits = {"train": [], "valid": [], "test": []}
    for index, name in enumerate(sorted(topics)):
        split = {3: "valid", 7: "test"}.get(index % 10, "train")
        paragraphs = re.split(r"\n\s*\n", topics[name])
        splits[split] += [
            re.sub(r"\s+", " ", paragraph).strip() + "\n"
            for paragraph in paragraphs
            if paragraph.strip()
        ]
    return Corpus(**splits)


def read_rows(path: str | os.PathLike) -> list[str]:
    """Rows of one text file: lines with their newline, or "text" fields of .jsonl and .parquet.

    Blank ones are "".
    """
    return list(stream_rows(path))


def stream_rows(path: str | os.PathLike) -> Iterator[str]:
    """The rows of `read_rows` one by one; the file is never in memory as a whole.

    Raises:
        InputError: If reading fails.
    """
    path = pathlib.Path(path)
    suffix = pathlib.Path(path.stem if path.suffix in (".xz", ".gz") else path.name).suffix
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    try:
        if suffix == ".parquet":
            yield from _texts(path, _parquet_rows(path))
        else:
            with opener(path, "rt", encoding="utf-8", newline="\n") as lines:
                if suffix == ".jsonl":
                    lines = (json.loads(line)["text"] for line in lines if line.strip())
                yield from _texts(path, lines)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"corpus file {path} cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"corpus file {path}: each line must be a JSON object with a field 'text' ({error!r})"
        ) from None


def _texts(path, rows):
    for row in rows:
        if not isinstance(row, str):
            raise InputError(
                f"corpus file {path}: a row holds {row!r}; each 'text' must be a string"
            )
        yield row if row.strip() else ""


def training_files(source: str) -> list[pathlib.Path]:
    """The files that pretraining reads: one file, a folder's train file, or all its text files.

    Raises:
        InputError: If there are none.
    """
    path = pathlib.Path(source).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(
            f"corpus {source!r} is neither a file nor a folder; give one, or 'embedded'"
        )
    files = [file for file in sorted(path.iterdir()) if _is_text(file)]
    if not files:
        raise InputError(
            f"corpus folder {source!r} has no text file; it needs one such as train.txt "
            "(.xz, .gz, .jsonl, .parquet)"
        )
    has_train = any("train" in file.name.lower() for file in files)
    return [_split_file(path, "train")] if has_train else files


def training_rows(source: str) -> Iterator[str]:
    """Rows of `training_files` as a stream, or of the train split of "embedded"."""
    if source == "embedded":
        yield from embedded_corpus().train
    else:
        for path in training_files(source):
            yield from stream_rows(path)


def fingerprint(source: str) -> list[list]:
    """[name, bytes, sha256] of each of the `training_files`, or of the embedded text."""
    if source == "embedded":
        text = "".join(embedded_corpus().train).encode()
        return [[source, len(text), hashlib.sha256(text).hexdigest()]]
    files = []
    for path in training_files(source):
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files.append([path.name, path.stat().st_size, digest])
        except OSError as error:
            raise InputError(f"corpus file {path} cannot be read: {error}") from None
    return files


def load_tokenizer(source: str) -> TextTokenizer:
    """A tokenizer by name.

    Args:
        source: A local folder (tokenizer.json, or vocab.json and merges.txt), a hub name, or
            "embedded": a byte-level BPE of 2,048 entries, trained on the embedded corpus in a
            second.

    Raises:
        InputError: If it cannot be loaded.
    """
    if source == "embedded":
        return _wrap(source, _train_embedded())
    path = pathlib.Path(source).expanduser()
    if (path / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        try:
            with no_panics(source):
                return _wrap(source, Tokenizer.from_file(os.fspath(path / "tokenizer.json")))
        except Exception as error:  # tokenizers raises bare Exception for a broken file
            raise InputError(
                f"tokenizer {path / 'tokenizer.json'} cannot be read: {error}"
            ) from None
    if path.exists() and not (path / "vocab.json").is_file():
        raise InputError(
            f"tokenizer folder {source!r} holds neither tokenizer.json nor vocab.json and "
            "merges.txt"
        )
    return _from_transformers(source, path if path.exists() else source)


def tokenizer_files(source: str, rows: Iterable[str] = ()) -> dict[str, str]:
    """The files of a tokenizer's folder by name, for `load_tokenizer` and for transformers.

    Args:
        source: "embedded"; "train:N", a byte-level BPE of N entries that puts </s> (id 2) before
            every text, as OPT's own does; or a local folder, whose files are taken as they are.
        rows: What "train:N" is trained on.

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
    load_tokenizer(source)
    return {
        name: (folder / name).read_text(encoding="utf-8")
        for name in _TOKENIZER_FILES
        if (folder / name).is_file()
    }


def blocks_of(rows: list[str], tokenizer: TextTokenizer, length: int = 64) -> np.ndarray:
    """Blocks of tokens [N, length] (int32) with the released code's block counts.

    Rows are encoded one by one and concatenated batch by batch; each batch's remainder is dropped.
    A batch is up to 1,000 rows of one of four contiguous shards.

    Raises:
        InputError: If the length is below 2, or the text is shorter than one block.
    """
    whole("block_length", length, 2)
    blocks = [np.zeros((0, length), np.int32)]
    for shard in np.array_split(np.arange(len(rows)), _SHARDS):
        for start in range(0, len(shard), _ROWS_PER_BATCH):
            batch = [rows[i] for i in shard[start : start + _ROWS_PER_BATCH]]
            tokens = [token for row in tokenizer.encode(batch) for token in row]
            kept = len(tokens) // length * length
            if max(tokens, default=0) > np.iinfo(np.int32).max:
                raise InputError(
                    f"tokenizer {tokenizer.name!r} gives id {max(tokens)}; 2147483647 is "
                    "the largest"
                )
            blocks.append(np.array(tokens[:kept], np.int32).reshape(-1, length))
    blocks = np.concatenate(blocks)
    if not len(blocks):
        raise InputError(
            f"the corpus is shorter than one block of {length} tokens; give more text or a "
            "smaller block_length"
        )
    return blocks


def _split_file(folder, split):
    files = [
        file
        for file in sorted(folder.iterdir())
        if _is_text(file) and any(word in file.name.lower() for word in _SPLITS[split])
    ]
    if not files:
        raise InputError(
            f"corpus folder {folder} has no {split} file; it needs one such as {split}.txt "
            "(.xz, .gz, .jsonl, .parquet)"
        )
    return min(files, key=lambda file: ("raw" in file.name.lower(), file.name))


def _is_text(path):
    name = path.name.removesuffix(".xz").removesuffix(".gz")
    return path.is_file() and name.endswith(_SUFFIXES)


def _parquet_rows(path):
    try:
        from pyarrow import parquet  # comes with datasets, whose own reader logs and shows bars

        with parquet.ParquetFile(os.fspath(path)) as file:
            for batch in file.iter_batches(columns=["text"]):
                yield from batch["text"].to_pylist()
    except ImportError:
        raise InputError(
            f"corpus file {path} needs the package 'datasets': pip install datasets"
        ) from None
    except Exception as error:  # pyarrow raises many kinds
        raise InputError(
            f"corpus file {path} cannot be read as parquet with a column 'text' "
            f"({type(error).__name__})"
        ) from None


def _from_hub(name):
    try:
        from datasets import load_dataset

        loaded = load_dataset("Salesforce/wikitext", name)
    except ImportError:
        raise InputError(
            f"corpus {name!r} comes from the hub by the package 'datasets': pip install datasets"
        ) from None
    except Exception as error:  # the hub client raises many kinds
        raise InputError(
            f"corpus {name!r} cannot be loaded from the hub ({type(error).__name__}); give a "
            "local folder"
        ) from None
    return Corpus(*(list(loaded[split]["text"]) for split in ("train", "validation", "test")))


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


def _wrap(name, tokenizer):
    return TextTokenizer(
        name,
        lambda rows: [encoding.ids for encoding in encoded(name, tokenizer.encode_batch, rows)],
        lambda ids: tokenizer.decode([int(i) for i in ids], skip_special_tokens=False),
        tokenizer.get_vocab_size(),
    )


def _from_transformers(name, source):
    if isinstance(source, str) and not _TOKENIZER_NAME.fullmatch(source):
        raise InputError(
            f"tokenizer {name!r} is neither a folder here nor a hub name (owner/name); give "
            "one, or 'embedded'"
        )
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(os.fspath(source))
    except ImportError:
        raise InputError(
            f"tokenizer {name!r} needs the package 'transformers': pip install transformers"
        ) from None
    except Exception as error:  # transformers and the hub client raise many kinds
        raise InputError(
            f"tokenizer {name!r} cannot be loaded ({type(error).__name__}); give a local folder"
        ) from None

    def encode(rows):
        return [tokenizer(row)["input_ids"] for row in rows]

    return TextTokenizer(
        name,
        lambda rows: encoded(name, encode, rows),
        lambda ids: tokenizer.decode([int(i) for i in ids]),
        len(tokenizer),
    )
