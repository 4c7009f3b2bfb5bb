"""The host driver: generation after generation, a checkpoint at each, resumed by saying the same again."""

import functools
import time
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import jax
import numpy as np

from collapse_jax.checkpoint import Checkpoints
from collapse_jax.errors import InputError
from collapse_jax.metrics import resolve_metrics
from collapse_jax.records import RunFolder, results_of
from collapse_jax.trace import Trace
from collapse_jax.types import Process, State, StepInfo
from collapse_jax.workbench import Workbench


class Watcher(NamedTuple):
    """What is told while a run goes on; every field may be left out.

    begin(chain, generation), end(chain, generation, row): around each generation; for finished ones `end` alone is called.
    """

    begin: Callable[[int, int], None] = lambda chain, generation: None
    end: Callable[[int, int, dict], None] = lambda chain, generation, row: None


def run(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    folder,
    chains: int = 1,
    metrics: Iterable = (),
    observe: Callable[[State, State, StepInfo], dict] | None = None,
    publish: Callable[[int, int, dict], None] = lambda chain, generation, arrays: None,
    published_only: tuple[str, ...] = (),
    watcher: Watcher = Watcher(),
    states: Literal["all", "ends"] = "all",
    workbench: Workbench = Workbench(),
) -> Trace:
    """Chains 0 .. chains - 1, one after another, for generations 0 .. generations, into a run folder (`RunFolder` or a path).

    metrics: as in `simulate`. observe(first, state, info) -> named scalars and arrays of a generation, `first` being the
    generation-0 state of its chain. publish(chain, generation, arrays): writes files of its own from what was observed; it is
    called again for the newest generation after a crash, so it must give the same files twice. published_only: names of observed
    scalars and arrays that stay out of results.nc.
    states: "all" keeps the state of every generation on disk, "ends" those of generation 0 and the newest of each chain; records and
    arrays stay in any case. workbench: where the process keeps unfinished work; cleared whenever a generation is saved.
    Generation g is saved whole, then recorded; a run started again goes on after the last saved one. The numbers equal those of
    `simulate` with the same key, up to the rounding of another compiled program. Returns the scalars and arrays of all generations.
    A folder given as a path is trusted to hold the same process; `RunFolder.open(path, config)` is what refuses other settings.
    Raises `InputError` for generations below 0, chains below 1, unknown states or a folder in use by another process, before any work.
    """
    for name, value, least in (("generations", generations, 0), ("chains", chains, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} is {value!r}; it must be an integer of at least {least}")
    if states not in ("all", "ends"):
        raise InputError(f"states is {states!r}; it must be 'all' or 'ends'")
    measure = resolve_metrics(process.metrics, metrics)
    folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.lock()
    jit = jax.jit if process.estimator.traceable else lambda function: function
    init, step = jit(functools.partial(process.init, last_generation=generations)), jit(process.step)
    book = _Book(folder, publish, published_only)
    book.catch_up()
    for chain in range(chains):
        chain_key = jax.random.fold_in(key, chain)
        checkpoints = Checkpoints(folder.checkpoints / f"chain_{chain}")
        done = checkpoints.generations()
        first = state = None
        if states == "ends":
            for generation in done[1:-1]:
                checkpoints.drop_state(generation)
        for generation in range(generations + 1):
            if generation in done:
                watcher.end(chain, generation, book.row(chain, generation))
                continue
            if state is None and done:
                template = process.template(chain_key, generations)
                first = checkpoints.restore_state(done[0], template)
                state = process.resize(checkpoints.restore_state(done[-1], template), generations)
            watcher.begin(chain, generation)
            began = time.perf_counter()
            generation_key = jax.random.fold_in(chain_key, generation)
            state, info = init(generation_key) if generation == 0 else step(generation_key, state)
            first = state if generation == 0 else first
            observed = {name: function(state) for name, function in measure.items()} | (observe(first, state, info) if observe else {})
            row, arrays = _split(observed)
            row = {"chain": chain, "generation": generation} | row | {"seconds": round(time.perf_counter() - began, 3)}
            checkpoints.save(generation, state, row, arrays)
            workbench.clear()
            if states == "ends" and generation > 1:
                checkpoints.drop_state(generation - 1)
            book.publish(chain, generation, row, arrays)
            watcher.end(chain, generation, row)
        checkpoints.close()
    workbench.clear()
    return book.trace(chains, generations)


class _Book:
    """The rows and arrays of all chains and generations, and the files made of them."""

    def __init__(self, folder, publish, published_only):
        self._folder, self._publish, self._published_only = folder, publish, published_only
        self._rows, self._arrays = {}, {}

    def catch_up(self):
        """Enters every saved generation of every chain, asked for now or not, and publishes what a crash left unrecorded."""
        rows = self._folder.rows() if (self._folder.path / "results.nc").is_file() else []
        recorded = {(row["chain"], row["generation"]) for row in rows}
        missed = []
        folders = {int(folder.name.removeprefix("chain_")): folder for folder in self._folder.checkpoints.glob("chain_*")}
        for chain in sorted(folders):
            checkpoints = Checkpoints(folders[chain])
            for generation in checkpoints.generations():
                row, arrays = checkpoints.restore_record(generation)
                self._enter(chain, generation, row, arrays)
                if (chain, generation) not in recorded:
                    missed.append((chain, generation, row, arrays))
            checkpoints.close()
        for one in missed:
            self.publish(*one)

    def row(self, chain, generation):
        return self._rows[chain, generation]

    def _enter(self, chain, generation, row, arrays):
        at = (chain, generation)
        self._rows[at] = row
        left_out = {"chain", "generation", "seconds", *self._published_only}
        scalars = {name: value for name, value in row.items() if name not in left_out and value is not None}
        recorded = {name: value for name, value in arrays.items() if name not in left_out}
        self._arrays[at] = {name: np.asarray(value) for name, value in scalars.items()} | recorded

    def publish(self, chain, generation, row, arrays):
        """Enters a generation, writes its own files and then the records of all."""
        self._enter(chain, generation, row, arrays)
        self._publish(chain, generation, arrays)
        self._folder.write_results(results_of(self._arrays))
        self._folder.write_rows(list(self._rows.values()))

    def trace(self, chains, generations):
        data = results_of({at: one for at, one in self._arrays.items() if at[0] < chains and at[1] <= generations})
        return Trace({name: data[name].values for name in data.data_vars}, data["generation"].values)


def _split(observed):
    """Scalars that JSON can hold, and the arrays."""
    row, arrays = {}, {}
    for name, value in observed.items():
        value = np.asarray(value)
        if value.ndim:
            arrays[name] = value
        else:
            row[name] = value.item()
    return row, arrays
