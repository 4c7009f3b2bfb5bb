"""The results that the figures of a run need."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    import xarray


def recorded(folder: RunFolder, names: Iterable[str]) -> "xarray.Dataset":
    """Returns the results of a run, by generation.

    Args:
        names: Arrays that they must contain, each under its name or as NAME_mean, NAME_quantile,
            ...

    Raises:
        InputError: If there are none yet, or they belong to another run.
    """
    results = folder.results()
    if results is None:
        raise InputError(
            f"{folder.path} contains no results.nc yet; wait until the run has finished a "
            "generation"
        )
    present = [str(name) for name in (*results.data_vars, *results.coords)]
    for name in ("generation", *names):
        if not any(held == name or held.startswith(f"{name}_") for held in present):
            raise InputError(
                f"{folder.path / 'results.nc'} contains no {name}, which this run records; the "
                "file belongs to another run"
            )
    return results
