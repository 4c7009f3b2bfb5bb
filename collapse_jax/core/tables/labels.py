"""Names of columns and categories as coordinates of recorded vectors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray

# Metrics with one entry for each column.
_OF_COLUMNS = ("mean", "log_scale")


def labelled(
    results: "xarray.Dataset",
    columns: Sequence[str] = (),
    features: Sequence[str] = (),
    categories: Sequence[str] = (),
) -> "xarray.Dataset":
    """The same results, whose axes NAME_0 have names as coordinates where their lengths fit.

    Args:
        results: as `Trace.to_xarray` gives them.
        columns: names for the entries of `mean` and `log_scale`.
        features: names for the entries of `weights`.
        categories: names for the entries of `probabilities`.
    """
    axes = dict.fromkeys(_OF_COLUMNS, columns)
    axes |= {"weights": features, "probabilities": categories}
    for metric, names in axes.items():
        axis = f"{metric}_0"
        if len(names) and results.sizes.get(axis) == len(names):
            results = results.assign_coords({axis: (axis, np.array(names, dtype=object))})
    return results
