"""Which settings of a grid one compiled program takes as traced numbers."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from collapse_jax.core import sizes
from collapse_jax.core.types import Process
from collapse_jax.errors import made_by
from collapse_jax.metrics import resolve_metrics

# Stands among the settings where nothing else is traced.
NUMBER = "number of the point"
# Where a share or a weight has one of these values, workflows leave out what it would stand for.
_SPECIAL = (0.0, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class At:
    """settings, traced or not -> the process of a point.

    process_at: the user's.
    fixed: what is the same at all points that share the program.
    most: what no sample size of them exceeds; None where it is not known.
    """

    process_at: Callable[..., Process]
    fixed: dict[str, Any]
    most: int | None

    def __call__(self, settings: Mapping[str, Any]) -> Process:
        own = {name: value for name, value in settings.items() if name != NUMBER}
        with sizes.of_a_grid(self.most):
            made = self.process_at(**self.fixed, **own)
        return checked(made)


def checked(made: Any) -> Process:
    """What `process_at` gives, which must be a process."""
    return made_by("what process_at gives", made, Process, "cj.generational_process")


def dtype_of(values: Iterable) -> np.dtype | None:
    """The type in which an axis is traced; None for one that has none: texts and bools."""
    values = list(values)
    if not all(type(value) in (int, float) for value in values):
        return None
    if all(type(value) is int for value in values):
        return np.dtype(np.int32) if max(map(abs, values)) < 2**31 else None
    return np.dtype(jax.dtypes.canonicalize_dtype(float))


def is_plain(values: list, dtype: np.dtype | None, is_traceable: bool) -> np.ndarray:
    """Which values of an axis are given to `process_at` as they are, and not traced; [values].

    Args:
        values: of the axis.
        dtype: from `dtype_of`.
        is_traceable: whether the axis is.
    """
    if dtype is None or not is_traceable:
        return np.ones(len(values), bool)
    is_float = np.issubdtype(dtype, np.inexact)
    plain = np.array([is_float and value in _SPECIAL for value in values])
    # A single value needs no program for others.
    return plain if (~plain).sum() > 1 else np.ones(len(values), bool)


def traceable_axes(
    process_at: Callable[..., Process],
    axes: Mapping[str, list],
    generations: int,
    metrics: Any,
) -> set[str]:
    """The axes whose values may be traced together.

    An axis is none of them that changes a shape, is branched on, or reaches the metrics by another
    way than the state: the parameters of the real distribution, and options that a metric of the
    family reads.

    Args:
        process_at: settings by name -> a process.
        axes: name -> its values.
        generations: the last one.
        metrics: what is recorded.
    """
    dtypes = {name: dtype_of(values) for name, values in axes.items()}
    example = {name: typical(values, dtypes[name]) for name, values in axes.items()}
    most = largest_of(axes)
    found = []
    for name, dtype in dtypes.items():
        if dtype is None or is_plain(axes[name], dtype, True).all():
            continue
        rest = {other: value for other, value in example.items() if other != name}
        alone = {name: np.asarray(example[name], dtype)}
        if _can_be_traced(At(process_at, rest, most), alone, generations, metrics):
            found.append(name)
    while len(found) > 1:
        rest = {name: value for name, value in example.items() if name not in found}
        together = {name: np.asarray(example[name], dtypes[name]) for name in found}
        if _can_be_traced(At(process_at, rest, most), together, generations, metrics):
            break
        found.pop()
    return set(found)


def largest_of(axes: Mapping[str, Iterable]) -> int:
    """The largest whole number among the values of all axes, at least 1."""
    whole = (value for values in axes.values() for value in values if type(value) is int)
    return max(whole, default=1)


def sizes_at(at: At, settings: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The sample size of generation 0 at each point [points]; None where it is not known."""

    def of_point(settings):
        size = at(settings).parts.sample_size
        return jnp.asarray(size(0) if callable(size) else size)

    with contextlib.suppress(Exception):
        return np.asarray(jax.jit(jax.vmap(of_point))(dict(settings)))
    return None


def typical(values: list, dtype: np.dtype | None) -> Any:
    """A value of an axis that is no special one, where there is one."""
    plain = is_plain(values, dtype, True)
    return values[int(np.argmin(plain))] if not plain.all() else values[0]


def _can_be_traced(at, traced, generations, metrics):
    """Whether a process can be made of traced settings, whose metrics read its state alone."""
    key = jax.random.key(0)

    def begun(settings):
        return at(settings).init(key, generations)[0]

    def gone_on(settings, state):
        process = at(settings)
        measure = resolve_metrics(process.metrics, metrics)
        measured = {name: function(state) for name, function in measure.items()}
        return measured, process.step(key, state)[0]

    with contextlib.suppress(Exception):
        state = jax.eval_shape(begun, traced)
        closed, shapes = jax.make_jaxpr(gone_on, return_shape=True)(traced, state)
        measured = closed.jaxpr.outvars[: len(jax.tree.leaves(shapes[0]))]
        return not _are_used(closed.jaxpr, measured, closed.jaxpr.invars[: len(traced)])
    return False


def _are_used(jaxpr, results, variables):
    """Whether some of the results of a jaxpr depend on any of its variables."""
    needed = {variable for variable in results if not isinstance(variable, Literal)}
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed |= {one for one in equation.invars if not isinstance(one, Literal)}
    return not needed.isdisjoint(variables)
