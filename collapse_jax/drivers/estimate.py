"""Estimates of a simulation before it starts: memory, time and the size of its records."""

import time
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import jax

from collapse_jax.core.html import html_table
from collapse_jax.core.types import Process
from collapse_jax.drivers import tiles
from collapse_jax.drivers.all_chains import AllChains
from collapse_jax.drivers.host_records import HostRecords
from collapse_jax.drivers.plan import (
    DEFAULT_METRICS,
    Plan,
    check_plan,
    memory_needed,
    record_bytes,
)
from collapse_jax.drivers.summary import QUANTILES
from collapse_jax.errors import one_of, real, size_words
from collapse_jax.runs.free_memory import free_memory


class Piece(NamedTuple):
    """The measured time of a short piece of a simulation.

    compile_seconds: the additional time of the first generations, for compilation.
    seconds: the time of one generation of all chains that were timed.
    chains: the number of these chains.
    """

    compile_seconds: float
    seconds: float
    chains: int

    def of(self, chains: int, generations: int) -> float:
        """Returns the seconds for this many chains and generations, without compilation."""
        return self.seconds * generations * max(chains / self.chains, 1)


class Estimate(NamedTuple):
    """The memory and time that a simulation needs; printed, it is a table.

    what: family and workflow.
    chains, generations, recorded: their numbers.
    memory: bytes that are in use at once, in addition to the program itself.
    free: free bytes; None if unknown.
    compile_seconds: seconds for compilation.
    seconds: seconds for the whole simulation, including compilation.
    records: bytes of the result; a file of it has the same size.
    """

    what: str
    chains: int
    generations: int
    recorded: int
    memory: int
    free: int | None
    compile_seconds: float
    seconds: float
    records: int

    def __repr__(self) -> str:
        lines = [self._title(), *(f"  {name:<8} {text}" for name, text in self._rows().items())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(("", "needed"), self._rows().items(), self._title())

    def _title(self):
        return f"{self.what}: {self.chains:,} chains, {self.generations:,} generations"

    def _rows(self):
        free = "" if self.free is None else f", of {size_words(self.free)} free"
        rest = self.seconds - self.compile_seconds
        each = rest / (self.chains * max(self.generations, 1))
        return {
            "memory": f"{size_words(self.memory)} in addition to the program itself{free}",
            "time": (
                f"{time_words(self.seconds)}: {time_words(self.compile_seconds)} to compile, then "
                f"{each * 1e9:,.0f} ns per chain and generation"
            ),
            "records": f"{size_words(self.records)}: {self.recorded:,} generations",
        }


def estimate(
    process: Process,
    *,
    chains: int,
    generations: int,
    metrics: Iterable = DEFAULT_METRICS,
    record: int | str | Iterable[int] = 1,
    keep: Literal["chains", "summary"] = "chains",
    chunk: int = 100,
    devices: Sequence | None = None,
    seconds: float = 1.0,
) -> Estimate:
    """Estimates the memory and time of `cj.simulate` or `cj.simulate_summary` before the call.

    It simulates and times the first generations, with as many chains as are computed at the same
    time, and assumes that all other generations take as long. The simulation reuses the compiled
    programs.

    Args:
        process: from `cj.generational_process`.
        chains, generations, metrics, record, chunk, devices: as in `cj.simulate`.
        keep: "chains" for `cj.simulate`, "summary" for `cj.simulate_summary`.
        seconds: approximate duration of the timing, without compilation; at least one generation
            is simulated.

    Returns:
        An `Estimate` in bytes and seconds; printed, it is a short table.

    Raises:
        InputError: as `cj.simulate`, except for the memory limit.
    """
    one_of("keep", keep, ("chains", "summary"))
    real("seconds", seconds, at_least=0)
    key, of_chains = jax.random.key(0), keep == "chains"
    plan = Plan(generations, chains, metrics, record, chunk, None, devices)
    simulation = check_plan(process, key, plan)
    recorded = len(simulation.recorded)
    held = recorded if of_chains else min(chunk, recorded)
    of_record = record_bytes(simulation)
    # Mean, deviation and quantiles in 64 bits, where a number has 32.
    statistics = of_record // 4 * 8 * (2 + len(QUANTILES))
    piece = timed(process, key, plan, seconds)
    compile_seconds = piece.compile_seconds
    return Estimate(
        f"{process.estimator.name} under {process.workflow.name}",
        chains,
        generations,
        recorded,
        memory_needed(process, key, plan, held, on_devices=not of_chains),
        free_memory(),
        compile_seconds,
        compile_seconds + piece.of(chains, generations),
        recorded * (chains * of_record if of_chains else statistics),
    )


def timed(process: Process, key: jax.Array, plan: Plan, seconds: float = 1.0) -> Piece:
    """Times the first generations of a plan, with the chains that run at the same time.

    Args:
        process, key: of the simulation.
        plan: its plan; for a grid, with the settings and names of points that run at the same time.
        seconds: approximate duration, without compilation.
    """
    devices, settings = plan.devices, plan.settings
    points = 1 if settings is None else len(next(iter(settings.values())))
    tile = tiles.chains_in_tile(process, key, points * plan.chains, settings, devices)
    few = max(min(plan.chains, tile * tiles.workers(devices) // points), 1)
    simulation = check_plan(process, key, plan._replace(chains=few))
    left = simulation.recorded[simulation.recorded > 0]
    rows, done, count = min(plan.chunk, len(left)), 0, 1
    began = time.perf_counter()
    with AllChains(simulation, HostRecords()) as chains:
        chains.start()
        compiled = each = time.perf_counter() - began
        spent, first = 0.0, True
        while len(left) and (first or spent < seconds):
            now = left[: min(count, rows)]
            began = time.perf_counter()
            chains.advance(done, now, rows)
            took = time.perf_counter() - began
            generations, done, left = int(now[-1]) - done, int(now[-1]), left[len(now) :]
            if first:
                compiled, each, first = compiled + took, took, False
                continue
            each, spent, count = took / generations, spent + took, 2 * count
    return Piece(max(compiled - each, 0.0), each, points * few)


def time_words(seconds: float) -> str:
    """Returns a time as text with two digits, such as "0.4 s", "3.5 minutes", "2.1 days"."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:.2g} {name}"
    return f"{seconds:.2g} s"
