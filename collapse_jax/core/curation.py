"""What stands between sampling and fitting (`cj.curation`).

Each is a wrapper of a workflow, and they compose, the innermost first:

    best_of(4, reward)(tempered(0.8)(cj.workflows.accumulate()))

Only what the newest model makes passes through; real data and the points of earlier training sets
do not. Rewards, criteria and labels are functions of points x [n, ...].
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.core import Tracer

from collapse_jax.core.types import Estimator, Workflow
from collapse_jax.errors import InputError, function, number, whole
from collapse_jax.random.bits import fold_in, split
from collapse_jax.random.derivatives import step_function

Wrapper = Callable[[Workflow], Workflow]
OfPoints = Callable[[jax.Array], jax.Array]

_NO_DERIVATIVE = (
    "which points a curation takes has no derivative with respect to the model that makes them; "
    "take differences of simulations (docs/gradients.md)"
)


def best_of(
    k: int,
    reward: OfPoints,
    *,
    choice: Literal["bradley_terry", "greatest"] = "bradley_terry",
) -> Wrapper:
    """Of k candidates for each point one is taken.

    Args:
        k: candidates for each point.
        reward: x [n, ...] -> [n].
        choice: "bradley_terry" takes candidate i with probability exp(r_i) / sum_j exp(r_j), as
            people do who choose by that law. As k grows, it turns a density p into one
            proportional to p exp(reward). "greatest" takes the candidate of the highest reward.

    Raises:
        InputError: unless k >= 1, the reward is a function, and the choice is one of the two.

    References:
        Ferbach et al. 2024, arXiv 2407.09499, "Self-consuming generative models with curated data".
    """
    whole("k", k, 1)
    function("reward", reward)
    if choice not in ("bradley_terry", "greatest"):
        raise InputError(f"choice is {choice!r}; it must be 'bradley_terry' or 'greatest'")

    def curate(key, candidates):
        keys = jax.vmap(lambda j: fold_in(key, j))(jnp.arange(k, dtype=jnp.uint32))
        if isinstance(key, Tracer):
            x = jax.vmap(candidates)(keys)  # [k, n, ...]
        else:  # a host family's draws may be a decoder's, one at a time
            x = jnp.stack([candidates(candidate_key) for candidate_key in keys])
        rewards = jnp.stack([reward(candidate) for candidate in x])  # [k, n]
        rewards = step_function(rewards, rewards, _NO_DERIVATIVE)
        if choice == "bradley_terry":
            rewards = rewards + jax.random.gumbel(fold_in(key, k), rewards.shape)
        return x[jnp.argmax(rewards, axis=0), jnp.arange(x.shape[1])]

    return _of_points(f"best_of({k})", curate)


def verified(accept: OfPoints, *, cap: int = 100) -> Wrapper:
    """Every point is drawn anew until it is accepted.

    Args:
        accept: x [n, ...] -> [n], booleans, or probabilities of being accepted.
        cap: the most draws of a point; then its last candidate stands. With a share a accepted,
            (1 - a)^cap of the points are ones that were not.

    Raises:
        InputError: unless cap >= 1.

    References:
        Feng et al. 2024, arXiv 2406.07515, "Beyond model collapse: scaling up with synthesized
        data requires verification".
    """
    return _verified("verified", accept, cap)


def labelled_verifier(phi: float, psi: float, correct: OfPoints, *, cap: int = 100) -> Wrapper:
    """Keeps a correct point with probability phi and a wrong one with probability psi.

    What is not kept is drawn anew, as in `verified`.

    Args:
        phi: probability that a correct point is kept.
        psi: probability that a wrong point is kept.
        correct: x [n, ...] -> bool [n].
        cap: the most draws of a point.

    Raises:
        InputError: for probabilities outside [0, 1] or both 0, and unless cap >= 1.

    References:
        Feng et al. 2024, arXiv 2406.07515 (phi and psi of its verifier).
    """
    _check_shares(phi=phi, psi=psi)
    if phi == psi == 0:
        raise InputError("phi and psi are 0; one of them must be above 0, or nothing ever passes")
    function("correct", correct)
    return _verified(
        f"labelled_verifier({phi:g}, {psi:g})", lambda x: jnp.where(correct(x), phi, psi), cap
    )


def tempered(tau: float) -> Wrapper:
    """The model is sampled at temperature tau: probabilities proportional to p^(1/tau).

    Args:
        tau: below 1 it favours what is likely.

    Raises:
        InputError: unless tau > 0; when the process is made, for a family without `tempered`.

    References:
        Marchi et al. 2024, arXiv 2404.02325, "Heat death of generative models in closed-loop
        learning".
    """
    if not 0 < number("tau", tau) < math.inf:
        raise InputError(f"tau is {tau}; it must be finite and above 0")
    return _of_models(f"tempered({tau:g})", "tempered", tau)


def top_p(p: float) -> Wrapper:
    """The model is cut down to the fewest most probable outcomes that hold probability p.

    Args:
        p: the probability that is kept (nucleus sampling).

    Raises:
        InputError: unless 0 < p <= 1; when the process is made, for a family without `nucleus`.

    References:
        Holtzman et al. 2020, arXiv 1904.09751.
    """
    if not 0 < number("p", p) <= 1:
        raise InputError(f"p is {p}; it must be in (0, 1]")
    return _of_models(f"top_p({p:g})", "nucleus", p)


def detector(true_positive: float, false_positive: float) -> Wrapper:
    """Points that a detector takes for a model's are left out; others of the mixture replace them.

    Of `mix(alpha, beta, gamma)` this makes another mix: alpha and gamma times what passes of each,
    over the sum of all. What the previous training set gives has passed already. Workflows that
    take nothing real after generation 0 stay as they are.

    Args:
        true_positive: the share of the model's points that it finds.
        false_positive: the share of real points that it takes for a model's.

    Raises:
        InputError: for shares outside [0, 1], a mix of which nothing passes, or traced weights.

    References:
        Derived here; after Drayson et al. 2025, "Machine-generated text detection prevents
        language model collapse".
    """
    _check_shares(true_positive=true_positive, false_positive=false_positive)

    def wrap(workflow):
        if workflow.reweighted is None:
            return workflow
        return workflow.reweighted(1 - true_positive, 1 - false_positive)._replace(
            name=f"detector({true_positive:g}, {false_positive:g})({workflow.name})",
            filters=workflow.filters,
        )

    return wrap


def _verified(name, accept, cap):
    whole("cap", cap, 1)
    function("accept", accept)

    def accepted(key, x):
        passes = step_function(accept(x), x, _NO_DERIVATIVE)
        return passes if passes.dtype == bool else jax.random.uniform(key, passes.shape) < passes

    def draw(key, candidates, trial):
        draw_key, accept_key = split(fold_in(key, trial))
        x = candidates(draw_key)
        return x, accepted(accept_key, x)

    def curate(key, candidates):
        # trial: how many draws there were; x [n, ...]: the newest candidates; passed: bool [n].
        def some_wait(carry):
            trial, _, passed = carry
            return (trial < cap) & ~jnp.all(passed)

        def draw_again(carry):
            trial, x, passed = carry
            other, passes = draw(key, candidates, trial)
            keep = passed.reshape(-1, *[1] * (x.ndim - 1))
            return trial + 1, jnp.where(keep, x, other), passed | passes

        carry = 1, *draw(key, candidates, 0)
        if isinstance(carry[2], Tracer):
            return jax.lax.while_loop(some_wait, draw_again, carry)[1]
        while some_wait(carry):
            carry = draw_again(carry)
        return carry[1]

    return _of_points(name, curate)


def _of_points(name, curate):
    """A wrapper that chooses among points: curate(key, candidates) -> x [n, ...].

    candidates: key -> x [n, ...] of the model.
    """

    def curated(estimator: Estimator) -> Estimator:
        def sample(key, params, n):
            return curate(key, lambda key: estimator.sample(key, params, n))

        def continued(key, params, x):
            return curate(key, lambda key: estimator.continued(key, params, x))

        return estimator._replace(
            sample=sample,
            draw=None,
            **_of_the_family(estimator),
            continued=estimator.continued and continued,
        )

    return _wrapper(name, curated)


def _of_models(name, reshaping, value):
    """A wrapper that samples another model in place of the newest: its `tempered` or `nucleus`."""

    def curated(estimator: Estimator) -> Estimator:
        reshape = getattr(estimator, reshaping)
        if reshape is None:
            raise InputError(f"{name} needs an estimator with `{reshaping}`, and this one has none")

        def of_reshaped(function):
            return function and (
                lambda key, params, what: function(key, reshape(params, value), what)
            )

        changed = {
            name: of_reshaped(getattr(estimator, name)) for name in ("sample", "draw", "continued")
        }
        return estimator._replace(**_of_the_family(estimator), **changed)

    return _wrapper(name, curated)


def _of_the_family(estimator):
    """What reshapes a model and tells its densities, whatever is sampled from it."""
    return {name: getattr(estimator, name) for name in ("log_prob", "tempered", "nucleus")}


def _wrapper(name, curated):
    def wrap(workflow: Workflow) -> Workflow:
        return workflow._replace(
            name=f"{name}({workflow.name})", filters=(*workflow.filters, curated)
        )

    return wrap


def _check_shares(**shares):
    for name, value in shares.items():
        if not 0 <= number(name, value) <= 1:
            raise InputError(f"{name} is {value}; it must be in [0, 1]")
