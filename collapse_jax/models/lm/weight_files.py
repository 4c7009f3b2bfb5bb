"""Tensors of a weight file as they are stored: safetensors, torch or Flax, whole or in shards."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import flax.traverse_util
import ml_dtypes
import numpy as np
import safetensors

from collapse_jax.errors import InputError
from collapse_jax.models.lm.notice import listed
from collapse_jax.models.lm.torch_pickle import read_torch_pickle


class Stored(NamedTuple):
    """The tensors of a checkpoint by name, and which of the two naming schemes it follows."""

    tensors: dict[str, np.ndarray]
    is_torch: bool


def read_weights(path: Path) -> Stored:
    """What a file of `WEIGHT_FILES` holds, and its shards if it is their index.

    Raises:
        InputError: If a file is missing, damaged, of a type that is not read here, or the shards
            are not those that the index names.
    """
    return _READERS[path.name](path)


def weight_files(folder: Path) -> list[str]:
    """Names of the weight files of a folder, that which transformers loads first."""
    return [file for file in WEIGHT_FILES if (folder / file).is_file()]


def loose_shards(folder: Path) -> list[str]:
    """Names of the shards in a folder, as an index would name them."""
    return sorted(path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name))


def one_line(error: BaseException) -> str:
    """The type of an exception, and at most 200 characters of its text in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _read_msgpack(path):
    try:
        tree = flax.serialization.msgpack_restore(path.read_bytes())
    except Exception as error:  # a damaged file raises almost anything
        raise InputError(f"{path}: not a whole Flax checkpoint ({one_line(error)})") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: holds a {type(tree).__name__}, not a tree of arrays")
    flat: Any = flax.traverse_util.flatten_dict(tree)
    others = [
        "/".join(map(str, keys)) for keys, leaf in flat.items() if not isinstance(leaf, np.ndarray)
    ]
    if others:
        raise InputError(f"{path}: {len(others)} entries are not arrays: {listed(others)}")
    tensors = {"/".join(map(str, keys)): leaf for keys, leaf in flat.items()}
    if tensors and all(name.startswith("params/") for name in tensors):
        tensors = {name.removeprefix("params/"): leaf for name, leaf in tensors.items()}
    return Stored(tensors, is_torch=False)


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
        raise InputError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from None
    except Exception as error:  # SafetensorError, whose module changes between releases
        raise InputError(f"{path}: not a whole safetensors file ({one_line(error)})") from None
    unknown = [
        f"{name} ({entry['dtype']})"
        for name, entry in entries
        if entry["dtype"] not in _SAFETENSORS_DTYPES
    ]
    if unknown:
        raise InputError(
            f"{path}: {len(unknown)} tensors of a type that is not read here: {listed(unknown)}"
        )
    return {
        name: np.frombuffer(entry["data"], _SAFETENSORS_DTYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
        for name, entry in entries
    }


def _read_safetensors(path):
    return Stored(_safetensors_file(path), is_torch=True)


def _read_torch(path):
    return Stored(read_torch_pickle(path), is_torch=True)


def _shards(path):
    """The weight_map of a shard index: the file of each tensor, all of them beside the index."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        weight_map = {name: os.fspath(file) for name, file in index["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not an index of shards with a weight_map ({one_line(error)})"
        ) from None
    names = sorted(set(weight_map.values()))
    if not names:
        raise InputError(f"{path}: its weight_map is empty")
    odd = [
        repr(name) for name in names if name != os.path.basename(name) or name in ("", ".", "..")
    ]
    if odd:
        raise InputError(
            f"{path}: shards must lie beside it; these are not plain file names: {listed(odd)}"
        )
    absent = [name for name in names if not (path.parent / name).is_file()]
    if absent:
        raise InputError(
            f"{path}: {len(absent)} of {len(names)} shards are missing: {listed(absent)}"
        )
    kind = Path(path.name.removesuffix(".index.json")).suffix
    others = [
        name for name in loose_shards(path.parent) if name.endswith(kind) and name not in names
    ]
    if others:
        raise InputError(
            f"{path}: {len(others)} shards beside it are not among those that it names: "
            f"{listed(others)}; take away those of another model"
        )
    return weight_map


def _read_sharded(read: Callable):
    def read_all(path):
        weight_map = _shards(path)
        tensors, differing, found = {}, [], {}
        for shard in sorted(set(weight_map.values())):
            found[shard] = read(path.parent / shard)
            differing += [
                name
                for name, tensor in found[shard].items()
                if name in tensors and not same_numbers(tensor, tensors[name])
            ]
            tensors |= found[shard]
        if differing:
            raise InputError(
                f"{path}: {len(differing)} tensors are in two shards with different numbers: "
                f"{listed(differing)}"
            )
        lacking = [name for name, shard in weight_map.items() if name not in found[shard]]
        if lacking:
            raise InputError(
                f"{path}: {len(lacking)} tensors are not in the shards that it names for them: "
                f"{listed(lacking)}"
            )
        return Stored(tensors, is_torch=True)

    return read_all


def same_numbers(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are equal, or one is the other rounded to its own type."""
    if one.shape != other.shape:
        return False
    if one.dtype == other.dtype:
        return np.array_equal(one, other)
    with np.errstate(over="ignore"):
        return np.array_equal(one.astype(other.dtype), other) or np.array_equal(
            other.astype(one.dtype), one
        )


_SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")
# In the order of transformers, which does not read the last any more: the first of these files that
# exists is loaded.
_READERS = {
    "model.safetensors": _read_safetensors,
    "model.safetensors.index.json": _read_sharded(_safetensors_file),
    "pytorch_model.bin": _read_torch,
    "pytorch_model.bin.index.json": _read_sharded(read_torch_pickle),
    "flax_model.msgpack": _read_msgpack,
}
WEIGHT_FILES = tuple(_READERS)
