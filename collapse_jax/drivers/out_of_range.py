"""Warns of models whose finite numbers are no longer accurate, when this begins and at the end.

Records do not change: the parameters are checked on the host, between compiled calls.
"""

import warnings
from collections.abc import Iterable

import jax
import numpy as np

from collapse_jax.core.types import Process, State
from collapse_jax.errors import FloatRangeWarning


def chains_out_of_range(process: Process, state: State, chain_axis: int = 0) -> np.ndarray | None:
    """Returns which chains of a batch [chains] have a model out of the range of its family.

    Args:
        process: the process.
        state: a state with an axis of chains in every array.
        chain_axis: that axis.

    Returns:
        None if no chain has one, or if the family has no such range.
    """
    limit = process.runtime.out_of_range
    if limit is None:
        return None
    found = np.asarray(limit.models(jax.tree.map(np.asarray, state.params)))
    if not found.any():
        return None
    found = np.moveaxis(found, chain_axis, 0)
    return np.asarray(found.reshape(len(found), -1).any(1))


class Watch:
    """Warns of chains out of range, if a recorded metric is inaccurate there.

    Args:
        process: the process.
        metrics: names of the recorded metrics.
        chains: number of chains.
        last_generation: number of the last generation of the run.
    """

    def __init__(self, process: Process, metrics: Iterable[str], chains: int, last_generation: int):
        self._limit, self._chains, self._last = (
            process.runtime.out_of_range,
            chains,
            last_generation,
        )
        right = self._limit.right if self._limit else ()
        # In an ecosystem, the metric of a model or of the pool has that name as a part.
        self._wrong = [name for name in metrics if not any(of in name for of in right)]
        self._said = -1

    @property
    def looks(self) -> bool:
        """Whether there is anything to check."""
        return self._limit is not None and bool(self._wrong)

    def tell(self, generation: int, count: int) -> None:
        """Warns at the first checked generation with such chains, and at the last generation.

        Args:
            generation: the newest generation.
            count: the number of chains out of range.
        """
        if not count or (self._said >= 0 and generation < self._last) or self._said == generation:
            return
        self._said = generation
        names = f"{', '.join(self._wrong[:8])}{', ...' if len(self._wrong) > 8 else ''}"
        which = f"{count:,} of {self._chains:,} chains ({count / self._chains:.2g})"
        assert self._limit is not None
        warnings.warn(
            f"by generation {generation} {which} have {self._limit.why}: do not use {names} of "
            f"these chains; {' and '.join(self._limit.right[:2])} remain exact",
            FloatRangeWarning,
            stacklevel=2,
        )
