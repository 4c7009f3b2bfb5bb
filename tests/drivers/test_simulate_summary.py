"""Statistics that are computed on the devices: those that NumPy gives of all chains."""

import concurrent.futures

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.drivers import device_statistics
from collapse_jax.drivers.device_statistics import DeviceStatistics
from collapse_jax.drivers.plan import Plan, memory_needed
from collapse_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(3)
AT = (0.0, 0.05, 1 / 3, 0.5, 0.75, 0.95, 1.0)
RNG = np.random.default_rng(5)
NUMBERS = {
    "normal": RNG.normal(size=(3, 1001)).astype(np.float32),
    "of all sizes": (RNG.choice([-1, 1], (3, 997)) * np.exp(20 * RNG.normal(size=(3, 997)))).astype(
        np.float32
    ),
    "subnormal": (RNG.normal(size=(2, 500)) * 1e-40).astype(np.float32),
    "two values": RNG.integers(0, 2, (4, 640)).astype(np.float32),
    "zeros of both signs": np.where(RNG.random((2, 300)) < 0.5, np.float32(-0.0), np.float32(0.0)),
    "all the same": np.full((2, 333), -7.25, np.float32),
    "counts": RNG.poisson(3.0, (3, 800)).astype(np.int32),
    "ends of the integers": RNG.choice(np.array([-(2**31), -1, 0, 2**31 - 1], np.int32), (2, 400)),
    "true and false": RNG.random((2, 100)) < 0.3,
    "bytes": RNG.integers(0, 256, (2, 200)).astype(np.uint8),
    "half": RNG.normal(size=(2, 300)).astype(np.float16),
    "vectors": RNG.normal(size=(2, 5, 400)).astype(np.float32),
    "one chain": RNG.normal(size=(3, 1)).astype(np.float32),
    "two chains": RNG.normal(size=(3, 2)).astype(np.float32),
}


def reduced(values, size=128, quantiles=AT, count=None):
    """Name -> statistic of values [rows, ..., chains], in tiles; the last is filled up."""
    chains = values.shape[-1]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        sink = DeviceStatistics(quantiles)
        sink.open(chains, size, pool)
        sink.begin(len(values) if count is None else count)
        for tile, first in reversed(list(enumerate(range(0, chains, size)))):
            part = values[..., first : first + size]
            spare = np.full((*values.shape[:-1], size - part.shape[-1]), 77, values.dtype)
            assert not sink.take(tile, {"x": jnp.asarray(np.concatenate([part, spare], -1))})
        return sink.end()


@pytest.fixture(params=["here", "elsewhere"])
def _anywhere(request, monkeypatch):
    """Both ways to a quantile: selected in this process's memory, or counted on devices."""
    monkeypatch.setattr(device_statistics, "_are_here", lambda: request.param == "here")


@pytest.mark.usefixtures("_anywhere")
@pytest.mark.parametrize("name", NUMBERS)
def test_they_are_those_of_numpy(name):
    values = NUMBERS[name]
    found, exact = reduced(values), values.astype(np.float64)
    np.testing.assert_array_equal(
        found["x_quantile"], np.moveaxis(np.quantile(exact, AT, axis=-1), 0, -1)
    )
    np.testing.assert_allclose(
        found["x_mean"], exact.mean(-1), rtol=1e-12, atol=1e-14 * np.abs(exact).max()
    )
    wanted = exact.std(-1, ddof=1) if values.shape[-1] > 1 else np.zeros(values.shape[:-1])
    np.testing.assert_allclose(found["x_std"], wanted, rtol=1e-12)


@pytest.mark.usefixtures("_anywhere")
def test_any_tiles_give_the_same_quantiles():
    for values in (NUMBERS["normal"], NUMBERS["of all sizes"]):
        several = [reduced(values, size)["x_quantile"] for size in (64, 300, 1024)]
        assert (several[0] == several[1]).all() and (several[0] == several[2]).all()


# NumPy, the reference, takes inf from inf on its way to a quantile between two infinite values.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.usefixtures("_anywhere")
def test_infinite_ones_and_nan():
    values = np.tile(np.linspace(-1, 1, 101, dtype=np.float32), (4, 1))
    values[1, :60], values[2, 60:], values[3, 5] = -np.inf, np.inf, np.nan
    found = reduced(values)
    assert np.isfinite(found["x_quantile"][0]).all()
    linear, lower = (
        np.moveaxis(np.quantile(values[1:3].astype(float), AT, axis=-1, method=how), 0, -1)
        for how in ("linear", "lower")
    )
    # Between two infinite ones, or an infinite and a finite one, the lower.
    np.testing.assert_array_equal(
        found["x_quantile"][1:3], np.where(np.isfinite(linear), linear, lower)
    )
    np.testing.assert_array_equal(found["x_mean"][1:3], [-np.inf, np.inf])
    assert np.isnan(found["x_quantile"][3]).all() and np.isnan(found["x_mean"][3])


@pytest.mark.usefixtures("_anywhere")
def test_float64():
    with jax.enable_x64(True):
        values = np.concatenate([RNG.normal(size=(2, 400)), 1e300 * RNG.normal(size=(2, 400))], -1)
        values[0, :3] += 1e-14
        found = reduced(values)
    np.testing.assert_array_equal(
        found["x_quantile"], np.moveaxis(np.quantile(values, AT, axis=-1), 0, -1)
    )


def test_rows_that_are_not_recorded_are_left_out():
    assert reduced(NUMBERS["normal"], count=2)["x_mean"].shape == (2,)


@pytest.mark.parametrize("name", ["gaussian", "categorical"])
def test_of_a_simulation(name):
    """The same chains; the categorical one's states are compacted as categories die out."""
    if name == "gaussian":
        estimator, source = cj.estimators.gaussian(2), cj.sources.normal(np.zeros(2), np.eye(2))
        metrics = ("mean", "log_variance")
    else:
        estimator, source = cj.estimators.categorical(20), cj.sources.categorical(np.full(20, 0.05))
        metrics = ("support", "heterozygosity", "probabilities")
    process = cj.generational_process(estimator, source, cj.workflows.replace(), sample_size=12)
    options = {"generations": 40, "chains": 300, "metrics": metrics, "record": 7}
    trace, seen = cj.simulate(process, KEY, **options), []
    summary = cj.simulate_summary(
        process, KEY, **options, quantiles=AT, chunk=3, progress=seen.append
    )
    np.testing.assert_array_equal(summary.generations, trace.generations)
    assert repr(summary).startswith("Summary of generations 0..40 (7 recorded)\n  ")
    assert len(repr(summary).splitlines()) == 3
    assert seen[-1] == 40 and summary.quantiles == AT and set(summary.mean) == set(metrics)
    labelled = summary.to_xarray()
    for metric in metrics:
        np.testing.assert_array_equal(labelled[f"{metric}_mean"], summary.mean[metric])
        at_end = labelled[f"{metric}_quantile"].sel(quantile=AT[0], generation=40)
        np.testing.assert_array_equal(at_end, summary.quantile[metric][-1, ..., 0])
    for metric in metrics:
        values = np.moveaxis(trace[metric].astype(np.float64), 0, -1)
        # Programs of other chunks may round differently, as `simulate` says.
        tolerance = {"rtol": 2e-5, "atol": 1e-6}
        np.testing.assert_allclose(summary.mean[metric], values.mean(-1), **tolerance)
        np.testing.assert_allclose(summary.std[metric], values.std(-1, ddof=1), **tolerance)
        np.testing.assert_allclose(
            summary.quantile[metric],
            np.moveaxis(np.quantile(values, AT, axis=-1), 0, -1),
            **tolerance,
        )


def test_bad_input():
    process = cj.generational_process(
        cj.estimators.gaussian(1),
        cj.sources.normal([0.0], [[1.0]]),
        cj.workflows.replace(),
        sample_size=12,
    )
    for quantiles in ([], 0.5, [[0.5]], [1.1], [np.nan], ["a"]):
        with pytest.raises(InputError, match="quantiles"):
            cj.simulate_summary(process, KEY, generations=1, chains=2, quantiles=quantiles)
    with pytest.raises(InputError, match="chains is 0"):
        cj.simulate_summary(process, KEY, generations=1, chains=0)
    with pytest.raises(InputError, match="metric 'perplexity' is not offered"):
        cj.simulate_summary(process, KEY, generations=1, chains=1, metrics=["perplexity"])
    with pytest.raises(
        InputError, match="memory_limit is 1 MiB, but 1,000,000 chains with 2 records at once"
    ):
        cj.simulate_summary(process, KEY, generations=1, chains=10**6, memory_limit=2**20)
    # What all records would need is no matter: a chunk of them is.
    needed = memory_needed(process, KEY, Plan(200, 1000, chunk=5), 5, on_devices=True)
    assert (
        len(
            cj.simulate_summary(
                process, KEY, generations=200, chains=1000, chunk=5, memory_limit=needed
            ).generations
        )
        == 201
    )
