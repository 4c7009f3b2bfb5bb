"""Training sets with the numbers of real points that a table gives (`cj.workflows.planned`)."""

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
    """Real points by a table: generation g gets `real[g - 1]` fresh ones, and the model the rest.

    What a generation has at most is its sample size. Generations beyond the table are as its last.
    `cj.policy` finds such tables. It is for counts: of a generation the number of real points is
    known. For shares take `mix` or `accumulate` with a function of the generation, as
    `mix(gamma=lambda g: g**-0.5)`, whose number of real points is drawn (or rounded, with
    `random_counts=False`).

    Args:
        real: whole numbers [T] of at least 0, for generations 1 to T.
        workflow: "mix": a training set is what its generation gets. "accumulate": that joins the
            pool of all points so far, which the model is fitted to.

    Raises:
        InputError: unless `real` is a row of whole numbers of at least 0.

    References:
        Derived here.
    """
    table = numbers("real", real)
    if table.ndim != 1 or not len(table):
        raise InputError(f"real has shape {list(table.shape)}; it must be [T], a number each")
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
