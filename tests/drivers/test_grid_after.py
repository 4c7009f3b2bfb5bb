"""`cj.simulate_grid(..., after=)`: points that are there stay, others are those of one grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import collapse_jax as cj
from collapse_jax.errors import rounding_twins

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(11)
REAL = cj.sources.normal(0.0, 1.0)


def at(sample_size, bias):
    def fit(key, params, data):
        return jnp.average(data.x[:, 0], weights=data.weight) + bias, cj.FitInfo.exact()

    def sample(key, params, n):
        return params + jax.random.normal(key, (n, 1))

    family = cj.estimator(fit, sample, metrics={"level": lambda params: params})
    return cj.generational_process(family, REAL, cj.workflows.replace(), sample_size=sample_size)


FEW, MORE = (
    {"sample_size": [3, 8], "bias": [0.5, 0.25]},
    {"bias": [0.125, 0.25, 0.5], "sample_size": [8, 4, 3]},
)
OPTIONS = {"generations": 2, "chains": 3, "metrics": ("level",)}


@pytest.fixture(scope="module")
def few():
    return cj.simulate_grid(at, FEW, KEY, **OPTIONS)


@pytest.fixture(scope="module")
def whole():
    return cj.simulate_grid(at, MORE, KEY, **OPTIONS)


def test_old_points_stay_and_new_ones_are_those_of_one_grid(few, whole, tmp_path):
    """Counted: only the new points are simulated. The old ones may come from a file."""
    done = []
    grown = cj.simulate_grid(at, MORE, KEY, after=few, progress=done.append, **OPTIONS)
    assert grown["level"].dims == whole["level"].dims
    old = grown["level"].sel(few.coords).transpose(*few["level"].dims)
    np.testing.assert_array_equal(old, few["level"])
    np.testing.assert_allclose(grown["level"], whole["level"], rtol=2e-5)
    assert grown.attrs.keys() == whole.attrs.keys() and "is_done" not in grown.coords
    assert done[-1] == 9
    few.to_netcdf(tmp_path / "few.nc", engine="scipy")
    read = xarray.open_dataset(tmp_path / "few.nc", engine="scipy")
    assert cj.simulate_grid(at, MORE, KEY, after=read, **OPTIONS).equals(grown)


def test_fewer_values_are_read_off(whole, few):
    seen = []
    part = cj.simulate_grid(at, FEW, KEY, after=whole, progress=seen.append, **OPTIONS)
    there = whole["level"].sel(few.coords).transpose(*part["level"].dims)
    np.testing.assert_array_equal(part["level"], there)
    assert seen == []


def test_an_interrupted_grid_is_finished(whole):
    def stop(points):
        raise KeyboardInterrupt

    with pytest.raises(cj.Interrupted) as stopped:
        cj.simulate_grid(at, FEW, KEY, progress=stop, keep="summary", **OPTIONS)
    partial = stopped.value.dataset
    kept = partial.assign_coords(is_done=(("sample_size", "bias"), [[True, False], [False, True]]))
    done = []
    found = cj.simulate_grid(
        at, FEW, KEY, after=kept, keep="summary", progress=done.append, **OPTIONS
    )
    expected = whole["level"].sel(FEW).mean("chain")
    np.testing.assert_allclose(
        found["level_mean"].transpose(*expected.dims), expected, rtol=2e-5, atol=1e-6
    )
    assert "is_done" not in found.coords and done == [4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chains": 4}, "chains: 3 in after, 4 here"),
        ({"generations": 3}, "generations: 2 in after, 3 here"),
        ({"record": 2}, r"recorded generations: \[0, 1, 2\] in after, \[0, 2\] here"),
        ({"keep": "summary"}, "keep: chains in after, summary here"),
        ({"streams": "common"}, "streams: independent in after, common here"),
        ({"key": jax.random.key(12)}, "key: .*11.* in after, .*12.* here"),
        ({"metrics": ("level", "mean")}, "metrics: .* in after"),
        ({"axes": {"sample_size": [3]}}, "after has the axis 'bias', but axes do not"),
        ({"axes": FEW | {"bias": [0.5, 0.1 + 0.15 + 2e-16]}}, "differ only by rounding"),
        ({"after": 3}, "after is 3; it must be what cj.simulate_grid gives"),
        ({"after": xarray.Dataset()}, "after has no attribute 'made_of'"),
        ({"process_at": lambda sample_size, bias: at(sample_size, 2 * bias)}, "another simulation"),
    ],
)
def test_what_is_not_gone_on_with(few, changes, message):
    given = {"process_at": at, "axes": FEW, "key": KEY, "after": few} | OPTIONS | changes
    process_at, axes, key = (given.pop(name) for name in ("process_at", "axes", "key"))
    if axes.keys() == {"sample_size"}:
        process_at = lambda sample_size: at(sample_size, 0.5)  # noqa: E731
    with pytest.raises(cj.InputError, match=message):
        cj.simulate_grid(process_at, axes, key, **given)


def test_values_that_differ_by_rounding():
    assert rounding_twins([0.3, "a", 0.1 + 0.2]) == (0.3, 0.1 + 0.2)
    assert rounding_twins([1, True, 1.0, 2, 2**60, 2**60 + 256, 0.0, 5e-324 * 8]) is None
    assert rounding_twins([0.1, 0.1 * (1 + 1e-12)]) is None
    for value in (float("nan"), float("inf")):
        with pytest.raises(cj.InputError, match=f"axis bias contains {value}; its numbers must be"):
            cj.simulate_grid(at, {"sample_size": [3], "bias": [0.5, value]}, KEY, **OPTIONS)
