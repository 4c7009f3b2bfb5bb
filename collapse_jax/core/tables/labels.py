"""Names of columns and categories as coordinates of recorded vectors."""

from collections.abc import Mapping, Sequence
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
    of_columns: Mapping[str, Sequence[str]] | None = None,
) -> "xarray.Dataset":
    """The same results, whose axes NAME_0 have names as coordinates where their lengths fit.

    Of a vector for each of many models, NAME_1 has.

    Args:
        results: as `Trace.to_xarray` gives them.
        columns: names for the entries of `mean` and `log_scale`.
        features: names for the entries of `weights`.
        categories: names for the entries of `probabilities`.
        of_columns: column -> names for the entries of `probabilities_COLUMN`.
    """
    axes = dict.fromkeys(_OF_COLUMNS, columns)
    axes |= {"weights": features, "probabilities": categories, "pooled_probabilities": categories}
    axes |= {f"probabilities_{column}": names for column, names in (of_columns or {}).items()}
    for metric, names in axes.items():
        last = f"{metric}_1" if f"{metric}_1" in results.dims else f"{metric}_0"
        if len(names) and results.sizes.get(last) == len(names):
            what = "category" if "probabilities" in metric else "column of the data"
            coordinate = (last, np.array(names, dtype=object), {"long_name": what})
            results = results.assign_coords({last: coordinate})
    return results
