"""results.nc: the arrays of a run as one data set, with a checksum of its content."""

import hashlib
import json
import math
import pathlib
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.errors import InputError, first_line, size_words
from collapse_jax.runs.atomic import atomic

if TYPE_CHECKING:
    import xarray

_CHECKSUM, _AXES = "sha256", "axes"
# The bytes of a variable, or of all variables' records, that 32 bits count, with some to spare.
_LARGEST = 2**31 - 2**10
# Numbers that are hashed at once.
_HASHED = 2**22


def results_of(arrays: dict[tuple[int, int], dict[str, np.ndarray]]) -> "xarray.Dataset":
    """The named arrays of each (chain, generation) as one data set [chain, generation, ...].

    Shorter arrays are padded with nan, and missing ones are nan. Numbers are float64, arrays
    float32.
    """
    import xarray

    chains = sorted({chain for chain, _ in arrays})
    generations = sorted({generation for _, generation in arrays})
    variables = {}
    for name in sorted({name for named in arrays.values() for name in named}):
        parts = {
            (chains.index(chain), generations.index(generation)): np.asarray(named[name])
            for (chain, generation), named in arrays.items()
            if name in named
        }
        values = _padded(parts, (len(chains), len(generations)))
        axes = (f"{name}_{axis}" for axis in range(values.ndim - 2))
        variables[name] = (("chain", "generation", *axes), values)
    return xarray.Dataset(variables, coords={"chain": chains, "generation": generations})


def _padded(parts, places):
    """Arrays by their (row, column) as one [*places, *longest shape], nan where there is none."""
    ndim = max(part.ndim for part in parts.values())
    longest = (max(part.shape[axis] for part in parts.values()) for axis in range(ndim))
    values = np.full((*places, *longest), np.nan, np.float32 if ndim else np.float64)
    for place, part in parts.items():
        values[(*place, *map(slice, part.shape))] = part
    return values


def read_results(path: pathlib.Path) -> "xarray.Dataset":
    """Returns the data set in a file, loaded into memory.

    Raises:
        InputError: If the file cannot be read, or is not what was written.
    """
    import xarray

    try:
        with xarray.open_dataset(path, engine="scipy", mmap=False) as data:
            data.load()
    except Exception as error:  # the reader trusts the file, and fails in any way
        raise damaged(path, first_line(error)) from None
    if _AXES in data.attrs:
        data = data.transpose(*json.loads(data.attrs.pop(_AXES)))
    expected = data.attrs.pop(_CHECKSUM, None)  # files of older versions have none
    if expected is not None and expected != _checksum(data):
        raise damaged(path, "it is not what was written")
    return data


def write_results(path: pathlib.Path, data: "xarray.Dataset") -> None:
    """Writes a data set with its checksum.

    The format is NetCDF's 64-bit offset format. A variable of 2 GiB or more is written in records
    along one axis, the unlimited one, which then comes first; `read_results` puts it back, and
    other readers find it by its name.

    Raises:
        InputError: If the records themselves exceed 2 GiB along every axis.
    """
    marked = data.assign_attrs({_CHECKSUM: _checksum(data)})
    records = record_axis(
        {str(name): (values.dims, values.shape, values.dtype) for name, values in data.items()}
    )
    if records is not None:
        axes = list(dict.fromkeys(axis for values in data.values() for axis in values.dims))
        axes += [axis for axis in data.dims if axis not in axes]
        marked = marked.assign_attrs({_AXES: json.dumps(axes)})
        marked = marked.transpose(records, *(axis for axis in axes if axis != records))
    with atomic(path) as temporary:
        unlimited = [] if records is None else [records]
        marked.to_netcdf(temporary, engine="scipy", unlimited_dims=unlimited)


def record_axis(variables: Mapping[str, tuple[tuple, tuple, np.dtype]]) -> Hashable | None:
    """The axis along which a file is written record by record; None where every variable fits.

    A variable of a file may have 2 GiB, and so may each record along one axis. Chosen is the first
    axis whose records, of all variables together, fit.

    Args:
        variables: Name -> axes, shape and type of each.

    Raises:
        InputError: If there is no such axis.
    """
    sizes = {
        name: math.prod(shape) * dtype.itemsize for name, (_, shape, dtype) in variables.items()
    }
    if max(sizes.values(), default=0) <= _LARGEST:
        return None
    for axis in dict.fromkeys(axis for axes, _, _ in variables.values() for axis in axes):
        of_a_record, without = 0, 0
        for name, (axes, shape, _) in variables.items():
            if axis in axes:
                of_a_record += sizes[name] // shape[axes.index(axis)] + 4  # padding
            else:
                without = max(without, sizes[name])
        if max(of_a_record, without) <= _LARGEST:
            return axis
    name = max(sizes, key=lambda name: sizes[name])
    raise InputError(
        f"{name} needs {size_words(sizes[name])}, with more than {size_words(_LARGEST)} along "
        "every axis, which exceeds the format of results.nc; record fewer generations or metrics"
    )


def damaged(path: pathlib.Path, reason: str) -> InputError:
    """Returns the error for a damaged file that the command of its run would write again."""
    return InputError(
        f"{path} is damaged ({reason}); delete it, and the command of the run writes it again"
    )


def _checksum(data):
    """A hash of names, shapes and values that survives NetCDF's narrow integers and byte order."""
    digest = hashlib.sha256()
    for name in sorted(map(str, data.variables)):
        values = data[name].values
        digest.update(f"{name} {data[name].dims} {values.shape}".encode())
        if values.dtype.kind not in "fiub":
            digest.update("\0".join(map(str, values.ravel())).encode())
            continue
        kind = values.dtype.newbyteorder("=") if values.dtype.kind == "f" else np.dtype(np.int64)
        for part in _parts(values):
            digest.update(np.ascontiguousarray(part, kind).data)
    return digest.hexdigest()


def _parts(values):
    """An array cut along its first axis, so that no copy of a part is large."""
    if values.size <= _HASHED or not values.ndim:
        return [values]
    rows = max(_HASHED * len(values) // values.size, 1)
    return (values[first : first + rows] for first in range(0, len(values), rows))
