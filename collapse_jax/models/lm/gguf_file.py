"""Models in one GGUF file: weights (dequantised), sizes, and the tokenizer. Needs `gguf`."""

import os
import pathlib
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError, first_line
from collapse_jax.models.lm.families import llama
from collapse_jax.models.lm.families.reading import Values
from collapse_jax.models.lm.switches import TransformerConfig
from collapse_jax.models.lm.transformer import Transformer

_READERS = {
    "llama": llama.read_llama,
    "qwen2": llama.read_qwen2,
    "qwen3": llama.read_qwen3,
}
# The rotary pairs of these architectures are stored next to each other in the file.
_PERMUTED = ("llama",)
# Names of config.json, and how the keys of the file end.
_SIZES = {
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_TOKENS = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
# What transformers' tokenizers do before the merges, by `tokenizer.ggml.pre`.
_DIGITS = ("smollm",)
_WORDS = {
    "llama-bpe": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
_PLAIN = ("gpt-2", "default")
_CONTROL, _USER_DEFINED = 3, 4


def load_gguf(path: str | os.PathLike) -> tuple[Transformer, dict]:
    """Reads the model of a GGUF file and its parameters.

    Args:
        path: The file. Supported architectures are llama (with Mistral and SmolLM2), qwen2 and
            qwen3.

    Returns:
        The model, and a plain dict of float32 arrays: quantised numbers at their exact values.

    Raises:
        InputError: If the file cannot be read or is cut off, its architecture or a setting is not
            supported, or tensors are missing, unexpected or misshapen.
    """
    gguf, reader = _open(path)
    name, fields = pathlib.Path(path), _fields(reader)
    architecture = fields.get("general.architecture")
    if architecture not in _READERS:
        raise InputError(
            f"{name}: architecture is {architecture!r:.100}; supported are {', '.join(_READERS)}"
        )
    stored = {tensor.name: tensor for tensor in reader.tensors}
    values = _config_values(fields, architecture, stored)
    _check_layers(name, fields, architecture, stored)
    try:
        config = _READERS[architecture](Values(values))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    names = gguf.get_tensor_name_map(_enum(gguf, architecture), config.num_hidden_layers)
    return Transformer(config), _params(gguf, name, config, architecture, stored, names)


def tokenizer_of(path: str | os.PathLike) -> tuple[Any, dict[str, str]]:
    """The byte-level BPE tokenizer of a GGUF file.

    Returns:
        A `tokenizers.Tokenizer`, and the texts of its special tokens: "bos_token", "eos_token",
        "pad_token", those that the file names.

    Raises:
        InputError: If the tokenizer is of a kind that is not supported.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    _, reader = _open(path)
    fields = _fields(reader)
    kind, before = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or before not in (*_DIGITS, *_WORDS, *_PLAIN):
        raise InputError(
            f"{path}: its tokenizer is {kind!r} of kind {before!r}; supported is 'gpt2' of kind "
            f"{', '.join((*_DIGITS, *_WORDS, *_PLAIN))}; give another by --tokenizer"
        )
    parts = ("tokens", "merges", "token_type")
    missing = [part for part in parts if f"tokenizer.ggml.{part}" not in fields]
    if missing:
        raise InputError(f"{path}: its tokenizer has no {missing[0]}; give another by --tokenizer")
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=before not in _WORDS)
    steps: list[Any] = [split]
    if before in _DIGITS:
        steps = [pre_tokenizers.Digits(individual_digits=True), split]
    elif before in _WORDS:
        pattern = tokenizers.Regex(_WORDS[before])
        steps = [pre_tokenizers.Split(pattern, behavior="isolated"), split]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    kinds = fields["tokenizer.ggml.token_type"]
    for wanted, is_special in ((_CONTROL, True), (_USER_DEFINED, False)):
        tokenizer.add_tokens(
            [
                tokenizers.AddedToken(token, special=is_special, normalized=False)
                for token, kind in zip(tokens, kinds, strict=True)
                if kind == wanted
            ]
        )
    special = {}
    for ours, theirs in _TOKENS.items():
        number = fields.get(f"tokenizer.ggml.{theirs}_token_id")
        if number is not None:
            special[ours.removesuffix("_id")] = tokens[number]
    return tokenizer, special


def _open(path):
    """(the package, an open reader)."""
    try:
        import gguf
    except ImportError:
        raise InputError(
            f"{path}: reading GGUF needs the package gguf: pip install 'collapse-jax[gguf]'"
        ) from None
    try:
        return gguf, gguf.GGUFReader(os.fspath(path))
    except Exception as error:  # a damaged file raises almost anything
        raise InputError(f"{path}: not a whole GGUF file ({first_line(error)})") from None


def _fields(reader):
    """Names and values of what the file says beside its tensors."""
    return {name: field.contents() for name, field in reader.fields.items() if field.types}


def _enum(gguf, architecture):
    return gguf.MODEL_ARCH[architecture.upper()]


def _config_values(fields, architecture, stored):
    """What `config.json` of the model would hold."""
    values = {
        name: fields[f"{architecture}.{key}"]
        for name, key in _SIZES.items()
        if f"{architecture}.{key}" in fields
    }
    for name, key in _TOKENS.items():
        if f"tokenizer.ggml.{key}_token_id" in fields:
            values[name] = fields[f"tokenizer.ggml.{key}_token_id"]
    embedding = stored.get("token_embd.weight")
    if embedding is not None:
        values["vocab_size"] = int(embedding.shape[1])
    values["tie_word_embeddings"] = "output.weight" not in stored
    if "rms_norm_eps" in values:
        # 1e-5 is stored as its float32 neighbour.
        values["rms_norm_eps"] = float(str(np.float32(values["rms_norm_eps"])))
    return values


def _check_layers(name, fields, architecture, stored):
    """Refuses windows and stretched rotary positions, which are not read from GGUF."""
    window = fields.get(f"{architecture}.attention.sliding_window")
    if window and window < fields.get(f"{architecture}.context_length", window + 1):
        raise InputError(
            f"{name}: its layers see {window} tokens back; only layers that see everything are "
            "read from GGUF; load the model's folder of safetensors"
        )
    kind = fields.get(f"{architecture}.rope.scaling.type", "none")
    if kind not in ("none", None) or "rope_freqs.weight" in stored:
        raise InputError(
            f"{name}: its rotary positions are scaled ({kind!r}); only unscaled ones are read from "
            "GGUF; load the model's folder of safetensors"
        )


def _params(gguf, name, config, architecture, stored, names):
    """Our params, or an `InputError` that names what does not fit."""
    flat, left = {}, dict(stored)
    for tensor in llama.table(config):
        theirs = names.get_name(tensor.name, (".weight", ".bias"))
        found = left.pop(theirs, None)
        if found is None:
            raise InputError(f"{name}: contains no tensor {theirs!r}, which its sizes require")
        if tuple(int(size) for size in found.shape[::-1]) != tensor.shape:
            raise InputError(
                f"{name}: {theirs} is {found.shape[::-1].tolist()}, not {list(tensor.shape)}"
            )
        array = _numbers(gguf, name, found)
        if architecture in _PERMUTED:
            array = _unpermuted(array, tensor.name, config)
        for path, part in zip(tensor.paths, tensor.split(array), strict=True):
            flat[path] = jnp.array(np.ascontiguousarray(part, np.float32))
    if left:
        listed = ", ".join(sorted(left)[:8])
        raise InputError(f"{name}: {len(left)} tensors do not belong to this model: {listed}")
    return flax.traverse_util.unflatten_dict(flat)


def _numbers(gguf, name, tensor):
    """A tensor in float32, dequantised, of its own shape."""
    try:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type)
    except (NotImplementedError, ValueError) as error:
        raise InputError(f"{name}: {tensor.name}: {first_line(error)}") from None
    numbers = np.asarray(numbers, np.float32).reshape(tensor.shape[::-1].tolist())
    if not np.isfinite(numbers).all():
        raise InputError(f"{name}: {tensor.name} contains numbers that are nan or infinite")
    return numbers


def _unpermuted(array, name, config: TransformerConfig):
    """Queries and keys [heads * head_dim, width] with each pair of coordinates apart again."""
    heads = {
        "self_attn.q_proj.": config.num_attention_heads,
        "self_attn.k_proj.": config.num_key_value_heads,
    }
    for part, count in heads.items():
        if part in name:
            paired = array.reshape(count, config.head_dim // 2, 2, *array.shape[1:])
            return paired.swapaxes(1, 2).reshape(array.shape)
    return array
