"""A process as drivers take it: looked at before a run, alone or at all points of a grid."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.flows import schedules
from collapse_jax.core.tracing import inside_a_program
from collapse_jax.core.types import Process
from collapse_jax.errors import InputError, made_by, one_key


def check_started(process: Process, key: jax.Array) -> None:
    """Raises `InputError` unless a driver was given a process and one typed key, outside of JAX."""
    made_by("process", process, Process, "cj.generational_process")
    if isinstance(key, Tracer) or inside_a_program():
        raise InputError(
            "a simulation is no part of a JAX program: it was called inside jit, vmap, grad or "
            "scan. There, call process.init and process.step under lax.scan; or call the "
            "simulation outside, once for each value, with chains= for many chains"
        )
    one_key("key", key)


def check_run(
    process: Process, generations: int, settings: Mapping[str, np.ndarray] | None = None
) -> None:
    """Looks at the sizes of all training sets of a run, as far as they are known before it.

    Args:
        process: from `generational_process` or `process_grid`.
        generations: the last one.
        settings: name -> [points] of a grid.

    Raises:
        InputError: for a size that is no whole number in its range, or pools that 32 bits do not
            count; it names the generation.
    """
    core: Any = getattr(process.layout.template, "__self__", None)
    if not hasattr(core, "check_run"):
        return
    if settings is None:
        core.check_run(generations)
    elif isinstance(process.init, _AtPoint):
        at = process.init.at
        schedules.check_points(at, generations, settings)
        for known in _sizes_at_points(at, generations, settings):
            core.check_run(generations, known)


def keeps_buffers(process: Process) -> bool:
    """Whether the states of a process hold buffers that its last generation sizes, as far as known.

    True for a process that `generational_process` has not made.
    """
    core = getattr(process.layout.template, "__self__", None)
    return getattr(core, "keeps_buffers", True)


def unwatched(process: Process) -> Process:
    """The same process for a driver that has called `check_run`: its step looks at no size."""
    core: Any = getattr(process.step, "__self__", None)
    if not hasattr(core, "unwatched_step") or process.step != core.step:
        return process
    return process._replace(step=core.unwatched_step, runtime=process.runtime)


def _sizes_at_points(at, generations, settings):
    """The sizes [generation] of each point of a grid; [1] where they are the same for ever."""
    program, is_constant = _sizes_program(at)
    arrays = {name: np.asarray(values) for name, values in settings.items()}
    first = np.asarray(program(arrays, np.arange(1)))
    if is_constant:
        yield from np.unique(first, axis=0)
        return
    for point in range(len(first)):
        one = {name: values[point : point + 1] for name, values in arrays.items()}
        yield np.asarray(program(one, np.arange(generations + 1)))[0]


@functools.lru_cache(256)
def _sizes_program(at):
    """((settings [points], generations) -> sizes [points, generations], [] for no constant)."""
    is_constant = []

    def of_point(settings, generations):
        size = at(settings).parts.sample_size
        of_generation = size if callable(size) else lambda generation: size
        if of_generation(0) is of_generation(1):
            is_constant.append(True)
        return jax.vmap(lambda generation: jnp.asarray(of_generation(generation)))(generations)

    return jax.jit(jax.vmap(of_point, (0, None))), is_constant


@dataclasses.dataclass(frozen=True)
class _AtPoint:
    """`init` or `step` of the process at one point of a grid.

    Drivers have looked at the sizes of all points.
    """

    at: Callable[[Mapping], Process]

    def __call__(self, key, last_generation, settings):
        return self.at(settings).init(key, last_generation)

    def step(self, key, state, settings):
        return unwatched(self.at(settings)).step(key, state)


def process_grid(at: Callable[[Mapping], Process], example: Mapping) -> Process:
    """Many processes of one shape as one, whose `init` and `step` take what differs.

    Run it with `simulate_chunks` and a `Plan(settings={name: [points]})`: one compiled program for
    all points. Each has random numbers of its own, with `streams="common"` all have those of the
    key. A point gives the numbers that it gives alone with its key (floats up to rounding).

    Args:
        at: settings -> the process at one point, where settings holds traced numbers. The source
            must be the same everywhere: distances are to the example's.
        example: such settings as plain numbers.

    Returns:
        A process with `init(key, last_generation, settings)` and `step(key, state, settings)`.
    """
    one, points = at(example), _AtPoint(at)
    return one._replace(init=points, step=points.step, runtime=one.runtime)
