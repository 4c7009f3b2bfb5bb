"""One chain that becomes nan ends a simulation, and loses no record of the others."""

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import sources, workflows

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(6)
# Held points: in some chains they differ by single roundings long before generation 200.
PROCESS = cj.generational_process(
    cj.estimators.gaussian(1),
    sources.normal([0.0], [[1.0]]),
    workflows.mix(0.5, 0.5, 0),
    sample_size=5,
)
OPTIONS = {"generations": 150, "chains": 200, "metrics": "log_variance"}


def expected(generation, chains=4000):
    """log variance [chains] in NumPy, with the points about their mean and scale."""
    rng = np.random.default_rng(0)
    x, log_scale = rng.normal(size=(chains, 5)), np.zeros(chains)
    for _ in range(generation):
        mean, deviation = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
        kept = rng.permuted((x - mean) / deviation, axis=1)
        log_scale += 2 * np.log(deviation[:, 0])
        fresh = np.arange(5) < rng.binomial(5, 0.5, (chains, 1))
        x = np.where(fresh, rng.normal(size=(chains, 5)), kept)
    return log_scale + np.log(x.var(1, ddof=1))


def test_the_records_of_all_chains_are_in_the_error():
    with pytest.raises(
        cj.DivergenceError, match=r"`trace` holds .* up to generation 150"
    ) as caught:
        cj.simulate(PROCESS, KEY, chunk=1000, **OPTIONS)
    trace = caught.value.trace
    found = trace["log_variance"]
    assert found.shape == (200, 151) and list(trace.generations) == list(range(151))
    ended = np.isnan(found)
    # Nobody ends before float32 does, and whoever has ended stays so.
    assert 0 < ended[:, -1].sum() < 200 and not ended[:, :40].any()
    assert (np.diff(ended.astype(int), axis=1) >= 0).all()
    wanted = expected(40)
    error = np.hypot(found[:, 40].std() / 200**0.5, wanted.std() / 4000**0.5)
    assert abs(found[:, 40].mean() - wanted.mean()) < 4 * error


def test_chunks_before_it_are_in_the_error():
    with pytest.raises(cj.DivergenceError) as caught:
        cj.simulate(PROCESS, KEY, chunk=50, **OPTIONS)
    trace = caught.value.trace
    assert trace.generations[-1] in (50, 100, 150) and np.isnan(trace["log_variance"][:, -1]).any()
    before = int(trace.generations[-1]) - 50
    assert np.isfinite(trace["log_variance"][:, : before + 1]).all()
    with pytest.raises(cj.DivergenceError, match=f"`summary` .* {before}$") as caught:
        cj.simulate_summary(PROCESS, KEY, chunk=50, **OPTIONS)
    summary = caught.value.summary
    mean = trace["log_variance"][:, : before + 1].mean(0)
    np.testing.assert_allclose(summary.mean["log_variance"], mean, rtol=1e-4, atol=1e-5)
