"""No ability outlives the function that vouched for it."""

import copy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import FitInfo
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import CategoricalParams, categorical
from collapse_jax.estimators.gaussian import gaussian

KEY = jax.random.key(11)
SIZE = 40


def reviving_fit(key, params, data):
    """Every category that is listed has a weight again: add-one smoothing."""
    return CategoricalParams(data.counts + 1, data.categories), FitInfo.exact()


def test_a_fit_that_revives_categories_meets_all_of_them():
    family = categorical(SIZE)._replace(fit=reviving_fit)
    source = sources.categorical(np.full(SIZE, 1 / SIZE))
    process = generational_process(family, source, workflows.replace(), sample_size=6)
    trace = simulate(process, KEY, generations=8, chains=3, metrics=["support"])
    np.testing.assert_array_equal(trace["support"], SIZE)


@pytest.mark.parametrize(
    ("part", "gone"),
    [
        ({"fit": reviving_fit}, {"compaction"}),
        ({"init": lambda key, data: None}, {"compaction"}),
        (
            {"sample": lambda key, params, n: jnp.zeros(n, jnp.int32)},
            {"draw", "log_prob", "tempered", "nucleus", "compaction"},
        ),
        ({"draw": lambda key, params, n: None}, {"compaction"}),
        ({"kind": tuple}, {"draw", "subsample", "compaction"}),
        ({"summarise": lambda x, weight: None}, {"draw", "subsample", "compaction"}),
        ({"metrics": {}}, set()),
    ],
    ids=lambda value: next(iter(sorted(value)), "nothing"),
)
def test_what_a_part_vouched_for_goes_with_it(part, gone):
    family = categorical(3)
    abilities = {"draw", "subsample", "log_prob", "tempered", "nucleus", "compaction"}
    assert all(getattr(family, name) is not None for name in abilities)
    changed = family._replace(**part)
    left = {name for name in abilities if getattr(changed, name) is not None}
    assert left == abilities - gone
    for name, value in part.items():
        assert getattr(changed, name, changed.statistics.kind) is value


def test_what_is_given_in_the_same_call_stays():
    family = categorical(3)
    changed = family._replace(
        fit=reviving_fit,
        sample=family.sample,
        draw=family.draw,
        compaction=family.compaction,
    )
    assert changed.draw is family.draw and changed.compaction is family.compaction


def test_a_group_is_held_to_the_same_as_its_parts():
    """What comes back unchanged within a group was not given again."""
    family = gaussian(1)
    doubled = family.statistics._replace(summarise=lambda x, w: family.summarise(2 * x, w))
    assert family._replace(statistics=doubled).draw is None
    assert family._replace(model=family.model, sample=family.sample).log_prob is None
    both = {"model": family.model, "log_prob": None}
    assert all(
        family._replace(**dict(order)).log_prob is None
        for order in (both.items(), reversed(both.items()))
    )
    assert family._replace(statistics=family.statistics).draw is family.draw


def test_default_moments_follow_another_sample(laplace):
    moved = laplace._replace(sample=lambda key, params, n: 5 + laplace.sample(key, params, n))
    params, _ = laplace.fit(KEY, None, laplace.summarise(jnp.arange(4.0), jnp.ones(4)))
    before, after = (family.metrics["mean"](params) for family in (laplace, moved))
    np.testing.assert_allclose(after, before + 5, rtol=1e-5)


def test_a_source_with_another_sample_has_no_law():
    source = sources.normal([0.0], [[1.0]])
    other = source._replace(sample=lambda key, n: jnp.ones((n, 1)))
    assert (other.draw, other.params) == (None, None)
    process = generational_process(gaussian(1), other, workflows.replace(), sample_size=3)
    assert float(process.init(KEY)[0].params.mean[0]) == 1


def test_a_source_with_another_law_is_not_that_of_its_params():
    source = sources.normal([0.0], [[1.0]])
    assert source._replace(draw=lambda key, n: None).params is None


def test_the_parts_of_a_process_are_not_exchanged():
    source = sources.normal([0.0], [[1.0]])
    process = generational_process(gaussian(1), source, workflows.replace(), sample_size=3)
    with pytest.raises(InputError, match=r"call cj\.generational_process with the new"):
        process._replace(parts=process.parts._replace(sample_size=5))


def test_a_process_with_another_step_keeps_every_category():
    source = sources.categorical(np.full(4, 1 / 4))
    process = generational_process(categorical(4), source, workflows.replace(), sample_size=6)
    assert process.runtime.compaction is not None
    assert process._replace(step=process.step).runtime.compaction is None


def test_a_workflow_with_another_next_is_no_mixture():
    mix = workflows.mix(0.5, 0, 0.5)
    assert mix.reweighted is not None
    assert mix._replace(next=workflows.replace().next).reweighted is None
    assert mix._replace(name="mine").reweighted is mix.reweighted


@pytest.mark.skipif(sys.version_info < (3, 13), reason="copy.replace came with Python 3.13")
def test_copy_replace_drops_as_well():
    assert copy.replace(categorical(3), fit=reviving_fit).compaction is None
