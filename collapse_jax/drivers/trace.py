"""What a driver returns: metrics of all chains at all generations."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.drivers.labels import Provenance, provenance_of, with_labels

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
    # Labels and attributes of a trace that does not know its origin.
    _provenance: Provenance = Provenance()

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        generations: np.ndarray,
        origin: "Origin | None" = None,
        provenance: Provenance | None = None,
    ):
        self._arrays = dict(arrays)
        self.generations = np.asarray(generations)
        self.origin = origin
        if provenance is not None:
            self._provenance = provenance

    def __getstate__(self):
        kept = {name: value for name, value in vars(self).items() if name != "origin"}
        return kept | {"_provenance": self.provenance}

    @property
    def provenance(self) -> Provenance:
        """What the records came from, and the labels of the metrics, as far as they are known."""
        if self.origin is None:
            return self._provenance
        process, key, plan, versions, *_ = self.origin
        return provenance_of(process, key, plan, versions)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Trace of {shapes_in_words(self.generations, self._arrays)}"

    def to_xarray(self) -> "xarray.Dataset":
        """The axes chain, generation and, for vector metrics, NAME_0, NAME_1 ...

        Variables have `long_name` and `units`. Attributes of the whole are, as far as they are
        known, the process, its key, chains, generations, metrics, versions and the commit.
        """
        import xarray

        def labelled(name, array):
            own_axes = (f"{name}_{axis}" for axis in range(array.ndim - 2))
            return ("chain", "generation", *own_axes), array

        variables = {name: labelled(name, array) for name, array in self._arrays.items()}
        coordinates = {"generation": self.generations}
        if variables:
            chains = len(next(iter(self._arrays.values())))
            coordinates = {"chain": np.arange(chains)} | coordinates
        attributes, labels = self.provenance
        return with_labels(xarray.Dataset(variables, coords=coordinates, attrs=attributes), labels)


def shapes_in_words(generations: np.ndarray, arrays: Mapping[str, np.ndarray]) -> str:
    """Recorded generations, and the name and shape of each array, in two lines."""
    count = len(generations)
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
    span = f" {generations[0]}..{generations[-1]}" if count else ""
    return f"generations{span} ({count:,} recorded)\n  {shapes or 'no metrics'}"
