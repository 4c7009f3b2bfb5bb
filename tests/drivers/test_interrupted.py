"""An interrupted simulation gives what it has."""

import signal

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import sources, workflows

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(6)
PROCESS = cj.generational_process(
    cj.estimators.gaussian(1),
    sources.normal([0.0], [[1.0]]),
    workflows.replace(),
    sample_size=20,
)
OPTIONS = {"generations": 12, "chains": 3, "metrics": ("mean", "variance"), "chunk": 3}


def interrupt_at(generation):
    """Ctrl-C once that generation is done."""

    def progress(newest):
        if newest >= generation:
            signal.raise_signal(signal.SIGINT)

    return progress


def test_simulate_and_its_summary():
    whole = cj.simulate(PROCESS, KEY, **OPTIONS)
    with pytest.raises(cj.Interrupted, match=r"`trace` has .* up to generation 6") as caught:
        cj.simulate(PROCESS, KEY, progress=interrupt_at(5), **OPTIONS)
    partial = caught.value.trace
    assert isinstance(caught.value, KeyboardInterrupt) and caught.value.summary is None
    np.testing.assert_array_equal(partial.generations, np.arange(7))
    for name in OPTIONS["metrics"]:
        np.testing.assert_array_equal(partial[name], whole[name][:, :7])
    with pytest.raises(cj.Interrupted, match=r"`summary` has .* up to generation 6") as caught:
        cj.simulate_summary(PROCESS, KEY, progress=interrupt_at(5), **OPTIONS)
    summary = caught.value.summary
    np.testing.assert_array_equal(summary.generations, np.arange(7))
    np.testing.assert_allclose(summary.mean["mean"], partial["mean"].mean(0), rtol=1e-6, atol=1e-6)


def test_before_anything_is_done(monkeypatch):
    def begin(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("collapse_jax.drivers.all_chains.AllChains.start", begin)
    with pytest.raises(cj.Interrupted, match="no generation is done") as caught:
        cj.simulate(PROCESS, KEY, **OPTIONS)
    assert len(caught.value.trace) == len(caught.value.trace.generations) == 0
    with pytest.raises(cj.Interrupted, match="no generation is done") as caught:
        cj.simulate_summary(PROCESS, KEY, **OPTIONS)
    assert len(caught.value.summary.generations) == 0
