"""The inputs of pretraining besides settings: tokenizer, tokens, windows, model sizes."""

import collections
import hashlib
import json
import math
import os
import pathlib
import tempfile
from typing import Any, NamedTuple

from collapse_jax.app.commands import inputs
from collapse_jax.app.config import PretrainConfig
from collapse_jax.app.config.pretrain import PretrainSettings
from collapse_jax.errors import InputError
from collapse_jax.models.lm.assemble import tensor_table
from collapse_jax.models.lm.corpus import (
    TextTokenizer,
    fingerprint,
    load_corpus,
    load_tokenizer,
    tell_training,
    tokenizer_files,
    training_rows,
)
from collapse_jax.models.lm.notice import Say
from collapse_jax.models.lm.opt import OPT, OPTConfig
from collapse_jax.models.lm.token_file import (
    Windows,
    cut_windows,
    flat_tokens,
    leave_out_shared,
    read_tokens,
    write_tokens,
)
from collapse_jax.runs import made_of
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.session import Session

# A vocabulary is rounded up to a multiple of this, which suits matrix units; OPT's 50,265 entries
# become its 50,272.
_VOCABULARY_STEP = 8
CHECKPOINTS_KEPT = 2


class Materials(NamedTuple):
    """The inputs of the steps besides settings.

    model: the network, without parameters.
    windows: the windows of the text.
    """

    model: OPT
    windows: Windows


def model_config(config: PretrainConfig, tokenizer: TextTokenizer) -> OPTConfig:
    """Returns the sizes of the model, and its special tokens from the tokenizer's files.

    If the files name none, the token to which an empty text is encoded begins and ends a text.
    """
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "ffn_dim",
        "max_position_embeddings",
    )
    vocabulary = -(-tokenizer.vocab_size // _VOCABULARY_STEP) * _VOCABULARY_STEP
    first = next(iter(tokenizer.encode([""])[0]), OPTConfig.bos_token_id)
    end = tokenizer.special.get("eos_token", first)
    special = {
        "bos_token_id": first,
        "eos_token_id": end,
        # Where a tokenizer has names for special tokens, but none for padding, the end stands in.
        "pad_token_id": tokenizer.special.get("pad_token", end)
        if tokenizer.special
        else OPTConfig.pad_token_id,
    }
    sizes = {name: getattr(config, name) for name in names}
    return OPTConfig(vocab_size=vocabulary, dropout=0.0, **special, **sizes)


def parameters_of(config: OPTConfig) -> int:
    """Returns the number of parameters of a model."""
    return sum(math.prod(row.shape) for row in tensor_table(OPT(config)))


def prepare(
    settings: PretrainSettings,
    out: str | os.PathLike,
    *,
    session: Session = Session(),
    say: Say | None = None,
) -> tuple[RunFolder, Materials]:
    """Opens the run folder, makes or reads its tokenizer and tokens, and cuts the text to windows.

    Args:
        session: Progress (stages "encode", "compare", ...).
        say: Called with lines about text that is read or left out; by default they are logged.

    Raises:
        InputError: Before writing, for a bad input, or other settings, text or tokenizer.
    """
    config = settings.config
    folder = RunFolder(out)
    tell_training(config.corpus, say)
    kept_out = rows_to_exclude(config.exclude, say)
    read = (
        corpus_read(config)
        | inputs.tokenizer_files(config.tokenizer)
        | excluded_read(config, kept_out)
    )
    folder.check(config, read)
    made_from = {
        "corpus": fingerprint(config.corpus),
        "tokenizer": _tokenizer_fingerprint(config.tokenizer),
        "exclude": [_sha256("".join(rows)) for rows in kept_out],
    }
    if config.text_column is not None:  # folders of versions without it have no such entry
        made_from["text_column"] = config.text_column
    file = read_tokens(folder.path / "tokens", made_from)
    if file is None:
        session.progress("read the tokenizer, or train it", 0, None)
        rows = training_rows(config.corpus, config.text_column)
        files = tokenizer_files(config.tokenizer, rows, say)
        folder = _open_new(config, out, made_from, files, read)
        tokenizer = load_tokenizer(str(folder.path / "tokenizer"), said_before)
        rows, tokens = training_rows(config.corpus, config.text_column), folder.path / "tokens"
        write_tokens(tokens, rows, tokenizer, made_from, session=session)
        file = read_tokens(tokens, made_from)
    else:
        folder = RunFolder.open(out, config, inputs=read)
        tokenizer = load_tokenizer(str(folder.path / "tokenizer"), said_before)
    assert file is not None  # just written
    folder.keep_inputs(_own_files(folder))
    windows = _windows(config, file, tokenizer, kept_out, session)
    model = OPT(model_config(config, tokenizer))
    counts = json.dumps(_counts(file, windows, model), indent=2)
    folder.write_text("counts.json", counts + "\n")
    return folder, Materials(model, windows)


def _counts(file, windows, model):
    """What counts.json holds."""
    return {
        "tokens": len(file.tokens),
        "rows": len(file.rows),
        "train_windows": len(windows.train),
        "left_out_windows": int(windows.left_out.sum()),
        "held_out_windows": len(windows.held_out),
        "parameters": parameters_of(model.config),
    }


def _windows(config, file, tokenizer, kept_out, session):
    """The windows of the text, without those that share text with what is kept out."""
    windows = cut_windows(file, config.block_length, config.held_out)
    if kept_out:
        others = [flat_tokens(tokenizer, rows) for rows in kept_out]
        windows = leave_out_shared(windows, others, session=session)
        if windows.left_out.all():
            raise InputError(
                f"exclude is {config.exclude!r}; every window of the corpus shares text "
                "with it, so give another corpus"
            )
    return windows


def _open_new(config, out, made_from, files, read):
    """The run folder with its tokenizer, after refusing a corpus that is too short."""
    with tempfile.TemporaryDirectory() as aside:
        for name, text in files.items():
            pathlib.Path(aside, name).write_text(text, encoding="utf-8")
        tokenizer = load_tokenizer(aside, said_before)
    count, least = 0, 2 * config.block_length
    rows = training_rows(config.corpus, config.text_column)
    for row in rows:
        count += len(tokenizer.encode([row])[0])
        if count >= least:
            break
    else:
        raise InputError(
            f"corpus {config.corpus!r} has {count} tokens; give at least {least}, 2 "
            "windows of block_length"
        )
    # To its end, so that a damaged file is found before anything is written.
    collections.deque(rows, maxlen=0)
    # Parameters and Adam's two moments, in the checkpoints that are kept and the one being written;
    # the tokens of a packed text.
    states = (CHECKPOINTS_KEPT + 1) * 3 * 4 * parameters_of(model_config(config, tokenizer))
    tokens = 4 * sum(size for _, size, _ in made_from["corpus"])
    folder = RunFolder.open(out, config, states + tokens, inputs=read)
    for name, text in files.items():
        folder.write_text(f"tokenizer/{name}", text)
    return folder


def said_before(line: str) -> None:
    """For reading again what everything has been said of."""


def corpus_read(config: PretrainConfig) -> dict[str, Any]:
    """What the run folder keeps of the files that are read."""
    hashes = {name: digest for name, _, digest in fingerprint(config.corpus)}
    return {"corpus": {"where": config.corpus, "contents": hashes}}


def excluded_read(config: PretrainConfig, kept_out: list) -> dict[str, Any]:
    """What the run folder keeps of the text that is kept out: its rows."""
    if config.exclude is None:
        return {}
    hashes = dict(zip(("valid", "test"), map(made_of.of_texts, kept_out), strict=True))
    return {"text to exclude": {"where": config.exclude, "contents": hashes}}


def _own_files(folder):
    """What the run folder keeps of its own tokens and tokenizer, which the steps read."""
    return inputs.files_of("tokens", str(folder.path / "tokens")) | inputs.files_of(
        "tokenizer of the run", str(folder.path / "tokenizer")
    )


def rows_to_exclude(source: str | None, say: Say | None) -> list:
    """Rows of the valid and of the test text of a corpus; [] without one."""
    try:
        return [] if source is None else list(load_corpus(source, say)[1:])
    except InputError as error:
        raise InputError(f"exclude is {source!r}: {error}") from None


def _tokenizer_fingerprint(source):
    """Changes with the tokenizer; one that is trained depends on the corpus and its size alone."""
    if source.startswith("train:"):
        return source
    return {name: _sha256(text) for name, text in tokenizer_files(source, (), said_before).items()}


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()
