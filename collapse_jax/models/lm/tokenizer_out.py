"""A tokenizer as the files of a folder, which `AutoTokenizer` of transformers opens."""

import json
import os
import pathlib
import shutil

from collapse_jax.errors import InputError, first_line
from collapse_jax.models.lm.corpus import TextTokenizer, tokenizer_files
from collapse_jax.models.lm.tokenizer_fit import PROBE
from collapse_jax.models.lm.tokenizer_settings import TOKENIZER_FILES

# What a folder may hold of a tokenizer beside the files that are read here.
_OTHER_FILES = ("tokenizer.model", "spiece.model", "chat_template.jinja", "vocab.txt")
# The class of transformers that takes tokenizer.json as it is.
_AS_IT_IS = {"tokenizer_class": "PreTrainedTokenizerFast"}


def write_tokenizer(folder: pathlib.Path, source: str, tokenizer: TextTokenizer) -> None:
    """Writes the files of a tokenizer, and compares it with what transformers reads from them.

    Args:
        folder: The folder with the model's config.json, from which transformers takes a class if
            the files name none.
        source: Where it came from, as `load_tokenizer` takes it.
        tokenizer: The result of `load_tokenizer` for it.

    Raises:
        InputError: If transformers encodes with the files differently from `tokenizer`.
    """
    _write(folder, source)
    why = _difference(folder, tokenizer)
    config = folder / "tokenizer_config.json"
    if why and (folder / "tokenizer.json").is_file():
        # The class of the model beside it builds the tokenizer anew; the file alone does not.
        named = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        config.write_text(json.dumps(named | _AS_IT_IS, indent=2) + "\n", encoding="utf-8")
        why = _difference(folder, tokenizer)
    if why:
        raise InputError(
            f"tokenizer {source!r}: transformers encodes otherwise with a copy of its files ({why})"
        )


def _write(folder, source):
    path = pathlib.Path(source).expanduser()
    if source == "embedded":
        texts = tokenizer_files(source)
    elif path.suffix == ".gguf" and path.is_file():
        texts = _of_gguf(path)
    elif path.is_dir():
        for name in (*TOKENIZER_FILES, *_OTHER_FILES):
            if (path / name).is_file():
                shutil.copyfile(path / name, folder / name)
        return
    else:
        _fetched(source).save_pretrained(os.fspath(folder))
        return
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _of_gguf(path):
    """tokenizer.json and tokenizer_config.json of the tokenizer in a GGUF file."""
    from collapse_jax.models.lm.gguf_file import tokenizer_of

    tokenizer, special = tokenizer_of(path)
    config = _AS_IT_IS | {"clean_up_tokenization_spaces": False} | special
    return {
        "tokenizer.json": tokenizer.to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }


def _difference(folder, tokenizer):
    """How transformers differs on texts that tell tokenizers apart, in words; "" if it does not."""
    try:
        opened = _fetched(folder)
        found = [opened(text)["input_ids"] for text in PROBE]
    except InputError as error:
        return str(error)
    for text, ids, expected in zip(PROBE, found, tokenizer.encode(PROBE), strict=True):
        if ids != expected:
            return f"{text!r} is {ids[:8]} there and {expected[:8]} here"
    return ""


def _fetched(source):
    """The tokenizer of transformers of a folder or hub name."""
    try:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(os.fspath(source))
    except ImportError:
        raise InputError(
            f"tokenizer {os.fspath(source)!r} needs the package 'transformers': "
            "pip install transformers"
        ) from None
    except Exception as error:  # transformers and the hub client raise many kinds
        raise InputError(
            f"tokenizer {os.fspath(source)!r} cannot be loaded by transformers "
            f"({first_line(error, 200)})"
        ) from None
