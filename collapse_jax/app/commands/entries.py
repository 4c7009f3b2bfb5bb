"""entries.csv: statistics over chains of each category or column of one's own data."""

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    import xarray

FILE = "entries.csv"
# More rows than this: those of generation 0 and of the last one alone.
_MOST_ROWS = 200_000
_HEAD = ("metric", "entry", "generation", "mean", "std", "q05", "median", "q95")


def write_entries(folder: RunFolder, results: "xarray.Dataset") -> None:
    """Writes the file, a row for each named entry of a vector and generation; none without such.

    Args:
        folder: the run folder.
        results: of all chains, labelled.
    """
    named = [
        name
        for name, values in results.data_vars.items()
        if values.dims == ("chain", "generation", f"{name}_0") and f"{name}_0" in results.coords
    ]
    rows = sum(results[f"{name}_0"].size for name in named) * results.sizes["generation"]
    if not rows:
        return
    if rows > _MOST_ROWS:
        results = results.isel(generation=[0, -1])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_HEAD)
    for name in named:
        labels = results[f"{name}_0"].values.tolist()
        for place, generation in enumerate(results["generation"].values.tolist()):
            of = _statistics(results[name].values[:, place])
            table.writerows(
                (name, label, generation, *(f"{one[entry]:.9g}" for one in of))
                for entry, label in enumerate(labels)
            )
    folder.write_text(FILE, text.getvalue())


def _statistics(values):
    """Mean, deviation (ddof=1), 5%, median and 95% over chains of values [chain, entry]."""
    values = values.astype(float)
    std = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    return values.mean(0), std, *np.quantile(values, (0.05, 0.5, 0.95), axis=0)
