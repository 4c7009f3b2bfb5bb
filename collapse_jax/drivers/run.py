"""The host driver: it saves a checkpoint of every generation, and the same call resumes the run."""

import contextlib
import dataclasses
import errno
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.marks import is_spoiled, raise_by_name
from collapse_jax.core.process import check_started
from collapse_jax.core.recipes.shared import as_of_now
from collapse_jax.core.results import measured
from collapse_jax.core.types import Process, State, StepInfo
from collapse_jax.drivers import out_of_range
from collapse_jax.drivers.book import Book
from collapse_jax.drivers.fit_metrics import observing_fits
from collapse_jax.drivers.labels import label_in_run
from collapse_jax.drivers.made_of import held
from collapse_jax.drivers.progress import shown
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import DamagedError, DivergenceError, InputError, one_of, whole
from collapse_jax.metrics import resolve_metrics
from collapse_jax.runs import distributed, made_of
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.session import Session

# Checkpoints are numbered in 32 bits.
_MOST = 2**31 - 1


class Watcher(NamedTuple):
    """Functions that are called during a run; every field may be left out.

    begin: (chain, generation), called before a generation is made.
    end: (chain, generation, row), called after it. For generations of an earlier call only `end` is
        called.
    say: (line), called with messages, such as one about a damaged checkpoint.
    """

    begin: Callable[[int, int], None] = lambda chain, generation: None
    end: Callable[[int, int, dict], None] = lambda chain, generation, row: None
    say: Callable[[str], None] = print


# The functions of a watcher that is told of nothing.
_SILENT = Watcher()[:2]


def run(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    folder: RunFolder | str | os.PathLike,
    chains: int = 1,
    metrics: Iterable = (),
    observe: Callable[[State, State, StepInfo], dict] | None = None,
    publish: Callable[[int, int, dict], None] = lambda chain, generation, arrays: None,
    published_only: tuple[str, ...] = (),
    watcher: Watcher = Watcher(),
    states: Literal["all", "ends"] = "all",
    session: Session = Session(),
) -> Trace:
    """Runs chains one after another, saves every generation in a folder, and returns a `Trace`.

    After an interruption, the same call resumes after the last saved generation. The numbers equal
    those of `simulate` with the same key, up to the rounding of another compiled program. A damaged
    checkpoint is reported, renamed, and computed again. Metrics that are requested in a later call
    are computed from the saved states.

    Args:
        process: from `cj.generational_process`.
        key: one typed key.
        generations: the last generation; generation 0 is the model fitted to real data.
        folder: a path, which is refused if the folder was started with another process or key, or
            with options of JAX that change the numbers; or a `RunFolder`. Of one with a part, only
            that part's chains run; the next call for the whole folder records what it saved.
        chains: number of chains.
        metrics: as in `simulate`; by default none.
        observe: (state of generation 0, state, info) -> named scalars and arrays of a generation.
        publish: (chain, generation, arrays), writes files from the observed arrays. After a crash
            it is called again for the newest generation, and must write the same files.
        published_only: names of observed scalars and arrays that are not written to results.nc.
        watcher: functions to call during the run; without `begin` and `end` progress is shown.
        states: "all" keeps the state of every generation on disk. "ends" keeps those of generation
            0 and of the newest generation of each chain; to measure other generations later, their
            models must be computed again.
        session: its scratch folder, where the process stores unfinished work, is emptied whenever a
            generation is saved.

    Raises:
        InputError: before any work, for bad arguments or a folder that another process uses.
        DivergenceError: when a fitted model contains nan; that generation is not saved.
    """
    process = _started(process, key)
    _check_counts(generations, chains)
    one_of("states", states, ("all", "ends"), must_be="'all' or 'ends'")
    measure, observe, of_fits, label = _resolved(process, metrics, observe)
    folder = _opened(folder)
    folder.lock()
    with held(folder, process, key, generations, measure, watcher.say):
        book = Book(folder, publish, published_only, watcher.say, label)
        book.catch_up()
        ends, numbers = states == "ends", folder.part or range(chains)
        with _showing(watcher, len(numbers) * (generations + 1)) as watched:
            work = _Work(process, generations, measure, observe, book, ends, watched, session)
            trace = _run_chains(work, numbers, key).trace(chains, generations)
        return _missing_are_said(trace, of_fits, work)


def _started(process, key):
    """The process, with its functions traced as they are now; functions on the host are called."""
    check_started(process, key)
    return as_of_now(process) if process.runtime.traceable else process


def _missing_are_said(trace, of_fits, work):
    """The trace, after a message about the metrics of fits that it lacks."""
    for name in sorted(of_fits - trace.keys() - set(work.book.left_out)):
        work.watcher.say(
            f"{name} is missing for earlier generations: it describes a fit, and was not requested "
            "when they were fitted"
        )
    return trace


@contextlib.contextmanager
def _showing(watcher, total):
    """The watcher; if it has neither `begin` nor `end`, one that shows progress."""
    if any(watcher[:2][at] is not _SILENT[at] for at in range(2)):
        yield watcher
        return
    counted = itertools.count(1)
    with shown(None, "generations of all chains", total) as report:
        yield watcher._replace(end=lambda chain, generation, row: report(next(counted)))


def _run_chains(work, numbers, key):
    """Makes and records the generations of the chains that are not finished; gives the `Book`."""
    try:
        for number in numbers:
            _run_chain(work, number, jax.random.fold_in(key, number))
    except BaseException:
        with contextlib.suppress(OSError, InputError):  # the first error is told
            work.book.end()
        raise
    work.book.close()
    work.session.scratch.clear()
    return work.book


def _run_chain(work, number, key):
    """Makes all generations of a chain that are not finished yet."""
    chain = _Chain(work, number, key)
    with contextlib.closing(chain.checkpoints):
        for generation in range(work.last_generation + 1):
            if chain.finished(generation):
                chain.measure(generation)
            else:
                chain.make(generation)
            work.watcher.end(number, generation, work.book.row(number, generation))


def _opened(folder):
    """The `RunFolder` of a path; its folder exists."""
    if not isinstance(folder, RunFolder | str | os.PathLike):
        raise InputError(f"folder is {folder!r:.200}; it must be a path or a RunFolder")
    if not isinstance(folder, RunFolder):
        folder = RunFolder(made_of.expanded(folder).absolute())
    try:
        if folder.path.exists() and not folder.path.is_dir():
            raise InputError(f"folder is '{folder.path}', which is not a folder; give another path")
        distributed.on_first(lambda: folder.path.mkdir(parents=True, exist_ok=True))
    except InputError:
        raise
    except (FileExistsError, NotADirectoryError, ValueError) as error:
        raise InputError(f"folder is '{folder.path}', which cannot be created ({error})") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"folder is '{folder.path}', whose name is too long") from None
        reason = error.strerror or error  # of another process of a job its text alone is known
        raise InputError(
            f"folder is '{folder.path}', which cannot be created ({reason}); give another path"
        ) from None
    return folder


@dataclasses.dataclass(frozen=True)
class _Work:
    """The data that all chains of a run share."""

    process: Process
    last_generation: int
    measure: dict[str, Callable]
    observe: Callable | None
    book: Book
    ends_only: bool
    watcher: Watcher
    session: Session

    @functools.cached_property
    def init(self):
        return self._jit(functools.partial(self.process.init, last_generation=self.last_generation))

    @functools.cached_property
    def step(self):
        return self._jit(self.process.step)

    def name_fault(self, chain, key, before, generation):
        """Raises `DivergenceError` if the function that returned nan in a generation is found."""
        try:
            raise_by_name(self.process, key, before, generation)
        except DivergenceError as error:
            raise DivergenceError(f"chain {chain}, {error}; nothing of it was saved") from None

    def _jit(self, function):
        return jax.jit(function) if self.process.runtime.traceable else function


class _Chain:
    """One chain: its checkpoints, and the states that its next generation needs."""

    def __init__(self, work: _Work, number: int, key: jax.Array):
        self._work, self._number, self._key = work, number, key
        self.checkpoints = Checkpoints(work.book.checkpoints_of(number), say=work.watcher.say)
        # The newest state in memory, its generation, and the state of generation 0.
        self._generation, self._state, self._first = -1, None, None
        # The newest generation that was made in this call.
        self._made = -1
        self._watch = out_of_range.Watch(work.process, work.measure, 1, work.last_generation)
        self._drop_states(self.checkpoints.generations())

    def finished(self, generation):
        return self._work.book.has(self._number, generation, self.checkpoints)

    def measure(self, generation):
        """Computes the metrics of a finished generation that were not requested before."""
        work, number = self._work, self._number
        missing = work.measure.keys() - work.book.names(number, generation)
        if not missing:
            return
        state = self._restored(generation)
        if state is None:
            is_set_aside = not self.finished(generation)
            self.make(generation)
            if is_set_aside:
                return  # it was saved anew, with everything
            state = self._state
        scalars, arrays = _split({name: work.measure[name](state) for name in sorted(missing)})
        self.checkpoints.add(generation, scalars | arrays)
        work.book.add(number, generation, scalars, arrays)

    def make(self, generation):
        """Makes and saves a generation, from the newest state on disk before it.

        Generations in between are made again.
        """
        if self._first is None and generation > 0:
            self._first = self._restored(0)
            if self._first is None:
                self._advance(0)
        if self._generation != generation - 1:
            for earlier in range(generation - 1, 0, -1):
                state = self._restored(earlier)
                if state is not None:
                    break
            else:
                earlier, state = 0, self._first
            self._generation = earlier
            self._state = self._work.process.resize(state, self._work.last_generation)
        while self._generation < generation:
            self._advance(self._generation + 1)

    def _advance(self, generation):
        work, number = self._work, self._number
        work.watcher.begin(number, generation)
        began = time.perf_counter()
        key = jax.random.fold_in(self._key, generation)
        before = self._state if generation else None
        state, info = work.step(key, before) if generation else work.init(key)
        self._generation, self._state = generation, state
        self._first = self._first if generation else state
        try:
            _refuse_nan(state, number, generation)
        except DivergenceError:
            if before is not None:
                work.name_fault(number, key, before, generation)
            raise
        self._look_at_range(generation, state)
        if self.finished(generation):
            return
        observed = {
            name: measured(name, function, state) for name, function in work.measure.items()
        }
        observed |= work.observe(self._first, state, info) if work.observe else {}
        _check_names(observed)
        self._say_what_is_new(generation, observed)
        self._made = generation
        scalars, arrays = _split(observed)
        seconds = round(time.perf_counter() - began, 3)
        row = {"chain": number, "generation": generation} | scalars | {"seconds": seconds}
        self.checkpoints.save(generation, state, row, arrays)
        work.session.scratch.clear()
        self._drop_states((generation - 1, generation))
        work.book.publish(number, generation, row, arrays)

    def _look_at_range(self, generation, state):
        if self._watch.looks:
            one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], state.params)
            found = out_of_range.chains_out_of_range(self._work.process, state._replace(params=one))
            self._watch.tell(generation, int(found is not None))

    def _say_what_is_new(self, generation, observed):
        """Reports the names that are observed from this generation on, but not before it.

        Metrics are computed from the saved states; the arguments of `observe` are not saved.
        Generation 1 is not compared with generation 0, which has no predecessor and so may have
        fewer names.
        """
        if generation < 2 or self._made == generation - 1:
            return
        new = observed.keys() - self._work.measure.keys() - self._work.book.left_out
        new -= self._work.book.names(self._number, generation - 1)
        if new:
            self._work.watcher.say(
                f"chain {self._number}: {', '.join(sorted(new))} was not observed before "
                f"generation {generation}, and is nan in earlier generations"
            )

    def _restored(self, generation):
        """The state of a finished generation, or None; a damaged one is set aside."""
        work, checkpoints = self._work, self.checkpoints
        if not self.finished(generation) or (
            work.ends_only and not checkpoints.has_state(generation)
        ):
            return None
        try:
            template = work.process.template(self._key, work.last_generation)
            return checkpoints.restore_state(generation, template)
        except DamagedError as error:
            checkpoints.set_aside(generation, error)
            return None

    def _drop_states(self, generations):
        """With states="ends", deletes these states except generation 0 and the newest."""
        for generation in generations:
            if self._work.ends_only and 0 < generation < self.checkpoints.generations()[-1]:
                self.checkpoints.drop_state(generation)


def _resolved(process, metrics, observe):
    """Metrics of states, an `observe` with those of fits, the names of the latter, the labels."""
    wanted = resolve_metrics(process.metrics, metrics)
    _check_names(wanted)
    label = label_in_run(process, wanted, observe)
    measure, observe = observing_fits(wanted, observe)
    return measure, observe, wanted.keys() - measure.keys(), label


def _check_counts(generations, chains):
    whole("generations", generations, 0, _MOST)
    whole("chains", chains, 1, _MOST)


def _check_names(names):
    """Raises `InputError` for names of columns that every record has."""
    for name in ("chain", "generation", "seconds"):
        if name in names:
            raise InputError(
                f"{name!r} is the name of a metric or an observed value, and of a column that "
                "every record has; give another name"
            )


def _refuse_nan(state, chain, generation):
    if bool(is_spoiled(state)):
        raise DivergenceError(
            f"chain {chain}, generation {generation}: a reward, verdict or weight of its training "
            "set is nan, and nothing of it was saved"
        )
    for path, leaf in jax.tree_util.tree_flatten_with_path(state.params)[0]:
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and bool(jnp.isnan(leaf).any()):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise DivergenceError(
                f"chain {chain}, generation {generation}: {name} of the fitted model "
                "became nan, and nothing of it was saved; "
                "look at the fit on its training set, or try float64 (JAX_ENABLE_X64=1)"
            )


def _split(observed):
    """Scalars that JSON can hold, and the arrays."""
    scalars, arrays = {}, {}
    for name, value in observed.items():
        value = np.asarray(value)
        if value.ndim:
            arrays[name] = value
        else:
            scalars[name] = value.item()
    return scalars, arrays
