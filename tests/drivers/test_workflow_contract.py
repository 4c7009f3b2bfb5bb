"""Our workflows and curations keep their contract; broken ones are found out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import curation, workflows
from collapse_jax.core.types import Workflow
from collapse_jax.drivers.workflow_contract import CHECKS, Subject, _normal, check_workflow
from collapse_jax.errors import InputError
from collapse_jax.estimators import verifiers
from collapse_jax.estimators.categorical import example as categorical_example
from collapse_jax.estimators.gaussian import example as gaussian_example

pytestmark = pytest.mark.usefixtures("quick_compile")
OURS = {
    "replace": workflows.replace(),
    "accumulate": workflows.accumulate(),
    "accumulate_subsample": workflows.accumulate_subsample(),
    "mix": workflows.mix(0.5, 0.25, 0.25),
    "rounded mix": workflows.mix(0.5, 0.25, 0.25, random_counts=False),
    "best_of": curation.best_of(2, lambda x: -(x**2)),
    "verified": curation.verified(lambda x: x > -1),
    "scheduled mix": workflows.mix(gamma=lambda g: jnp.asarray(g, float) ** -0.7),
    "scheduled real batches": workflows.accumulate(lambda g: 0.5 / jnp.asarray(g, float)),
    "real batches": workflows.accumulate_subsample(0.3),
    "keep_real": workflows.keep_real(1.0),
    "planned": workflows.planned([6, 3, 0]),
    "planned pool": workflows.planned([6, 3, 0], workflow="accumulate"),
    "switch": workflows.switch({0: workflows.replace(), 2: workflows.mix(gamma=0.3)}),
    "contaminated": workflows.contaminated(workflows.mix(gamma=0.5), 0.5, lag=2),
    "weighted": workflows.weighted(workflows.mix(gamma=0.3), synthetic=0.5),
    "centred": verifiers.centred(2.0, refresh=0.3),
    "logistic": verifiers.logistic(examples=8),
}
# A temperature is of families that have one.
COOLING = curation.tempered(lambda g: jnp.maximum(1 - 0.05 * g, 0.5))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "mix" else pytest.mark.slow) for name in OURS],
)
def test_our_workflows_and_curations_pass(name):
    assert check_workflow(OURS[name]) == tuple(CHECKS)


@pytest.mark.slow
def test_a_scheduled_curation_passes():
    assert check_workflow(COOLING, example=categorical_example) == tuple(CHECKS)


@pytest.mark.parametrize("name", ["switch"])
def test_wrappers_and_schedules_keep_their_keys_apart(name):
    """The checks that compile nothing, of one; the slow tests ask for all, of all."""
    few = ("is_pure", "keys_matter", "keys_are_apart", "structure_stays")
    rest = tuple(check for check in CHECKS if check not in few)
    assert check_workflow(OURS[name], skip=rest) == few


@pytest.mark.slow
@pytest.mark.parametrize("example", [categorical_example, gaussian_example])
def test_workflows_pass_over_families_with_laws(example):
    assert check_workflow(workflows.mix(0.5, 0.25, 0.25), example=example) == tuple(CHECKS)


def nothing(supply, data):
    return ()


def as_given(supply, data):
    return data


def pythons_own_randomness(key, carry, supply, n):
    return (), supply.model(jax.random.fold_in(key, np.random.randint(2**30)), n)


def one_key_for_all(key, carry, supply, n):
    return (), supply.model(jax.random.key(0), n)


def one_key_twice(key, carry, supply, n):
    return (), supply.merge(supply.model(key, n - 4), supply.real(key, 4))


def pooled_without_a_reserve(key, pool, supply, n):
    pool = supply.merge(pool, supply.model(key, n))
    return pool, pool


def of_random_size(key, carry, supply, n):
    return (), supply.model(key, jax.random.randint(key, (), 1, n))


def looks_at_numbers(key, count, supply, n):
    if int(count) % 2:
        return count + 1, supply.model(key, n)
    return count + 1, supply.model(key, n)


def divides_by_zero(key, carry, supply, n):
    data = supply.model(key, n)
    return (), data._replace(x=data.x * (jnp.zeros(()) / jnp.zeros(())))


def keeps_its_key(key, carry, supply, n):
    return key, supply.model(carry, n)


def of_one_size(key, carry, supply, n):
    return (), supply.model(key, int(n))


BROKEN = {
    "Python's own randomness": (
        nothing,
        pythons_own_randomness,
        "is_pure",
        "again with the same key",
    ),
    "one key for all": (
        nothing,
        one_key_for_all,
        "keys_matter",
        "two keys give the same training set",
    ),
    "one key twice": (nothing, one_key_twice, "keys_are_apart", "model and real are called"),
    "a key in the carry": (
        lambda supply, data: jax.random.key(3),
        keeps_its_key,
        "keys_are_apart",
        "the carry contains a random key",
    ),
    "a pool without space": (
        as_given,
        pooled_without_a_reserve,
        "structure_stays",
        "another structure",
    ),
    "a random size": (
        nothing,
        of_random_size,
        "sizes_do_not_depend_on_the_key",
        "three keys give training sets of",
    ),
    "looks at numbers": (
        lambda supply, data: jnp.asarray(0),
        looks_at_numbers,
        "chains_are_each_alone",
        "trace",
    ),
    "0 / 0": (nothing, divides_by_zero, "holds_no_nan", "nan"),
    "one size only": (nothing, of_one_size, "follows_a_schedule", "trace"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_workflows_are_found_out(name):
    init, next_set, check, message = BROKEN[name]
    with pytest.raises(Exception, match=f"(?i){message}"):
        CHECKS[check](Subject(Workflow(name, init, next_set), *_normal()))
    CHECKS[check](Subject(workflows.mix(0.5, 0.25, 0.25), *_normal()))


def test_all_failures_are_told_at_once():
    broken = Workflow("broken", nothing, one_key_for_all)
    slow = tuple(name for name in CHECKS if name not in ("is_pure", "keys_matter"))
    with pytest.raises(AssertionError, match=r"the workflow breaks its contract\nkeys_matter: "):
        check_workflow(broken, skip=slow)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_workflow(5), "workflow is 5"),
        (lambda: check_workflow(lambda workflow: 5), "workflow(replace()) is 5"),
        (lambda: check_workflow(workflows.replace(), skip=("all",)), "skip has 'all'"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert message in str(error.value)


def test_a_reward_with_randomness_of_its_own_is_found():
    wrapper = curation.best_of(2, lambda x: x + np.random.normal(size=len(x)))
    with pytest.raises(AssertionError, match="when made again with the same key"):
        CHECKS["is_pure"](Subject(wrapper(workflows.replace()), *_normal()))


@pytest.mark.parametrize(
    ("workflow", "example", "words"),
    [
        (workflows.replace, None, ["workflow is called with (workflow)", "replace (line"]),
        (curation.best_of, None, ["workflow is called with (workflow)", "reward"]),
        (lambda flow: 3, None, ["workflow(replace()) is 3", "cj.Workflow"]),
        (3, None, ["workflow is 3"]),
        (workflows.replace(), 3, ["example is 3", "function"]),
        (workflows.replace(), lambda key: key, ["example is called with ()"]),
        (workflows.replace(), lambda: 3, ["example, ", "gave 3", "(estimator, params)"]),
    ],
)
def test_what_cannot_be_checked_is_one_line(workflow, example, words):
    with pytest.raises(InputError) as caught:
        check_workflow(workflow, example=example)
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


def nearest_half(workflow, *, shuffled):
    """Keeps the points nearest to the median; sorted, unless they are shuffled."""

    def curated(family):
        def sample(key, params, n):
            draw, order = jax.random.split(key)
            x = family.sample(draw, params, 2 * n)
            nearest = jnp.argsort(jnp.abs(x - jnp.median(x)))[:n]
            return x[jax.random.permutation(order, nearest) if shuffled else nearest]

        return family._replace(sample=sample)

    return workflow._replace(filters=(*workflow.filters, curated))


ORDER = "points_are_in_random_order"
BUT_ORDER = tuple(check for check in CHECKS if check != ORDER)


def test_curated_points_must_be_in_random_order():
    mix = workflows.mix(gamma=0.5)
    for curated in (OURS["best_of"], OURS["verified"]):
        assert check_workflow(curated, skip=BUT_ORDER) == (ORDER,)
    assert check_workflow(nearest_half(mix, shuffled=True), skip=BUT_ORDER) == (ORDER,)
    with pytest.raises(AssertionError, match=r"distances from their median than .* shuffle"):
        check_workflow(nearest_half(mix, shuffled=False), skip=BUT_ORDER)
    upwards = lambda family: family._replace(  # noqa: E731
        sample=lambda key, params, n: jnp.sort(family.sample(key, params, n))
    )
    with pytest.raises(AssertionError, match="has other values than"):
        check_workflow(mix._replace(filters=(upwards,)), skip=BUT_ORDER)
