"""Whether the parts of a process fit together, found before any work."""

import jax
import jax.numpy as jnp

from collapse_jax.core.needs import Needs
from collapse_jax.core.types import Parts
from collapse_jax.errors import InputError


def check_needs(parts: Parts, needs: Needs, *, holds_points: bool) -> None:
    """Raises `InputError` for a workflow that needs what the estimator lacks."""
    estimator, _, workflow, sample_size, _ = parts
    if needs.continuation and estimator.continued is None:
        raise InputError(
            f"{workflow.name} lets the model continue real points, but this estimator has no "
            "`continued`"
        )
    if needs.continuation and callable(sample_size) and estimator.traceable:
        raise InputError(
            f"sample_size is a function, and {workflow.name} needs a size known before the run: "
            "give an integer"
        )
    appends_only = "append" in needs.asked and "reserve" not in needs.asked
    if appends_only and holds_points and estimator.traceable:
        raise InputError(
            f"{workflow.name} appends to a pool without space: let its init give "
            "supply.reserve(data)"
        )
    if needs.weights and isinstance(estimator.statistics.weighed, str):
        raise InputError(
            f"{workflow.name} weighs points, and {estimator.name} {estimator.statistics.weighed}"
        )
    if estimator.statistics.lazy:
        _check_lazy(parts, needs, holds_points)


def _check_lazy(parts, needs, holds_points):
    name = parts.workflow.name
    if needs.whole_history or needs.continuation or holds_points:
        raise InputError(
            f"{name} needs points, but this estimator is lazy: it draws fresh ones while it is "
            "fitted; use finite draws"
        )
    if needs.random_counts:
        raise InputError(
            f"{name} draws its counts, but this estimator is lazy, and needs them known; give "
            "random_counts=False"
        )
    if callable(parts.sample_size):
        raise InputError(
            "sample_size is a function, but this estimator is lazy, and needs a number"
        )


def check_size(source, largest: int | None) -> None:
    """Raises `InputError` for a training set larger than a fixed real data set."""
    if source.size is not None and largest is not None and largest > source.size:
        raise InputError(
            f"sample_size is {largest}, but the real data set has {source.size} points; it must "
            "be at most that"
        )


def check_relative(parts: Parts) -> None:
    """Raises `InputError` where points cannot be held relative to the newest model."""
    estimator, _, workflow, *_ = parts
    if workflow.filters:
        raise InputError(
            f"{workflow.name} judges points where they are or changes them, and {estimator.name} "
            "holds them relative to its newest model: take by='law'"
        )


def check_bounded(largest: int | None) -> None:
    """Raises `InputError` where points are held, and nobody knows how many."""
    if largest is None:
        raise InputError(
            "sample_size is a function, and this process holds whole points: pass "
            "largest_sample_size as well"
        )


def check_at_most(largest: int | None, most: int, workflow: str) -> None:
    """Raises `InputError` for more points than a workflow can draw without replacement."""
    if largest is not None and largest > most:
        raise InputError(
            f"sample_size is {largest}, and {workflow} draws earlier points again, one after the "
            f"other; it must be at most {most} (cj.workflows.accumulate, and mix with beta = 0, "
            "draw none)"
        )


def check_same_shapes(before, after) -> None:
    """Raises `InputError` where a fitted model has other shapes than what `init` gave."""
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(params)] for params in (before, after)]
    if before is not None and shapes[0] != shapes[1]:
        raise InputError(
            f"the estimator's model has arrays of shapes {shapes[0]}, but fitted to the source's "
            f"data {shapes[1]}; source and estimator must agree in their dimensions"
        )


def check_same_points(real: tuple[int, ...], made: tuple[int, ...]) -> None:
    """Raises `InputError` where the source's points and the model's have different shapes."""
    if real != made:
        raise InputError(
            f"the source's points have shape {list(real)}, but those of the estimator's model "
            f"{list(made)}; source and estimator must agree in their dimensions"
        )


def check_same_types(real, made) -> None:
    """Raises `InputError` where a pool of the source's type cannot hold the model's points."""
    if jnp.promote_types(real, made) != real:
        raise InputError(
            f"the source's points are {real}, and those of the estimator's model {made}, which a "
            "pool of the former would cut; give the source's in that type, as x.astype(float)"
        )
