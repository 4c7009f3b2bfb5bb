"""Diffusion, flow matching and normalizing flows: affine networks against `theory.denoising`,
densities against samples, and what is refused.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Dataset
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.diffusion import diffusion
from collapse_jax.estimators.flow_matching import flow_matching
from collapse_jax.estimators.learned import random_output
from collapse_jax.estimators.normalizing_flow import normalizing_flow
from collapse_jax.theory import denoising

KEY = jax.random.key(4)
CHAINS = 24
MIXING = np.array([[1.5, 0.6], [0.0, 0.5]])


def fitted(family, x, key=KEY, weight=None):
    data = Dataset(jnp.asarray(x, float), jnp.ones(len(x)) if weight is None else weight)
    return family.fit(key, family.init(key, data), data)[0]


@pytest.fixture(scope="module")
def chains():
    """Point sets [chains, 30, 2], and affine networks that one program fits to them."""
    x = np.random.default_rng(0).normal(size=(CHAINS, 30, 2)) @ MIXING + [0.4, -0.3]
    family = diffusion(
        2, levels=6, sampler="ddim", depth=0, steps=600, learning_rate=0.03, standardise=False
    )
    fit = jax.jit(jax.vmap(lambda key, x: fitted(family, x, key)))
    return x, fit(jax.random.split(KEY, CHAINS), jnp.asarray(x, jnp.float32))


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "ancestral_large"])
def test_affine_denoisers_are_those_of_least_squares(chains, sampler):
    """Mean and covariance of the law sampled, |z| < 4 over chains that each know their own law.

    What training leaves multiplies over the levels, so that a log variance errs by e and the
    variance by about e + e^2 / 2: the square of the relative error may be added.
    """
    x, networks = chains
    family = diffusion(2, levels=6, sampler=sampler, depth=0, standardise=False)
    mean = np.asarray(jax.vmap(family.metrics["mean"])(networks), float)
    variance = np.asarray(jax.vmap(family.metrics["variance"])(networks), float)
    laws = [
        denoising.sampled(one.mean(0), np.cov(one.T, ddof=0), 6, sampler=sampler, standardised=False)
        for one in x
    ]
    assert_near(mean, np.array([law.mean for law in laws]))
    assert_near(variance, np.array([np.trace(law.covariance) / 2 for law in laws]))
    spread = np.array([np.linalg.slogdet(law.covariance)[1] / 2 for law in laws])
    assert_near(np.asarray(jax.vmap(family.metrics["log_variance"])(networks), float), spread)
    # And no chain is far from its own, where the points' laws differ by far more.
    assert np.corrcoef(variance, [np.trace(law.covariance) for law in laws])[0, 1] > 0.98


def assert_near(found, exact):
    off = found - exact
    error = off.std(0, ddof=1) / np.sqrt(len(off))
    allowed = 4 * error + (off**2).mean(0) / np.maximum(np.abs(exact).mean(0), 1)
    assert (np.abs(off.mean(0)) < allowed).all(), (off.mean(0), allowed)
    assert (error < 0.02).all(), error  # so that the test can tell
