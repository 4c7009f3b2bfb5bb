"""The contract of estimators: `cj.check_estimator(factory)`."""

import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.protocols import Params
from collapse_jax.core.types import Estimator, Workflow
from collapse_jax.drivers.checks import check_names, passed_checks, speaker
from collapse_jax.drivers.contract_checks import (
    CHECKS,
    KEY,
    NEED_TRACING,
    RUNS_UNDER,
    TOLERANT,
    WORKFLOWS,
    runs_under,
)
from collapse_jax.drivers.contract_subject import Subject
from collapse_jax.errors import InputError, first_line, function, made_by, one_of, real


def check_estimator(
    factory: Callable[[], Estimator] | None,
    *,
    example: Callable[[], tuple[Estimator, Params]] | None = None,
    skip: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    rtol: float | None = None,
    workflows: Iterable[str | Workflow] | None = None,
    verbose: bool | Callable[[str], object] | None = None,
) -> tuple[str, ...]:
    """Checks an estimator against the contract that all built-in families satisfy.

    The checks are is_pure, compiles_once, vmaps, survives_collapse, recovers_known_parameters,
    statistics_add, draws_its_statistics, same_in_both_drivers, runs_under_mix,
    runs_under_accumulate and runs_under_accumulate_subsample; docs/contract.md describes each. For
    families that fit on the host (traceable=False), checks that need tracing are left out.

    Args:
        factory: () -> Estimator.
        example: () -> (estimator, params), with known parameters. Without it, the factory is called
            without arguments and fitted to 1,000 standard normal numbers, so that its points must
            be [n].
        skip: names of checks that do not apply. For example, a kernel density estimate does not
            recover its parameters.
        only: names of the checks to run; by default all.
        rtol: the largest difference of metrics between two programs that compute the same, relative
            to max(1, |metric|); by default 1e-3. A larger value is needed if rounding decides a
            fit, as on a flat likelihood.
        workflows: the workflows under which the family is run, instead of the three runs_under
            checks and in addition to those of `only`: "mix", "accumulate", "accumulate_subsample",
            or your own workflows. () runs none of these checks.
        verbose: whether to print a line with the time of each check when it ends; or a function
            that is called with that line. By default it is printed in a terminal or a notebook.

    Returns:
        The names of the checks that passed.

    Raises:
        AssertionError: with one line for each check that fails.
        InputError: for an unknown check in `skip` or `only`, an unknown workflow, workflows for a
            family that runs on the host, an invalid rtol, or a factory that does not return an
            estimator.
    """
    skip, only, say = _known(skip, "skip"), _known(only, "only"), speaker(verbose)
    under = None if workflows is None else _runs_of(workflows)
    tolerance = {} if rtol is None else {"tolerance": real("rtol", rtol, above=0)}
    subject = Subject(*example()) if example is not None else _of_normal_numbers(factory)
    if not subject.estimator.traceable:
        skip += NEED_TRACING
        if under:
            raise InputError(
                f"workflows is {workflows!r:.200}, but a family that is not traceable is not run "
                "under workflows here; leave it out"
            )
    try:
        return passed_checks("estimator", _chosen(skip, only, under, tolerance), subject, say)
    except AssertionError as error:
        if example is not None:
            raise
        raise AssertionError(f"{error}\n{_OF_NORMAL_NUMBERS}") from None


def _chosen(skip, only, under, tolerance):
    """Name -> check of those to run; under: name -> check in the place of runs_under ones."""
    chosen = {
        name: functools.partial(check, **tolerance) if name in TOLERANT else check
        for name, check in CHECKS.items()
        if name not in skip
        and (not only or name in only)
        and (under is None or not name.startswith(RUNS_UNDER))
    }
    return chosen | (under or {})


def _runs_of(given):
    """Name -> check, of the names of workflows, or of workflows."""
    found = {}
    for one in [given] if isinstance(given, str | Workflow) else given:
        if isinstance(one, str):
            names = ", ".join(WORKFLOWS)
            one_of("workflows", one, tuple(WORKFLOWS), must_be=f"made of {names}, or a Workflow")
            found[RUNS_UNDER + one] = CHECKS[RUNS_UNDER + one]
        else:
            made_by("workflows", one, Workflow, "one of cj.workflows")
            found[RUNS_UNDER + one.name] = functools.partial(runs_under, lambda one=one: one)
    return found


def _known(names, argument):
    """Names of checks by their present names, or `InputError`."""
    given = (names,) if isinstance(names, str) else tuple(names)
    found = tuple(_OLD_NAMES.get(name, name) for name in given)
    check_names(found, CHECKS, argument)
    return found


def _of_normal_numbers(factory):
    made = function("factory", factory)()
    estimator = made_by("factory()", made, Estimator, "cj.estimator")
    x = jax.random.normal(KEY, (1000,))
    try:
        held = None if estimator.check is None else estimator.check(np.asarray(x))
        x = x if held is None else jnp.asarray(held)
        data = estimator.summarise(x, jnp.ones(1000))
        params, _ = estimator.fit(KEY, estimator.init(KEY, data), data)
    except Exception as error:
        raise InputError(
            f"the estimator cannot be fitted to points [n] ({type(error).__name__}: "
            f"{first_line(error)}); pass example="
        ) from error
    return Subject(estimator, params)


_OF_NORMAL_NUMBERS = (
    "the parameters were fitted to 1,000 standard normal numbers, half of them negative: are "
    "points outside the family's range? pass example="
)
# What version 0.1.0 called these checks.
_OLD_NAMES = {
    "evidence_adds": "statistics_add",
    "draws_its_evidence": "draws_its_statistics",
}
