"""Workflows: what the next training set is made of (`cj.workflows`)."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.planned import planned as planned
from collapse_jax.core.types import Workflow
from collapse_jax.core.weighting import weighted as weighted
from collapse_jax.errors import InputError, number, whole
from collapse_jax.random.binomial import exact_product
from collapse_jax.random.bits import split
from collapse_jax.random.derivatives import step_function
from collapse_jax.random.multinomial import multinomial

_NO_DERIVATIVE = (
    "alpha, beta and gamma of mix have no derivative: how many points come from where is a whole "
    "number. Give the points weights instead, differentiate a closed form, or take differences "
    "of simulations (docs/gradients.md)"
)


def replace() -> Workflow:
    """Every generation trains on n fresh draws from its predecessor alone.

    References:
        Shumailov et al. 2024, alpha = 1.
    """

    def next_set(key, carry, supply, n):
        return (), supply.model(key, n)

    return Workflow("replace", _nothing, next_set)


def accumulate() -> Workflow:
    """Every generation trains on the real data and all that any generation has made.

    References:
        Gerstgrasser et al. 2024, arXiv 2404.01413.
    """

    def next_set(key, pool, supply, n):
        pool = supply.append(pool, supply.model(key, n))
        return pool, pool

    return Workflow("accumulate", _reserved, next_set)


def accumulate_subsample() -> Workflow:
    """As `accumulate`, but each generation trains on n points drawn from all there are.

    The points are drawn without replacement.

    References:
        Kazdan et al. 2024, arXiv 2410.16713.
    """

    def next_set(key, pool, supply, n):
        model_key, subsample_key = split(key)
        pool = supply.append(pool, supply.model(model_key, n))
        return pool, supply.subsample(subsample_key, pool, n)

    return Workflow("accumulate_subsample", _reserved, next_set)


def mix(
    alpha: "float | jax.Array",
    beta: "float | jax.Array",
    gamma: "float | jax.Array",
    *,
    random_counts: bool = True,
) -> Workflow:
    """The paper's mixture p_{i+1} = alpha p_theta + beta p_i + gamma p_0.

    What a smaller previous set cannot give, under a growing sample size, the model makes.

    Args:
        alpha: share of the n points that come fresh from the newest model; a number, or traced.
        beta: share from the previous training set, without replacement.
        gamma: share from the real data.
        random_counts: True: the three counts are multinomial, as in n independent draws from the
            mixture. False: they are the shares, rounded so that they add up to n.

    Raises:
        InputError: unless the shares are non-negative and sum to 1.

    References:
        Shumailov et al. 2024, "Learning with generational data".
    """
    shares = {"alpha": alpha, "beta": beta, "gamma": gamma}
    known = _check_mixture(shares, random_counts)
    keeps_previous, takes_real = (
        not isinstance(share, int | float) or share > 0 for share in (beta, gamma)
    )

    def next_set(key, previous, supply, n):
        count_key, model_key, previous_key, real_key = split(key, 4)
        counts = _random_counts if random_counts else _rounded_counts
        from_model, from_previous, from_real = counts(count_key, n, (alpha, beta, gamma))
        available = _smaller(from_previous, supply.previous_size)
        from_model, from_previous = from_model + from_previous - available, available
        data = supply.model(model_key, from_model)
        if keeps_previous:
            data = supply.merge(data, supply.subsample(previous_key, previous, from_previous))
        if takes_real:
            data = supply.merge(data, supply.real(real_key, from_real))
        data = supply.compact(data)
        return (data if keeps_previous else ()), data

    return Workflow(
        name=f"mix({alpha:g}, {beta:g}, {gamma:g})" if known else "mix",
        init=_first_set if keeps_previous else _nothing,
        next=next_set,
        reweighted=functools.partial(_reweighted_mix, shares if known else None, random_counts),
    )


def keep_or_continue(gamma: float, *, beta: float = 0.0, batch_size: int = 1) -> Workflow:
    """Some real points pass unchanged, and the newest model continues each of the others.

    Of n real points in random order the first batches pass. Under `mix` the model's points do not
    depend on which real ones are kept; here exactly those that are not kept are continued.

    Args:
        gamma: the share that passes, rounded up to whole batches:
            min(n, batch_size * ceil(n gamma / batch_size)) points.
        beta: share of n, rounded, that comes from the previous training set (without replacement)
            in the place of continuations.
        batch_size: points of one batch.

    Raises:
        InputError: for shares outside [0, 1] or above 1 together, and for a batch_size below 1.

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
    return Workflow(f"keep_or_continue({gamma:g})", first, next_set)


def _nothing(supply, data):
    return ()


def _first_set(supply, data):
    return data


def _reserved(supply, data):
    return supply.reserve(data)


def _check_mixture(shares, random_counts):
    """Whether the shares of a mix are numbers; raises `InputError` for shares that are no mix."""
    for name, value in shares.items():
        if not isinstance(value, jax.Array):
            number(name, value)
    if not all(isinstance(value, int | float) for value in shares.values()):
        if not random_counts:
            raise InputError(
                "alpha, beta, gamma are traced with random_counts=False; rounded shares must be "
                "known before the run"
            )
        return False
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}; it must be in [0, 1]")
    total = sum(shares.values())
    if abs(total - 1) > 1e-6:
        addends = " + ".join(f"{value:g}" for value in shares.values())
        raise InputError(f"alpha + beta + gamma is {total:g} ({addends}); it must be 1")
    return True


def _reweighted_mix(shares, random_counts, model, real):
    """The mix of what passes: a share `model` of the model's points and `real` of the real ones."""
    if shares is None:
        raise InputError(
            "alpha, beta, gamma are traced; they must be numbers for a detector to change them"
        )
    passing = shares["alpha"] * model, shares["beta"], shares["gamma"] * real
    if any(isinstance(share, Tracer) for share in passing):
        # What is 0 stays known to be: nothing is asked for that is not needed.
        known = zip(passing, shares.values(), strict=True)
        parts = [share / sum(passing) if before else 0.0 for share, before in known]
        return mix(*parts, random_counts=random_counts)
    if not sum(passing) > 0:
        raise InputError(
            f"nothing passes the detector: a share {model:g} of the model's points does, and "
            f"{real:g} of the real ones"
        )
    return mix(*(share / sum(passing) for share in passing), random_counts=random_counts)


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


def _rounded(share, n):
    """A known share of n points, of halves the even one, as an int or traced int32."""
    if isinstance(n, int):
        return round(share * n)
    in_floats = jnp.round(share * n).astype(jnp.int32)
    # Above 2^20 points a float32 has no digits left for halves, and above 2^24 none for ones.
    dtype = jnp.result_type(float)
    high = float(np.asarray(share, dtype))
    whole, fraction = exact_product(n, jnp.asarray(high, dtype))
    rest = fraction + (share - high) * n
    up = jnp.where(rest == 0.5, whole % 2, jnp.floor(rest + 0.5).astype(jnp.int32))
    return jnp.where(n < 2**20, in_floats, whole + up)
