"""Every registered family keeps the contract; broken estimators are found out."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core.factory import estimator
from collapse_jax.core.types import FitInfo
from collapse_jax.drivers import contract
from collapse_jax.drivers.contract import check_estimator
from collapse_jax.drivers.contract_checks import CHECKS, NEED_TRACING
from collapse_jax.drivers.contract_subject import Subject
from collapse_jax.errors import InputError
from collapse_jax.estimators.gaussian import example as gaussian_example
from collapse_jax.estimators.registry import families

pytestmark = pytest.mark.usefixtures("quick_compile")
# What does not apply to a family, and why.
EXEMPT = {
    "kde": {"recovers_known_parameters": "the kernel widens every sample"},
    "vae": {
        "recovers_known_parameters": "a net that is trained for a few steps is not the one "
        "that made its images"
    },
    **{
        name: {
            "recovers_known_parameters": "a net that is trained for a few steps is not the one "
            "that made its points"
        }
        for name in ("diffusion", "flow_matching", "normalizing_flow")
    },
    "ngram": {
        "recovers_known_parameters": "its metrics are those of a training set, whose blocks end "
        "where no transition is counted"
    },
}
# Each compiles programs more for every family; what both drivers and `mix` do fails as well where
# most of these would.
SLOW = ("compiles_once", "vmaps", "runs_under_accumulate", "runs_under_accumulate_subsample")
# What takes longest, in the families that it takes longest in, or that are made as another one is.
SLOW_IN = {
    name: ("same_in_both_drivers", "runs_under_mix")
    for name in (
        *("gmm", "ngram", "vae", "kde", "logistic_regression", "poisson"),
        *("poisson_regression", "empirical"),
    )
}
SLOW_IN |= {
    name: ("same_in_both_drivers",)
    for name in ("bernoulli", "exponential", "pareto", "uniform", "gaussian_mean")
}
SLOW_IN["gmm"] += ("is_pure",)
# Made of another family's functions, or of programs whose laws their own tests look at.
SLOW_IN |= {
    name: tuple(CHECKS)
    for name in ("dirichlet_multinomial", "normal_inverse_gamma", "student_t", "gaussian_copula")
}
# All three are made in `estimators/learned.py`: one of them stands for the others.
SLOW_IN |= {name: tuple(CHECKS) for name in ("flow_matching", "normalizing_flow")}
SLOW_IN["diffusion"] = ("same_in_both_drivers", "runs_under_mix", "is_pure")
FAMILIES = {name: family for name, family in families().items() if family.example is not None}


@pytest.fixture(scope="module")
def subjects():
    """Name -> `Subject`, each made once."""
    made = {}

    def subject(name):
        if name not in made:
            made[name] = Subject(*FAMILIES[name].example())
        return made[name]

    return subject


def is_slow(name, check):
    return check in SLOW or check in SLOW_IN.get(name, ())


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(name, check, marks=pytest.mark.slow if is_slow(name, check) else ())
        for name in FAMILIES
        for check in CHECKS
    ],
)
def test_family_keeps_the_contract(name, check, subjects):
    if check in EXEMPT.get(name, {}):
        pytest.skip(EXEMPT[name][check])
    if check in NEED_TRACING and not subjects(name).estimator.traceable:
        pytest.skip("fits on the host")
    CHECKS[check](subjects(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_family_says_what_it_is_and_where_it_comes_from(name):
    text = FAMILIES[name].factory.__doc__
    assert text.splitlines()[0].endswith((".", ":")) and "References:" in text
    assert "Raises" in text or not inspect.signature(FAMILIES[name].factory).parameters


def test_a_newcomers_estimator_passes(laplace):
    assert (
        check_estimator(
            lambda: laplace, skip=tuple(name for name in CHECKS if name.startswith("runs"))
        )[0]
        == "is_pure"
    )


def normal(**changes):
    """A Gaussian on the line by its moments, of which single parts can be broken."""

    def fit(key, params, data):
        mean = jnp.average(data.x, weights=data.weight)
        return jnp.stack(
            [mean, jnp.sqrt(jnp.average((data.x - mean) ** 2, weights=data.weight))]
        ), FitInfo.exact()

    def sample(key, params, n):
        return params[0] + params[1] * jax.random.normal(key, (n,))

    parts = {"fit": fit, "sample": sample} | changes
    return estimator(parts.pop("fit"), parts.pop("sample"), **parts)


calls = iter(range(10**6))


def unweighted(key, params, data):
    return jnp.stack([data.x.mean(), data.x.std()]), FitInfo.exact()


def too_narrow(key, params, data):
    mean = jnp.average(data.x, weights=data.weight)
    return jnp.stack(
        [mean, 0.8 * jnp.sqrt(jnp.average((data.x - mean) ** 2, weights=data.weight))]
    ), FitInfo.exact()


def dividing(key, params, data):
    fitted, info = normal().fit(key, params, data)
    return fitted.at[1].set(fitted[1] ** 2 / fitted[1]), info


def growing(key, params, data):
    fitted, info = normal().fit(key, params, data)
    return (
        fitted
        if params is None
        else fitted.astype(jnp.float16 if params.dtype == jnp.float32 else jnp.float32)
    ), info


def from_other_key(key, params, n):
    return (
        jnp.sort(normal().sample(key, params, n))
        if n < 1000
        else 2 * normal().sample(key, params, n)
    )


def impure(key, params, n):
    return normal().sample(jax.random.fold_in(key, next(calls)), params, n)


def in_batches_only(key, params, data):
    return normal().fit(key, params, data._replace(x=data.x + np.asarray(data.x).sum() * 0))


def wrong_draw(key, params, n):
    estimator = normal()
    return estimator.summarise(1.5 * estimator.sample(key, params, n), jnp.ones(n))


BROKEN = {
    "unweighted": (normal(fit=unweighted), "statistics_add", "with empty slots"),
    "too narrow": (normal(fit=too_narrow), "recovers_known_parameters", "variance is 0.6"),
    "0 / 0": (normal(fit=dividing), "survives_collapse", "is nan"),
    "other types": (normal(fit=growing), "compiles_once", "compiled"),
    "other samples for large n": (
        normal(sample=from_other_key),
        "recovers_known_parameters",
        "after a fit to 4096 points",
    ),
    "impure": (normal(sample=impure), "is_pure", "other points when called again"),
    "on the host": (normal(fit=in_batches_only), "vmaps", "Tracer"),
    "wrong data": (normal(draw=wrong_draw), "draws_its_statistics", "another distribution"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_estimators_are_found_out(name):
    broken, check, message = BROKEN[name]
    subject = Subject(broken, jnp.array([0.5, 1.0]))
    with pytest.raises(Exception, match=message):
        CHECKS[check](subject)
    CHECKS[check](Subject(normal(), jnp.array([0.5, 1.0])))


def test_all_failures_are_told_at_once(monkeypatch):
    monkeypatch.setattr(
        contract,
        "CHECKS",
        {name: CHECKS[name] for name in ("is_pure", "statistics_add", "recovers_known_parameters")},
    )
    broken = normal(fit=unweighted, sample=impure)
    with pytest.raises(AssertionError, match=r"breaks its contract\nis_pure: .*\nstatistics_add: "):
        check_estimator(None, example=lambda: (broken, jnp.array([0.5, 1.0])))
    passed = check_estimator(
        None,
        example=lambda: (normal(fit=unweighted), jnp.array([0.5, 1.0])),
        skip=("evidence_adds",),  # as version 0.1.0 called it
    )
    assert passed == ("is_pure", "recovers_known_parameters")


def test_host_families_are_held_against_what_needs_no_tracing():
    host = normal(
        traceable=False,
        init=lambda key, data: jnp.zeros(2),
        metrics={"location": lambda params: params[0]},
    )
    passed = check_estimator(None, example=lambda: (host, jnp.array([0.5, 1.0])))
    assert passed == tuple(name for name in CHECKS if name not in NEED_TRACING)


def test_bad_input():
    with pytest.raises(
        InputError, match="skip has 'everything'; it must be made of is_pure, compiles_once"
    ):
        check_estimator(None, example=gaussian_example, skip=("everything",))
    with pytest.raises(InputError, match=r"cannot be fitted to points \[n\] .*pass example="):
        check_estimator(lambda: gaussian_example()[0])


def test_the_line_of_a_collapse_that_fails_reproduces_it():
    broken, params = normal(fit=dividing), jnp.array([0.5, 1.0])
    with pytest.raises(AssertionError, match="weight is 1 in the first of 24 slots") as caught:
        CHECKS["survives_collapse"](Subject(broken, params))
    line = str(caught.value).partition("those of example(); ")[2]
    names = {"jax": jax, "jnp": jnp, "estimator": broken, "params": params}
    exec(line, names)
    assert np.isnan(names["model"]).any()
    assert float(names["weight"].sum()) == 1


def test_without_an_example_a_failure_asks_for_the_range():
    with pytest.raises(AssertionError, match=r"outside the family's range\? pass example="):
        check_estimator(lambda: normal(fit=dividing), only=("survives_collapse",))
