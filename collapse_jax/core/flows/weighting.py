"""Weights in the fit: what a synthetic point counts against a real one."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from collapse_jax.core.flows.order import refuse_around
from collapse_jax.core.needs import SIZE_TO_WATCH, needs_of
from collapse_jax.core.recipes.made import recorded
from collapse_jax.core.types import Workflow
from collapse_jax.errors import InputError, made_by, real


@recorded
def weighted(workflow: Workflow, *, synthetic: "float | jax.Array") -> Workflow:
    """The workflow, in whose fits a synthetic point counts w times as much as a real one.

    A point keeps its weight in later sets. The numbers of points stay as they are: w = 1 is the
    workflow itself, and w = 0 fits to the real points of each set alone. With k real points a
    synthetic one and fresh real points in each generation the best w is
    (sqrt(k^2 + 4 k) - k) / 2 (`theory.weights.best_weight`), which then is also the real points'
    share of the total weight. `jax.grad` goes through w.

    Args:
        workflow: one that trains on real points beside synthetic ones in some generation.
        synthetic: w, at least 0; a number, or traced. A traced one below 0 makes a model of nan.

    Raises:
        InputError: unless w is finite and at least 0, or where all points of every set would have
            that one weight; when the process is made, for families that count whole points.

    References:
        He, Xu and Cheng 2025, arXiv 2502.18049 (their w is the share of the real data).
    """
    made_by("workflow", workflow, Workflow, "one of cj.workflows, as cj.workflows.mix(...),")
    w, name = _checked(synthetic), workflow.name
    _check_workflow(workflow)
    named = f"weighted({name})" if isinstance(w, jax.Array) else f"weighted({name}, {w:g})"
    if not isinstance(w, jax.Array) and w == 1:
        return workflow._replace(name=named)

    def next_set(key, carry, supply, n):
        def model(key, n):
            return supply.weighed(supply.model(key, n), w)

        def real_and_continued(key, n, m):
            kept, made = supply.real_and_continued(key, n, m)
            return kept, supply.weighed(made, w)

        weighing = supply._replace(model=model, real_and_continued=real_and_continued)
        carry, data = workflow.next(key, carry, weighing, n)
        return carry, (_nan_where(jnp.isnan(w), data) if isinstance(w, Tracer) else data)

    # What others know of the workflow holds of this one.
    for told in ("schedules", "carries"):
        if hasattr(workflow.next, told):
            setattr(next_set, told, getattr(workflow.next, told))

    def reweighted(model, real):
        assert workflow.reweighted is not None
        return weighted(workflow.reweighted(model, real), synthetic=synthetic)

    return workflow._replace(
        name=named,
        next=next_set,
        reweighted=None if workflow.reweighted is None else reweighted,
    )


def _check_workflow(workflow):
    """Raises `InputError` for a workflow whose synthetic points no weight is for."""
    refuse_around("weighted", workflow)
    if getattr(workflow.next, "remembers", False):
        raise InputError(
            f"weighted takes no {workflow.name}: nobody knows which of its real points are a "
            "model's; give contaminated around weighted"
        )
    if _is_of_model(workflow):
        raise InputError(
            f"{workflow.name} trains on synthetic points alone, so that a weight of theirs changes "
            "nothing: take a workflow with real data, as cj.workflows.mix(0.5, 0, 0.5)"
        )


def _nan_where(is_none, data):
    """The data, of nan where the weight is none: families divide by no weight that is nan."""

    def marked(leaf):
        is_real = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jnp.where(is_none, jnp.full((), jnp.nan, leaf.dtype), leaf) if is_real else leaf

    return jax.tree.map(marked, data)


def _is_of_model(workflow):
    """Whether all sets but the first are the model's alone, as far as can be told."""
    try:
        return needs_of(workflow, SIZE_TO_WATCH).only_model
    except InputError:  # a process tells what is wrong
        return False


def _checked(w: Any):
    """The weight, as a float where it is known; nan for a traced one below 0."""
    if isinstance(w, jax.Array) and w.shape != ():
        raise InputError(f"synthetic has shape {list(w.shape)}; it must be one number")
    if isinstance(w, Tracer):
        return jnp.where((w >= 0) & (w < math.inf), w, jnp.nan)
    return real("synthetic", w, at_least=0)
