"""Weights in the fit: the weight of a synthetic point relative to a real one."""

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
    """Returns the workflow with synthetic points of weight w in the fit, and real ones of weight 1.

    A point keeps its weight in later training sets. The numbers of points do not change: w = 1 is
    the workflow itself, and w = 0 fits to the real points of each set alone. With k real points per
    synthetic one and fresh real points in each generation, the best w is
    (sqrt(k^2 + 4 k) - k) / 2 (`theory.weights.best_weight`), which is then also the real points'
    share of the total weight. `jax.grad` with respect to w works.

    Args:
        workflow: one that trains on real and synthetic points in some generation.
        synthetic: w, at least 0; a number or a traced scalar. If a traced value is below 0, the
            model is nan.

    Raises:
        InputError: unless w is finite and at least 0, or if all points of every set would have the
            same weight; when the process is made, for families that count whole points.

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
    """Raises `InputError` for a workflow whose synthetic points cannot be weighted."""
    refuse_around("weighted", workflow)
    if getattr(workflow.next, "remembers", False):
        raise InputError(
            f"workflow of weighted is {workflow.name}, in which the synthetic points among the "
            "real ones are not known; put contaminated around weighted"
        )
    if _is_of_model(workflow):
        raise InputError(
            f"{workflow.name} trains on synthetic points alone, so that their weight has no "
            "effect; give a workflow with real data, such as cj.workflows.mix(0.5, 0, 0.5)"
        )


def _nan_where(is_none, data):
    """The data, which is nan if the weight is invalid, because families do not divide by nan."""

    def marked(leaf):
        is_real = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jnp.where(is_none, jnp.full((), jnp.nan, leaf.dtype), leaf) if is_real else leaf

    return jax.tree.map(marked, data)


def _is_of_model(workflow):
    """Whether all training sets except the first are purely synthetic, as far as is known."""
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
