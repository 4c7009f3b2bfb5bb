"""The host driver: generation after generation, a checkpoint at each, resumed by saying the same
again.
"""

import functools
import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.process import check_started
from collapse_jax.core.types import Process, State, StepInfo
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import DamagedError, DivergenceError, InputError, whole
from collapse_jax.metrics import resolve_metrics
from collapse_jax.runs import distributed
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.results import results_of
from collapse_jax.runs.scratch import Scratch

_CHAIN_FOLDER = re.compile(r"chain_(0|[1-9][0-9]{0,8})")
# What the places of a checkpoint are numbered by.
_MOST = 2**31 - 1


class Watcher(NamedTuple):
    """What is told while a run goes on; every field may be left out.

    begin(chain, generation), end(chain, generation, row): around each generation; for finished ones
    `end` alone is called.
    say(line): what people should know, as of a damaged checkpoint.
    """

    begin: Callable[[int, int], None] = lambda chain, generation: None
    end: Callable[[int, int, dict], None] = lambda chain, generation, row: None
    say: Callable[[str], None] = print


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
    scratch: Scratch = Scratch(),
) -> Trace:
    """Chains 0 .. chains - 1, one after another, for generations 0 .. generations, into a run
    folder (`RunFolder` or a path).

    Of a `RunFolder` with a part, the chains of that part alone; what they give is saved with their
    checkpoints, and recorded by the next call for the whole folder. Several processes may be at
    work on different parts.

    metrics: as in `simulate`. observe(first, state, info) -> named scalars and arrays of a
    generation, `first` being the
    generation-0 state of its chain. publish(chain, generation, arrays): writes files of its own
    from what was observed; it is
    called again for the newest generation after a crash, so it must give the same files twice.
    published_only: names of observed
    scalars and arrays that stay out of results.nc.
    states: "all" keeps the state of every generation on disk, "ends" those of generation 0 and the
    newest of each chain; records and arrays stay in any case. scratch: where the process keeps
    unfinished work; cleared whenever a generation is saved.
    Generation g is saved whole, then recorded; a run started again goes on after the last saved
    one. The numbers equal those of `simulate` with the same key, up to the rounding of another
    compiled program. Returns the scalars and arrays of all generations.
    A folder given as a path is trusted to hold the same process; `RunFolder.open(path, config)` is
    what refuses other settings.
    A damaged checkpoint is named and set aside, and its generation made again, from the newest
    whole one before it, with the same numbers. Raises `DivergenceError` when a fitted model holds
    nan (it is not saved), and, before any work, `InputError` for generations below 0, chains below
    1, unknown states, or a folder in use by another process.
    """
    check_started(process, key)
    whole("generations", generations, 0, _MOST)
    whole("chains", chains, 1, _MOST)
    if states not in ("all", "ends"):
        raise InputError(f"states is {states!r}; it must be 'all' or 'ends'")
    measure = resolve_metrics(process.metrics, metrics)
    folder = _opened(folder)
    folder.lock()
    jit = jax.jit if process.estimator.traceable else lambda function: function
    compiled = jit(functools.partial(process.init, last_generation=generations)), jit(process.step)
    book = _Book(folder, publish, published_only, watcher.say)
    book.catch_up()
    for chain in folder.part or range(chains):
        one = _Chain(
            process,
            *compiled,
            jax.random.fold_in(key, chain),
            chain,
            generations,
            measure,
            observe,
            book,
            states,
            watcher,
            scratch,
        )
        for generation in range(generations + 1):
            if not one.finished(generation):
                one.make(generation)
            watcher.end(chain, generation, book.row(chain, generation))
        one.checkpoints.close()
    scratch.clear()
    return book.trace(chains, generations)


def _opened(folder):
    """The `RunFolder` of a path, there for sure."""
    if not isinstance(folder, RunFolder | str | os.PathLike):
        raise InputError(f"folder is {folder!r:.200}; it must be a path or a RunFolder")
    folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(f"folder is '{folder.path}', which is no folder; give another")
    distributed.on_first(lambda: folder.path.mkdir(parents=True, exist_ok=True))
    return folder


class _Chain:
    """One chain: its checkpoints, and the states that its next generation needs."""

    def __init__(
        self,
        process,
        init,
        step,
        key,
        number,
        last_generation,
        measure,
        observe,
        book,
        states,
        watcher,
        scratch,
    ):
        self._process, self._init, self._step, self._key, self._number, self._last = (
            process,
            init,
            step,
            key,
            number,
            last_generation,
        )
        self._measure, self._observe, self._book, self._ends = (
            measure,
            observe,
            book,
            states == "ends",
        )
        self._watcher, self._workbench = watcher, scratch
        self.checkpoints = Checkpoints(book.checkpoints_of(number), say=watcher.say)
        # The newest state that is at hand, and that of generation 0.
        self._at, self._state, self._first = -1, None, None
        self._drop_states(self.checkpoints.generations())

    def finished(self, generation):
        return generation in self.checkpoints.generations()

    def make(self, generation):
        """Makes a generation from the newest whole state before it, and saves it; generations in
        between whose states are gone, too.
        """
        if self._first is None and generation > 0:
            self._first = self._restored(0)
            if self._first is None:
                self._advance(0)
        if self._at != generation - 1:
            found = ((earlier, self._restored(earlier)) for earlier in range(generation - 1, 0, -1))
            self._at, state = next((one for one in found if one[1] is not None), (0, self._first))
            self._state = self._process.resize(state, self._last)
        while self._at < generation:
            self._advance(self._at + 1)

    def _advance(self, generation):
        self._watcher.begin(self._number, generation)
        began = time.perf_counter()
        generation_key = jax.random.fold_in(self._key, generation)
        state, info = (
            self._init(generation_key)
            if generation == 0
            else self._step(generation_key, self._state)
        )
        self._at, self._state = generation, state
        self._first = state if generation == 0 else self._first
        _refuse_nan(state.params, self._number, generation)
        if self.finished(generation):
            return
        observed = {name: function(state) for name, function in self._measure.items()}
        observed |= self._observe(self._first, state, info) if self._observe else {}
        row, arrays = _split(observed)
        row = (
            {"chain": self._number, "generation": generation}
            | row
            | {"seconds": round(time.perf_counter() - began, 3)}
        )
        self.checkpoints.save(generation, state, row, arrays)
        self._workbench.clear()
        self._drop_states((generation - 1, generation))
        self._book.publish(self._number, generation, row, arrays)

    def _restored(self, generation):
        """The state of a finished generation, or None; a damaged one is set aside."""
        if not self.finished(generation) or (
            self._ends and not self.checkpoints.has_state(generation)
        ):
            return None
        try:
            return self.checkpoints.restore_state(
                generation, self._process.template(self._key, self._last)
            )
        except DamagedError as error:
            self.checkpoints.set_aside(generation, error)
            return None

    def _drop_states(self, generations):
        """Of these generations, where only the ends are to stay on disk: all but generation 0 and
        the newest lose their states.
        """
        for generation in generations:
            if self._ends and 0 < generation < self.checkpoints.generations()[-1]:
                self.checkpoints.drop_state(generation)


def _refuse_nan(params, chain, generation):
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and bool(jnp.isnan(leaf).any()):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise DivergenceError(
                f"chain {chain}, generation {generation}: {name} of the fitted model "
                "became nan, and nothing of it was saved; "
                "look at the fit on its training set, or try float64 (JAX_ENABLE_X64=1)"
            )


class _Book:
    """The rows and arrays of all chains and generations, and the files made of them."""

    def __init__(self, folder, publish, published_only, say):
        self._folder, self._publish, self._published_only, self._say = (
            folder,
            publish,
            published_only,
            say,
        )
        self._rows, self._arrays = {}, {}

    def checkpoints_of(self, chain):
        return self._folder.checkpoints / f"chain_{chain}"

    def catch_up(self):
        """Enters every saved generation of every chain, asked for now or not, and publishes what a
        crash or a part left unrecorded.

        Of a part, that of its own chains. A generation whose records are damaged is set aside.
        """
        rows = (
            self._folder.rows("chain", "generation")
            if (self._folder.path / "results.nc").is_file()
            else []
        )
        recorded = {(row["chain"], row["generation"]) for row in rows}
        missed = []
        names = {
            path.name: path for path in self._folder.checkpoints.glob("chain_*") if path.is_dir()
        }
        folders = {
            int(name.removeprefix("chain_")): path
            for name, path in names.items()
            if _CHAIN_FOLDER.fullmatch(name)
        }
        distributed.barrier()  # before any process goes on and makes more
        for chain in self._folder.part or sorted(folders):
            if chain not in folders:
                continue
            checkpoints = Checkpoints(folders[chain], say=self._say)
            for generation in checkpoints.generations():
                try:
                    row, arrays = checkpoints.restore_record(generation)
                except DamagedError as error:
                    checkpoints.set_aside(generation, error)
                    continue
                self._enter(chain, generation, row, arrays)
                if (chain, generation) not in recorded:
                    missed.append((chain, generation, row, arrays))
            checkpoints.close()
        if missed and not self._folder.part:
            for chain, generation, _, arrays in missed:
                self._publish(chain, generation, arrays)
            self._write()

    def row(self, chain, generation):
        return self._rows[chain, generation]

    def _enter(self, chain, generation, row, arrays):
        at = (chain, generation)
        self._rows[at] = row
        left_out = {"chain", "generation", "seconds", *self._published_only}
        scalars = {
            name: value for name, value in row.items() if name not in left_out and value is not None
        }
        recorded = {name: value for name, value in arrays.items() if name not in left_out}
        self._arrays[at] = {name: np.asarray(value) for name, value in scalars.items()} | recorded

    def publish(self, chain, generation, row, arrays):
        """Enters a generation, writes its own files and then the records of all."""
        self._enter(chain, generation, row, arrays)
        if not self._folder.part:
            self._publish(chain, generation, arrays)
            self._write()

    def _write(self):
        self._folder.write_results(results_of(self._arrays))
        self._folder.write_rows(list(self._rows.values()))

    def trace(self, chains, generations):
        data = results_of(
            {at: one for at, one in self._arrays.items() if at[0] < chains and at[1] <= generations}
        )
        return Trace(
            {name: data[name].values for name in data.data_vars}, data["generation"].values
        )


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
