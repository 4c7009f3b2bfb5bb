"""Whether a run folder contains everything that was asked for."""

from collections.abc import Collection

import numpy as np

from collapse_jax.drivers.plan import recorded_generations
from collapse_jax.runs.folder import RunFolder

# What results.nc says of statistics that are of fewer chains than config.json: how many.
CHAINS = "chains"


def are_there(folder: RunFolder, wanted: Collection[tuple[int, int]]) -> bool:
    """Whether every generation is in results.nc, and saved.

    A folder whose whole checkpoints/ was deleted to save disk space counts as complete.

    Args:
        folder: The run folder.
        wanted: The (chain, generation) pairs.
    """
    data = folder.results()
    if data is None or not {"chain", "generation"} <= set(data.coords):
        return False
    axes = [set(data[name].values.tolist()) for name in ("chain", "generation")]
    if not all(chain in axes[0] and generation in axes[1] for chain, generation in wanted):
        return False
    return not folder.checkpoints.is_dir() or all(
        (folder.checkpoints / f"chain_{chain}" / str(generation)).is_dir()
        for chain, generation in wanted
    )


def are_recorded(
    folder: RunFolder,
    generations: int,
    record: int | str | list[int],
    chains: int = 0,
    metrics: Collection[str] = (),
) -> bool:
    """Whether a simulation's records contain at least the generations asked for.

    Args:
        folder: The run folder.
        generations: The last one that is asked for.
        record: Which generations are recorded, as for `recorded_generations`.
        chains: Number of chains that there must be, if it is given.
        metrics: Names of metrics that must be recorded, as such or as statistics over chains.
    """
    # Arrays, because there may be a million.
    found = np.fromiter((row["generation"] for row in folder.each_row("generation")), np.int64)
    last = int(found.max(initial=-1))
    if last < generations:
        return False
    wanted = recorded_generations(last, record)
    data = folder.results() if np.isin(wanted, found).all() else None
    if data is None or not np.isin(wanted, data["generation"].values).all():
        return False
    there = int(data.sizes.get("chain", data.attrs.get(CHAINS, chains)))
    return there >= chains and all({name, f"{name}_mean"} & set(data) for name in metrics)
