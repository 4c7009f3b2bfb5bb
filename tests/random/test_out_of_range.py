"""Arguments outside their range are marked as `jax.random` does: -1 for counts, else nan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.random import chi_square, exponential, poisson, wishart
from collapse_jax.random.binomial import binomial
from collapse_jax.random.multinomial import (
    multinomial,
    multinomial_of_categories,
    multivariate_hypergeometric,
)

KEY = jax.random.key(0)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("traced", [False, True])
def test_binomial(traced):
    n = np.array([5.0, 5, 5, 5, -1, NAN, 2.0**31, INF, 5, 0])
    p = np.array([-0.1, 1.1, NAN, INF, 0.5, 0.5, 0.5, 0.5, 1, 0.5])
    marked = np.isnan(np.asarray(jax.random.binomial(KEY, n[:6], p[:6])))
    assert marked.all()
    draw = jax.jit(binomial, static_argnames="shape") if traced else binomial
    counts = draw(KEY, n, p, shape=(10,))
    assert counts.tolist() == [-1] * 8 + [5, 0]
    assert binomial(KEY, 2**31, 0.5) == -1 and binomial(KEY, -1, 1.0) == -1
    assert binomial(KEY, jnp.uint32(2**31), 0.5) == -1


def test_poisson():
    means = jnp.array([-1.0, 0, NAN, INF])
    expected = jax.random.poisson(KEY, means).tolist()
    assert poisson.poisson(KEY, means, (4,)).tolist() == expected == [-1, 0, -1, 2**31 - 1]
    average = jax.jit(jax.vmap(poisson.average_of_poissons, (None, 0, 0)))
    means = average(KEY, jnp.array([3, 3, -1, NAN, 0]), jnp.array([-1, NAN, 1, 1, 1]))
    np.testing.assert_array_equal(means, [NAN, NAN, NAN, NAN, 0])


def test_gamma_and_chi_square():
    a = jnp.array([-1.0, NAN, 0.0, INF, 2.0])
    names = ["gamma", "log_gamma", "chi_square"]
    draw = jax.jit(lambda a: [getattr(chi_square, name)(KEY, a, (5,)) for name in names])
    for ours, name in zip(draw(a), ["gamma", "loggamma", "chisquare"], strict=True):
        expected = np.asarray(getattr(jax.random, name)(KEY, a[2]))
        np.testing.assert_array_equal(np.isnan(ours), [True, True, False, False, False])
        assert ours[2] == expected


@jax.jit
def of_traced(degrees):
    """What is drawn with traced degrees of freedom, or as many exponentials."""
    return [
        chi_square.log_chi_square(KEY, degrees, (2,)),
        wishart.wishart_factor(KEY, degrees, 2),
        wishart.wishart_factor(KEY, degrees, 6),
        exponential.log_mean_of_exponentials(KEY, degrees),
    ]


def test_negative_degrees_of_freedom():
    for degrees in (-1.0, NAN):
        assert all(np.isnan(drawn).all() for drawn in of_traced(jnp.float32(degrees)))
        assert np.isnan(chi_square.log_chi_square(KEY, degrees, (2,))).all()
        assert np.isnan(wishart.wishart_factor(KEY, degrees, 2)).all()
    assert of_traced(jnp.float32(0))[3] == -INF
    assert np.isnan(chi_square.log_chi(KEY, -1))
    assert np.isnan(exponential.log_mean_of_exponentials(KEY, -1))


def test_dirichlet_and_multinomial():
    weights = jnp.array([[-1.0, 0, 1], [NAN, 1, 1], [0.0, 0, 0], [INF, 1, 1], [0, 1, 0]])
    concentrations = jax.jit(jax.vmap(lambda w: chi_square.dirichlet(KEY, w)))(weights)
    np.testing.assert_array_equal(concentrations, [[NAN] * 3] * 4 + [[0, 1, 0]])
    for n, method in [(5, "binomials"), (5, "individuals"), (5000, "individuals")]:
        draw = jax.jit(jax.vmap(lambda w, n=n, m=method: multinomial(KEY, n, w, method=m)))
        assert draw(weights).tolist() == [[-1] * 3] * 4 + [[0, n, 0]]


def test_integer_weights():
    good, numbers = jnp.array([1, 0, 2]), jnp.arange(3)
    for n in (-1, 2**31):
        assert multinomial_of_categories(KEY, n, good, numbers).tolist() == [-1] * 3
        assert multinomial(KEY, n, good).tolist() == [-1] * 3
    draw = jax.jit(multinomial)
    assert draw(KEY, jnp.float32(NAN), good).tolist() == [-1] * 3
    for n, bad in [(-1, [1, 0, 2]), (4, [1, -1, 2]), (4, [0, 0, 0])]:
        assert draw(KEY, n, jnp.array(bad)).tolist() == [-1] * 3
    assert draw(KEY, 0, jnp.zeros(3, int)).tolist() == [0, 0, 0]


def test_multivariate_hypergeometric():
    draw = jax.jit(multivariate_hypergeometric)
    for counts, n in [([1, 2], 4), ([1, 2], -1), ([-1, 5], 2)]:
        assert draw(KEY, jnp.array(counts), n).tolist() == [-1, -1]
    assert draw(KEY, jnp.array([1, 2]), 3).tolist() == [1, 2]
