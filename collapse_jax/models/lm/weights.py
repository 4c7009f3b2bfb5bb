"""OPT weights in and out of the Hugging Face layout."""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import flax.traverse_util
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors.numpy

from collapse_jax.errors import InputError, one_of
from collapse_jax.models.lm.notice import listed
from collapse_jax.models.lm.opt import (
    OPT,
    POSITION_OFFSET,
    OPTConfig,
    config_from_json,
    config_to_json,
)
from collapse_jax.models.lm.weight_files import (
    WEIGHT_FILES,
    loose_shards,
    one_line,
    read_weights,
    same_numbers,
    weight_files,
)
from collapse_jax.runs.atomic import atomic

# Hub names without a revision are pinned to a commit, so that no result changes with the hub's main
# branch.
PINNED_REVISIONS = {"facebook/opt-125m": "27dcfa74d334bc871f3234de431e71c6eeba5dd6"}

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_HUB_SMALL_FILES = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
]
_SAVED_DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
# What weights may be stored in; numbers of 8 bits mean nothing without their scales.
_FLOATING = ("float16", "bfloat16", "float32", "float64")
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


class TensorSpec(NamedTuple):
    """A parameter of `OPT` and its names elsewhere.

    path: its keys in our params.
    shape: our shape.
    torch_name, flax_name: Hugging Face's names.
    transposed: whether the torch tensor is our array transposed (dense kernels).
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    torch_name: str
    flax_name: str
    transposed: bool


def tensor_table(config: OPTConfig) -> list[TensorSpec]:
    """Every parameter of `OPT(config)`, one `TensorSpec` each, in the order of the model."""
    width, hidden = config.hidden_size, config.ffn_dim
    dense = {f"self_attn/{name}_proj": (width, width) for name in ("q", "k", "v", "out")} | {
        "fc1": (width, hidden),
        "fc2": (hidden, width),
    }
    layer = {}
    for name, shape in dense.items():
        layer |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
    for name in ("self_attn_layer_norm", "final_layer_norm"):
        layer |= {f"{name}/scale": (width,), f"{name}/bias": (width,)}
    ours = {
        "embed_tokens/embedding": (config.vocab_size, width),
        "embed_positions/embedding": (config.max_position_embeddings + POSITION_OFFSET, width),
    }
    for i in range(config.num_hidden_layers):
        ours |= {f"layers_{i}/{name}": shape for name, shape in layer.items()}
    ours |= {"final_layer_norm/scale": (width,), "final_layer_norm/bias": (width,)}
    rows = []
    for path, shape in ours.items():
        flax_name = "model/decoder/" + path.replace("layers_", "layers/", 1)
        torch_name = re.sub("/(embedding|kernel|scale)$", "/weight", flax_name).replace("/", ".")
        rows.append(
            TensorSpec(
                tuple(path.split("/")), shape, torch_name, flax_name, path.endswith("kernel")
            )
        )
    return rows


def load_opt(source: str | os.PathLike, revision: str | None = None) -> tuple[OPT, dict]:
    """The model and its parameters.

    Reads model.safetensors, else its shards, else pytorch_model.bin, else its shards (torch is not
    needed), else flax_model.msgpack: what transformers would load, and Flax's file besides.

    Args:
        source: A local folder in the Hugging Face layout; else a hub name such as
            `facebook/opt-125m`.
        revision: Of the hub name; by default the pinned one.

    Returns:
        `OPT(config)`, and a plain dict of float32 arrays with the shapes of `tensor_table`, rounded
        or widened from whatever floating type they are stored in.

    Raises:
        InputError: If the folder, configuration or a file cannot be read; if tensors are missing,
            unexpected or misshapen, *all* of them in one line; or if two weight files, or a head
            and the embedding that it is tied to, hold different numbers.
    """
    folder = find_opt(source, revision)
    config = _read_config(folder)
    files = weight_files(folder)
    adapters = [name for name in _ADAPTER_FILES if (folder / name).exists()]
    if adapters:
        raise InputError(
            f"{folder}: holds {adapters[0]}, an adapter that changes the weights and is not read "
            "here; merge it into them and save the result to a folder of its own"
        )
    if not files:
        raise InputError(
            f"{folder}: no weight file; looked for {', '.join(sorted(WEIGHT_FILES))}"
            + ("; there are shards without their index" if loose_shards(folder) else "")
        )
    flat = _assemble(config, read_weights(folder / files[0]), folder / files[0])
    for other in files[1:]:
        _refuse_another_set(config, flat, folder, files[0], other)
    # Copied, so that no array of ours is a view of the file's buffer.
    return OPT(config), flax.traverse_util.unflatten_dict(
        {path: jnp.array(np.ascontiguousarray(x, np.float32)) for path, x in flat.items()}
    )


def _refuse_another_set(config, flat, folder, file, other):
    """Refuses a second weight file, unless it holds the same numbers."""
    try:
        again = _assemble(config, read_weights(folder / other), folder / other)
        names = ["/".join(path) for path in flat if not same_numbers(flat[path], again[path])]
        why = f"{listed(names, most=2)} differ" if names else ""
    except InputError as error:
        why = str(error)
    if why:
        raise InputError(
            f"{folder}: holds two sets of weights, {file} and {other}, which are not the same "
            f"({why}); keep the one that is meant"
        )


def _read_config(folder):
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{folder}: no config.json in this folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / 'config.json'}: cannot be read ({one_line(error)})") from None
    try:
        config = config_from_json(text)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    except TypeError as error:
        raise InputError(
            f"{folder}: config.json has a value of the wrong type ({one_line(error)})"
        ) from None
    _check_end(folder, config)
    return config


def _check_end(folder, config):
    """Refuses a generation_config.json, which transformers decodes by, with another end of text."""
    try:
        values = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{folder / 'generation_config.json'}: cannot be read ({one_line(error)})"
        ) from None
    end = values.get("eos_token_id") if isinstance(values, dict) else None
    if end is not None and end not in (config.eos_token_id, [config.eos_token_id]):
        raise InputError(
            f"{folder}: eos_token_id is {end!r:.80} in generation_config.json and "
            f"{config.eos_token_id} in config.json; make them one id"
        )


def find_opt(source: str | os.PathLike, revision: str | None = None) -> Path:
    """The local folder of a model: `source` itself, or the hub's cache after a fetch.

    Fetched are the configuration, the tokenizer and the weights in one layout.

    Raises:
        InputError: If `source` is neither a folder nor a hub name, or the hub does not give it.
    """
    if not isinstance(source, str | bytes | os.PathLike):
        raise InputError(f"the model is {source!r:.200}; it must be a folder or a hub name")
    name = os.fsdecode(source)
    if name and os.path.isdir(name):
        if revision is not None:
            raise InputError(
                f"revision {revision!r} was given, but {name!r} is a local folder, which "
                "has no revisions"
            )
        return Path(name)
    if name and os.path.exists(name):
        raise InputError(
            f"{name!r} is a file; give the folder that holds config.json and the weights"
        )
    is_odd = ".." in name or "--" in name or name.endswith((".git", ".", "-"))
    if is_odd or not _HUB_NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is neither a folder here nor a hub name (owner/name, made of letters, "
            "digits, '-', '_' and '.')"
        )
    return _fetch(name, PINNED_REVISIONS.get(name) if revision is None else revision)


def save_opt(folder: str | os.PathLike, model: OPT, params: dict, dtype: str = "float32") -> None:
    """Writes model.safetensors, config.json and generation_config.json, as transformers opens them.

    A crash leaves no half file; the weights come last.

    Args:
        folder: Made if needed.
        params: A dict of arrays with the shapes of `tensor_table(model.config)`.
        dtype: "float32", or "bfloat16" in half the bytes (each number rounded to the nearest, ties
            to even); `load_opt` widens it again.

    Raises:
        InputError: If the params do not fit the model, the folder cannot be written, or it holds
            other weights.
    """
    one_of("dtype", dtype, _SAVED_DTYPES)
    config = model.config
    tensors = {
        name: tensor.astype(_SAVED_DTYPES[dtype])
        for name, tensor in _to_torch(config, params).items()
    }
    folder = Path(os.fsdecode(folder))
    others = [
        name
        for name in (*WEIGHT_FILES, *_ADAPTER_FILES)
        if name != "model.safetensors" and (folder / name).exists()
    ]
    if others:
        raise InputError(
            f"{folder}: already holds {others[0]}, other weights than model.safetensors would be; "
            "save to another folder"
        )
    tokens = {
        name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    texts = {
        "config.json": config_to_json(config, dtype),
        "generation_config.json": json.dumps({"_from_model_config": True} | tokens, indent=2)
        + "\n",
    }
    try:
        with contextlib.ExitStack() as files:
            # In reverse order they get their names: the weights last.
            weights, *others = (
                files.enter_context(atomic(folder / name, sync=True))
                for name in ("model.safetensors", *reversed(texts))
            )
            for file, text in zip(others, reversed(texts.values()), strict=True):
                file.write_text(text, encoding="utf-8")
            safetensors.numpy.save_file(tensors, weights, metadata={"format": "pt"})
            shutil.copymode(others[0], weights)  # safetensors lets only the owner read it
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or one_line(error)})"
        ) from None


def _assemble(config, stored, file):
    """Our arrays by path from the stored tensors, or an `InputError` that lists all that is wrong.

    They have the types that are stored.
    """
    table = tensor_table(config)
    left, doubled = _full_names(stored)
    head_name, head_shape = (
        ("lm_head.weight", (0, 1)) if stored.is_torch else ("lm_head/kernel", (1, 0))
    )
    embedding = table[0]
    head = left.pop(head_name, None)
    if head is not None and stored.is_torch:
        # safetensors may keep only one name of a tied pair.
        left.setdefault(embedding.torch_name, head)
    missing, wrong, flat = [], [], {}
    if head is not None and head.shape != tuple(embedding.shape[axis] for axis in head_shape):
        wrong.append(
            f"{head_name} is {_shape(head.shape)}, the embedding needs {_shape(embedding.shape)}"
        )
    elif head is not None:
        tied = left.get(embedding.torch_name if stored.is_torch else embedding.flax_name)
        own = head if stored.is_torch else head.T
        if tied is not None and tied.shape == own.shape and not same_numbers(tied, own):
            wrong.append(f"{head_name} has other numbers than the embedding, to which it is tied")
    for spec in table:
        name = spec.torch_name if stored.is_torch else spec.flax_name
        flip = stored.is_torch and spec.transposed
        expected = spec.shape[::-1] if flip else spec.shape
        tensor = left.pop(name, None)
        if tensor is None:
            missing.append(name)
        elif tensor.shape != expected:
            wrong.append(f"{name} is {_shape(tensor.shape)}, not {_shape(expected)}")
        elif tensor.dtype.name not in _FLOATING:
            wrong.append(f"{name} is {tensor.dtype.name}, not floating")
        elif not np.isfinite(tensor.astype(np.float32)).all():
            wrong.append(f"{name} holds numbers that are nan or infinite")
        else:
            flat[spec.path] = tensor.T if flip else tensor
    problems = _problems(missing=missing, unexpected=list(left), twice=doubled, misshapen=wrong)
    if problems:
        raise InputError(f"{file} does not fit its config.json: {problems}")
    return flat


def _full_names(stored):
    """Tensors by their full names, and the names that are there twice."""
    separator = "." if stored.is_torch else "/"
    tensors, doubled = {}, []
    for name, tensor in stored.tensors.items():
        # Saved from the model without its head.
        full = f"model{separator}{name}" if name.startswith(f"decoder{separator}") else name
        if full in tensors:
            doubled.append(name)
        tensors[full] = tensor
    tensors.pop("model.decoder.version", None)  # a constant that old conversions carry
    return tensors, doubled


def _problems(**names_of):
    return "; ".join(
        f"{len(names)} {kind}: {listed(names)}" for kind, names in names_of.items() if names
    )


def _flat(tree) -> dict[tuple, Any]:
    return dict(flax.traverse_util.flatten_dict(tree))


def _to_torch(config, params):
    """Float32 arrays by torch name, or an `InputError` that lists every entry that is wrong."""
    flat = _flat(params) if isinstance(params, dict) else {}
    missing, wrong, tensors = [], [], {}
    for spec in tensor_table(config):
        value, name = flat.pop(spec.path, None), "/".join(spec.path)
        if value is None:
            missing.append(name)
        elif jnp.shape(value) != spec.shape:
            wrong.append(f"{name} is {_shape(jnp.shape(value))}, not {_shape(spec.shape)}")
        else:
            value = np.asarray(value)
            tensors[spec.torch_name] = np.ascontiguousarray(
                value.T if spec.transposed else value, np.float32
            )
    unexpected = ["/".join(map(str, path)) for path in flat]
    problems = _problems(missing=missing, unexpected=unexpected, misshapen=wrong)
    if problems:
        raise InputError(f"params do not fit the model's configuration: {problems}")
    return tensors


def _fetch(name, revision):
    try:
        from huggingface_hub import list_repo_files, snapshot_download
    except ImportError:
        raise InputError(
            f"{name!r} is not a folder here, and reading it from the hub needs the package "
            "huggingface_hub"
        ) from None
    try:
        cached = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception:  # not in the cache: each release of the hub's package has a class for that
        cached = None
    if cached is not None and not _is_complete(cached):
        cached = None
    if cached is not None and revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return cached  # a commit never changes, so the hub need not be asked
    try:
        files = list_repo_files(name, revision=revision)
        # One layout only, because a repository may hold the same weights three times over.
        layout = next((file for file in WEIGHT_FILES if file in files), None)
        if layout is None:
            raise InputError(
                f"{name!r} on the hub holds no weight file; looked for "
                f"{', '.join(sorted(WEIGHT_FILES))}"
            )
        patterns = [*_HUB_SMALL_FILES, layout]
        if layout.endswith(".index.json"):
            patterns.append(layout.removesuffix(".index.json").replace(".", "-*."))
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except InputError:
        raise
    except Exception as error:  # offline, no such name or revision, private: many classes
        if cached is not None:
            return cached
        at = f" at revision {revision!r}" if revision else ""
        raise InputError(
            f"{name!r} is not a folder here, and the hub did not give it{at} ({one_line(error)})"
        ) from None


def _is_complete(folder):
    """Whether a cached snapshot has a config, a tokenizer and weights in one file.

    An interrupted fetch may have left a part.
    """
    file = next(iter(weight_files(folder)), None)
    has_tokenizer = (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    )
    return (
        has_tokenizer
        and (folder / "config.json").is_file()
        and file is not None
        and not file.endswith(".index.json")
    )


def _shape(shape):
    return "[" + ", ".join(map(str, shape)) + "]"
