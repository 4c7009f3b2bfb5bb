"""What a driver returns: metrics of all chains at all generations."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray

    from collapse_jax.drivers.origin import Origin


class Trace(Mapping[str, np.ndarray]):
    """Metrics of all chains: `trace[name]` is a NumPy array [chain, generation, ...].

    generations: [generation] the numbers of those that were recorded.

    One of `cj.simulate` knows what it came from, so that `cj.simulate(..., after=trace)` goes on
    from it and `cj.measure` measures more. A copy that was pickled holds the records alone.
    """

    # What a simulation needs to go on from here; None where that is not known.
    origin: "Origin | None" = None

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        generations: np.ndarray,
        origin: "Origin | None" = None,
    ):
        self._arrays = dict(arrays)
        self.generations = np.asarray(generations)
        self.origin = origin

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "origin"}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Trace of {shapes_in_words(self.generations, self._arrays)}"

    def to_xarray(self) -> "xarray.Dataset":
        """The axes chain, generation and, for vector metrics, NAME_0, NAME_1 ..."""
        import xarray

        def labelled(name, array):
            own_axes = (f"{name}_{axis}" for axis in range(array.ndim - 2))
            return ("chain", "generation", *own_axes), array

        variables = {name: labelled(name, array) for name, array in self._arrays.items()}
        return xarray.Dataset(variables, coords={"generation": self.generations})


def shapes_in_words(generations: np.ndarray, arrays: Mapping[str, np.ndarray]) -> str:
    """Recorded generations, and the name and shape of each array, in two lines."""
    count = len(generations)
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
    span = f" {generations[0]}..{generations[-1]}" if count else ""
    return f"generations{span} ({count:,} recorded)\n  {shapes or 'no metrics'}"
