"""Chains whose numbers are no longer their law's are told, and no recorded number changes."""

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.drivers.out_of_range import Watch
from collapse_jax.errors import FloatRangeWarning

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(0)
# Each generation adds half of ln 10^4 to the log scale, and what chance adds.
GROWING = cj.generational_process(
    cj.estimators.gaussian(1, sampling_bias=1e4),
    cj.sources.normal([0.0], [[1.0]]),
    cj.workflows.replace(),
    sample_size=2,
)


def test_the_generation_and_the_share_of_chains_are_named():
    metrics = ("log_variance", "mean")
    with pytest.warns(FloatRangeWarning) as told:
        trace = cj.simulate(GROWING, KEY, generations=22, chains=40, metrics=metrics, chunk=1)
    beyond = (trace["log_variance"] / 2 > 0.9 * np.log(np.finfo(np.float32).max)).sum(0)
    first = int(np.argmax(beyond > 0))
    assert 0 < beyond[first] < 40
    texts = [str(warning.message) for warning in told]
    assert len(texts) == 2
    for text, generation in zip(texts, (first, 22), strict=True):
        count = beyond[generation]
        assert f"by generation {generation} {count} of 40 chains ({count / 40:.2g})" in text
        assert "do not use mean of these" in text and "above e^80" in text


def test_what_keeps_to_its_law_is_not_told():
    for metrics, looks in (
        (("log_variance_of_model_0", "log_scale"), False),
        (("variance",), True),
    ):
        assert Watch(GROWING, metrics, 40, 22).looks is looks
    family = GROWING.parts.estimator._replace(fit=lambda key, params, data: None)
    assert family.runtime.out_of_range is None  # its params are others


@pytest.mark.slow
def test_models_that_read_each_other():
    family, real = GROWING.parts.estimator, GROWING.parts.source
    both = cj.ecosystem(family, real, np.eye(2), 2)
    with pytest.warns(FloatRangeWarning, match=r"of 7 chains .* do not use pooled_mean of"):
        cj.simulate(both, KEY, generations=22, chains=7, metrics=("pooled_mean", "log_variance"))


@pytest.mark.slow
def test_one_chain_of_run(tmp_path):
    with pytest.warns(FloatRangeWarning, match=r"1 of 1 chains .* do not use mean of"):
        cj.run(GROWING, KEY, generations=22, folder=tmp_path, metrics=("log_scale", "mean"))
