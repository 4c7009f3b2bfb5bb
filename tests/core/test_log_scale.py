"""Chains that have collapsed below any float: scales are kept as logarithms, and points are drawn
relative to the mean. |z| < 4.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.drivers.simulate import simulate
from collapse_jax.estimators import sources
from collapse_jax.estimators.gaussian import gaussian
from collapse_jax.theory import gaussian as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(30)


def log_scales(state):
    return jnp.asarray(state.params.log_scale)


@functools.cache
def chains_of(dim, sample_size, generations, chains, ddof=0, by="law", record=None):
    """A trace of the standard normal under `replace`."""
    source = sources.normal(np.zeros(dim), np.eye(dim))
    process = generational_process(
        gaussian(dim, ddof, by), source, workflows.replace(), sample_size=sample_size
    )
    metrics = ("mean", "log_variance", log_scales)
    return simulate(
        process,
        KEY,
        generations=generations,
        chains=chains,
        metrics=metrics,
        record=record or generations,
    )


def assert_log_variance(trace, sample_size, dim, ddof):
    """The mean of the log variance at each record, in units of the exact standard deviation of so
    many chains.
    """
    expected = theory.expected_log_variance(trace.generations, sample_size, ddof=ddof, dim=dim)
    error = theory.log_variance_std(trace.generations, sample_size, dim=dim) / np.sqrt(
        len(trace["mean"])
    )
    values = trace["log_variance"].astype(np.float64)
    assert np.isfinite(values).all() and np.isfinite(trace["mean"]).all()
    z = (values.mean(0) - expected) / error
    assert (np.abs(z) < 4).all(), z
    # the metric is the sum of the scales
    np.testing.assert_allclose(
        2 * trace["log_scales"].astype(np.float64).sum(-1) / dim, values, rtol=1e-5, atol=1e-5
    )
    return expected[-1]


def test_a_hundred_thousand_generations_stay_finite():
    trace = chains_of(1, 10, 100_000, 32, ddof=1, record=25_000)
    assert assert_log_variance(trace, 10, 1, 1) < -11_000


@pytest.mark.slow
def test_a_million_generations_stay_finite():
    """A constant added to the scale in each of them would be rounded the same way each time: off by
    18 standard errors.
    """
    trace = chains_of(1, 10, 1_000_000, 32, ddof=1, record=100_000)
    assert assert_log_variance(trace, 10, 1, 1) < -110_000


def test_three_dimensions_with_20_points():
    """The settings whose log-determinant used to be -inf."""
    assert_log_variance(chains_of(3, 20, 60, 2000, record=20), 20, 3, 0)


@pytest.mark.parametrize("dim", [2, 10, 14])
def test_thousands_of_generations_in_many_dimensions(dim):
    trace = chains_of(dim, 20, 2000, 16, record=1000)
    assert assert_log_variance(trace, 20, dim, 0) < -250
    # the directions drift apart: direction j falls with the logarithm of a chi-square of 20 - 1 - j
    # degrees of freedom
    rate = special.digamma((19 - np.arange(dim)) / 2) + np.log(2 / 20)
    spread = np.sqrt(2001 * special.polygamma(1, (19 - np.arange(dim)) / 2) / len(trace["mean"]))
    scales = 2 * trace["log_scales"][:, -1].astype(np.float64).mean(0)
    assert (np.abs(scales - 2001 * rate) < 4 * spread).all()


class TestByPoints:
    """10 points a generation: the law's log variance is -230 after 2,000 of them."""

    def test_a_chain_by_points_goes_on_collapsing(self):
        trace = chains_of(1, 10, 2000, 64, ddof=1, by="points", record=1000)
        assert -235 < assert_log_variance(trace, 10, 1, 1) < -225

    def test_a_chain_by_points_in_three_dimensions(self):
        assert (
            assert_log_variance(
                chains_of(3, 10, 500, 64, ddof=1, by="points", record=250), 10, 3, 1
            )
            < -100
        )

    def test_the_laws_are_the_same(self):
        law, points = (
            chains_of(1, 10, 25, 4000, ddof=1, by=by, record=5) for by in ("law", "points")
        )
        for trace in (law, points):
            assert_log_variance(trace, 10, 1, 1)
        for name in ("mean", "log_variance"):
            for record in range(len(law.generations)):
                assert (
                    stats.ks_2samp(law[name][:, record], points[name][:, record]).pvalue > 1e-4
                ), (name, record)
        assert stats.ks_2samp(law["log_variance"][:, 1], points["log_variance"][:, 2]).pvalue < 1e-4

    def test_a_chain_through_the_points_themselves_stalls(self):
        """What a float32 chain does that adds the mean to each point: the test above can fail."""

        @jax.jit
        @jax.vmap
        def naive(key):
            def generation(carry, key):
                x = carry[0] + carry[1] * jax.random.normal(key, (10,))
                return (jnp.mean(x), jnp.std(x, ddof=1)), None

            return jax.lax.scan(
                generation, (jnp.float32(0), jnp.float32(1)), jax.random.split(key, 2001)
            )[0]

        with np.errstate(divide="ignore"):
            found = 2 * np.log(np.asarray(naive(jax.random.split(KEY, 64))[1], np.float64))
        assert np.mean((found == -np.inf) | (found > -60)) > 0.95, (
            "each point is rounded to the grain of the mean, or to the mean itself"
        )
