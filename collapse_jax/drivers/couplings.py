"""Ecosystems at many couplings: a phase diagram in one compiled program."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.ecosystems.coupling import checked_coupling
from collapse_jax.core.process import check_started, process_grid
from collapse_jax.core.tracing import depends
from collapse_jax.core.types import Process
from collapse_jax.drivers.chunks import join_chunks
from collapse_jax.drivers.labels import Provenance, provenance_of, with_labels
from collapse_jax.drivers.plan import DEFAULT_METRICS, Plan
from collapse_jax.drivers.simulate import simulate_chunks
from collapse_jax.drivers.streams import INDEPENDENT
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import InputError, function, made_by, numbers, whole

if TYPE_CHECKING:
    import xarray


class CouplingTrace(Trace):
    """Metrics of all chains at all couplings: `trace[name]` is [coupling, chain, generation, ...].

    generations: [generation], the numbers of the recorded generations.
    couplings: [coupling, K, K].
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        generations: np.ndarray,
        couplings: Any,
        provenance: Provenance | None = None,
    ):
        super().__init__(arrays, generations, provenance=provenance)
        self.couplings = couplings

    def to_xarray(self) -> "xarray.Dataset":
        """Returns an `xarray.Dataset` with the axes coupling, chain, generation, NAME_0 ..."""
        import xarray

        def labelled(name, array):
            own_axes = (f"{name}_{axis}" for axis in range(array.ndim - 3))
            return ("coupling", "chain", "generation", *own_axes), array

        variables = {name: labelled(name, array) for name, array in self.items()}
        coordinates = {"generation": self.generations}
        if variables:
            count, chains = next(iter(self.values())).shape[:2]
            coordinates |= {"coupling": np.arange(count), "chain": np.arange(chains)}
        attributes, labels = self.provenance
        return with_labels(xarray.Dataset(variables, coords=coordinates, attrs=attributes), labels)


def simulate_couplings(
    ecosystem_of: Callable[[Any], Process],
    couplings: Any,
    key: jax.Array,
    *,
    generations: int,
    chains: int = 1,
    metrics: Iterable = DEFAULT_METRICS,
    record: int | str | Iterable[int] = 1,
    chunk: int = 100,
    memory_limit: int | None = None,
    streams: str = INDEPENDENT,
    devices: Sequence | None = None,
) -> CouplingTrace:
    """Simulates an ecosystem at many couplings in one compiled program; returns its metrics.

    The coupling is traced, so every model reads every other, even with share 0: a sparse coupling
    costs as much as a full one. Counts are multinomial.

    Args:
        ecosystem_of: traced coupling [K, K] -> the result of `cj.ecosystem`.
        couplings: [couplings, K, K].
        key: one typed key.
        generations: the last generation.
        chains: number of chains, at each coupling.
        metrics, record, chunk, memory_limit, devices: as in `cj.simulate`.
        streams: "independent" gives each coupling different random numbers, which do not depend on
            its place among the others; "common" gives all couplings the same ones.

    Returns:
        `trace[name]`, a NumPy array [coupling, chain, recorded, ...].

    Raises:
        InputError: for an invalid coupling, which the message names; for a function that ignores
            its coupling; and as `cj.simulate`.
        DivergenceError: when a model contains nan; the message names chain and coupling ("point of
            the grid").
    """
    couplings = _checked(ecosystem_of, couplings)
    whole("chains", chains, 1)
    process, settings = _grid(ecosystem_of, couplings)
    _check_that_it_matters(process, key, settings)
    plan = Plan(
        generations, chains, metrics, record, chunk, memory_limit, devices, settings, None, streams
    )
    trace = join_chunks(list(simulate_chunks(process, key, plan)))
    arrays = {
        name: values.reshape(len(couplings), chains, *values.shape[1:])
        for name, values in trace.items()
    }
    return CouplingTrace(arrays, trace.generations, couplings, provenance_of(process, key, plan))


def _checked(ecosystem_of, couplings):
    """The couplings as an array [couplings, K, K]."""
    function("ecosystem_of", ecosystem_of)
    couplings = numbers("couplings", couplings)
    if couplings.ndim != 3 or not len(couplings):
        raise InputError(
            f"couplings has shape {list(couplings.shape)}; it must be [couplings, K, K]"
        )
    for place, coupling in enumerate(couplings):
        try:
            checked_coupling(coupling)
        except InputError as error:
            raise InputError(f"couplings[{place}]: {error}") from None
    return couplings


def _grid(ecosystem_of, couplings):
    """(the process at all couplings, settings: each entry of them [couplings])."""
    models = range(couplings.shape[1])
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(float))
    names = [[f"coupling[{i}, {j}]" for j in models] for i in models]
    settings = {names[i][j]: couplings[:, i, j].astype(dtype) for i in models for j in models}

    def at(point):
        rows = [jnp.stack([jnp.asarray(point[name]) for name in row]) for row in names]
        made = ecosystem_of(jnp.stack(rows))
        return made_by("what ecosystem_of gives", made, Process, "cj.ecosystem")

    return process_grid(at, {name: values[0] for name, values in settings.items()}), settings


def _check_that_it_matters(process, key, settings):
    """Raises `InputError` if the next generation does not depend on the coupling."""
    check_started(process, key)
    point = {name: values[0] for name, values in settings.items()}
    if _reads_by(process, point):
        return
    state = jax.eval_shape(lambda key: process.init(key, 1, point)[0], key)
    if not depends(lambda point, key, state: process.step(key, state, point)[0], point, key, state):
        raise InputError(
            "ecosystem_of returns the same process at all couplings; pass its argument on, as in "
            "lambda coupling: cj.ecosystem(estimator, source, coupling, sample_size)"
        )


def _reads_by(process, point):
    """Whether the models' shares are made of the coupling: quicker to see than what follows."""
    found = []

    def look(point):
        ecosystem = getattr(process.init.at(point).layout.template, "__self__", None)
        models = getattr(ecosystem, "models", ())
        found.append(any(isinstance(model.row.weights, Tracer) for model in models))

    jax.eval_shape(look, point)
    return found[0]
