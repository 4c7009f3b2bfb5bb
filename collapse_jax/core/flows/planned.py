"""Training sets whose numbers of real points are given by a table (`cj.workflows.planned`)."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.recipes.made import recorded
from collapse_jax.core.types import Workflow
from collapse_jax.errors import InputError, numbers, one_of
from collapse_jax.random.bits import split

FLOWS = ("mix", "accumulate")


@recorded
def planned(real: ArrayLike, *, workflow: Literal["mix", "accumulate"] = "mix") -> Workflow:
    """Returns the workflow in which generation g gets `real[g - 1]` fresh real points.

    The newest model generates the other points of the generation. A number above the sample size
    counts as the sample size. Generations after the table use its last entry. `cj.policy` finds
    such tables. To give shares instead of counts, use `mix` or `accumulate` with a function of the
    generation, such as `mix(gamma=lambda g: g**-0.5)`; the number of real points is then drawn (or
    rounded, with `random_counts=False`).

    Args:
        real: whole numbers [T] of at least 0, for generations 1 to T.
        workflow: "mix": each training set consists of its generation's points. "accumulate": these
            join the pool of all points so far, to which the model is fitted.

    Raises:
        InputError: unless `real` is a one-dimensional array of whole numbers of at least 0.

    References:
        Derived here.
    """
    table = numbers("real", real)
    if table.ndim != 1 or not len(table):
        raise InputError(
            f"real has shape {list(table.shape)}; it must be [T], one number per generation"
        )
    wrong = ~((table >= 0) & (table == np.floor(table)) & (table < 2**31))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise InputError(
            f"real[{place}] is {table[place]:g}; it must be a whole number of at least 0 and below "
            "2^31"
        )
    accumulates = one_of("workflow", workflow, FLOWS) == "accumulate"
    counts = table.astype(np.int32)

    def init(supply, data):
        return supply.reserve(data) if accumulates else ()

    def next_set(key, pool, supply, n):
        model_key, real_key = split(key)
        row = jnp.clip(supply.generation - 1, 0, len(counts) - 1)
        of_table = jnp.asarray(counts)[row]
        from_real = jnp.minimum(of_table, n)
        made = supply.model(model_key, n - from_real)
        data = supply.compact(supply.merge(made, supply.real(real_key, from_real)))
        if accumulates:
            pool = data = supply.append(pool, data)
        return pool, data

    if accumulates:
        next_set.carries = "pool"
    return Workflow(f"planned({workflow})", init, next_set)
