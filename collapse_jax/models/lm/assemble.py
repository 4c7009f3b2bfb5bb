"""Our parameters from the tensors of a checkpoint, and back."""

import re
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from collapse_jax.errors import InputError
from collapse_jax.models.lm.families import FAMILIES
from collapse_jax.models.lm.families.tensors import Tensor
from collapse_jax.models.lm.notice import listed
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.models.lm.weight_files import Stored, same_numbers

# What weights may be stored in; numbers of 8 bits mean nothing without their scales.
_FLOATING = ("float16", "bfloat16", "float32", "float64")
_HEADS = ("lm_head.weight", "embed_out.weight")


def tensor_table(model: Transformer) -> list[Tensor]:
    """Every tensor of a model's checkpoint, in the order of the model; the embedding is first."""
    return FAMILIES[model.switches.family].table(model.switches)


def assembled(model: Transformer, stored: Stored, file: Path) -> dict[tuple[str, ...], np.ndarray]:
    """Our arrays by path, in the types that are stored.

    Raises:
        InputError: If anything does not fit; the text lists all of it.
    """
    table = tensor_table(model)
    left, doubled = _full_names(model, table, stored)
    missing, flat = [], {}
    wrong = _tied_head(model, table[0], left)
    for row in table:
        tensor = left.pop(row.name, None)
        if tensor is None:
            missing.append(row.name)
        elif tensor.shape != row.shape:
            wrong.append(f"{row.name} is {_shape(tensor.shape)}, not {_shape(row.shape)}")
        elif tensor.dtype.name not in _FLOATING:
            wrong.append(f"{row.name} is {tensor.dtype.name}, not floating")
        elif not np.isfinite(tensor.astype(np.float32)).all():
            wrong.append(f"{row.name} contains numbers that are nan or infinite")
        else:
            flat |= zip(row.paths, row.split(tensor), strict=True)
    problems = _problems(missing=missing, unexpected=list(left), twice=doubled, misshapen=wrong)
    if problems:
        raise InputError(f"{file} is incompatible with its config.json: {problems}")
    return flat


def as_stored(model: Transformer, params: Any) -> dict[str, np.ndarray]:
    """Float32 tensors by their names in a checkpoint.

    Raises:
        InputError: If the params do not fit the model; the text lists every entry that is wrong.
    """
    flat: dict[Any, Any] = {}
    if isinstance(params, dict):
        flat = dict(flax.traverse_util.flatten_dict(params))
    missing, wrong, tensors = [], [], {}
    for row in tensor_table(model):
        shapes = [part.shape for part in row.split(np.broadcast_to(np.float32(0), row.shape))]
        parts = []
        for path, shape in zip(row.paths, shapes, strict=True):
            value, name = flat.pop(path, None), "/".join(path)
            if value is None:
                missing.append(name)
            elif jnp.shape(value) != shape:
                wrong.append(f"{name} is {_shape(jnp.shape(value))}, not {_shape(shape)}")
            else:
                parts.append(np.asarray(value))
        if len(parts) == len(shapes):
            tensors[row.name] = np.ascontiguousarray(row.join(*parts), np.float32)
    unexpected = ["/".join(map(str, path)) for path in flat]
    problems = _problems(missing=missing, unexpected=unexpected, misshapen=wrong)
    if problems:
        raise InputError(f"params are incompatible with the model's configuration: {problems}")
    return tensors


def _tied_head(model, embedding, left):
    """What is wrong with a stored head that is tied to the embedding; taken out of `left`."""
    head_name = next((name for name in _HEADS if name in left), None)
    if not model.switches.tied or head_name is None:
        return []
    head = left.pop(head_name)
    # safetensors may keep only one name of a tied pair.
    tied = left.setdefault(embedding.name, head)
    if head.shape != embedding.shape:
        return [
            f"{head_name} is {_shape(head.shape)}, the embedding needs {_shape(embedding.shape)}"
        ]
    if tied.shape == head.shape and not same_numbers(tied, head):
        return [f"{head_name} has other numbers than the embedding, to which it is tied"]
    return []


def _full_names(model, table, stored):
    """Tensors by their full names in torch's layout, and the names that are there twice."""
    known, tensors, doubled = {row.name for row in table}, {}, []
    stem = table[0].name.partition(".")[0]
    constants = FAMILIES[model.switches.family].constants
    for name, tensor in (stored.tensors if stored.is_torch else _from_flax(stored.tensors)).items():
        # Saved from the model without its head.
        full = name if name in known or f"{stem}.{name}" not in known else f"{stem}.{name}"
        if constants and re.fullmatch(constants, name):
            continue
        if full in tensors:
            doubled.append(name)
        tensors[full] = tensor
    return tensors, doubled


def _from_flax(tensors):
    """Flax's names and layout in torch's."""
    renamed = {}
    for name, tensor in tensors.items():
        *path, last = name.split("/")
        if last == "kernel":
            tensor = tensor.T
        last = "weight" if last in ("kernel", "embedding", "scale") else last
        renamed[".".join([*path, last])] = tensor
    return renamed


def _problems(**names_of):
    return "; ".join(
        f"{len(names)} {kind}: {listed(names)}" for kind, names in names_of.items() if names
    )


def _shape(shape):
    return "[" + ", ".join(map(str, shape)) + "]"
