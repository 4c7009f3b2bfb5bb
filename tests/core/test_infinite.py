"""Chains without sampling error: what the paper says of them, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.errors import InputError
from collapse_jax.theory import mixture_projection

pytestmark = pytest.mark.usefixtures("quick_compile")
PAIR = ([0.3, 0.7], [-1.5, 1.0], [0.5, 0.8])
TRIPLE = ([0.6, 0.2, 0.2], [-1.5, 1.2, 3.0], [1.0, 0.5, 0.5])


def truth_of(weights, means, deviations):
    params = cj.estimators.gmm_params(weights, np.reshape(means, (-1, 1)), np.square(deviations))
    return cj.estimators.gmm(len(weights), 1), params


def mixture(state):
    """(weights, means, deviations) [3, K]."""
    params = state.params
    if hasattr(params, "weights"):
        return jnp.stack([params.weights, params.means[:, 0], params.factors])
    return jnp.stack([jnp.ones(1), jnp.stack(params.mean), jnp.exp(jnp.stack(params.log_scale))])


def chain(estimator, truth, generations, chains=1):
    """[3, generations + 1, K] of the first chain."""
    estimator, source = cj.infinite_sample(estimator, *truth_of(*truth), low=-15.0, high=15.0)
    process = cj.generational_process(estimator, source, cj.workflows.replace(), sample_size=100)
    trace = cj.simulate(
        process, jax.random.key(0), generations=generations, chains=chains, metrics=(mixture,)
    )
    return np.moveaxis(trace["mixture"][0].astype(float), 1, 0)


def test_one_gaussian_for_two_errs_in_the_first_generation_only():
    """Shumailov et al. 2024: KL(gen n) = KL(gen 1) to 1e-6, and gen 1 (here 0) has the moments of
    the truth.
    """
    found = chain(cj.estimators.gaussian(1, ddof=0), PAIR, 50, chains=2)
    mean, variance = mixture_projection.moments(PAIR)
    np.testing.assert_allclose(found[1:, 0, 0], (mean, np.sqrt(variance)), rtol=1e-5)
    kl = mixture_projection.kl(PAIR, tuple(found))
    assert kl[0] > 0.1
    np.testing.assert_allclose(
        kl, mixture_projection.kl_to_gaussian(PAIR, mean, variance)[0], atol=1e-6
    )
    np.testing.assert_allclose(kl[1:], kl[0], atol=1e-6)


def test_a_gaussian_of_a_gaussian_stays():
    assert (
        np.abs(
            mixture_projection.kl(
                ([1.0], [0.5], [2.0]),
                tuple(chain(cj.estimators.gaussian(1, ddof=0), ([1.0], [0.5], [2.0]), 50)),
            )
        ).max()
        < 1e-9
    )


def test_expectation_maximisation_of_a_density():
    """Each fit takes as many steps from the model before as float64 EM on the density itself."""
    fitted = cj.estimators.gmm(2, 1, "spherical", start="previous", steps=10, tolerance=0.0)
    start = truth_of([0.5, 0.5], [-0.5, 0.5], [2.0, 2.0])[1]
    found = chain(fitted._replace(init=lambda key, data: start), TRIPLE, 2)
    expected, law = (np.array([0.5, 0.5]), np.array([-0.5, 0.5]), np.array([2.0, 2.0])), TRIPLE
    for generation in range(3):
        expected = mixture_projection.population_em(law, expected, 10)
        law = expected
        np.testing.assert_allclose(found[:, generation], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            mixture_projection.kl(TRIPLE, tuple(found[:, generation])),
            mixture_projection.kl(TRIPLE, expected),
            rtol=1e-3,
        )


def test_bad_input():
    truth = truth_of(*PAIR)
    with pytest.raises(InputError, match="low is 1 and high is 1"):
        cj.infinite_sample(cj.estimators.gaussian(1), *truth, low=1, high=1)
    with pytest.raises(InputError, match="nodes is 1"):
        cj.infinite_sample(cj.estimators.gaussian(1), *truth, low=0, high=1, nodes=1)
    with pytest.raises(InputError, match="log_prob"):
        cj.infinite_sample(cj.estimators.vae(8, 8), *truth, low=0, high=1)
