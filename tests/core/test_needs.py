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


def test_a_workflow_that_fails_is_one_line():
    workflow = Workflow("looks inside", lambda supply, data: data.counts, lambda *_: None)
    with pytest.raises(InputError, match=r"looks inside fails .*no attribute 'counts'"):
        generational_process(
            categorical(3), sources.categorical([0.5, 0.3, 0.2]), workflow, sample_size=4
        )


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
