"""The result of a driver: metrics of all chains at all recorded generations."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.core.html import html_table
from collapse_jax.drivers.labels import Provenance, provenance_from, with_labels
from collapse_jax.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import xarray

    from collapse_jax.drivers.origin import Origin


class UnknownMetric(InputError, KeyError):
    """A metric that a trace does not hold; a `KeyError` too, as of any mapping."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would show its repr


class Trace(Mapping[str, np.ndarray]):
    """Metrics of all chains: `trace[name]` is a NumPy array [chain, generation, ...].

    generations: [generation], the numbers of the recorded generations.

    A trace of `cj.simulate` stores its process and key, so that `cj.simulate(..., after=trace)` can
    continue it and `cj.measure` can compute more metrics. A pickled copy has the records only.
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
        """The origin of the records and the labels of the metrics, as far as they are known."""
        return provenance_from(self.origin, self._provenance)

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._arrays[name]
        except KeyError:
            raise UnknownMetric(
                f"the trace holds no metric {name!r}{did_you_mean(name, self._arrays)}; it holds "
                f"{', '.join(self._arrays) or 'none'}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Trace of {shapes_in_words(self.generations, self._arrays)}"

    def _repr_html_(self) -> str:
        rows = [(name, *_ends(array)) for name, array in self._arrays.items()]
        head = ("metric", "[chain, generation, ...]", *ends_in_words(self.generations, "median"))
        return html_table(head, rows, f"Trace of {span_in_words(self.generations)}")

    def to_xarray(self) -> "xarray.Dataset":
        """Returns an `xarray.Dataset` with the axes chain and generation.

        Vector metrics have the further axes NAME_0, NAME_1 ... Variables have `long_name` and
        `units`. The attributes of the data set are, as far as they are known, the process, its key,
        chains, generations, metrics, versions and the commit.
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
    """Returns two lines: the recorded generations, and the name and shape of each array."""
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
    return f"{span_in_words(generations)}\n  {shapes or 'no metrics'}"


def ends_in_words(generations: np.ndarray, what: str) -> list[str]:
    """Returns the heads of two columns, for the first and the last recorded generation."""
    ends = generations[[0, -1]].tolist() if len(generations) else ["0", "the last"]
    return [f"{what} at {end}" for end in ends]


def span_in_words(generations: np.ndarray) -> str:
    """Returns the numbers of the first and last recorded generation, and their count, as text."""
    span = f" {generations[0]}..{generations[-1]}" if len(generations) else ""
    return f"generations{span} ({len(generations):,} recorded)"


def _ends(array):
    """Cells of a metric: its shape, and the median over chains at both ends where it is scalar."""
    shape = str(list(array.shape))
    if array.ndim != 2 or not array.size:
        return shape, "", ""
    return shape, *(f"{np.median(array[:, place]):.4g}" for place in (0, -1))
