"""Chains reduced to what is reported of them: mean, deviation and quantiles over chains, generation
by generation.
"""

from collections.abc import Iterable

import numpy as np

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def summarise(values: np.ndarray, chains: int) -> dict[str, np.ndarray]:
    """Statistics of values [points * chains, recorded], the chains of a point beside each other:
    mean, std (ddof=1) [points, recorded], quantile [points, recorded, 5] at `QUANTILES`.

    Quantiles are NumPy's; between two infinite values (collapsed chains) they are the lower one
    instead of nan.
    """
    apart = np.asarray(values, np.float64).reshape(-1, chains, values.shape[-1])
    # NumPy adds in another order where the memory has another: what a resumed run read from a file
    # must give the same sums.
    apart = np.ascontiguousarray(np.moveaxis(apart, 1, -1))
    with np.errstate(invalid="ignore"):
        mean = apart.mean(-1)
        std = apart.std(-1, ddof=1) if chains > 1 else np.zeros_like(mean)
        quantile = np.quantile(apart, QUANTILES, axis=-1)
        if np.isnan(quantile).any():
            quantile = np.where(
                np.isnan(quantile), np.quantile(apart, QUANTILES, axis=-1, method="lower"), quantile
            )
    return {"mean": mean, "std": std, "quantile": np.moveaxis(quantile, 0, -1)}


def summarise_chunks(
    chunks: Iterable, chains: int
) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """(generations [recorded], metric -> statistic -> [points, recorded, ...]) of chunks, one in
    memory at a time; scalar metrics only.
    """
    generations, parts = [], {}
    for chunk in chunks:
        generations.append(chunk.generations)
        for name, values in chunk.arrays.items():
            if values.ndim == 2:
                for statistic, reduced in summarise(values, chains).items():
                    parts.setdefault(name, {}).setdefault(statistic, []).append(reduced)
    joined = {
        name: {statistic: np.concatenate(pieces, axis=1) for statistic, pieces in one.items()}
        for name, one in parts.items()
    }
    return np.concatenate(generations), joined


def as_dataset(generations, statistics, axes: dict[str, tuple] | None = None):
    """An `xarray.Dataset` of `summarise_chunks`: NAME_mean, NAME_std [*axes, generation],
    NAME_quantile [*axes, generation, quantile].
    """
    import xarray

    axes = axes or {}
    shape, names = tuple(len(values) for values in axes.values()), tuple(axes)
    variables = {}
    for metric, one in statistics.items():
        for statistic, values in one.items():
            dims = (
                (*names, "generation", "quantile")
                if statistic == "quantile"
                else (*names, "generation")
            )
            variables[f"{metric}_{statistic}"] = dims, values.reshape((*shape, *values.shape[1:]))
    coordinates = {name: list(values) for name, values in axes.items()}
    return xarray.Dataset(
        variables, coords={**coordinates, "generation": generations, "quantile": list(QUANTILES)}
    )
