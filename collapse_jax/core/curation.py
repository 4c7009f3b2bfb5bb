"""Curation: filters between sampling and fitting (`cj.curation`).

Each function returns a wrapper of a workflow. Wrappers compose, and the innermost is applied first:

    best_of(4, reward)(tempered(0.8)(cj.workflows.accumulate()))

A filter applies only to the points that the newest model generates, not to real data or to the
points of earlier training sets. Rewards, criteria and labels are functions of points x [n, ...].

A temperature, a probability or a share is a number, a traced scalar, or a function of the
generation, as the shares of workflows are: `tempered(lambda g: 1 - 0.005 * g)`.

If a reward or a verdict is nan, the run ends with an error that names the function. If you sample
under `jax.jit` without a driver, such a point is nan, or the least integer of its type.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.flows.order import refuse_around
from collapse_jax.core.flows.schedules import Schedule, value_at
from collapse_jax.core.flows.schedules import shares as schedule_of_shares
from collapse_jax.core.functions import check_arguments
from collapse_jax.core.marks import check_sound, is_marked, mark
from collapse_jax.core.needs import SIZE_TO_WATCH, needs_of
from collapse_jax.core.recipes.made import recorded
from collapse_jax.core.results import numbers_of_points
from collapse_jax.core.types import Estimator, Workflow
from collapse_jax.errors import InputError, defined_at, number, whole
from collapse_jax.random.bits import fold_in, split
from collapse_jax.random.derivatives import step_function

Wrapper = Callable[[Workflow], Workflow]
Filter = Callable[[Estimator], Estimator]
OfPoints = Callable[[jax.Array], jax.Array]
# What a probability may exceed its range by.
_ROUNDING = 1e-5

_NO_DERIVATIVE = (
    "the choice of points by a curation has no derivative with respect to the model that generates "
    "them; take differences of simulations (docs/gradients.md)"
)


@recorded
def best_of(
    k: int,
    reward: OfPoints,
    *,
    choice: Literal["bradley_terry", "greatest"] = "bradley_terry",
) -> Wrapper:
    """Returns a filter that draws k candidates for each point and keeps one of them.

    Args:
        k: number of candidates per point.
        reward: x [n, ...] -> [n].
        choice: "bradley_terry" keeps candidate i with probability exp(r_i) / sum_j exp(r_j), the
            Bradley-Terry model of human choice. As k grows, a density p becomes proportional to
            p exp(reward). "greatest" keeps the candidate with the highest reward.

    Raises:
        InputError: unless k >= 1, the reward is a function, and the choice is one of the two.

    References:
        Ferbach et al. 2024, arXiv 2407.09499, "Self-consuming generative models with curated data".
    """
    whole("k", k, 1)
    check_arguments("reward", reward, ("x",))
    if choice not in ("bradley_terry", "greatest"):
        raise InputError(f"choice is {choice!r}; it must be 'bradley_terry' or 'greatest'")

    def curate(key, candidates, marks):
        keys = jax.vmap(lambda j: fold_in(key, j))(jnp.arange(k, dtype=jnp.uint32))
        if isinstance(key, Tracer):
            x = jax.vmap(candidates)(keys)  # [k, n, ...]
        else:  # a host family's draws may be a decoder's, one at a time
            x = jnp.stack([candidates(candidate_key) for candidate_key in keys])
        of = functools.partial(numbers_of_points, f"reward of best_of({k})", reward)
        rewards = jnp.stack([of(candidates.seen(candidate)) for candidate in x])  # [k, n]
        unsound = _unsound_candidates(rewards, x, marks)
        rewards = step_function(rewards, rewards, _NO_DERIVATIVE)
        if choice == "bradley_terry":
            rewards = rewards + jax.random.gumbel(fold_in(key, k), rewards.shape)
        chosen = x[jnp.argmax(rewards, axis=0), jnp.arange(x.shape[1])]
        if unsound is None:
            return chosen
        if isinstance(unsound, Tracer):
            return mark(chosen, unsound)
        _check_sound(unsound, x[:, unsound], f"reward of best_of({k})", reward, "returned nan")
        return chosen

    return _wrapper(f"best_of({k})", _of_points(curate))


@recorded
def verified(accept: OfPoints, *, cap: int = 100) -> Wrapper:
    """Returns a filter that draws each point again until it is accepted.

    Args:
        accept: x [n, ...] -> [n], booleans, or probabilities of being accepted. A value outside
            [0, 1] ends the run.
        cap: the largest number of draws per point; then the last candidate is kept. If a share a of
            the candidates is accepted, (1 - a)^cap of the points were kept without being accepted.

    Raises:
        InputError: unless cap >= 1 and accept is a function of the points.

    References:
        Feng et al. 2024, arXiv 2406.07515, "Beyond model collapse: scaling up with synthesized
        data requires verification".
    """
    check_arguments("accept", accept, ("x",))
    accepts = functools.partial(_verdicts, "accept of verified", accept)
    return _wrapper("verified", _verified("verified", accepts, cap))


@recorded
def labelled_verifier(
    phi: "float | jax.Array | Callable[[Any], Any]",
    psi: "float | jax.Array | Callable[[Any], Any]",
    correct: OfPoints,
    *,
    cap: int = 100,
) -> Wrapper:
    """Returns a filter that keeps correct points with probability phi and wrong ones with psi.

    A point that is not kept is drawn again, as in `verified`.

    Args:
        phi: probability that a correct point is kept; a number, a traced scalar, or a function of
            the generation.
        psi: probability that a wrong point is kept; the same types.
        correct: x [n, ...] -> bool [n], or the numbers 0 and 1.
        cap: the largest number of draws per point, as in `verified`.

    Raises:
        InputError: for probabilities outside [0, 1] or both 0, and unless cap >= 1.

    References:
        Feng et al. 2024, arXiv 2406.07515 (phi and psi of its verifier).
    """
    check_arguments("correct", correct, ("x",))
    whole("cap", cap, 1)
    name = _named("labelled_verifier", phi=phi, psi=psi)
    of = functools.partial(_labelled, name, correct, cap)
    return _wrapper(name, _filter(of, schedule_of_shares(phi=phi, psi=psi)))


def _labelled(name, correct, cap, phi, psi):
    """The filter of `labelled_verifier`."""
    phi, psi = _shares(phi=phi, psi=psi)
    if not isinstance(phi, Tracer) and not isinstance(psi, Tracer) and phi == psi == 0:
        raise InputError("phi and psi are 0; at least one must be above 0, or no point ever passes")

    def shares(x):
        labels = numbers_of_points(f"correct of {name}", correct, x)
        kept = jnp.where(labels.astype(bool), phi, psi)
        if labels.dtype == bool:
            return kept, None
        unsound = (labels != 0) & (labels != 1)
        _check_sound(unsound, x, f"correct of {name}", correct, "returned values other than 0 or 1")
        return kept, unsound

    # By this name the folders of runs know it.
    shares.__qualname__ = "labelled_verifier.<locals>.shares"
    return _verified(name, shares, cap)


@recorded
def tempered(tau: "float | jax.Array | Callable[[Any], Any]") -> Wrapper:
    """Returns a filter that samples the model at temperature tau (probabilities p^(1 / tau)).

    `jax.grad` with respect to tau works for families whose points are smooth functions of the
    parameters, such as `gaussian`. It does not work for families of discrete points.

    Args:
        tau: a number, a traced scalar, or a function of the generation; values below 1 favour
            likely points. If a traced value is not finite or not above 0, the model is nan.

    Raises:
        InputError: unless tau > 0; when the process is made, for a family without `tempered`.

    References:
        Marchi et al. 2024, arXiv 2404.02325, "Heat death of generative models in closed-loop
        learning".
    """
    name = _named("tempered", tau=_scalar("tau", tau))

    def of(tau):
        if isinstance(tau, Tracer):
            tau = jnp.where(_is_temperature(tau), tau, jnp.nan)
        elif not _is_temperature(number("tau", tau)):
            raise InputError(f"tau is {tau}; it must be finite and above 0")
        return _of_models(name, "tempered", tau)

    schedule = Schedule(("tau",), (tau,), _is_temperature, "finite and above 0")
    return _wrapper(name, _filter(of, schedule))


def _is_temperature(tau):
    return (tau > 0) & (tau < math.inf)


@recorded
def top_p(p: "float | jax.Array | Callable[[Any], Any]") -> Wrapper:
    """Returns a filter that samples only the most probable outcomes of total probability p.

    These are the fewest outcomes whose total probability reaches p. The filtered model is a step
    function of p, so its derivative with respect to p is of no use; use `jax.vmap` over p instead.

    Args:
        p: the probability that is kept (nucleus sampling); a number, a traced scalar, or a function
            of the generation. If a traced value is outside (0, 1], the model is nan.

    Raises:
        InputError: unless 0 < p <= 1; when the process is made, for a family without `nucleus`.

    References:
        Holtzman et al. 2020, arXiv 1904.09751.
    """
    name = _named("top_p", p=_scalar("p", p))

    def of(p):
        if isinstance(p, Tracer):
            p = jnp.where(_is_kept(p), p, jnp.nan)
        elif not _is_kept(number("p", p)):
            raise InputError(f"p is {p}; it must be in (0, 1]")
        return _of_models(name, "nucleus", p)

    return _wrapper(name, _filter(of, Schedule(("p",), (p,), _is_kept, "in (0, 1]")))


def _is_kept(p):
    return (p > 0) & (p <= 1)


@recorded
def detector(
    true_positive: "float | jax.Array | Callable[[Any], Any]",
    false_positive: "float | jax.Array | Callable[[Any], Any]",
) -> Wrapper:
    """Returns a filter that replaces the points which a detector classifies as synthetic.

    They are replaced by other points of the mixture. The effect on `mix(alpha, beta, gamma)` is
    another mix: alpha and gamma are multiplied by the shares of points that pass, and all three are
    then divided by their sum. Points of the previous training set have passed already. Workflows
    without real data after generation 0 do not change.

    Args:
        true_positive: the share of the model's points that are detected; a number, a traced scalar,
            or a function of the generation.
        false_positive: the share of real points that are classified as synthetic; the same types.

    Raises:
        InputError: for shares outside [0, 1], for a mix of which no point passes, or for a mix with
            traced shares.

    References:
        Derived here; after Drayson et al. 2025, "Machine-generated text detection prevents
        language model collapse".
    """
    rates = {"true_positive": true_positive, "false_positive": false_positive}
    name = _named("detector", **rates)
    known = {rate: value for rate, value in rates.items() if not callable(value)}
    rates |= dict(zip(known, _shares(**known), strict=True))
    passing = [_one_minus(rate, value) for rate, value in rates.items()]

    def wrap(workflow):
        if workflow.reweighted is None:
            _refuse_unreached(name, workflow)
            return workflow
        changed = workflow.reweighted(*passing)
        if any(map(callable, rates.values())):
            others = getattr(changed.next, "schedules", ())
            changed.next.schedules = (schedule_of_shares(**rates), *others)
        return changed._replace(name=f"{name}({workflow.name})", filters=workflow.filters)

    return wrap


def _refuse_unreached(name, workflow):
    """Raises `InputError` if a workflow adds real points that a detector cannot be applied to."""
    refuse_around(name, workflow)
    try:
        asked = needs_of(workflow, SIZE_TO_WATCH).asked
    except InputError:  # a process tells what is wrong
        return
    if {"real", "real_and_continued"} & asked:
        raise InputError(
            f"{name} wraps {workflow.name}, to whose real points it cannot be applied; wrap mix, "
            "accumulate or accumulate_subsample instead"
        )


def _one_minus(name, value):
    if callable(value):
        return lambda generation: 1 - value_at(name, value, generation)
    return 1 - value


def _verdicts(name, accept, x):
    """(verdicts [n], whether each is invalid [n]); verdicts are booleans or probabilities."""
    values = numbers_of_points(name, accept, x)
    if values.dtype == bool:
        return values, None
    unsound = ~((values >= -_ROUNDING) & (values <= 1 + _ROUNDING))
    _check_sound(unsound, x, name, accept, "returned values outside [0, 1] or nan")
    return values, unsound


def _verified(name, verdicts, cap):
    """verdicts: x [n, ...] -> as `_verdicts` gives."""
    whole("cap", cap, 1)

    def draw(key, candidates, marks, trial):
        draw_key, accept_key = split(fold_in(key, trial))
        x = candidates(draw_key)
        passes, unsound = verdicts(candidates.seen(x))
        passes = step_function(passes, (x, passes), _NO_DERIVATIVE)
        if passes.dtype != bool:
            passes = jax.random.uniform(accept_key, passes.shape) < passes
        if marks and isinstance(x, Tracer):
            unsound = is_marked(x) if unsound is None else unsound | is_marked(x)
        if not isinstance(unsound, Tracer):
            return x, passes
        # A point without a verdict is not drawn anew, so that its mark is not lost.
        return mark(x, unsound), passes | unsound

    def curate(key, candidates, marks):
        # trial: how many draws there were; x [n, ...]: the newest candidates; passed: bool [n].
        def some_wait(carry):
            trial, _, passed = carry
            return (trial < cap) & ~jnp.all(passed)

        def draw_again(carry):
            trial, x, passed = carry
            other, passes = draw(key, candidates, marks, trial)
            keep = passed.reshape(-1, *[1] * (x.ndim - 1))
            return trial + 1, jnp.where(keep, x, other), passed | passes

        carry = 1, *draw(key, candidates, marks, 0)
        if isinstance(carry[2], Tracer):
            return jax.lax.while_loop(some_wait, draw_again, carry)[1]
        while some_wait(carry):
            carry = draw_again(carry)
        return carry[1]

    return _of_points(curate)


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """Draws candidates: key -> x [n, ...].

    seen: x -> what rewards and verdicts are asked about; a genealogy's labels are left out.
    """

    draw: Callable[[jax.Array], jax.Array]
    seen: Callable[[jax.Array], jax.Array]

    def __call__(self, key: jax.Array) -> jax.Array:
        return self.draw(key)


def _as_they_are(x):
    return x


def _unsound_candidates(rewards, x, marks):
    """[n], for which points a candidate's reward is nan; None where none can be."""
    unsound = None
    if jnp.issubdtype(rewards.dtype, jnp.inexact):
        unsound = jnp.isnan(rewards).any(0)
    if marks and isinstance(x, Tracer):
        marked = jax.vmap(is_marked)(x).any(0)
        return marked if unsound is None else unsound | marked
    return unsound


def _check_sound(unsound, x, name, given, gave):
    """Raises `DivergenceError` for verdicts [n] that are known to be invalid.

    Points that are nan themselves do not count: there the model is at fault.
    """
    if isinstance(unsound, Tracer) or isinstance(x, Tracer) or not bool(unsound.any()):
        return
    if jnp.issubdtype(x.dtype, jnp.inexact) and bool(jnp.isnan(x).any()):
        return
    check_sound(
        unsound, f"{name}, {defined_at(given)}, {gave} for {int(unsound.sum())} of {len(unsound)}"
    )


def _of_points(curate) -> Filter:
    """A filter that chooses among points: curate(key, candidates, marks) -> x [n, ...].

    candidates: `_Candidates`, key -> x [n, ...] of the model.
    marks: whether some of these may be marked, by a wrapper inside.
    """

    def curated(estimator: Estimator) -> Estimator:
        marks, seen = _gives_marks(estimator), getattr(estimator.sample, "seen", _as_they_are)

        def sample(key, params, n):
            draw = _Candidates(lambda key: estimator.sample(key, params, n), seen)
            return curate(key, draw, marks)

        def continued(key, params, x):
            draw = _Candidates(lambda key: estimator.continued(key, params, x), seen)
            return curate(key, draw, marks)

        sample.marks, sample.seen = True, seen

        return estimator._replace(
            sample=sample,
            draw=None,
            **_of_the_family(estimator),
            continued=estimator.continued and continued,
        )

    return curated


def _of_models(name, reshaping, value) -> Filter:
    """A filter that samples another model in place of the newest: its `tempered` or `nucleus`."""

    def curated(estimator: Estimator) -> Estimator:
        reshape = getattr(estimator, reshaping)
        if reshape is None:
            raise InputError(f"{name} needs an estimator with `{reshaping}`; this one has none")

        def of_reshaped(function):
            if function is None:
                return None

            def of_another(key, params, what):
                return function(key, reshape(params, value), what)

            of_another.marks = getattr(function, "marks", False)
            return of_another

        changed = {
            name: of_reshaped(getattr(estimator, name)) for name in ("sample", "draw", "continued")
        }
        return estimator._replace(**_of_the_family(estimator), **changed)

    return curated


def _filter(of: Callable[..., Filter], schedule: Schedule) -> Filter:
    """The filter of(*numbers), whose numbers may be functions of the generation."""

    def at(generation):
        numbers = schedule.at(generation)
        # What a grid traces, drivers look at by its points.
        if not any(isinstance(value, Tracer) for value in (generation, *numbers)):
            schedule.check(np.array(numbers)[:, None], int(generation))
        return of(*numbers)

    def scheduled(estimator):
        return at(1)(estimator)

    scheduled.at = at
    curated: Any = of(*schedule.values) if schedule.is_constant else scheduled
    if any(callable(value) or isinstance(value, jax.Array) for value in schedule.values):
        curated.schedules = (schedule,)
    return curated


def _gives_marks(estimator):
    """Whether points of an estimator may be marked because an inner wrapper has chosen them."""
    return getattr(estimator.sample, "marks", False)


def _of_the_family(estimator):
    """What reshapes a model and tells its densities, whatever is sampled from it."""
    return {name: getattr(estimator, name) for name in ("log_prob", "tempered", "nucleus")}


def _wrapper(name, curated):
    def wrap(workflow: Workflow) -> Workflow:
        refuse_around(name, workflow)
        return workflow._replace(
            name=f"{name}({workflow.name})", filters=(*workflow.filters, curated)
        )

    return wrap


def _shares(**shares: Any) -> list:
    """The shares, which must be in [0, 1]; traced ones that are not are nan."""
    for name, value in shares.items():
        if isinstance(_scalar(name, value), Tracer):
            shares[name] = jnp.where((value >= 0) & (value <= 1), value, jnp.nan)
        elif not 0 <= number(name, value) <= 1:
            raise InputError(f"{name} is {value}; it must be in [0, 1]")
    return list(shares.values())


def _scalar(name, value):
    """The value, which must be one number if it is an array."""
    if isinstance(value, jax.Array | np.ndarray) and value.shape != ():
        raise InputError(f"{name} has shape {list(value.shape)}; it must be one number")
    return value


def _named(wrapper, **values):
    """A wrapper's name with its numbers, where they are known."""
    if any(callable(value) or isinstance(value, Tracer) for value in values.values()):
        return wrapper
    texts = [f"{number(name, value):g}" for name, value in values.items()]
    return f"{wrapper}({', '.join(texts)})"
