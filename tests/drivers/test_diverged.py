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


def test_the_records_of_all_chains_are_in_the_error():
    with pytest.raises(cj.DivergenceError, match=r"`trace` has .* up to generation 150") as caught:
        cj.simulate(PROCESS, KEY, chunk=1000, **OPTIONS)
    trace = caught.value.trace
    found = trace["log_variance"]
    assert found.shape == (200, 151) and list(trace.generations) == list(range(151))
    ended = np.isnan(found)
    # Nobody ends before float32 does, and whoever has ended stays so.
    assert 0 < ended[:, -1].sum() < 200 and not ended[:, :40].any()
    assert (np.diff(ended.astype(int), axis=1) >= 0).all()
    before = cj.simulate(PROCESS, KEY, **OPTIONS | {"generations": 40})
    np.testing.assert_array_equal(found[:, :41], before["log_variance"])


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
