"""Workflows: what the next training set is made of (`cj.workflows`)."""

import math

import jax
import jax.numpy as jnp

from collapse_jax.core.types import Workflow
from collapse_jax.errors import InputError, number, whole
from collapse_jax.random.bits import split
from collapse_jax.random.multinomial import multinomial


def replace() -> Workflow:
    """Every generation trains on n fresh draws from its predecessor alone.

    Source: Shumailov et al. 2024, alpha = 1.
    """
    return Workflow(
        "replace",
        lambda supply, data: (),
        lambda key, carry, supply, n: ((), supply.model(key, n)),
        closed=True,
    )


def accumulate() -> Workflow:
    """Every generation trains on the real data and all that any generation has made.

    Source: Gerstgrasser et al. 2024, arXiv 2404.01413.
    """

    def next_set(key, pool, supply, n):
        pool = supply.append(pool, supply.model(key, n))
        return pool, pool

    return Workflow("accumulate", lambda supply, data: supply.reserve(data), next_set, grows=True)


def accumulate_subsample() -> Workflow:
    """As `accumulate`, but each generation trains on n points drawn without replacement from all
    there is.

    Source: Kazdan et al. 2024, arXiv 2410.16713.
    """

    def next_set(key, pool, supply, n):
        model_key, subsample_key = split(key)
        pool = supply.append(pool, supply.model(model_key, n))
        return pool, supply.subsample(subsample_key, pool, n)

    return Workflow(
        "accumulate_subsample",
        lambda supply, data: supply.reserve(data),
        next_set,
        takes_points_back=True,
        grows=True,
    )


def mix(alpha: float, beta: float, gamma: float, *, random_counts: bool = True) -> Workflow:
    """The paper's mixture p_{i+1} = alpha p_theta + beta p_i + gamma p_0.

    Of n points, alpha come fresh from the newest model, beta from the previous training set
    (without replacement), gamma from the
    real data; the weights are numbers, or traced. random_counts: the three counts are multinomial,
    as in n independent draws from the mixture; False: the shares, rounded so that they add up to n.
    What a smaller previous set cannot give, under a growing sample
    size, the model makes.
    Raises `InputError` unless the weights are non-negative and sum to 1.
    Source: Shumailov et al. 2024, "Learning with generational data".
    """
    weights = {"alpha": alpha, "beta": beta, "gamma": gamma}
    for name, value in weights.items():
        if not isinstance(value, jax.Array):
            number(name, value)
    known = all(isinstance(value, int | float) for value in weights.values())
    if known:
        for name, value in weights.items():
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; it must be in [0, 1]")
        total = alpha + beta + gamma
        if abs(total - 1) > 1e-6:
            raise InputError(
                f"alpha + beta + gamma is {total:g} ({alpha:g} + {beta:g} + {gamma:g}); it "
                "must be 1"
            )
    elif not random_counts:
        raise InputError(
            "alpha, beta, gamma are traced with random_counts=False; rounded shares must "
            "be known before the run"
        )
    keeps_previous, takes_real = (
        not isinstance(value, int | float) or value > 0 for value in (beta, gamma)
    )

    def counts(key, n):
        if not random_counts:
            from_model, synthetic = _rounded(alpha, n), _rounded(alpha + beta, n)
            return from_model, synthetic - from_model, n - synthetic
        shares = jnp.stack(
            [jnp.asarray(share, jnp.result_type(float)) for share in (alpha, beta, gamma)]
        )
        return multinomial(key, n, shares, method="binomials")

    def next_set(key, previous, supply, n):
        count_key, model_key, previous_key, real_key = split(key, 4)
        from_model, from_previous, from_real = counts(count_key, n)
        there = _smaller(from_previous, supply.previous_size)
        from_model, from_previous = from_model + from_previous - there, there
        data = supply.model(model_key, from_model)
        if keeps_previous:
            data = supply.merge(data, supply.subsample(previous_key, previous, from_previous))
        if takes_real:
            data = supply.merge(data, supply.real(real_key, from_real))
        data = supply.compact(data)
        return (data if keeps_previous else ()), data

    def reweighted(model, real):
        if not known:
            raise InputError(
                "alpha, beta, gamma are traced; they must be numbers for a detector to change them"
            )
        passing = alpha * model, beta, gamma * real
        if not sum(passing) > 0:
            raise InputError(
                f"nothing passes the detector: a share {model:g} of the model's points "
                f"does, and {real:g} of the real ones"
            )
        return mix(*(share / sum(passing) for share in passing), random_counts=random_counts)

    return Workflow(
        name=f"mix({alpha:g}, {beta:g}, {gamma:g})" if known else "mix",
        init=lambda supply, data: data if keeps_previous else (),
        next=next_set,
        takes_points_back=keeps_previous,
        random_counts=random_counts,
        reweighted=reweighted,
    )


def keep_or_continue(gamma: float, *, beta: float = 0.0, batch_size: int = 1) -> Workflow:
    """Of n real points in random order the first batches pass unchanged, and the newest model
    continues each of the others.

    gamma: the share that passes, rounded up to whole batches: min(n, batch_size * ceil(n gamma /
    batch_size)) points. As `mix`
    otherwise, where the model's points do not depend on which real ones are kept; here exactly
    those that are not kept are continued. beta: share of n, rounded, that comes from the previous
    training set (without replacement) in the place of continuations.
    Raises `InputError` for shares outside [0, 1] or above 1 together, and for a batch_size below 1.
    Source: the released code of Shumailov et al. 2024 (beta = 0).
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

    name = f"keep_or_continue({gamma:g})"
    init = lambda supply, data: data if beta > 0 else ()  # noqa: E731
    return Workflow(name, init, next_set, takes_points_back=beta > 0, continues=True)


def _smaller(a, b):
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else jnp.minimum(a, b)


def _rounded(share, n):
    return round(share * n) if isinstance(n, int) else jnp.round(share * n).astype(jnp.int32)
