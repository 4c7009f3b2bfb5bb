"""Where real data comes from: the laws (|z| < 4, p > 1e-4), the fixed set, and the mistakes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core.types import Dataset
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import Counts
from collapse_jax.estimators.gaussian import GaussianParams, Moments, covariance, mean_vector

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.parametrize("dim", [2, 14])
def test_normal_draws_its_law(dim, assert_mean):
    mean, want = (
        (np.array([2.0, -1]), np.array([[2.0, 0.7], [0.7, 1.0]]))
        if dim == 2
        else (np.arange(14.0), np.eye(14) + 0.3)
    )
    source = sources.normal(mean, want)
    assert source.size is None and source.statistics is Moments
    x = np.asarray(source.sample(jax.random.key(0), 40_000), float)
    assert_mean(x, mean)
    assert_mean((x - mean)[:, :, None] * (x - mean)[:, None, :], want)

    def moments(key):
        drawn = source.draw(key, 5)
        return (
            drawn.count,
            mean_vector(drawn),
            drawn.divisor * covariance(GaussianParams(drawn.mean, drawn.log_scale, drawn.factor)),
        )

    count, means, scatters = jax.jit(jax.vmap(moments))(jax.random.split(jax.random.key(1), 5_000))
    assert (count == 5).all()
    assert_mean(means, mean)
    assert_mean(scatters, 4 * want)


def test_categorical_draws_its_law(chi_square_p):
    probabilities = [0.5, 0.0, 0.3, 0.2]
    source = sources.categorical(probabilities)
    assert source.size is None and source.statistics is Counts
    assert (
        chi_square_p(
            np.bincount(source.sample(jax.random.key(0), 40_000), minlength=4), probabilities
        )
        > 1e-4
    )
    assert chi_square_p(source.draw(jax.random.key(1), 40_000).counts, probabilities) > 1e-4


def test_a_population_of_an_estimator_without_draw(laplace):
    params = laplace.fit(jax.random.key(0), None, Dataset(jnp.arange(5.0), jnp.ones(5)))[0]
    source = sources.population(laplace, params)
    assert source.draw is None and source.statistics is Dataset
    np.testing.assert_array_equal(
        source.sample(jax.random.key(3), 7), laplace.sample(jax.random.key(3), params, 7)
    )


def test_a_fixed_set_gives_rows_in_random_order_without_replacement(chi_square_p):
    rows = np.arange(4.0)[:, None] * [1, 10]
    source = sources.dataset(rows)
    assert source.size == 4 and source.draw is None
    keys = jax.random.split(jax.random.key(0), 12_000)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: source.sample(key, 4)))(keys))
    np.testing.assert_array_equal(orders[..., 1], 10 * orders[..., 0])
    permutations = list(itertools.permutations(range(4)))
    code = orders[..., 0].astype(int) @ [64, 16, 4, 1]
    observed = np.bincount(code, minlength=256)[[np.dot(p, [64, 16, 4, 1]) for p in permutations]]
    assert observed.sum() == 12_000, "some rows came twice"
    assert chi_square_p(observed, np.full(24, 1 / 24)) > 1e-4
    np.testing.assert_array_equal(source.sample(keys[0], 2), orders[0, :2])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sources.categorical([0.5, 0.6]), ["probabilities", "[0.5, 0.6]", "sum to 1"]),
        (lambda: sources.categorical([1.5, -0.5]), ["probabilities", "-0.5", "non-negative"]),
        (lambda: sources.categorical([]), ["probabilities", "[]"]),
        (lambda: sources.categorical([[1.0]]), ["probabilities", "[[1.0]]", "[K]"]),
        (lambda: sources.categorical([float("nan"), 1.0]), ["probabilities", "nan"]),
        (lambda: sources.normal([0.0], [[-2.0]]), ["covariance", "-2.0"]),
        (lambda: sources.dataset(np.zeros((0, 3))), ["real data set", "(0, 3)"]),
        (lambda: sources.dataset(3.0), ["real data set", "()"]),
        (lambda: sources.dataset(np.zeros(3)).sample(jax.random.key(0), 5), ["5", "3"]),
    ],
)
def test_bad_input_is_named(make, words):
    with pytest.raises(InputError) as error:
        make()
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)
