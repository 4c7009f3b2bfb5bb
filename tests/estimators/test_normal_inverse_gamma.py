"""Normal-inverse-gamma: SciPy's conjugate laws, chains by theory, the prior as stationary law."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.errors import InputError
from collapse_jax.estimators.gaussian import GaussianParams, summarise
from collapse_jax.estimators.normal_inverse_gamma import normal_inverse_gamma

pytestmark = pytest.mark.usefixtures("quick_compile")
GENERATIONS, CHAINS = 5, 20_000
REFERENCE, PROPER = (0.0, 0.0, -0.5, 0.0), (1.0, 0.5, 3.0, 2.0)
NAMES = ("mean", "strength", "shape", "scale")


def chain(key, prior, mean, variance, size):
    """(means, log variances) [generations] of the models of a chain from N(mean, variance)."""
    family = normal_inverse_gamma(1, *prior)
    start = GaussianParams((mean,), (jnp.log(variance) / 2,), ())

    def step(params, key):
        draw, fit = jax.random.split(key)
        params, _ = family.fit(fit, params, family.draw(draw, params, size))
        return params, (params.mean[0], 2 * params.log_scale[0])

    return jax.lax.scan(step, start, jax.random.split(key, GENERATIONS))[1]


@functools.cache
def chains():
    """One program: (prior, mean, variance, size) -> (means, log variances) [chains, generations];
    all are traced.
    """
    program = jax.jit(jax.vmap(chain, (0, None, 0, 0, None)))
    keys = jax.random.split(jax.random.key(5), CHAINS)

    def simulated(prior, mean, variance, size):
        starts = (jnp.broadcast_to(jnp.asarray(one, float), CHAINS) for one in (mean, variance))
        found = program(keys, tuple(map(float, prior)), *starts, jnp.asarray(size, float))
        return (np.asarray(one, float) for one in found)

    return simulated


@pytest.mark.parametrize("prior", [REFERENCE, PROPER, (0.0, 0.0, 4.0, 0.0), (0.0, 0.0, 1.0, 3.0)])
def test_moments_are_those_of_theory(prior, assert_mean):
    size = 12
    mean, log_variance = chains()(prior, 0.5, 2.0, size)
    options = dict(zip(NAMES, prior, strict=True))
    exact = theory.bayesian.gaussian_moments(
        np.arange(GENERATIONS), size, population_mean=0.5, population_variance=2.0, **options
    )
    assert_mean(np.exp(log_variance), exact[0])
    assert_mean((mean - prior[0]) ** 2, exact[1])
    if prior[3] == 0 and prior[1] == 0:
        drift, noise = theory.bayesian.log_variance_walk(size, shape=prior[2])
        steps = np.diff(log_variance, axis=1)
        assert_mean(steps, drift)
        assert_mean((steps - drift) ** 2, noise)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_prior_is_stationary(size):
    """For every sample size, one point included; from SciPy's draws of the prior."""
    center, strength, shape, scale = PROPER
    variance = stats.invgamma(shape, scale=scale).rvs(CHAINS, random_state=1)
    start = center + np.sqrt(variance / strength) * np.random.default_rng(2).normal(size=CHAINS)
    mean, log_variance = chains()(PROPER, start, variance, size)
    last = np.exp(log_variance[:, -1])
    assert stats.kstest(last, stats.invgamma(shape, scale=scale).cdf).pvalue > 1e-4
    law = stats.t(2 * shape, loc=center, scale=np.sqrt(scale / (shape * strength)))
    assert stats.kstest(mean[:, -1], law.cdf).pvalue > 1e-4
    standard = (mean[:, -1] - center) * np.sqrt(strength / last)
    assert stats.kstest(standard, "norm").pvalue > 1e-4


def test_the_median_does_not_move_without_a_prior():
    for size in (2, 12):
        _, log_variance = chains()(REFERENCE, 0.0, 3.0, size)
        above = np.mean(log_variance > np.log(3.0), axis=0)
        assert np.abs(above - 0.5).max() < 4 * 0.5 / np.sqrt(CHAINS)


def test_a_collapsed_chain_comes_back_with_a_proper_prior_alone():
    for prior, alive in ((REFERENCE, False), (PROPER, True)):
        mean, log_variance = chains()(prior, 0.5, 0.0, 7)
        assert np.isfinite(log_variance).all() == alive and not np.isnan(mean).any()
        if not alive:
            assert (log_variance == -np.inf).all() and (mean == 0.5).all()
    # One point: no variance without a prior, and the point is the mean.
    _, log_variance = chains()(REFERENCE, 0.5, 2.0, 1)
    assert (log_variance == -np.inf).all()
    # An improper posterior is nan: one point under a prior that has a scale, and no shape.
    _, log_variance = chains()((0.0, 0.0, -0.5, 1.0), 0.5, 2.0, 1)
    assert np.isnan(log_variance).all()


@pytest.mark.slow
@pytest.mark.parametrize("dim", [2, 13])
def test_several_dimensions_are_inverse_wishart(dim, unpacked, assert_mean):
    rng, size = np.random.default_rng(dim), dim + 6
    x = rng.normal(size=(size, dim)) @ rng.normal(size=(dim, dim))
    center, strength, shape, scale = 0.5, 2.0, 1.0, 0.7
    family = normal_inverse_gamma(dim, center, strength, shape, scale)
    moments = summarise(jnp.asarray(x, jnp.float32), jnp.ones(size), dim)
    keys = jax.random.split(jax.random.key(1), 4000)
    params = jax.jit(jax.vmap(lambda key: family.fit(key, None, moments)[0]))(keys)
    mean, covariance, *_ = unpacked(params, dim)
    average = x.mean(0)
    apart = np.outer(average - center, average - center)
    matrix = 2 * scale * np.eye(dim) + (x - average).T @ (x - average)
    matrix = matrix + strength * size / (strength + size) * apart
    law = stats.invwishart(2 * shape + size, matrix)
    assert_mean(covariance, law.mean(), sigmas=5 if dim > 2 else 4)  # of 169 entries
    theirs = law.rvs(4000, random_state=1)
    for one in (lambda c: np.linalg.slogdet(c)[1], lambda c: c[:, 0, 0], lambda c: c[:, 0, 1]):
        assert stats.ks_2samp(one(covariance), one(theirs)).pvalue > 1e-4
    centre = (strength * center + size * average) / (strength + size)
    z = np.linalg.solve(np.linalg.cholesky(covariance), (mean - centre)[..., None])[..., 0]
    z = z * np.sqrt(strength + size)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4


def test_mean_and_mode_of_the_posterior(unpacked):
    x = np.array([[0.3, 1.0], [2.0, -1.0], [1.1, 0.4], [0.0, 3.0]], np.float32)
    moments = summarise(jnp.asarray(x), jnp.ones(4), 2)
    average, scatter = x.mean(0), (x - x.mean(0)).T @ (x - x.mean(0))
    apart = 4 / 5 * np.outer(average - [1, 2], average - [1, 2])
    matrix = 2 * 3.0 * np.eye(2) + scatter + apart
    families = {
        estimate: normal_inverse_gamma(2, [1.0, 2.0], 1.0, 2.5, 3.0, estimate=estimate)
        for estimate in ("mean", "mode")
    }
    # A posterior mean that is infinite is nan: dim + 1 >= M + 2 shape.
    families["improper"] = normal_inverse_gamma(2, 0.0, 1.0, -0.5, 1.0, estimate="mean")
    fits = {name: family.fit for name, family in families.items()}
    fitted = jax.jit(lambda data: {name: fit(None, None, data)[0] for name, fit in fits.items()})
    models = fitted(moments)
    for estimate, divisor in (("mean", 2 * 2.5 + 4 - 3), ("mode", 2 * 2.5 + 4 + 4)):
        mean, covariance, *_ = unpacked(models[estimate], 2)
        np.testing.assert_allclose(covariance, matrix / divisor, rtol=1e-5)
        np.testing.assert_allclose(mean, (4 * average + [1, 2]) / 5, rtol=1e-5)
    family = normal_inverse_gamma(2, estimate="maximum_likelihood")
    _, covariance, *_ = unpacked(family.fit(None, None, moments)[0], 2)
    np.testing.assert_allclose(covariance, scatter / 4, rtol=1e-5)
    assert np.isnan(models["improper"].log_scale).all()


@pytest.mark.slow
def test_in_a_simulation_and_by_points():
    """The same law where the points are drawn."""
    process = cj.generational_process(
        normal_inverse_gamma(*(1, *PROPER), by="points"),
        cj.sources.normal(0.0, 1.0),
        cj.workflows.replace(),
        sample_size=5,
    )
    trace = cj.simulate(
        process,
        jax.random.key(2),
        generations=40,
        chains=2000,
        metrics=("variance", "wasserstein2"),
        record=[40],
    )
    last = trace["variance"][:, -1]
    assert stats.kstest(last, stats.invgamma(PROPER[2], scale=PROPER[3]).cdf).pvalue > 1e-4
    assert np.isfinite(trace["wasserstein2"]).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strength": -1}, "strength is -1; it must be a finite number of at least 0"),
        ({"scale": -1}, "scale is -1"),
        ({"shape": float("nan")}, "shape is nan"),
        ({"mean": 3}, "mean is 3.0 with strength 0, which ignores it"),
        ({"dim": 2, "mean": [1, 2, 3], "strength": 1}, r"mean has shape \[3\]"),
        ({"estimate": "maximum_likelihood", "scale": 1}, "which ignores it"),
        ({"estimate": "median"}, "estimate is 'median'"),
        ({"by": "relative"}, "by is 'relative'"),
    ],
)
def test_what_means_nothing_is_refused(options, text):
    with pytest.raises(InputError, match=text):
        normal_inverse_gamma(**options)


def test_traced_options_out_of_range_are_nan():
    moments = summarise(jnp.array([[1.0], [2.0], [4.0]]), jnp.ones(3), 1)

    def fitted(strength, scale):
        family = normal_inverse_gamma(1, 0.0, strength, 2.0, scale, estimate="mode")
        params, _ = family.fit(None, None, moments)
        return params.mean[0] + params.log_scale[0]

    values = jax.jit(jax.vmap(fitted))(jnp.array([1.0, -1.0, 1.0]), jnp.array([1.0, 1.0, -1.0]))
    np.testing.assert_array_equal(np.isnan(values), [False, True, True])
