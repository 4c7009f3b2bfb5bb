"""Names of columns and categories as coordinates of recorded vectors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.core.ecosystems.pool_metrics import base_of
from collapse_jax.metrics.labels import OF_MODEL

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
    names_of = dict.fromkeys(_OF_COLUMNS, columns)
    names_of |= {"weights": features, "probabilities": categories}
    names_of |= {f"probabilities_{column}": names for column, names in (of_columns or {}).items()}
    for axis, metric in _last_axes(results):
        names = names_of.get(metric, ())
        if len(names) and results.sizes[axis] == len(names):
            what = "category" if "probabilities" in metric else "column of the data"
            coordinate = (axis, np.array(names, dtype=object), {"long_name": what})
            results = results.assign_coords({axis: coordinate})
    return results


def _last_axes(results):
    """(axis, the metric of one model) for the last axis of each vector."""
    for axis in map(str, results.dims):
        metric, _, number = axis.rpartition("_")
        is_last = number == "1" or (number == "0" and f"{metric}_1" not in results.dims)
        if is_last and metric:
            yield axis, base_of(metric.partition(OF_MODEL)[0])
