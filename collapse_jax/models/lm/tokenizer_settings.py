"""What a tokenizer's files say beside its vocabulary, and what of it changes an encoding."""

import json
import pathlib
from typing import Any

from collapse_jax.errors import InputError

SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
# Classes of transformers that take tokenizer.json as it is, and those that build byte-level merges
# anew from its vocabulary.
# The files of a tokenizer's folder.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
_AS_IT_IS = ("PreTrainedTokenizerFast", "TokenizersBackend")
_BYTE_LEVEL = ("GPT2Tokenizer", "GPT2TokenizerFast")


def made_deterministic(tokenizer: Any) -> list[str]:
    """Switches off what makes a tokenizer cut, pad or vary its encodings.

    Args:
        tokenizer: A `tokenizers.Tokenizer`, changed in place.

    Returns:
        Words for each setting that was on.
    """
    off = []
    if tokenizer.truncation is not None:
        off.append(f"truncation to {tokenizer.truncation['max_length']} tokens")
        tokenizer.no_truncation()
    if tokenizer.padding is not None:
        off.append("padding")
        tokenizer.no_padding()
    dropout = getattr(tokenizer.model, "dropout", None)
    if dropout:
        off.append(f"a dropout of merges of {dropout:.3g}")
        tokenizer.model.dropout = None
    return off


def special_ids(folder: pathlib.Path, tokenizer: Any) -> dict[str, int]:
    """Ids of the special tokens that the files of a folder name, by what they are ("eos_token").

    Args:
        folder: Of the files.
        tokenizer: A `tokenizers.Tokenizer`.

    Raises:
        InputError: If a file is no JSON object.
    """
    named = _read(folder / "special_tokens_map.json") | _read(folder / "tokenizer_config.json")
    ids = {kind: tokenizer.token_to_id(_content(named.get(kind)) or "") for kind in SPECIAL_TOKENS}
    return {kind: number for kind, number in ids.items() if number is not None}


def beyond_the_file(folder: pathlib.Path) -> str:
    """Why transformers may encode otherwise than tokenizer.json alone, in words; "" if it does not.

    Raises:
        InputError: If a file is no JSON object.
    """
    config = _read(folder / "tokenizer_config.json")
    added = _read(folder / "added_tokens.json")
    file = _read(folder / "tokenizer.json")
    known = {entry["content"]: entry for entry in file.get("added_tokens") or []}
    kind = config.get("tokenizer_class")
    names = _names(config, folder)
    missing = sorted((names | set(added)) - set(known))
    changed = [
        entry.get("content")
        for number, entry in (config.get("added_tokens_decoder") or {}).items()
        if entry | {"id": int(number)} != known.get(entry.get("content"))
    ]
    for key in ("add_bos_token", "add_eos_token", "split_special_tokens", "auto_map"):
        if key in config and (config[key] or key != "split_special_tokens"):
            return f"{key} is {config[key]!r}"
    if missing or changed:
        return f"it adds the token {(missing + changed)[0]!r}"
    if kind is not None and kind not in _AS_IT_IS + _BYTE_LEVEL:
        return f"its tokenizer_class is {kind!r}"
    prefix = (file.get("pre_tokenizer") or {}).get("add_prefix_space")
    if config.get("add_prefix_space", prefix) != prefix:
        return f"add_prefix_space is {config['add_prefix_space']!r}"
    is_rebuilt = kind in _BYTE_LEVEL
    if kind is None and (folder / "config.json").is_file():
        # Without a class, that of the model beside it is taken: an OPT's is GPT-2's. What is no
        # byte-level tokenizer at all would be made into nonsense, and is taken as it is.
        first, model = file.get("pre_tokenizer") or {}, file.get("model") or {}
        is_rebuilt = first.get("type") == "ByteLevel" and model.get("type") == "BPE"
    if is_rebuilt and not _is_plain_byte_level(file, bool(config.get("add_prefix_space", False))):
        return "it is built anew as GPT-2's byte-level merges"
    return ""


def _names(config, folder):
    """The contents of all special tokens that the files name."""
    found = set()
    for values in (config, _read(folder / "special_tokens_map.json")):
        for key, value in values.items():
            if key.endswith("_token") and _content(value):
                found.add(_content(value))
            elif key in ("additional_special_tokens", "extra_special_tokens") and value:
                many = value.values() if isinstance(value, dict) else value
                found |= {text for each in many if (text := _content(each))}
    return found


def _is_plain_byte_level(file, prefix):
    """Whether tokenizer.json is what GPT-2's class would build from its vocabulary and merges."""
    model, first = file.get("model") or {}, file.get("pre_tokenizer") or {}
    return (
        first.get("type") == "ByteLevel"
        and first.get("add_prefix_space") == prefix
        and first.get("use_regex", True)
        and file.get("normalizer") is None
        and model.get("type") == "BPE"
        and not any(
            model.get(key)
            for key in (
                "continuing_subword_prefix",
                "end_of_word_suffix",
                "byte_fallback",
                "ignore_merges",
            )
        )
    )


def _content(value):
    """The text of a token that is given as text or as an object, else None."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _read(path):
    """What a JSON file holds, {} without one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"tokenizer file {path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"tokenizer file {path} must hold one JSON object")
    return values
