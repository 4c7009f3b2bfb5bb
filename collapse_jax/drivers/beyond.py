"""Models whose finite numbers are no longer their law's: said once when it begins, and at the end.

Nothing that is recorded changes: the parameters are looked at on the host, between compiled calls.
"""

import warnings
from collections.abc import Iterable

import jax
import numpy as np

from collapse_jax.core.types import Process, State
from collapse_jax.errors import FloatRangeWarning


def chains_beyond(process: Process, state: State, chain_axis: int = 0) -> np.ndarray | None:
    """Which chains of a batch [chains] have a model beyond the range of its family's numbers.

    Args:
        process: the process.
        state: with an axis of chains in every array.
        chain_axis: which that is.

    Returns:
        None where none has, or the family says nothing of it.
    """
    beyond = process.runtime.beyond
    if beyond is None:
        return None
    found = np.asarray(beyond.models(jax.tree.map(np.asarray, state.params)))
    if not found.any():
        return None
    found = np.moveaxis(found, chain_axis, 0)
    return np.asarray(found.reshape(len(found), -1).any(1))


class Watch:
    """Warns of chains beyond the range, where a metric is recorded that is wrong there.

    Args:
        process: the process.
        metrics: names of what is recorded.
        chains: how many there are.
        last_generation: of the run.
    """

    def __init__(self, process: Process, metrics: Iterable[str], chains: int, last_generation: int):
        self._beyond, self._chains, self._last = process.runtime.beyond, chains, last_generation
        right = self._beyond.right if self._beyond else ()
        # A metric of one model or of the pool of an ecosystem has the name of what it is made of.
        self._wrong = [name for name in metrics if not any(of in name for of in right)]
        self._said = -1

    @property
    def looks(self) -> bool:
        """Whether there is anything to look for."""
        return self._beyond is not None and bool(self._wrong)

    def tell(self, generation: int, count: int) -> None:
        """Warns at the first generation that is looked at with such chains, and at the last.

        Args:
            generation: the newest one.
            count: how many chains are beyond the range.
        """
        if not count or (self._said >= 0 and generation < self._last) or self._said == generation:
            return
        self._said = generation
        names = f"{', '.join(self._wrong[:8])}{', ...' if len(self._wrong) > 8 else ''}"
        which = f"{count:,} of {self._chains:,} chains ({count / self._chains:.2g})"
        assert self._beyond is not None
        warnings.warn(
            f"by generation {generation} {which} have {self._beyond.why}: do not read {names} of "
            f"these; {' and '.join(self._beyond.right[:2])} keep to their law",
            FloatRangeWarning,
            stacklevel=2,
        )
