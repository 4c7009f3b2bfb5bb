"""Real data that is contaminated with synthetic points of an earlier model."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from collapse_jax.core.flows.counts import count_of
from collapse_jax.core.flows.order import refuse_around
from collapse_jax.core.flows.schedules import checked_share, share_at, shares
from collapse_jax.core.recipes.made import recorded
from collapse_jax.core.types import Workflow
from collapse_jax.errors import InputError, made_by, whole
from collapse_jax.random.bits import split

_NO_DERIVATIVE = (
    "share of contaminated has no derivative, because the number of synthetic points is a whole "
    "number; take differences of simulations (docs/gradients.md)"
)


@recorded
def contaminated(
    workflow: Workflow,
    share: "float | jax.Array | Callable[[Any], Any]",
    *,
    lag: int = 1,
    random_counts: bool = True,
) -> Workflow:
    """Returns the workflow with synthetic points among its real data, as in a scrape of the web.

    In the training set of generation g, the model of generation g - lag generates a share of the
    points that the workflow treats as real. Until there is such a model, real data is real. With
    lag 1 the result is a mix with a larger share of the newest model. With a larger lag, the carry
    stores the parameters of lag - 1 models, and points are drawn from the oldest of them.

    Args:
        workflow: one that uses real data after generation 0 (`mix`, or `accumulate` with a real
            share).
        share: the synthetic share of the points that are treated as real; a number in [0, 1], a
            traced scalar, or a function of the generation.
        lag: the age of the model in generations, at least 1.
        random_counts: True: the number of such points is binomial, as if each point were drawn
            independently. False: it is the share of the points, rounded.

    Raises:
        InputError: for a share outside [0, 1], a lag below 1, or a workflow that uses no real data
            after generation 0.

    References:
        Derived here (theory.schedules).
    """
    made_by("workflow", workflow, Workflow, "one of cj.workflows")
    refuse_around("contaminated", workflow)
    known = checked_share("share of contaminated", share)
    whole("lag", lag, 1)
    if known and share == 0:
        return workflow

    next_set = _next_of(workflow, share, lag, random_counts)
    own = () if known else (shares(**{"share of contaminated": share}),)
    next_set.schedules = (*own, *getattr(workflow.next, "schedules", ()))
    reweighted = functools.partial(_reweighted, workflow, share, lag, random_counts)
    words = f"{share:g}, " if known else ""
    return workflow._replace(
        name=f"contaminated({workflow.name}, {words}lag={lag})",
        init=functools.partial(_begin, workflow, lag),
        next=next_set,
        reweighted=reweighted if workflow.reweighted else None,
    )


def _begin(workflow, lag, supply, data):
    """(the workflow's carry, the parameters of lag - 1 models), of which none is there yet."""
    inner = workflow.init(supply, data)
    if lag == 1:
        return inner, ()
    return inner, jax.tree.map(
        lambda leaf: jnp.zeros((lag - 1, *jnp.shape(leaf)), jnp.result_type(leaf)), supply.params
    )


def _next_of(workflow, share, lag, random_counts):
    def next_set(key, carry, supply, n):
        inner, past = carry
        asked = []

        def real(key, count):
            asked.append(True)
            now = share_at("share of contaminated", share, supply.generation)
            return _partly_made(key, count, now, supply, past, lag, random_counts)

        given = supply._replace(real=real, real_and_continued=_refuse_continuation)
        inner, data = workflow.next(key, inner, given, n)
        if not asked and isinstance(supply.generation, Tracer):
            raise InputError(
                f"workflow of contaminated is {workflow.name}, which uses no real data after "
                "generation 0; give mix, or accumulate with a real share"
            )
        return (inner, _with_newest(past, supply.params) if lag > 1 else ()), data

    next_set.remembers = True
    next_set.within = (workflow,)
    return next_set


def _partly_made(key, n, share, supply, past, lag, random_counts):
    """n points that the workflow treats as real."""
    count_key, real_key, made_key = split(key, 3)
    made = count_of(count_key, share, n, random=random_counts, why=_NO_DERIVATIVE)
    is_early = supply.generation < lag
    if lag == 1:  # the model itself: in an ecosystem `supply.model` is a mixture with others
        data = supply.model_of(supply.params, made_key, made)
    elif not isinstance(is_early, Tracer) and bool(is_early):
        return supply.real(real_key, n)
    else:
        # What is not there yet has no sound parameters: the newest stands for it, and 0 points.
        oldest = jax.tree.map(
            lambda new, old: jnp.where(is_early, new, old[-1]), supply.params, past
        )
        made = jnp.where(is_early, 0, made) if isinstance(is_early, Tracer) else made
        data = supply.model_of(oldest, made_key, made)
    return supply.compact(supply.merge(supply.real(real_key, n - made), data))


def _with_newest(past, params):
    return jax.tree.map(
        lambda old, new: jnp.concatenate([jnp.asarray(new, old.dtype)[None], old[:-1]]),
        past,
        params,
    )


def _refuse_continuation(key, n, m):
    raise InputError(
        "the workflow of contaminated continues real points, which is not possible here; give mix, "
        "or accumulate with a real share"
    )


def _reweighted(workflow, share, lag, random_counts, model, real):
    """The same workflow if points of a model, and real points, pass with these probabilities.

    Synthetic points among the real data pass as other synthetic points do.
    """
    if any(callable(one) for one in (share, model, real)):
        raise InputError(
            "share of contaminated is a function of the generation; it must be a number, because a "
            "detector changes it"
        )
    passing = share * model + (1 - share) * real
    return contaminated(
        workflow.reweighted(model, passing),
        share * model / passing,
        lag=lag,
        random_counts=random_counts,
    )
