"""What a workflow needs is seen from what it asks of its supply."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import curation, workflows
from collapse_jax.core.needs import needs_of
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Workflow
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.estimators.gaussian import gaussian

KEY = jax.random.key(5)
NAMES = ("earlier_points", "whole_history", "continuation", "random_counts", "only_model")


@pytest.mark.parametrize(
    ("workflow", "needed"),
    [
        (workflows.replace(), {"only_model"}),
        (workflows.accumulate(), {"whole_history"}),
        (workflows.accumulate_subsample(), {"earlier_points", "whole_history"}),
        (workflows.mix(0.5, 0.3, 0.2), {"earlier_points", "random_counts"}),
        (workflows.mix(0.5, 0.3, 0.2, random_counts=False), {"earlier_points"}),
        (workflows.mix(0.5, 0, 0.5), {"random_counts"}),
        (workflows.mix(1, 0, 0), {"only_model", "random_counts"}),
        (workflows.keep_or_continue(0.5), {"continuation"}),
        (workflows.keep_or_continue(0.5, beta=0.5), {"continuation", "earlier_points"}),
        (curation.tempered(0.5)(workflows.replace()), {"only_model"}),
    ],
    ids=lambda value: value.name if isinstance(value, Workflow) else "",
)
def test_needs_are_observed(workflow, needed):
    needs = needs_of(workflow, 8)
    assert {name for name in NAMES if getattr(needs, name)} == needed
    assert needs.fits_history == (workflow.name == "accumulate")


def test_traced_shares_are_observed_inside_a_trace():
    def random(gamma):
        needs = needs_of(workflows.mix(1 - gamma, 0.0, gamma), 8)
        return jnp.asarray(needs.random_counts and not needs.only_model)

    assert jax.jit(random)(jnp.asarray(0.25))


def test_a_workflow_of_a_host_family_may_look_at_what_it_draws():
    def next_set(key, carry, supply, n):
        count = int(jax.random.randint(key, (), 1, n))
        return (), supply.merge(supply.model(key, count), supply.real(key, n - count))

    needs = needs_of(Workflow("host", lambda supply, data: (), next_set), 8)
    assert needs.asked == {"model", "real", "merge"} and not needs.random_counts


def later_than_first(ask):
    """A workflow that asks for something else from its third set on."""

    def next_set(key, count, supply, n):
        if int(count) >= 2:
            return count + 1, ask(key, supply, n)
        return count + 1, supply.model(key, n)

    return Workflow("changes its mind", lambda supply, data: np.zeros((), int), next_set)


@pytest.mark.parametrize("name", ["real", "reserve"])
def test_what_is_asked_late_is_one_line(name):
    asks = {
        "real": lambda key, supply, n: supply.real(key, n),
        "reserve": lambda key, supply, n: supply.reserve(supply.model(key, n)),
    }
    process = generational_process(
        gaussian(1), sources.normal([0.0], [[1.0]]), later_than_first(asks[name]), sample_size=4
    )
    state, _ = process.init(jax.random.key(0))
    for _ in range(2):
        state, _ = process.step(jax.random.key(1), state)
    with pytest.raises(InputError, match=f"changes its mind asks its supply for `{name}`"):
        process.step(jax.random.key(1), state)


def test_a_mix_of_the_model_alone_sheds_dead_categories_as_replace_does():
    source = sources.categorical(np.full(4, 1 / 4))
    for workflow in (workflows.replace(), workflows.mix(1, 0, 0)):
        process = generational_process(categorical(4), source, workflow, sample_size=6)
        assert process.runtime.compaction is not None


def test_space_that_is_reserved_too_late_is_one_line(laplace):
    def next_set(key, carry, supply, n):
        return (), supply.append(supply.reserve(supply.model(key, n)), supply.real(key, n))

    workflow = Workflow("late", lambda supply, data: (), next_set)
    process = generational_process(
        laplace, sources.dataset(np.arange(9.0)), workflow, sample_size=4
    )
    state, _ = process.init(jax.random.key(0), last_generation=2)
    with pytest.raises(InputError, match="reserves space in its init"):
        process.step(jax.random.key(1), state)


def chain_of(process, generations=6):
    """The models of one chain, step by step and under `simulate`."""
    state, _ = process.init(jax.random.fold_in(KEY, 0), last_generation=generations)
    step, means = jax.jit(process.step), []
    for generation in range(1, generations + 1):
        state, _ = step(jax.random.fold_in(KEY, generation), state)
        means.append(float(process.metrics["mean"](state.params)))
    return means


def test_a_workflow_that_changes_the_models_data_keeps_every_category():
    """Data that is not the very data of the model may revive categories that had died out."""

    def rolled(key, carry, supply, n):
        return (), jax.tree.map(lambda leaf: jnp.roll(leaf, 1), supply.model(key, n))

    workflow = Workflow("rolled", lambda supply, data: (), rolled)
    assert not needs_of(workflow, 20).only_model
    process = generational_process(
        categorical(200), sources.categorical(np.full(200, 1 / 200)), workflow, sample_size=20
    )
    assert process.runtime.compaction is None


def test_branches_may_give_a_set_or_the_history():
    def next_set(key, carry, supply, n):
        count, pool = carry
        new = supply.model(key, n)
        pool = supply.append(pool, new)
        return (count + 1, pool), jax.lax.cond(count < 2, lambda: pool, lambda: new)

    workflow = Workflow(
        "accumulate at first", lambda supply, data: (jnp.zeros((), int), data), next_set
    )
    for family, source in (
        (gaussian(1), sources.normal([0.0], [[1.0]])),
        (categorical(5), sources.categorical(np.full(5, 1 / 5))),
    ):
        process = generational_process(family, source, workflow, sample_size=10)
        assert np.isfinite(chain_of(process, 4)).all()


@pytest.mark.parametrize("family", [gaussian(1), categorical(5)], ids=["gaussian", "categorical"])
def test_a_workflow_may_look_into_its_familys_data(family):
    def next_set(key, carry, supply, n):
        data = supply.model(key, n)
        field = "mean" if "mean" in data._fields else "counts"
        more = jax.tree.map(lambda leaf: leaf + 1, getattr(data, field))
        return (), data._replace(**{field: more})

    source = (
        sources.normal([0.0], [[1.0]])
        if "mean" in family.statistics.kind._fields
        else sources.categorical(np.full(5, 1 / 5))
    )
    workflow = Workflow("shifted", lambda supply, data: (), next_set)
    process = generational_process(family, source, workflow, sample_size=50)
    assert process.runtime.compaction is None
    assert np.isfinite(chain_of(process, 3)).all()


def test_points_may_be_looked_into_as_well(laplace):
    def top_half(key, carry, supply, n):
        data = supply.model(key, n)
        order = jnp.argsort(data.x[:, None][:, 0])
        return (), data._replace(weight=data.weight.at[order[: n // 2]].set(0))

    workflow = Workflow("top half", lambda supply, data: (), top_half)
    process = generational_process(
        laplace, sources.dataset(np.arange(20.0)), workflow, sample_size=10
    )
    assert min(chain_of(process, 3)) > 12


BROKEN = {
    "no pair": (lambda supply, data: (), lambda *_: None, "next gave NoneType"),
    "no data": (lambda supply, data: (), lambda *_: ((), 3), "next gave int as the data"),
    "a key": (
        lambda supply, data: jax.random.key(1),
        lambda *_: None,
        "the carry contains a random key",
    ),
    "too early": (
        lambda supply, data: supply.model(jax.random.key(0), 3),
        lambda *_: None,
        "init asks for `model`",
    ),
    "misspelt": (lambda supply, data: (), lambda *_: nowhere, "NameError"),  # noqa: F821
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_workflows_are_one_line(name):
    init, next_set, message = BROKEN[name]
    with pytest.raises(InputError, match=message) as error:
        generational_process(
            gaussian(1),
            sources.normal([0.0], [[1.0]]),
            Workflow(name, init, next_set),
            sample_size=4,
        )
    assert name in str(error.value)


def test_a_pool_without_space_is_one_line(laplace):
    def next_set(key, pool, supply, n):
        pool = supply.append(pool, supply.model(key, n))
        return pool, pool

    workflow = Workflow("no space", lambda supply, data: data, next_set)
    with pytest.raises(InputError, match="appends to a pool without space"):
        generational_process(laplace, sources.dataset(np.arange(9.0)), workflow, sample_size=4)


def test_the_flags_of_version_0_1_0_are_one_line():
    with pytest.raises(InputError, match="grows is not an argument any more"):
        Workflow("old", lambda supply, data: (), lambda *_: None, grows=True)
    with pytest.raises(InputError, match="filters is True"):
        Workflow("old", lambda supply, data: (), lambda *_: None, True, True)
