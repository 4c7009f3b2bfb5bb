"""Dirichlet-multinomial: SciPy's laws of a fit, chains by theory, the prior as stationary law."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.errors import InputError
from collapse_jax.estimators.categorical import CategoricalParams, Counts
from collapse_jax.estimators.dirichlet_multinomial import dirichlet_multinomial

pytestmark = pytest.mark.usefixtures("quick_compile")
K, SIZE, GENERATIONS, CHAINS = 3, 6, 5, 20_000
# A usual one, one that is nearly none, none, and one of which a category is nearly all.
PRIORS = np.array([[0.5, 2.0, 1.0], [1e-3, 1e-3, 1e-3], [0.0, 0.0, 0.0], [500.0, 1e-3, 0.1]])
Q = np.array([0.97, 0.02, 0.01])


def chain(key, prior, p, size):
    """Probabilities [generations, K] of the models of a chain that starts from a law p [K]."""
    family = dirichlet_multinomial(K, prior)
    start = CategoricalParams(p, jnp.arange(K, dtype=jnp.int32))

    def step(params, key):
        draw, fit = jax.random.split(key)
        params, _ = family.fit(fit, params, family.draw(draw, params, size))
        return params, params.probabilities

    return jax.lax.scan(step, start, jax.random.split(key, GENERATIONS))[1]


@functools.cache
def chains():
    """One program of a traced prior, law and size: (prior, p [chains, K], size) -> probabilities
    [chains, generations, K].
    """
    program = jax.jit(jax.vmap(chain, (0, None, 0, None)))
    keys = jax.random.split(jax.random.key(5), CHAINS)
    return lambda prior, p, size: np.asarray(
        program(keys, jnp.asarray(prior, float), jnp.asarray(p, float), jnp.asarray(size)), float
    )


@pytest.mark.parametrize("prior", PRIORS, ids=str)
@pytest.mark.parametrize("size", [1, SIZE])
def test_heterozygosity_is_that_of_theory(prior, size, assert_mean):
    p = chains()(prior, np.tile(Q, (CHAINS, 1)), size)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    exact = theory.bayesian.expected_heterozygosity(np.arange(GENERATIONS), size, Q, prior)
    # What is left of 1 - sum p^2 by float32.
    assert_mean(np.sum(p * (1 - p), -1), np.maximum(exact, 0))
    means = [(prior + size * Q) / (prior.sum() + size)]
    for _ in range(GENERATIONS - 1):
        means.append((prior + size * means[-1]) / (prior.sum() + size))
    assert_mean(p, np.array(means))


@pytest.mark.parametrize("size", [1, SIZE])
def test_the_prior_is_stationary(size):
    prior = PRIORS[0]
    start = np.random.default_rng(3).dirichlet(prior, CHAINS)
    last = chains()(prior, start, size)[:, -1]
    for j in range(K):
        law = stats.beta(prior[j], prior.sum() - prior[j])
        assert stats.kstest(last[:, j], law.cdf).pvalue > 1e-4
    np.testing.assert_allclose(
        np.mean(1 - np.sum(last**2, 1)),
        theory.bayesian.stationary_heterozygosity(size, prior),
        atol=4 * np.std(np.sum(last**2, 1)) / np.sqrt(CHAINS),
    )


def test_a_lost_category_comes_back_with_a_prior_alone():
    certain = np.tile([1.0, 0.0, 0.0], (CHAINS, 1))
    assert (chains()(PRIORS[2], certain, SIZE)[..., 1:] == 0).all()
    small = chains()(PRIORS[1], certain, SIZE)
    assert (small > 0).all()  # never 0, though most are too small for float32
    assert (small[:, -1, 1] > 1e-3).any()


def test_small_concentrations_keep_their_law():
    """log p of Beta(a, A - a) with a = 1e-3 and no counts; those below the smallest float at it."""
    keys = jax.random.split(jax.random.key(1), 20_000)
    family = dirichlet_multinomial(2, 0.01)
    counts = Counts(jnp.array([0, 5]), jnp.arange(2))
    weights = jax.jit(jax.vmap(lambda key: family.fit(key, None, counts)[0].probabilities))(keys)
    logs = np.log(np.asarray(weights, float)[:, 0])
    assert np.isfinite(logs).all()
    for level in (-80.0, -30.0, -3.0):
        exact = special.betainc(0.01, 5.01, np.exp(level))
        share = np.mean(logs < level)
        assert abs(share - exact) < 4 * np.sqrt(exact * (1 - exact) / len(logs))


def test_mean_mode_and_maximum_likelihood():
    counts = Counts(jnp.array([4, 0, 1]), jnp.arange(3))

    def fitted(**options):
        return dirichlet_multinomial(3, **options).fit(jax.random.key(0), None, counts)[0]

    shares = fitted(prior=[0.5, 2.0, 1.0], estimate="mean").probabilities
    np.testing.assert_allclose(shares, np.array([4.5, 2, 2]) / 8.5, rtol=1e-6)
    mode = fitted(prior=[1.5, 2.0, 1.0], estimate="mode").probabilities
    np.testing.assert_allclose(mode, np.array([4.5, 1, 1]) / 6.5, rtol=1e-6)
    likely = fitted(estimate="maximum_likelihood")
    np.testing.assert_array_equal(likely.weights, [4, 0, 1])
    # Without a prior the mean is it, and the uniform prior's mode.
    for options in ({"prior": 0, "estimate": "mean"}, {"estimate": "mode"}):
        np.testing.assert_allclose(fitted(**options).probabilities, [0.8, 0, 0.2], rtol=1e-6)


def test_one_category_and_distances_to_what_was_lost():
    family = dirichlet_multinomial(1)
    params, _ = family.fit(jax.random.key(0), None, Counts(jnp.array([1]), jnp.arange(1)))
    assert float(params.probabilities[0]) == 1
    # A category far below the rounding of 1 is not lost: KL is finite, and right.
    family = dirichlet_multinomial(2, 0.01)
    model = CategoricalParams(jnp.array([1.0, 1e-30]), jnp.arange(2))
    real = cj.estimators.categorical_params([0.5, 0.5])
    exact = stats.entropy([0.5, 0.5], [1, 1e-30])
    ours = float(jax.jit(family.distances["kl_real_to_model"])(model, real))
    assert ours == pytest.approx(exact, rel=1e-5)


@pytest.mark.slow
def test_in_a_simulation_with_sources_of_categories():
    process = cj.generational_process(
        dirichlet_multinomial(3, 2.0),
        cj.sources.categorical(Q),
        cj.workflows.replace(),
        sample_size=4,
    )
    trace = cj.simulate(
        process,
        jax.random.key(0),
        generations=40,
        chains=3000,
        metrics=("heterozygosity", "support"),
        record=[40],
    )
    assert (trace["support"] == 3).all()
    limit = theory.bayesian.stationary_heterozygosity(4, [2.0, 2.0, 2.0])
    values = trace["heterozygosity"][:, -1]
    assert abs(values.mean() - limit) < 4 * values.std() / np.sqrt(3000)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prior": -1}, "prior is -1; it must be finite and at least 0"),
        ({"prior": float("inf")}, "prior is inf"),
        ({"prior": [1, 2]}, r"prior has shape \[2\]; it must be one number or \[3\]"),
        ({"prior": [1, -2, 1]}, r"prior\[1\] is -2.0; it must be finite and at least 0"),
        ({"prior": 0.5, "estimate": "mode"}, "prior is 0.5; it must be finite and at least 1"),
        ({"prior": 1, "estimate": "maximum_likelihood"}, "which ignores it"),
        ({"estimate": "median"}, "estimate is 'median'"),
        ({"prior": "a"}, "prior is 'a'"),
    ],
)
def test_what_means_nothing_is_refused(options, text):
    with pytest.raises(InputError, match=text):
        dirichlet_multinomial(3, **options)


def test_a_traced_prior_out_of_its_range_is_nan():
    counts = Counts(jnp.array([4, 0, 1]), jnp.arange(3))

    def fitted(prior):
        return dirichlet_multinomial(3, prior, "mean").fit(None, None, counts)[0].probabilities

    values = jax.vmap(fitted)(jnp.array([-1.0, 1.0, jnp.inf]))
    np.testing.assert_array_equal(np.isnan(values).all(1), [True, False, True])
    values = jax.vmap(fitted)(jnp.array([[-1.0, 1, 1], [1, 1, 1]]))
    np.testing.assert_array_equal(np.isnan(values).any(1), [True, False])
