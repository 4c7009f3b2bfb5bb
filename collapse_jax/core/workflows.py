"""Workflows: how each next training set is put together (`cj.workflows`).

A share is a number, a traced scalar (`jax.Array`), or a function of the generation, which is traced
under `simulate`, as a function for the sample size is. Before a run begins, the shares of all its
generations are checked.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from collapse_jax.core.flows.contaminated import contaminated as contaminated
from collapse_jax.core.flows.counts import count_of
from collapse_jax.core.flows.counts import rounded as _rounded
from collapse_jax.core.flows.planned import planned as planned
from collapse_jax.core.flows.schedules import (
    Schedule,
    checked_share,
    is_share,
    share_at,
    shares,
    value_at,
)
from collapse_jax.core.flows.switch import switch as switch
from collapse_jax.core.flows.weighting import weighted as weighted
from collapse_jax.core.recipes.made import recorded
from collapse_jax.core.types import Workflow
from collapse_jax.errors import InputError, number, real, whole
from collapse_jax.random.bits import split
from collapse_jax.random.derivatives import step_function
from collapse_jax.random.multinomial import multinomial

_NO_DERIVATIVE_OF_REAL = (
    "real_share has no derivative: how many points are real is a whole number. Differentiate a "
    "closed form, or take differences of simulations (docs/gradients.md)"
)
_NO_DERIVATIVE = (
    "alpha, beta and gamma of mix have no derivative: how many points come from where is a whole "
    "number. Give the points weights instead, differentiate a closed form, or take differences "
    "of simulations (docs/gradients.md)"
)


@recorded
def replace() -> Workflow:
    """Returns the workflow in which each generation trains on n draws from its predecessor alone.

    References:
        Shumailov et al. 2024, alpha = 1.
    """

    def next_set(key, carry, supply, n):
        return (), supply.model(key, n)

    return Workflow("replace", _nothing, next_set)


@recorded
def accumulate(
    real_share: "float | jax.Array | Callable[[Any], Any]" = 0.0, *, random_counts: bool = True
) -> Workflow:
    """Returns the workflow in which each generation trains on all data of all generations so far.

    That is the real data of generation 0 and one batch of n new points per generation.

    Args:
        real_share: share of each batch that is fresh real data; a number, a traced scalar, or a
            function of the generation. The newest model generates the rest of the batch.
        random_counts: True: the number of real points in a batch is binomial, as if each point were
            drawn independently. False: it is real_share * n, rounded.

    Raises:
        InputError: for a share outside [0, 1].

    References:
        Gerstgrasser et al. 2024, arXiv 2404.01413; with real data in each batch arXiv 2602.16065.
    """

    def next_set(key, pool, supply, n):
        pool = supply.append(pool, supply.model(key, n))
        return pool, pool

    if not checked_share("real_share", real_share) or real_share != 0:
        return _with_real_batches("accumulate", real_share, random_counts, subsampled=False)
    next_set.carries = "pool"
    return Workflow("accumulate", _reserved, next_set)


@recorded
def accumulate_subsample(
    real_share: "float | jax.Array | Callable[[Any], Any]" = 0.0, *, random_counts: bool = True
) -> Workflow:
    """Returns `accumulate` with training sets of n points, drawn from all data so far.

    The n points of each generation are drawn without replacement.

    Args:
        real_share: share of each batch of n new points that is fresh real data, as in `accumulate`.
        random_counts: as in `accumulate`.

    Raises:
        InputError: for a share outside [0, 1].

    References:
        Kazdan et al. 2024, arXiv 2410.16713.
    """

    def next_set(key, pool, supply, n):
        model_key, subsample_key = split(key)
        pool = supply.append(pool, supply.model(model_key, n))
        return pool, supply.subsample(subsample_key, pool, n)

    if not checked_share("real_share", real_share) or real_share != 0:
        return _with_real_batches("accumulate_subsample", real_share, random_counts, True)
    next_set.carries = "pool"
    return Workflow("accumulate_subsample", _reserved, next_set)


def _with_real_batches(name, real_share, random_counts, subsampled):
    """`accumulate` and `accumulate_subsample` with real data in each batch."""
    known = checked_share("real_share", real_share)

    def next_set(key, pool, supply, n):
        count_key, model_key, real_key, subsample_key = split(key, 4)
        share = share_at("real_share", real_share, supply.generation)
        of_real = count_of(count_key, share, n, random=random_counts, why=_NO_DERIVATIVE_OF_REAL)
        made = supply.model(model_key, n - of_real)
        batch = supply.compact(supply.merge(made, supply.real(real_key, of_real)))
        pool = supply.append(pool, batch)
        return pool, supply.subsample(subsample_key, pool, n) if subsampled else pool

    next_set.carries = "pool"
    next_set.schedules = () if known else (shares(real_share=real_share),)

    def reweighted(model, real):
        share = _passing(real_share, model, real)
        return _with_real_batches(name, share, random_counts, subsampled)

    named = f"{name}({real_share:g})" if known else name
    return Workflow(named, _reserved, next_set, reweighted=reweighted)


def _passing(share, model, real):
    """The share of real points among those that pass with these probabilities."""
    if any(callable(one) for one in (share, model, real)):
        return lambda generation: _passing(
            *(value_at("a share", one, generation) for one in (share, model, real))
        )
    passing = share * real + (1 - share) * model
    if not isinstance(passing, jax.Array) and not passing > 0:
        raise _nothing_passes(model, real)
    return share * real / passing


@recorded
def keep_real(synthetic_ratio: float = 1.0) -> Workflow:
    """Returns the workflow in which each generation trains on the first real data plus new points.

    The n real points are the same in every generation. The newest model generates
    synthetic_ratio * n new points, so a training set has (1 + synthetic_ratio) * n points.
    Generation 0 is fitted to the n real points alone.

    Args:
        synthetic_ratio: number of synthetic points per real point, lambda in Bertrand et al.; their
            total is rounded.

    Raises:
        InputError: for a ratio that is negative or infinite.

    References:
        Bertrand et al. 2023, arXiv 2310.00429; the synthetic augmentation loop of Alemohammad et
        al. 2023, arXiv 2307.01850.
    """
    ratio = real("synthetic_ratio", synthetic_ratio, at_least=0)

    def next_set(key, first, supply, n):
        if isinstance(n, int):
            return first, supply.merge(first, supply.model(key, round(ratio * n)))
        # Points that are drawn in traced numbers are at most n at once.
        data, whole_sets = first, int(ratio)
        for part_key in split(key, whole_sets + 1)[:whole_sets]:
            data = supply.merge(data, supply.model(part_key, n))
        rest = ratio - whole_sets
        if rest > 0:
            last_key = split(key, whole_sets + 1)[-1]
            data = supply.merge(data, supply.model(last_key, _rounded(rest, n)))
        return first, data

    return Workflow(f"keep_real({ratio:g})", _first_set, next_set)


@recorded
def mix(
    alpha: "float | jax.Array | Callable[[Any], Any] | None" = None,
    beta: "float | jax.Array | Callable[[Any], Any]" = 0.0,
    gamma: "float | jax.Array | Callable[[Any], Any]" = 0.0,
    *,
    random_counts: bool = True,
) -> Workflow:
    """Returns the mixture of Shumailov et al. 2024: p_{i+1} = alpha p_theta + beta p_i + gamma p_0.

    If the previous training set is too small for its share, the model generates the missing points.

    Args:
        alpha: share of the n points that are fresh draws from the newest model; a number, a traced
            scalar, a function of the generation, or None for 1 - beta - gamma.
        beta: share that is drawn from the previous training set without replacement.
        gamma: share that is drawn from the real data.
        random_counts: True: the three counts are multinomial, as in n independent draws from the
            mixture. False: they are the shares of n, rounded so that they sum to n.

    Raises:
        InputError: unless the shares are non-negative and sum to 1.

    References:
        Shumailov et al. 2024, "Learning with generational data".
    """
    alpha = _left_by(beta, gamma) if alpha is None else alpha
    given = {"alpha": alpha, "beta": beta, "gamma": gamma}
    known = _check_mixture(given)
    keeps_previous, takes_real = (
        not isinstance(share, int | float) or share > 0 for share in (beta, gamma)
    )

    def next_set(key, previous, supply, n):
        count_key, model_key, previous_key, real_key = split(key, 4)
        counts = _random_counts if random_counts else _rounded_counts
        now = _shares_at(supply.generation, alpha, beta, gamma)
        from_model, from_previous, from_real = counts(count_key, n, now)
        available = _smaller(from_previous, supply.previous_size)
        from_model, from_previous = from_model + from_previous - available, available
        data = supply.model(model_key, from_model)
        if keeps_previous:
            data = supply.merge(data, supply.subsample(previous_key, previous, from_previous))
        if takes_real:
            data = supply.merge(data, supply.real(real_key, from_real))
        data = supply.compact(data)
        return (data if keeps_previous else ()), data

    if keeps_previous:
        next_set.carries = "previous"
    if not known:
        next_set.schedules = (
            Schedule(tuple(given), tuple(given.values()), is_share, "in [0, 1]", 1.0),
        )
    traced = any(isinstance(share, jax.Array) for share in given.values())
    return Workflow(
        name=f"mix({alpha:g}, {beta:g}, {gamma:g})" if known else "mix",
        init=_first_set if keeps_previous else _nothing,
        next=next_set,
        reweighted=functools.partial(_reweighted_mix, None if traced else given, random_counts),
    )


@recorded
def keep_or_continue(gamma: float, *, beta: float = 0.0, batch_size: int = 1) -> Workflow:
    """Returns the workflow that keeps some real points and lets the model continue the others.

    Each generation takes n real points in random order. The first batches of them enter the
    training set unchanged, and the newest model continues each of the others (a language model
    continues a text). Under `mix`, by contrast, the model's points do not depend on the real points
    that are kept.

    Args:
        gamma: the share that is kept, rounded up to whole batches:
            min(n, batch_size * ceil(n * gamma / batch_size)) points.
        beta: share of n, rounded, that is drawn from the previous training set (without
            replacement) instead of being continued.
        batch_size: points per batch.

    Raises:
        InputError: for shares outside [0, 1] or with a sum above 1, and for a batch_size below 1.

    References:
        The released code of Shumailov et al. 2024 (beta = 0).
    """
    gamma, beta = number("gamma", gamma), number("beta", beta)
    for name, value in {"gamma": gamma, "beta": beta, "beta + gamma": beta + gamma}.items():
        if not 0 <= value <= 1 + 1e-6:
            raise InputError(f"{name} is {value:g}; it must be in [0, 1]")
    whole("batch_size", batch_size, 1)

    def next_set(key, previous, supply, n):
        real_key, previous_key = split(key)
        batches = math.ceil(round(n * gamma / batch_size, 9))  # 100 * 0.07 is above 7
        kept = min(n, batches * batch_size)
        from_previous = min(round(beta * n), n - kept, supply.previous_size)
        real, made = supply.real_and_continued(real_key, kept, n - kept - from_previous)
        data = supply.merge(made, real)
        if beta > 0:
            data = supply.merge(data, supply.subsample(previous_key, previous, from_previous))
        data = supply.compact(data)
        return (data if beta > 0 else ()), data

    first = _first_set if beta > 0 else _nothing
    if beta > 0:
        next_set.carries = "previous"
    return Workflow(f"keep_or_continue({gamma:g})", first, next_set)


def _nothing(supply, data):
    return ()


def _first_set(supply, data):
    return data


def _reserved(supply, data):
    return supply.reserve(data)


def _left_by(beta, gamma):
    """alpha = 1 - beta - gamma."""
    if callable(beta) or callable(gamma):
        return lambda generation: (
            1 - value_at("beta", beta, generation) - value_at("gamma", gamma, generation)
        )
    if isinstance(beta, jax.Array) or isinstance(gamma, jax.Array):
        return 1 - beta - gamma
    beta, gamma = number("beta", beta), number("gamma", gamma)
    for name, share in {"beta": beta, "gamma": gamma}.items():
        checked_share(name, share)
    left = round(1 - beta - gamma, 12)
    if left < 0:
        raise InputError(
            f"beta + gamma is {beta + gamma:g}; it must be at most 1, because alpha is the rest"
        )
    return left


def _check_mixture(given):
    """Whether the shares of a mix are numbers; raises `InputError` unless they sum to 1."""
    for name, value in given.items():
        if not isinstance(value, jax.Array) and not callable(value):
            number(name, value)
    if not all(isinstance(value, int | float) for value in given.values()):
        for name, value in given.items():
            checked_share(name, value)
        return False
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}; it must be in [0, 1]")
    total = sum(given.values())
    if abs(total - 1) > 1e-6:
        addends = " + ".join(f"{value:g}" for value in given.values())
        raise InputError(f"alpha + beta + gamma is {total:g} ({addends}); it must be 1")
    return True


def _shares_at(generation, alpha, beta, gamma):
    """The three shares at a generation."""
    given = {"alpha": alpha, "beta": beta, "gamma": gamma}
    return tuple(share_at(name, value, generation) for name, value in given.items())


def _reweighted_mix(given, random_counts, model, real):
    """The mix of the points that pass: shares `model` of the model's, `real` of the real ones."""
    if given is None:
        raise InputError(
            "alpha, beta, gamma are traced; they must be numbers, because a detector changes them"
        )
    if any(callable(one) for one in (*given.values(), model, real)):
        return _reweighted_schedule(given, random_counts, model, real)
    passing = given["alpha"] * model, given["beta"], given["gamma"] * real
    if any(isinstance(share, Tracer) for share in passing):
        # What is 0 stays known to be: nothing is asked for that is not needed.
        known = zip(passing, given.values(), strict=True)
        parts = [share / sum(passing) if before else 0.0 for share, before in known]
        return mix(*parts, random_counts=random_counts)
    if not sum(passing) > 0:
        raise _nothing_passes(model, real)
    return mix(*(share / sum(passing) for share in passing), random_counts=random_counts)


def _reweighted_schedule(given, random_counts, model, real):
    """`_reweighted_mix` where one of the numbers is a function of the generation."""

    def passing_at(generation):
        alpha, beta, gamma = _shares_at(generation, *given.values())
        passes = (value_at("a share that passes", one, generation) for one in (model, real))
        by_model, by_real = passes
        return alpha * by_model, beta, gamma * by_real

    def share_of(place):
        def at(generation):
            passing = passing_at(generation)
            return passing[place] / sum(passing)

        return at

    parts = [
        share_of(place) if callable(share) or not isinstance(share, int | float) or share else 0.0
        for place, share in enumerate(given.values())
    ]
    return mix(*parts, random_counts=random_counts)


def _nothing_passes(model, real):
    return InputError(
        f"no points pass the detector: it passes a share {model:g} of the model's points and "
        f"{real:g} of the real ones; give other true_positive and false_positive, or another mix"
    )


def _random_counts(key, n, shares):
    dtype = jnp.result_type(float)
    shares = step_function(shares, shares, _NO_DERIVATIVE)
    return multinomial(
        key, n, jnp.stack([jnp.asarray(share, dtype) for share in shares]), method="binomials"
    )


def _rounded_counts(key, n, shares):
    alpha, beta, _ = shares
    from_model, synthetic = _rounded(alpha, n), _rounded(alpha + beta, n)
    return from_model, synthetic - from_model, n - synthetic


def _smaller(a, b):
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else jnp.minimum(a, b)
