"""Statistics over chains: mean, standard deviation and quantiles, by generation."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.drivers.labels import with_labels
from collapse_jax.metrics.labels import Label

if TYPE_CHECKING:
    import xarray

    from collapse_jax.drivers.chunks import Chunk, Records

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# How many chains tell where to look for a quantile first.
SAMPLE = 2**14
# Numbers that are reduced at once: float64 copies of more would need memory that nobody counted.
_AT_ONCE = 2**21


def summarise(
    values: np.ndarray, chains: int, quantiles: Sequence[float] = QUANTILES
) -> dict[str, np.ndarray]:
    """Returns mean, standard deviation and quantiles over the chains of each point.

    Quantiles are NumPy's; between two infinite values (collapsed chains) they are the lower one
    instead of nan.

    Args:
        values: [points * chains, recorded]; the chains of a point are adjacent.
        chains: number of chains per point.
        quantiles: levels in [0, 1].

    Returns:
        mean and std (ddof=1) [points, recorded], quantile [points, recorded, levels].
    """
    values = np.asarray(values)
    by_point = values.reshape(-1, chains, values.shape[-1])
    points, _, recorded = by_point.shape
    columns = max(_AT_ONCE // chains, 1)
    rows = max(columns // max(recorded, 1), 1)
    parts = [
        [
            _summarised(by_point[row : row + rows, :, column : column + columns], quantiles)
            for column in range(0, max(recorded, 1), columns)
        ]
        for row in range(0, max(points, 1), rows)
    ]
    return {
        name: np.concatenate([np.concatenate([part[name] for part in row], 1) for row in parts])
        for name in ("mean", "std", "quantile")
    }


def _summarised(by_point, levels):
    """`summarise` of [points, chains, recorded]."""
    chains = by_point.shape[1]
    # [points, recorded, chains]. NumPy adds in another order where the memory has another, and what
    # a resumed run read from a file must give the same sums.
    by_point = np.ascontiguousarray(np.moveaxis(by_point, 1, -1), np.float64)
    with np.errstate(invalid="ignore"):
        mean = by_point.mean(-1)
        std = by_point.std(-1, ddof=1) if chains > 1 else np.zeros_like(mean)
        quantile = np.quantile(by_point, levels, axis=-1)
        if np.isnan(quantile).any():
            lower = np.quantile(by_point, levels, axis=-1, method="lower")
            quantile = np.where(np.isnan(quantile), lower, quantile)
    return {"mean": mean, "std": std, "quantile": np.moveaxis(quantile, 0, -1)}


def summarise_chunks(
    chunks: "Iterable[Chunk | Records]",
    chains: int,
    quantiles: Sequence[float] = QUANTILES,
    *,
    of_vectors: bool = False,
) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """`summarise` of the scalar metrics of chunks, one in memory at a time.

    Args:
        chunks: of all chains; the chains of a point are adjacent.
        chains: number of chains per point.
        quantiles: levels in [0, 1].
        of_vectors: whether metrics of several numbers are reduced too, each number separately.

    Returns:
        generations [recorded], and metric -> statistic -> [points, recorded, ...].
    """
    generations, parts = [], {}
    for chunk in chunks:
        generations.append(chunk.generations)
        for name, values in chunk.arrays.items():
            if values.ndim == 2 or of_vectors:
                in_rows = values.reshape(len(values), -1)
                for statistic, reduced in summarise(in_rows, chains, quantiles).items():
                    own = (*values.shape[1:], *reduced.shape[2:])
                    reduced = reduced.reshape(len(reduced), *own)
                    parts.setdefault(name, {}).setdefault(statistic, []).append(reduced)
    statistics = {
        name: {statistic: np.concatenate(pieces, axis=1) for statistic, pieces in of_metric.items()}
        for name, of_metric in parts.items()
    }
    return np.concatenate(generations), statistics


def as_dataset(
    generations: np.ndarray,
    statistics: Mapping[str, Mapping[str, np.ndarray]],
    axes: Mapping[str, Sequence] | None = None,
    quantiles: Sequence[float] = QUANTILES,
    labels: Mapping[str, Label] | None = None,
) -> "xarray.Dataset":
    """Returns the result of `summarise_chunks` as a labelled data set.

    Args:
        generations: [recorded].
        statistics: metric -> statistic -> [points, recorded, ...].
        axes: name -> values of each axis of the grid; by default there is one point.
        quantiles: the levels of the quantiles.
        labels: metric -> its label; for other metrics the label is derived from the name.

    Returns:
        NAME_mean, NAME_std [*axes, generation, ...], NAME_quantile [*axes, generation, ...,
        quantile].
    """
    import xarray

    axes = axes or {}
    shape = tuple(len(values) for values in axes.values())
    variables = {}
    for metric, of_metric in statistics.items():
        for statistic, values in of_metric.items():
            levels = ["quantile"] if statistic == "quantile" else []
            own = [f"{metric}_{axis}" for axis in range(values.ndim - 2 - len(levels))]
            dims = (*axes, "generation", *own, *levels)
            variables[f"{metric}_{statistic}"] = dims, values.reshape((*shape, *values.shape[1:]))
    coordinates = {name: list(values) for name, values in axes.items()}
    coordinates |= {"generation": generations, "quantile": list(quantiles)}
    dataset = xarray.Dataset(variables, coords=coordinates)
    return with_labels(dataset, labels, of_statistics=True)
