"""Sources held against the family that is fitted, once, on the host, before any work."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.data_checks import PointCheck, check_any
from collapse_jax.core.rows import Rows, checked
from collapse_jax.core.training_data import statistics_draw
from collapse_jax.core.types import Estimator, Source
from collapse_jax.errors import InputError

# Points of a first draw: enough to meet what comes up once in some hundred.
_FIRST_DRAW = 1000


def held_against(source: Source, estimator: Estimator, largest: int | None) -> Source:
    """The source, with points in the shape and the type that the family holds.

    A data set is looked at as a whole. Of a source that draws points, a first draw is looked at,
    unless it is a population whose points are in the range of the family anyway; families on the
    host draw nothing before they run. Nothing that is traced is looked at.

    Args:
        source: where real data comes from.
        estimator: the family that is fitted.
        largest: the most points of a training set; None where that is not known.

    Raises:
        InputError: if the family does not take them; the line names a value, its place, and what
            the family takes.
    """
    check = estimator.check or check_any
    if isinstance(source.sample, Rows):
        few = (largest or 0) if estimator.traceable else 0
        rows = source.sample.of(check, few)
        return source._replace(sample=rows, params=source.params, family=source.family)
    if not estimator.traceable:
        return source
    family = source.family
    if family is not None and (family.name == estimator.name or family.check == estimator.check):
        return source
    if statistics_draw(source, estimator) is not None:
        if family is not None:
            _check_sizes(source, estimator, largest or 1)
            _check_statistics(source, estimator, largest or 1)
        return source
    if family is not None:
        if estimator.check is None or _within(family.check, estimator.check):
            return source
        _check_sizes(source, estimator, largest or 1)
    return _of_first_draw(source, check, largest or _FIRST_DRAW)


def _within(inner, outer):
    """Whether all points that one check lets pass have the form and the range of another."""
    if not (isinstance(inner, PointCheck) and isinstance(outer, PointCheck)):
        return False
    same_form = inner.shape == outer.shape and inner.whole == outer.whole
    return same_form and outer.low <= inner.low and inner.high <= outer.high


def _check_sizes(source, estimator, n):
    """Raises `InputError` where a population of a family of this kind has another size."""
    try:
        jax.eval_shape(lambda key: estimator.sample(key, source.params, n), jax.random.key(0))
    except InputError as error:
        raise InputError(
            f"the source is a population of {source.family.name}, and the estimator "
            f"{estimator.name}, of other shapes: {error}"
        ) from None
    except Exception:  # parameters of another family, whose points are looked at instead
        return


def _check_statistics(source, estimator, n):
    """Raises `InputError` where statistics are of other shapes than those of the same points."""
    try:
        drawn = jax.eval_shape(lambda key: source.draw(key, n), jax.random.key(0))
        of_points = jax.eval_shape(
            lambda key: estimator.summarise(source.sample(key, n), jnp.ones(n)), jax.random.key(0)
        )
    except Exception:  # a source without points
        return
    shapes = [[leaf.shape for leaf in jax.tree.leaves(data)] for data in (drawn, of_points)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"the source is a population of {source.family.name}, whose statistics have shapes "
            f"{shapes[0]}, and those of {estimator.name} {shapes[1]}; they must be of one size"
        )


def _of_first_draw(source, check, n):
    try:
        with jax.ensure_compile_time_eval():  # also where the process is made inside a program
            x: Any = source.sample(jax.random.key(0), n)
    except jax.errors.JAXTypeError:  # a source of traced numbers
        return source
    if isinstance(x, Tracer):
        return source
    shape = np.shape(x)
    if shape[:1] != (n,):
        given = f"shape {list(shape)}" if shape else f"{x!r:.100}"
        raise InputError(
            f"the source gave {given} when asked for {n} points; it must give [n, ...]"
        )
    raw = np.asarray(x)
    points = checked(raw, check, "source, in a first draw")
    if points.shape == raw.shape and points.dtype == raw.dtype:
        return source

    def sample(key, n):
        return jnp.asarray(source.sample(key, n)).reshape(n, *points.shape[1:]).astype(points.dtype)

    return source._replace(sample=sample, params=source.params, family=source.family)
