"""The coupling matrix, which states how much each model reads of the others; and its checks."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.flows.schedules import Schedule, is_share
from collapse_jax.errors import InputError, numbers

# What a row may exceed 1 by, and from where on the rest of a row is nothing.
_ROUNDING, _NOTHING = 1e-6, 1e-9


class Row(NamedTuple):
    """The composition of one model's training sets.

    sources: the models that it reads, cyclically from itself on, so that rows of symmetric
        couplings are alike; only itself if it reads none.
    weights: [sources], their shares.
    synthetic: the share of all models together.
    real: the share of real data; None if it is known to be 0.
    """

    sources: tuple[int, ...]
    weights: Any
    synthetic: Any
    real: Any


@dataclasses.dataclass(frozen=True, eq=False)
class KnownSources:
    """A coupling without real data, of which it is known which models read which.

    Its shares may be traced: a point of a grid then has the same draws as alone.

    weights: [K, K], rows that sum to 1.
    reads: bool [K, K], whether the weight may be above 0.
    """

    weights: Any
    reads: np.ndarray

    def __len__(self) -> int:
        return len(self.reads)


def checked_coupling(coupling: Any) -> Any:
    """Returns the coupling as an array [K, K]: a NumPy array if its numbers are known, else traced.

    `KnownSources` are returned unchanged.

    Raises:
        InputError: unless it is square, with entries of at least 0 and rows that sum to at most 1.
    """
    if isinstance(coupling, KnownSources):
        return coupling
    if not isinstance(coupling, Tracer):
        coupling = numbers("coupling", coupling)
    shape = np.shape(coupling)
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise InputError(f"coupling has shape {list(shape)}; it must be [K, K], for K models")
    if isinstance(coupling, Tracer):
        return coupling
    wrong = ~(np.isfinite(coupling) & (coupling >= 0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"coupling[{row}, {column}] is {coupling[row, column]:g}; a share must be at least 0"
        )
    sums = coupling.sum(1)
    if (sums > 1 + _ROUNDING).any():
        row = int(np.argmax(sums > 1 + _ROUNDING))
        raise InputError(
            f"row {row} of coupling sums to {sums[row]:g}; the shares of all models together must "
            "be at most 1 (the rest is real data)"
        )
    return coupling


def schedules_of(coupling: Any) -> tuple[Schedule, ...]:
    """Returns the numbers of a traced coupling that drivers check at each point; else ()."""
    if not isinstance(coupling, Tracer):
        return ()
    places = list(np.ndindex(*coupling.shape))
    entries = Schedule(
        tuple(f"coupling[{i}, {j}]" for i, j in places),
        tuple(coupling[place] for place in places),
        is_share,
        "in [0, 1]",
    )
    sums = Schedule(
        tuple(f"the sum of row {row} of coupling" for row in range(len(coupling))),
        tuple(jnp.sum(row) for row in coupling),
        is_share,
        "at most 1 (the rest is real data)",
    )
    return entries, sums


def rows_of(coupling: Any) -> list[Row]:
    """The `Row` of each model of a `checked_coupling`."""
    if isinstance(coupling, KnownSources):
        return [
            _row_of_known_sources(place, row, reads)
            for place, (row, reads) in enumerate(zip(coupling.weights, coupling.reads, strict=True))
        ]
    if isinstance(coupling, Tracer):
        return [_traced_row(place, row) for place, row in enumerate(coupling)]
    return [_known_row(place, row) for place, row in enumerate(coupling)]


def in_order(place: int, sources: Any, count: int) -> tuple[int, ...]:
    """The sources of the model at a place, itself first and those after it, cyclically."""
    return tuple(sorted(sources, key=lambda source: (source - place) % count))


def _row_of_known_sources(place, row, reads):
    sources = in_order(place, np.flatnonzero(reads).tolist(), len(reads))
    if isinstance(row, np.ndarray):
        return Row(sources, row[list(sources)], 1.0, None)
    return Row(sources, jnp.stack([row[source] for source in sources]), 1.0, None)


def _known_row(place, row):
    sources = in_order(place, np.flatnonzero(row).tolist(), len(row))
    if not sources:
        return Row((place,), np.ones(1), 0.0, 1.0)
    total = float(min(sum(row[list(sources)].tolist()), 1.0))
    # 1 - (1 - 0.1) is 0.1, as whoever writes 1 - gamma means it.
    real = round(1 - total, 15)
    if real < _NOTHING:
        return Row(sources, row[list(sources)], 1.0, None)
    return Row(sources, row[list(sources)], total, real)


def _traced_row(place, row):
    """The `Row` of a traced row; if it is invalid, everything is nan, and so is the model."""
    row = row.astype(jnp.result_type(float))
    total = jnp.sum(row)
    sound = (jnp.min(row) >= 0) & (total <= 1 + _ROUNDING)
    sources = in_order(place, range(len(row)), len(row))
    row = jnp.stack([jnp.where(sound, row[source], jnp.nan) for source in sources])
    real = jnp.where(sound, jnp.maximum(1 - total, 0), jnp.nan)
    return Row(sources, row, jnp.where(sound, total, jnp.nan), real)
