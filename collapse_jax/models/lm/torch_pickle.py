"""Reads a `pytorch_model.bin` without torch, and runs nothing that the file asks for.

A pickle may name only a short list of classes and functions.
"""

import collections
import io
import os
import pickle
import pickletools
import zipfile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from collapse_jax.errors import InputError

_STORAGE_DTYPES = {
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "DoubleStorage": np.dtype(np.float64),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_ZIP_MAGIC = b"PK\x03\x04"
_MAX_PICKLE_BYTES = 1 << 24  # a state dict's own pickle is kilobytes: the tensors lie beside it
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


class _StorageType(NamedTuple):
    """Stands for a class such as torch.FloatStorage.

    A tuple cannot be called or changed, whatever the pickle tries.
    """

    name: str


class _Storage(NamedTuple):
    """One block of bytes: `numel` values, at `key` in the archive."""

    name: str
    key: str
    numel: int


class _View(NamedTuple):
    """A tensor as the pickle describes it, a strided window on a storage; checked when opened."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


class _RebuildTensor:
    """Stands for torch._utils._rebuild_tensor_v2.

    An instance without slots, so that a pickle cannot set attributes on it.
    """

    __slots__ = ()

    def __call__(
        self, storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None
    ):
        return _View(storage, offset, shape, strides)


class _RebuildParameter:
    """Stands for torch._utils._rebuild_parameter."""

    __slots__ = ()

    def __call__(self, tensor, requires_grad=False, hooks=None):
        return tensor


_ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
} | {("torch", name): _StorageType(name) for name in _STORAGE_DTYPES}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise InputError(
                f"it asks for {f'{module}.{name}'!r}, which is not on the list of names "
                "allowed in weights"
            ) from None

    def persistent_load(self, pid):
        kind, storage_type, key, _, numel = pid
        if (
            kind != "storage"
            or not isinstance(storage_type, _StorageType)
            or not isinstance(key, str)
            or not _is_count(numel)
        ):
            raise ValueError("a storage record of an unknown kind")
        return _Storage(storage_type.name, key, numel)


def read_torch_pickle(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a state dict written by `torch.save` (zip format, torch >= 1.6), by name.

    Nothing in the file is run: any global beyond tensors, parameters and OrderedDict is refused.

    Returns:
        Read-only arrays in the stored shapes and types (bfloat16 from ml_dtypes). Tensors that
        share a storage share memory.

    Raises:
        InputError: If the file is missing, truncated, in the older format, or anything but a flat
            dict of tensors.
    """
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
            if magic != _ZIP_MAGIC:
                raise InputError(_not_a_zip(magic))
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive)
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from None
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a damaged pickle or zip raises almost anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{os.fspath(path)}: not a whole torch checkpoint ({text})") from None


def _not_a_zip(magic):
    if magic[:1] == b"\x80":
        return (
            "a torch checkpoint in the format before torch 1.6; open it with torch and save "
            "it again, or use model.safetensors"
        )
    return "not a torch checkpoint in the zip format (torch >= 1.6), or a damaged one"


def _read_archive(archive):
    names = archive.namelist()
    roots = [
        name[: -len("data.pkl")]
        for name in names
        if name == "data.pkl" or name.endswith("/data.pkl")
    ]
    if len(roots) != 1:
        raise InputError(
            f"holds {len(roots)} files named data.pkl where a torch checkpoint has one"
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"holds two files named {twice}, so its numbers are not clear")
    root = roots[0]
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
    if order not in (b"little", b"big"):
        raise InputError(f"its byte order is {order[:16]!r}, neither little nor big")
    if archive.getinfo(f"{root}data.pkl").file_size > _MAX_PICKLE_BYTES:
        raise InputError("its data.pkl is far too large for a state dict")
    text = archive.read(f"{root}data.pkl")
    _check_memo(text)
    state = _Unpickler(io.BytesIO(text)).load()
    if not isinstance(state, dict):
        raise InputError(f"holds a {type(state).__name__}, not a dict of tensors")
    others = [
        name
        for name, value in state.items()
        if not isinstance(name, str) or not isinstance(value, _View)
    ]
    if others:
        shown = ", ".join(repr(name) for name in others[:8])
        raise InputError(
            f"{len(others)} of its {len(state)} entries are not named tensors: "
            f"{shown}{', ...' if len(others) > 8 else ''}"
        )
    opened = {}
    return {name: _open(view, archive, root, order, opened, name) for name, view in state.items()}


def _check_memo(text):
    """Refuses a high memo number: Python's reader allocates up to it, 34 GB for one of 2^31."""
    for opcode, number, _ in pickletools.genops(text):
        if opcode.name in _PUTS and number is not None and number > len(text):
            raise InputError(
                f"its data.pkl keeps a value under number {number}, which no pickle of "
                f"{len(text)} bytes has"
            )


def _open(view, archive, root, order, opened, name):
    storage, offset, shape, strides = view
    if (
        not isinstance(storage, _Storage)
        or not isinstance(shape, tuple)
        or not isinstance(strides, tuple)
        or len(shape) != len(strides)
    ):
        raise InputError(f"tensor {name!r} is not described as torch describes one")
    if not all(_is_count(number) for number in (offset, *shape, *strides)):
        raise InputError(f"tensor {name!r} has an offset, a size or a stride that is not a count")
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    needed = offset + (last + 1 if all(shape) else 0)
    if needed > storage.numel:
        raise InputError(
            f"tensor {name!r} reaches to value {needed} of a storage of {storage.numel}"
        )
    dtype = _STORAGE_DTYPES[storage.name]
    if storage not in opened:
        opened[storage] = _read_storage(archive, f"{root}data/{storage.key}", storage, dtype, order)
    steps = tuple(stride * dtype.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(opened[storage][offset:], shape, steps, writeable=False)


def _read_storage(archive, member, storage, dtype, order):
    size = archive.getinfo(member).file_size
    if size != storage.numel * dtype.itemsize:
        raise InputError(
            f"{member} has {size} bytes where {storage.numel} values of {dtype.name} need "
            f"{storage.numel * dtype.itemsize}"
        )
    integers = np.dtype(f"u{dtype.itemsize}")
    # Swapped as integers, because bfloat16 has no byte-swapped type.
    stored = np.frombuffer(
        archive.read(member), integers.newbyteorder("<" if order == b"little" else ">")
    )
    return stored.astype(integers, copy=False).view(dtype)


def _is_count(number):
    return type(number) is int and number >= 0
