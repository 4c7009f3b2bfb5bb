"""Sampling bias of the Gaussian and smoothing of the categorical, against exact laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax.errors import FloatRangeWarning
from collapse_jax.theory import interventions

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(87)


@pytest.mark.parametrize(("by", "ddof"), [("law", 1), ("law", 0), ("points", 0)])
def test_biased_chains_keep_to_their_moments(by, ddof, assert_mean):
    """The population (`sources.normal`) has no bias: generation 0 is that of an unbiased chain."""
    family = cj.estimators.gaussian(1, ddof, by, sampling_bias=0.8)
    process = cj.generational_process(
        family, cj.sources.normal([1.0], [[2.5]]), cj.workflows.replace(), sample_size=12
    )
    trace = cj.simulate(process, KEY, generations=6, chains=10_000)
    variance, error = interventions.biased_expected_moments(
        trace.generations, 12, 0.8, ddof=ddof, variance=2.5
    )
    assert_mean(trace["variance"], variance)
    assert_mean((trace["mean"].astype(np.float64) - 1) ** 2, error)
    assert_mean(
        trace["log_variance"],
        interventions.biased_expected_log_variance(
            trace.generations, 12, 0.8, ddof=ddof, variance=2.5
        ),
    )


@pytest.mark.parametrize("dim", [2, 13])
def test_a_biased_draw_is_a_wider_one(dim):
    """With one key, the statistics are those of a model with lambda times the covariance."""
    params = cj.estimators.gaussian_params(np.zeros(dim), np.eye(dim) + 0.3)

    @jax.jit
    def both(key):
        return [
            cj.estimators.gaussian(dim, sampling_bias=bias).draw(key, params, 20)
            for bias in (1.0, 1.5)
        ]

    plain, biased = both(KEY)
    np.testing.assert_allclose(
        np.asarray(biased.mean), np.asarray(plain.mean) * 1.5**0.5, rtol=1e-5
    )
    np.testing.assert_allclose(
        np.asarray(biased.log_scale) - np.asarray(plain.log_scale), np.log(1.5) / 2, atol=1e-6
    )
    np.testing.assert_allclose(np.asarray(biased.factor), np.asarray(plain.factor), rtol=1e-6)


def test_fresh_real_data_is_not_biased(assert_mean):
    """All of it real: every generation has the law of generation 0."""
    family = cj.estimators.gaussian(1, sampling_bias=0.1)
    process = cj.generational_process(
        family, cj.sources.normal([0.0], [[1.0]]), cj.workflows.mix(0.0, 0.0, 1.0), sample_size=10
    )
    trace = cj.simulate(process, KEY, generations=2, chains=4000, metrics=("log_variance",))
    assert_mean(
        trace["log_variance"],
        cj.theory.gaussian.expected_log_variance(np.zeros(3, int), 10, ddof=1),
    )


def test_samples_are_biased_and_a_bias_may_be_traced(assert_mean):
    params = cj.estimators.gaussian_params([1.0, 0.0], [[2.0, 0.5], [0.5, 1.0]])
    x = np.asarray(
        cj.estimators.gaussian(2, sampling_bias=0.25).sample(KEY, params, 20_000), np.float64
    ) - [1, 0]
    assert_mean(x, [0, 0])
    assert_mean((x[:, :, None] * x[:, None, :]).reshape(-1, 4), np.array([2, 0.5, 0.5, 1]) / 4)
    drawn = jax.jit(
        lambda bias: cj.estimators.gaussian(2, sampling_bias=bias).draw(KEY, params, 9)
    )(0.25)
    known = cj.estimators.gaussian(2, sampling_bias=0.25).draw(KEY, params, 9)
    np.testing.assert_allclose(jax.tree.leaves(drawn), jax.tree.leaves(known), rtol=1e-5)


def test_a_hundred_thousand_biased_generations():
    """At the neutral bias of M = 10 the log variance is a random walk, beyond the largest float."""
    bias = interventions.neutral_sampling_bias(10, ddof=1)
    family = cj.estimators.gaussian(1, sampling_bias=bias)
    process = cj.generational_process(
        family, cj.sources.normal([0.0], [[1.0]]), cj.workflows.replace(), sample_size=10
    )
    with pytest.warns(FloatRangeWarning, match="of 64 chains .* do not use mean"):
        trace = cj.simulate(
            process,
            KEY,
            generations=100_000,
            chains=64,
            metrics=("log_variance", "mean"),
            record=(100_000,),
        )
    last = trace["log_variance"][:, -1]
    assert last.max() > 90 and not np.isnan(trace["mean"]).any()
    deviation = cj.theory.gaussian.log_variance_std(100_000, 10)
    assert np.isfinite(last).all() and abs(last.astype(np.float64).mean()) < 4 * deviation / 8


SMOOTHED = cj.estimators.categorical(4, smoothing=0.5)
PROBABILITIES = np.array([0.6, 0.3, 0.1, 0.0])


def test_smoothed_fits_add_kappa():
    statistics = SMOOTHED.summarise(jnp.array([0, 0, 2]), jnp.ones(3))
    params, _ = SMOOTHED.fit(KEY, None, statistics)
    np.testing.assert_allclose(params.probabilities, (np.array([2, 0, 1, 0]) + 0.5) / 5, rtol=1e-6)
    assert statistics.counts.dtype == jnp.int32 and SMOOTHED.compaction is None
    plain = cj.estimators.categorical(4, smoothing=0.0)
    assert plain.fit(KEY, None, statistics)[0].weights.dtype == jnp.int32 and plain.compaction


def test_smoothed_chains_have_their_exact_law(assert_mean, chi_square_p):
    process = cj.generational_process(
        SMOOTHED, cj.sources.categorical(PROBABILITIES), cj.workflows.replace(), sample_size=15
    )
    trace = cj.simulate(
        process,
        KEY,
        generations=8,
        chains=10_000,
        metrics=("probabilities", "support"),
        record=(0, 2, 8),
    )
    mean, variance = interventions.smoothed_moments(trace.generations, 15, PROBABILITIES, 0.5, 4)
    probabilities = trace["probabilities"].astype(np.float64)
    assert_mean(probabilities, mean)
    assert_mean((probabilities - mean)[..., :3] ** 2, variance[:, :3])
    assert (trace["support"] == 4).all()
    for category in (0, 3):
        counts = np.rint(probabilities[:, -1, category] * 17 - 0.5).astype(int)
        law = interventions.smoothed_count_distribution(8, 15, PROBABILITIES[category], 0.5, 4)
        assert chi_square_p(np.bincount(counts, minlength=16), law) > 1e-4


def test_smoothing_counts_each_pool_once(assert_mean):
    """Under `accumulate` kappa joins a fit, not the pool: (count + kappa) / (t M + K kappa)."""
    process = cj.generational_process(
        SMOOTHED, cj.sources.categorical(PROBABILITIES), cj.workflows.accumulate(), sample_size=15
    )
    trace = cj.simulate(process, KEY, generations=3, chains=10_000, metrics=("probabilities",))
    pool, expected = PROBABILITIES, []
    for rounds in range(1, 5):
        expected.append((15 * rounds * pool + 0.5) / (15 * rounds + 2))
        pool = (rounds * pool + expected[-1]) / (rounds + 1)
    assert_mean(trace["probabilities"], np.array(expected))


def test_theory_of_smoothing_agrees_with_itself():
    """The recursion of moments against the transition matrix; without smoothing, Wright-Fisher."""
    for generation, kappa in ((0, 0.5), (6, 0.5), (6, 0.0)):
        law = interventions.smoothed_count_distribution(generation, 15, 0.3, kappa, 4)
        fitted = (np.arange(16) + kappa) / (15 + 4 * kappa)
        mean, variance = interventions.smoothed_moments(generation, 15, 0.3, kappa, 4)
        assert law @ fitted == pytest.approx(float(mean)) and law @ (
            fitted - mean
        ) ** 2 == pytest.approx(float(variance))
    assert float(variance) == pytest.approx(0.21 * (1 - (1 - 1 / 15) ** 7))
    first = interventions.smoothed_count_distribution(0, 15, 0.3, 0.5, 4)
    np.testing.assert_allclose(first, stats.binom.pmf(np.arange(16), 15, 0.3))
    late, _ = interventions.smoothed_moments(2000, 15, np.array([0.9, 0.0]), 0.5, 4)
    np.testing.assert_allclose(late, 0.25)


def test_bad_input_is_named():
    for smoothing in (-1, np.inf, "1", True):
        with pytest.raises(cj.InputError, match="smoothing is"):
            cj.estimators.categorical(3, smoothing=smoothing)
    for bias in (0, -1.0, np.inf):
        with pytest.raises(cj.InputError, match="sampling_bias is"):
            cj.estimators.gaussian(1, sampling_bias=bias)
