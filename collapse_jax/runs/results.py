"""results.nc: the arrays of a run as one data set, with a checksum of its content."""

import hashlib
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.errors import InputError, first_line
from collapse_jax.runs.atomic import atomic

if TYPE_CHECKING:
    import xarray

_CHECKSUM = "sha256"


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
    """The data set in a file, loaded.

    Raises:
        InputError: If the file cannot be read, or is not what was written.
    """
    import xarray

    try:
        with xarray.open_dataset(path, engine="scipy", mmap=False) as data:
            data.load()
    except Exception as error:  # the reader trusts the file, and fails in any way
        raise damaged(path, first_line(error)) from None
    expected = data.attrs.pop(_CHECKSUM, None)  # files of older versions have none
    if expected is not None and expected != _checksum(data):
        raise damaged(path, "it is not what was written")
    return data


def write_results(path: pathlib.Path, data: "xarray.Dataset") -> None:
    """Writes a data set with its checksum."""
    with atomic(path) as temporary:
        data.assign_attrs({_CHECKSUM: _checksum(data)}).to_netcdf(temporary, engine="scipy")


def damaged(path: pathlib.Path, reason: str) -> InputError:
    """The error for a file of records that the command of its run would write again."""
    return InputError(
        f"{path} is damaged ({reason}); delete it, and the command of the run writes it again"
    )


def _checksum(data):
    """A hash of names, shapes and values that survives NetCDF's narrow integers and byte order."""
    digest = hashlib.sha256()
    for name in sorted(map(str, data.variables)):
        values = data[name].values
        digest.update(f"{name} {data[name].dims} {values.shape}".encode())
        if values.dtype.kind == "f":
            values = values.astype(values.dtype.newbyteorder("="))
        elif values.dtype.kind in "iub":
            values = values.astype(np.int64)
        else:
            values = np.frombuffer("\0".join(map(str, values.ravel())).encode(), np.uint8)
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
