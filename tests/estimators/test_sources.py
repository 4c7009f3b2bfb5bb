"""Where real data comes from: the laws (|z| < 4, p > 1e-4), the fixed set, and the mistakes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.core.types import Dataset
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import Counts
from collapse_jax.estimators.gaussian import GaussianParams, Moments, covariance, mean_vector
from collapse_jax.estimators.gmm import gmm, gmm_params

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
        (lambda: sources.normal([1.7e9], [[100.0]]), ["1700000000", "deviation 10", "128 apart"]),
        (lambda: sources.normal([0, 1e6], np.diag([1, 1e-4])), ["1000000", "0.0625 apart"]),
        (
            lambda: sources.population(gmm(1, 1), gmm_params([1.0], [[1e6]], [1e-4])),
            ["1000000", "0.0625 apart"],
        ),
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


E = cj.estimators
TOKENS = np.random.default_rng(0).integers(0, 20, (5, 16))
OTHERS = {
    "six categories of four": (E.categorical(4), lambda: sources.categorical(np.full(6, 1 / 6))),
    "three categories of four": (E.categorical(4), lambda: sources.categorical(np.full(3, 1 / 3))),
    "six weights for four": (
        E.categorical(4),
        lambda: sources.population(E.categorical(4), E.categorical_params(np.full(6, 1 / 6))),
    ),
    "two dimensions for one": (
        E.gaussian(1),
        lambda: sources.population(E.gaussian(1), E.gaussian_params([0, 0], np.eye(2))),
    ),
    "a normal of two dimensions": (E.gaussian(1), lambda: sources.normal([0, 0], np.eye(2))),
    "mixtures of two dimensions": (
        E.gmm(2, 1),
        lambda: sources.population(E.gmm(1, 2), E.gmm_params([1.0], [[0.0, 0.0]], np.eye(2)[None])),
    ),
    "means of two dimensions": (
        E.gaussian_mean(1.0),
        lambda: sources.population(E.gaussian_mean(np.eye(2)), E.gaussian_mean_params([0, 0])),
    ),
    "a kernel of two dimensions": (
        E.kde(1),
        lambda: sources.population(*cj.estimators.FAMILIES["kde"].example()),
    ),
    "three features": (
        E.linear_regression(2),
        lambda: sources.population(E.linear_regression(3), E.regression_params([1, 2, 3])),
    ),
    "three features of labels": (
        E.logistic_regression(2),
        lambda: sources.population(E.logistic_regression(3), E.logistic_params([1, 2, 3])),
    ),
    "twenty tokens of ten": (
        E.ngram(2, 10, 16),
        lambda: sources.population(E.ngram(2, 20, 16), E.ngram_params(2, 20, TOKENS)),
    ),
    "a vocabulary of its own": (
        E.ngram(2, 10, 16),
        lambda: sources.population(E.ngram(2, 10, 16), E.ngram_params(2, 20, TOKENS)),
    ),
    "longer blocks": (
        E.ngram(2, 20, 12),
        lambda: sources.population(E.ngram(2, 20, 16), E.ngram_params(2, 20, TOKENS)),
    ),
    "negative numbers": (E.exponential(), lambda: sources.normal([0.0], [[1.0]])),
    "numbers for labels": (E.categorical(4), lambda: sources.normal([0.0], [[1.0]])),
    "counts for outcomes": (
        E.bernoulli(),
        lambda: sources.population(E.poisson(), E.poisson_params(2.5)),
    ),
    "a tail from lower down": (
        E.pareto(2.0),
        lambda: sources.population(E.pareto(1.0), E.pareto_params(3.0)),
    ),
    "a function that gives nan": (
        E.gaussian(1),
        lambda: cj.Source(lambda key, n: jnp.full((n, 1), jnp.nan)),
    ),
    "a function that gives nothing": (E.gaussian(1), lambda: cj.Source(lambda key, n: None)),
    "a function that gives too many": (
        E.gaussian(1),
        lambda: cj.Source(lambda key, n: jnp.zeros((n + 1, 1))),
    ),
    "a function of other rows": (
        E.gaussian(2),
        lambda: cj.Source(lambda key, n: jax.random.normal(key, (n, 3))),
    ),
    "a tuple for parameters": (E.gaussian(1), lambda: sources.population(E.gaussian(1), (0, 1))),
    "no parameters": (E.poisson(), lambda: sources.population(E.poisson(), None)),
    "nan for a rate": (
        E.poisson(),
        lambda: sources.population(E.poisson(), E.poisson_params(1)._replace(rate=jnp.nan)),
    ),
}
WORDS = {
    "six categories of four": ["6 categories", "4"],
    "three categories of four": ["(3,)", "(4,)", "one size"],
    "six weights for four": ["6 categories", "the family has 4"],
    "two dimensions for one": ["2 dimensions", "the family has 1"],
    "twenty tokens of ten": ["20 tokens", "10"],
    "longer blocks": ["shape [16]", "shape [12]"],
    "negative numbers": ["first draw", "is -", "at least 0"],
    "numbers for labels": ["first draw", "labels 0, 1, 2, 3"],
    "counts for outcomes": ["first draw", "0 and 1"],
    "a tail from lower down": ["first draw", "is 1.", "at least 2"],
    "a function that gives nan": ["x[0, 0] is nan"],
    "a function that gives nothing": ["None when asked for 100"],
    "a function that gives too many": ["[101, 1] when asked for 100"],
    "a tuple for parameters": ["(0, 1)", "gaussian(dim=1"],
    "nan for a rate": ["params.rate", "is nan"],
}


@pytest.mark.parametrize("name", OTHERS)
def test_sources_of_another_size_or_support_are_refused(name):
    family, source = OTHERS[name]
    with pytest.raises(InputError) as error:
        cj.generational_process(family, source(), cj.workflows.replace(), sample_size=100)
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in WORDS.get(name, [])), text


def test_sources_that_fit_are_taken_in_the_familys_form():
    def process(family, source):
        return cj.generational_process(family, source, cj.workflows.replace(), sample_size=40)

    counts = sources.population(E.poisson(), E.poisson_params(2.5))
    scalars = cj.Source(lambda key, n: jax.random.normal(key, (n,)))
    key = jax.random.key(1)
    for family, source in ((E.kde(1), counts), (E.kde(1), scalars), (E.gaussian(1), scalars)):
        held = process(family, source).parts.source
        x = held.sample(key, 7)
        assert x.shape == (7, 1) and x.dtype == jnp.float32
        np.testing.assert_array_equal(x[:, 0], source.sample(key, 7))
    # A tail from higher up is in the support, and its statistics are of another minimum.
    steep = sources.population(E.pareto(2.0), E.pareto_params(3.0))
    made = process(E.pareto(1.0), steep)
    assert made.metrics["kl_model_to_real"] is None
    shape = float(made.metrics["shape"](made.init(key)[0].params))
    real_key = jax.random.split(key, 3)[0]
    want = 1 / np.log(np.asarray(steep.sample(real_key, 40), float)).mean()
    np.testing.assert_allclose(shape, want, rtol=1e-5)
    same = process(E.pareto(1.0), sources.population(E.pareto(1.0), E.pareto_params(3.0)))
    assert same.metrics["kl_model_to_real"] is not None
