"""OPT weights in the Hugging Face layout: Flax msgpack, safetensors or torch, and their shards."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import flax.traverse_util
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from collapse_jax.errors import InputError, one_of
from collapse_jax.models.lm.opt import (
    OPT,
    POSITION_OFFSET,
    OPTConfig,
    config_from_json,
    config_to_json,
)
from collapse_jax.models.lm.torch_pickle import read_torch_pickle
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
    "vocab.json",
    "merges.txt",
]
_SAVED_DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
_SHOWN = 8


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

    Reads flax_model.msgpack, else model.safetensors (or its shards), else pytorch_model.bin (or its
    shards; torch is not needed).

    Args:
        source: A local folder in the Hugging Face layout; else a hub name such as
            `facebook/opt-125m`.
        revision: Of the hub name; by default the pinned one.

    Returns:
        `OPT(config)`, and a plain dict of float32 arrays with the shapes of `tensor_table`, in
        whatever floating type they are stored.

    Raises:
        InputError: If the folder, configuration or a file cannot be read; or if tensors are
            missing, unexpected or misshapen, *all* of them in one line.
    """
    folder = find_opt(source, revision)
    config = _read_config(folder)
    file = _weight_file(folder)
    if file is None:
        raise InputError(f"{folder}: no weight file; looked for {', '.join(_READERS)}")
    return OPT(config), _assemble(config, _READERS[file](folder / file), folder / file)


def _read_config(folder):
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{folder}: no config.json in this folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / 'config.json'}: cannot be read ({_one_line(error)})") from None
    try:
        return config_from_json(text)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    except TypeError as error:
        raise InputError(
            f"{folder}: config.json has a value of the wrong type ({_one_line(error)})"
        ) from None


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
            weights that would be read first.
    """
    one_of("dtype", dtype, _SAVED_DTYPES)
    config = model.config
    tensors = {
        name: tensor.astype(_SAVED_DTYPES[dtype])
        for name, tensor in _to_torch(config, params).items()
    }
    folder = Path(os.fsdecode(folder))
    if (folder / "flax_model.msgpack").exists():
        raise InputError(
            f"{folder}: already holds flax_model.msgpack, which is read before "
            "model.safetensors; save to another folder"
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
            f"{folder}: cannot be written ({error.strerror or _one_line(error)})"
        ) from None


class _Stored(NamedTuple):
    """The tensors of a checkpoint by name, and which of the two naming schemes it follows."""

    tensors: dict[str, np.ndarray]
    is_torch: bool


def _assemble(config, stored, file):
    """Our params from the stored tensors, or an `InputError` that lists all that is wrong."""
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
    for spec in table:
        name = spec.torch_name if stored.is_torch else spec.flax_name
        flip = stored.is_torch and spec.transposed
        expected = spec.shape[::-1] if flip else spec.shape
        tensor = left.pop(name, None)
        if tensor is None:
            missing.append(name)
        elif tensor.shape != expected:
            wrong.append(f"{name} is {_shape(tensor.shape)}, not {_shape(expected)}")
        elif not jnp.issubdtype(tensor.dtype, jnp.floating):
            wrong.append(f"{name} is {tensor.dtype.name}, not floating")
        elif not np.isfinite(tensor.astype(np.float32)).all():
            wrong.append(f"{name} holds numbers that are nan or infinite")
        else:
            flat[spec.path] = tensor.T if flip else tensor
    problems = _problems(missing=missing, unexpected=list(left), twice=doubled, misshapen=wrong)
    if problems:
        raise InputError(f"{file} does not fit its config.json: {problems}")
    # Copied, so that no array of ours is a view of the file's buffer.
    return flax.traverse_util.unflatten_dict(
        {path: jnp.array(np.ascontiguousarray(x, np.float32)) for path, x in flat.items()}
    )


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
        f"{len(names)} {kind}: {_listed(names)}" for kind, names in names_of.items() if names
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


def _read_msgpack(path):
    try:
        tree = flax.serialization.msgpack_restore(path.read_bytes())
    except Exception as error:  # a damaged file raises almost anything
        raise InputError(f"{path}: not a whole Flax checkpoint ({_one_line(error)})") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: holds a {type(tree).__name__}, not a tree of arrays")
    flat = _flat(tree)
    others = [
        "/".join(map(str, keys)) for keys, leaf in flat.items() if not isinstance(leaf, np.ndarray)
    ]
    if others:
        raise InputError(f"{path}: {len(others)} entries are not arrays: {_listed(others)}")
    tensors = {"/".join(map(str, keys)): leaf for keys, leaf in flat.items()}
    if tensors and all(name.startswith("params/") for name in tensors):
        tensors = {name.removeprefix("params/"): leaf for name, leaf in tensors.items()}
    return _Stored(tensors, is_torch=False)


_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def _safetensors_file(path):
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or _one_line(error)})") from None
    except Exception as error:  # SafetensorError, whose module changes between releases
        raise InputError(f"{path}: not a whole safetensors file ({_one_line(error)})") from None
    unknown = [
        f"{name} ({entry['dtype']})"
        for name, entry in entries
        if entry["dtype"] not in _SAFETENSORS_DTYPES
    ]
    if unknown:
        raise InputError(
            f"{path}: {len(unknown)} tensors of a type that is not read here: {_listed(unknown)}"
        )
    return {
        name: np.frombuffer(entry["data"], _SAFETENSORS_DTYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
        for name, entry in entries
    }


def _read_safetensors(path):
    return _Stored(_safetensors_file(path), is_torch=True)


def _read_torch(path):
    return _Stored(read_torch_pickle(path), is_torch=True)


def _shards(path):
    """The files that a shard index names; they must lie in its folder."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        names = sorted({os.fspath(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not an index of shards with a weight_map ({_one_line(error)})"
        ) from None
    if not names:
        raise InputError(f"{path}: its weight_map is empty")
    odd = [
        repr(name) for name in names if name != os.path.basename(name) or name in ("", ".", "..")
    ]
    if odd:
        raise InputError(
            f"{path}: shards must lie beside it; these are not plain file names: {_listed(odd)}"
        )
    absent = [name for name in names if not (path.parent / name).is_file()]
    if absent:
        raise InputError(
            f"{path}: {len(absent)} of {len(names)} shards are missing: {_listed(absent)}"
        )
    return [path.parent / name for name in names]


def _read_sharded(read: Callable):
    def read_all(path):
        tensors = {}
        for shard in _shards(path):
            tensors |= read(shard)
        return _Stored(tensors, is_torch=True)

    return read_all


# In order of preference: the first of these files that exists is read.
_READERS = {
    "flax_model.msgpack": _read_msgpack,
    "model.safetensors": _read_safetensors,
    "model.safetensors.index.json": _read_sharded(_safetensors_file),
    "pytorch_model.bin": _read_torch,
    "pytorch_model.bin.index.json": _read_sharded(read_torch_pickle),
}


def _weight_file(folder):
    return next((file for file in _READERS if (folder / file).is_file()), None)


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
        layout = next((file for file in _READERS if file in files), None)
        if layout is None:
            raise InputError(
                f"{name!r} on the hub holds no weight file; looked for {', '.join(_READERS)}"
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
            f"{name!r} is not a folder here, and the hub did not give it{at} ({_one_line(error)})"
        ) from None


def _is_complete(folder):
    """Whether a cached snapshot has a config, a tokenizer and weights in one file.

    An interrupted fetch may have left a part.
    """
    file = _weight_file(folder)
    has_tokenizer = (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    )
    return (
        has_tokenizer
        and (folder / "config.json").is_file()
        and file is not None
        and not file.endswith(".index.json")
    )


def _listed(names):
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _shape(shape):
    return "[" + ", ".join(map(str, shape)) + "]"


def _one_line(error):
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
