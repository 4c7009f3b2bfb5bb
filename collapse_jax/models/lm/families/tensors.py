"""How one tensor of a checkpoint holds our parameters."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Path = tuple[str, ...]


class Tensor(NamedTuple):
    """One tensor of a Hugging Face checkpoint, and the parameters that it holds.

    name: in the file.
    shape: in the file.
    paths: of the parameters, their keys in our params.
    split: the tensor -> one array a path.
    join: one array a path -> the tensor.
    """

    name: str
    shape: tuple[int, ...]
    paths: tuple[Path, ...]
    split: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    join: Callable[..., np.ndarray]


def same(name: str, path: str, *shape: int) -> Tensor:
    """A parameter that is stored as it is; `path` has slashes."""
    return Tensor(name, shape, (_keys(path),), lambda x: (x,), lambda x: x)


def transposed(name: str, path: str, rows: int, columns: int) -> Tensor:
    """A kernel [rows, columns] of ours, stored as torch's Linear has it: [columns, rows]."""
    return Tensor(name, (columns, rows), (_keys(path),), lambda x: (x.T,), lambda x: x.T)


def linear(name: str, path: str, rows: int, columns: int, bias: bool) -> list[Tensor]:
    """The kernel [rows, columns] of a product, and its bias if it has one."""
    tensors = [transposed(f"{name}.weight", f"{path}/kernel", rows, columns)]
    return tensors + [same(f"{name}.bias", f"{path}/bias", columns)] * bias


def norm(name: str, path: str, width: int, kind: str) -> list[Tensor]:
    """The scale of a norm, and its bias unless its kind is "rms"."""
    tensors = [same(f"{name}.weight", f"{path}/scale", width)]
    return tensors + [same(f"{name}.bias", f"{path}/bias", width)] * (kind == "layer")


def side_by_side(name: str, paths: tuple[str, ...], *shape: int) -> Tensor:
    """Parameters of one shape that are stored side by side along their last axis, untransposed."""
    count = len(paths)
    return Tensor(
        name,
        (*shape[:-1], count * shape[-1]),
        tuple(map(_keys, paths)),
        lambda x: tuple(np.split(x, count, axis=-1)),
        lambda *parts: np.concatenate(parts, axis=-1),
    )


def by_head(name: str, paths: tuple[str, ...], heads: int, head_dim: int, *rows: int) -> Tensor:
    """Query, key and value of each head after one another: stored [heads * 3 * head_dim, ...].

    rows: the width of the input, for kernels; nothing for biases.
    """
    return Tensor(
        name,
        (heads * len(paths) * head_dim, *rows),
        tuple(map(_keys, paths)),
        functools.partial(_from_heads, heads, len(paths), head_dim),
        functools.partial(_to_heads, heads, head_dim),
    )


def _from_heads(heads, count, head_dim, x):
    grouped = x.reshape(heads, count, head_dim, *x.shape[1:])
    return tuple(
        grouped[:, i].reshape(heads * head_dim, *x.shape[1:]).T.copy() for i in range(count)
    )


def _to_heads(heads, head_dim, *parts):
    grouped = [part.T.reshape(heads, head_dim, *part.T.shape[1:]) for part in parts]
    stacked = np.stack(grouped, axis=1)
    return stacked.reshape(-1, *stacked.shape[3:])


def _keys(path):
    return tuple(path.split("/"))
