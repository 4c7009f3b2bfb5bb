"""Which wrappers of a workflow go around which."""

from collapse_jax.core.types import Workflow
from collapse_jax.errors import InputError


def refuse_around(name: str, workflow: Workflow) -> None:
    """Raises `InputError` for a workflow that must be the outermost one.

    Args:
        name: what would go around it.
        workflow: whose `next` has the attribute `outermost` if it chooses among what its supply
            gives, so that a wrapper around it would be passed over.
    """
    if getattr(workflow.next, "outermost", False):
        raise InputError(
            f"{name} goes around {workflow.name}, which must be the outermost; give {name} to the "
            "workflow within it"
        )
