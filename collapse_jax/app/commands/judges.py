"""The verifier of `collapse-jax simulate` as a wrapper of workflows."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from collapse_jax.app.config.verifier import PREFIX, VerifierSettings
from collapse_jax.core.types import Workflow
from collapse_jax.errors import InputError, whole
from collapse_jax.estimators import verifiers


def verifier_of(
    settings: VerifierSettings, traced: Mapping[str, Any]
) -> Callable[[Workflow], Workflow] | None:
    """Returns the verifier that the settings name; None without one.

    Args:
        settings: of one simulation, or of a point of a grid.
        traced: traced options, by the names that they have in a grid.

    Raises:
        InputError: for options that are out of range.
    """
    if not settings.verifier:
        return None
    options = settings.verifier_options()
    options |= {name[len(PREFIX) :]: value for name, value in traced.items()}
    degree = options.pop("degree", 1)
    name = settings.verifier_name()
    if name == "logistic":
        options["features"] = functools.partial(_powers, whole("degree", degree, 1))
    try:
        return getattr(verifiers, name)(**options)
    except InputError as error:
        raise InputError(f"verifier {settings.verifier!r}: {error}") from None


def _powers(degree, x):
    """[n, k degree] points [n, ...] and their powers."""
    rows = jnp.asarray(x, jnp.result_type(float)).reshape(len(x), -1)
    return jnp.concatenate([rows**power for power in range(1, degree + 1)], axis=1)
