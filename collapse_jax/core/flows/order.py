"""The order in which wrappers of a workflow may be nested."""

from collapse_jax.core.types import Workflow
from collapse_jax.errors import InputError


def refuse_around(name: str, workflow: Workflow) -> None:
    """Raises `InputError` for a workflow that must be the outermost one.

    Args:
        name: the wrapper that would go around it.
        workflow: its `next` has the attribute `outermost` if it chooses among the points of its
            supply, so that a wrapper around it would have no effect.
    """
    if getattr(workflow.next, "outermost", False):
        raise InputError(
            f"{name} wraps {workflow.name}, which must be the outermost wrapper; apply {name} to "
            "the workflow inside it"
        )
