"""`cj.simulate_grid`: each point as it is alone, what is traced, labels, and what is refused."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate_grid import _programs
from collapse_jax.drivers.traced_axes import is_plain, traceable_axes

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(11)
REAL = cj.sources.normal(0.0, 1.0)
SHARE = cj.sources.population(*cj.families()["bernoulli"].example())


def constant(loc, scale):
    """A family whose model is the mean of its data, moved and stretched by options."""

    def fit(key, params, data):
        mean = jnp.average(data.x[:, 0], weights=data.weight)
        return mean * scale + loc, cj.FitInfo.exact()

    def sample(key, params, n):
        return params + jax.random.normal(key, (n, 1))

    return cj.estimator(fit, sample, metrics={"scaled": lambda params: params / scale})


def at(sample_size, bias):
    family, workflow = constant(bias, 1.0), cj.workflows.replace()
    return cj.generational_process(family, REAL, workflow, sample_size=sample_size)


def mixed(gamma):
    return cj.generational_process(
        cj.estimators.bernoulli(), SHARE, cj.workflows.mix(gamma=gamma), sample_size=4
    )


def level(state):
    return jax.tree.leaves(state.params)[0].ravel()[0]


def pair(state):
    return jnp.stack([level(state), level(state) ** 2])


OPTIONS = {"generations": 2, "chains": 3, "metrics": (level, pair)}


def test_every_point_is_the_simulation_that_it_is_alone():
    """In one program that holds points; another order of axes and more values change nothing."""
    axes = {"sample_size": [3, 8], "bias": [0.8, 0.9]}
    grid = cj.simulate_grid(at, axes, KEY, **OPTIONS)
    assert grid["level"].dims == ("sample_size", "bias", "chain", "generation")
    assert grid["pair"].dims[-1] == "pair_0" and grid.sizes["pair_0"] == 2
    assert [grid[name].values.tolist() for name in ("bias", "chain")] == [[0.8, 0.9], [0, 1, 2]]
    point = {"bias": 0.9, "sample_size": 3}
    alone = cj.simulate(at(**point), cj.point_key(KEY, point), **OPTIONS)
    for name in ("level", "pair"):
        np.testing.assert_allclose(grid[name].sel(point), alone[name], rtol=2e-5)
    assert np.abs(np.diff(grid["level"].values, axis=0)).min() > 1e-3  # points differ
    programs = _programs(at, axes, Plan(2, 3, (level,)))
    assert [one.numbers.tolist() for one in programs] == [[0, 1, 2, 3]]
    made = grid.attrs
    assert made["streams"] == "independent" and made["chains"] == 3
    assert json.loads(made["key"]) == ["threefry2x32", [0, 11]]
    assert json.loads(made["made_with"])["versions"]["jax"] == jax.__version__
    # Statistics are those of the chains, of each number of a vector.
    more = {"bias": [0.5, 0.9, 0.8], "sample_size": [8, 5, 3]}
    wide = cj.simulate_grid(at, more, KEY, keep="summary", quantiles=[0.5, 0.9], **OPTIONS)
    assert wide["pair_quantile"].dims == ("bias", "sample_size", "generation", "pair_0", "quantile")
    wide, chains = wide.sel(axes), grid["pair"].astype(float)
    wanted = {
        "mean": chains.mean("chain"),
        "std": chains.std("chain", ddof=1),
        "quantile": chains.quantile([0.5, 0.9], "chain"),
    }
    for name, values in wanted.items():
        found = wide[f"pair_{name}"]
        np.testing.assert_allclose(found, values.transpose(*found.dims), rtol=1e-4)


def test_common_random_numbers():
    """Where the settings change nothing, points with common numbers are equal."""
    grid = cj.simulate_grid(
        lambda repeat: at(4, 0.9), {"repeat": [1, 2]}, KEY, streams="common", **OPTIONS
    )
    np.testing.assert_array_equal(grid["level"][0], grid["level"][1])
    assert grid.attrs["streams"] == "common"


def test_what_may_be_traced():
    """Not what changes a shape, is branched on, or reaches a metric or the real distribution."""

    def made(size=5, scale=0.5, share=0.5, mean=0.5, words="a", cells=3):
        assert words in "ab" and np.zeros(cells).size
        source = REAL if mean == 0.5 else cj.sources.normal(mean, 1.0)
        return cj.generational_process(
            constant(0.0, scale), source, cj.workflows.accumulate(share), sample_size=size
        )

    axes = {
        "size": [5, 6],
        "scale": [0.2, 0.3],
        "share": [0.2, 0.3],
        "words": ["a", "b"],
        "cells": [3, 4],
        "mean": [0.5, 0.6],
    }
    assert traceable_axes(made, axes, 2, (level,)) == {"size", "scale", "share"}
    # Its metric divides by an option, which the metrics of one process for all would not know.
    assert traceable_axes(made, axes, 2, ("scaled",)) == {"size", "share"}
    float32 = np.dtype(np.float32)
    assert is_plain([0.0, 0.2, 0.3, 1.0], float32, True).tolist() == [True, False, False, True]
    assert is_plain([0.0, 0.2], float32, True).all()  # one value alone needs no tracing
    assert not is_plain([0, 1, 2], np.dtype(np.int32), True).any()


def test_programs_and_their_points():
    """A share of 0, and what cannot be traced, have programs of their own."""

    def made(kind, gamma):
        workflow = {"a": cj.workflows.accumulate, "s": cj.workflows.accumulate_subsample}[kind]
        family = cj.estimators.bernoulli()
        return cj.generational_process(family, SHARE, workflow(gamma), sample_size=4)

    axes = {"kind": ["a", "s"], "gamma": [0.0, 0.25, 0.5]}
    programs = _programs(made, axes, Plan(2, 3, (level,)))
    assert [one.numbers.tolist() for one in programs] == [[0], [1, 2], [3], [4, 5]]
    assert programs[1].names == ["gamma=0.25 kind='a'", "gamma=0.5 kind='a'"]
    assert [sorted(one.settings) for one in programs][1] == ["gamma"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"axes": {}}, "axes is {}; it must be a dict name -> values"),
        ({"axes": {"gamma": 0.1}}, "axis gamma is 0.1; it must be a list of values"),
        ({"axes": {"gamma": []}}, "axis gamma has no value"),
        (
            {"axes": {"gamma": [0.1, math.nan]}},
            "axis gamma contains nan; its numbers must be finite",
        ),
        ({"axes": {"gamma": [0.1, 0.1]}}, "axis gamma contains 0.1 more than once"),
        (
            {"axes": {"gamma": [None]}},
            "axis gamma contains None; its values must be numbers, bools or strings",
        ),
        ({"axes": {"chain": [1]}}, "axes have the name 'chain'"),
        ({"axes": {"beta": [1]}}, "axes have the names beta, but process_at takes (gamma): "),
        ({"axes": {"gamma": [2.0]}}, "at gamma=2.0: gamma is 2.0; it must be in [0, 1]"),
        ({"axes": {"gamma": [0.1, 0.2, 2.0]}}, "gamma is 2; it must be in [0, 1]"),
        ({"keep": "all"}, "keep is 'all'; it must be one of chains, summary"),
        ({"quantiles": [2]}, "quantiles is [2]"),
        ({"streams": "own"}, "streams is 'own'; it must be one of independent, common"),
        ({"chains": 0}, "chains is 0"),
        ({"memory_limit": 100}, "but the limit is"),
    ],
)
def test_bad_input_is_one_line(change, says):
    given = {"axes": {"gamma": [0.1, 0.2]}} | change
    axes = given.pop("axes")
    with pytest.raises(cj.InputError) as caught:
        cj.simulate_grid(mixed, axes, KEY, **OPTIONS | given)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_done_is_kept(monkeypatch):
    """Of an interrupted grid, and of one with a model that becomes nan, which is named."""

    def made(kind, root):
        def fit(key, params, data):
            return jnp.average(data.x) + jnp.sqrt(jnp.asarray(root, float)), cj.FitInfo.exact()

        family = constant(0.0, 1.0)._replace(fit=fit)
        return cj.generational_process(family, REAL, cj.workflows.replace(), sample_size=kind)

    axes = {"kind": [3], "root": [0.0, -1.0]}
    options = OPTIONS | {"metrics": (level,)}
    with pytest.raises(cj.DivergenceError, match=r"chain 0 at kind=3 root=-1: ") as diverged:
        cj.simulate_grid(made, axes, KEY, **options)
    found = diverged.value.dataset["level"].values[0]
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("collapse_jax.drivers.grids.simulate_chunks", stop)
    with pytest.raises(cj.Interrupted, match="`dataset` has the points") as stopped:
        cj.simulate_grid(at, {"sample_size": [3], "bias": [0.5]}, KEY, **options)
    assert stopped.value.dataset.sizes["bias"] == 1
