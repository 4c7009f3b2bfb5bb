"""Numbers of other generators, which a compiled program would keep for ever, are found."""

import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj

pytestmark = pytest.mark.usefixtures("quick_compile")


def normal(key, params, n):
    return params[0] + params[1] * jax.random.normal(key, (n,))


def fit(key, params, data):
    mean = jnp.average(data.x, weights=data.weight)
    variance = jnp.average((data.x - mean) ** 2, weights=data.weight)
    return jnp.stack([mean, jnp.sqrt(variance)]), cj.FitInfo.exact()


def compiled(function):
    return jax.jit(function, static_argnums=2)


def fitted_with(noise):
    inner = jax.jit(lambda key, params, data: fit(key, params, data)[0] * (1 + noise()))
    return lambda key, params, data: (inner(key, params, data), cj.FitInfo.exact())


IMPURE = {
    "np.random": lambda key, params, n: params[0] + np.random.normal(size=n),
    "np.random beside the key": lambda key, params, n: normal(key, params, n) + np.random.rand(n),
    "one number": lambda key, params, n: normal(key, params, n) + random.random(),
    # Compiled once, so that each call gives the same: what a simulation would do.
    "compiled": compiled(lambda key, params, n: normal(key, params, n) + np.random.rand(n)),
    "compiled, one number": compiled(
        lambda key, params, n: normal(key, params, n) + random.random()
    ),
    "compiled, time": compiled(lambda key, params, n: normal(key, params, n) + time.time() % 1),
}


def held(fit, sample):
    return cj.check_estimator(lambda: cj.estimator(fit, sample), only=("is_pure",))


@pytest.mark.parametrize("name", IMPURE)
def test_a_sample_with_another_generator(name):
    with pytest.raises(AssertionError, match=r"is_pure: .*sample .*np\.random"):
        held(fit, IMPURE[name])


def test_a_fit_with_another_generator():
    with pytest.raises(
        AssertionError, match=r"is_pure: .*fit takes numbers from a source other than its key"
    ):
        held(fitted_with(np.random.rand), normal)


def test_constants_of_ones_own_are_allowed():
    table = np.random.default_rng(0).normal(size=4)
    assert held(fit, compiled(lambda key, params, n: normal(key, params, n) + table[0])) == (
        "is_pure",
    )
