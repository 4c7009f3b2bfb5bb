"""Poisson regression on generated counts: fits, moments, checks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import collapse_jax as cj
from collapse_jax.core.types import Dataset
from collapse_jax.errors import InputError
from collapse_jax.estimators.poisson_regression import poisson_regression, poisson_regression_params

pytestmark = pytest.mark.usefixtures("quick_compile")
WEIGHTS = np.array([0.5, -0.4, 0.2])
REAL = poisson_regression_params(WEIGHTS)


def points(n, weights=WEIGHTS, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(weights)))
    return np.concatenate([x, rng.poisson(np.exp(x @ weights))[:, None]], axis=1)


@functools.cache
def program(dim, penalty):
    family = poisson_regression(dim, penalty=penalty)
    return jax.jit(lambda x, weight: family.fit(None, None, Dataset(x, weight)))


def fit_of(x, weight=None, penalty=0.0):
    weight = np.ones(len(x)) if weight is None else weight
    arrays = jnp.asarray(x, jnp.float32), jnp.asarray(weight, jnp.float32)
    return program(x.shape[1] - 1, penalty)(*arrays)


def loss(w, x, weight, penalty):
    log_rate = x[:, :-1] @ w
    rows = np.exp(log_rate) - x[:, -1] * log_rate
    return rows @ weight / weight.sum() + penalty / 2 * w @ w


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_a_fit_is_that_of_a_minimiser(penalty):
    weight = np.r_[np.ones(60), np.full(40, 0.25), np.zeros(20)]
    x = points(120)
    # 20 steps of Newton from far off, and counts up to some hundred.
    x[0] = [3.0, -2.0, 1.0, 250]
    want = optimize.minimize(loss, np.zeros(3), (x, weight, penalty), tol=1e-10, method="BFGS").x
    spoilt = x.copy()
    spoilt[weight == 0] = np.nan
    params, info = fit_of(spoilt, weight, penalty)
    np.testing.assert_allclose(params.weights, want, rtol=1e-4, atol=1e-4)
    assert info.converged and info.iterations <= 15
    assert info.loss == pytest.approx(loss(want, x, weight, penalty), rel=1e-4)


def test_a_fit_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, weight = points(200, seed=1), np.r_[np.ones(100), np.full(100, 0.4)]
    fit = linear_model.PoissonRegressor(alpha=0.1, fit_intercept=False, tol=1e-10, max_iter=1000)
    want = fit.fit(x[:, :-1], x[:, -1], weight).coef_
    np.testing.assert_allclose(fit_of(x, weight, 0.1)[0].weights, want, rtol=1e-3, atol=1e-4)


def test_collapsed_samples_give_no_nan():
    for x in (points(1), np.zeros((3, 4)), np.c_[np.ones((6, 3)), np.zeros(6)], points(20) * 0):
        for weight in (np.ones(len(x)), np.zeros(len(x))):
            params, info = fit_of(x, weight)
            assert np.isfinite(params.weights).all() and np.isfinite(info.loss)
    assert not fit_of(np.c_[np.random.default_rng(0).normal(size=(9, 3)), np.zeros(9)])[1].converged


def test_moments_and_distances():
    """Those of a count over N(0, I), beside integrals by sampling in NumPy."""
    family = poisson_regression(3)
    x = points(400_000, seed=2)
    metrics = {name: float(family.metrics[name](REAL)) for name in ("mean", "variance")}
    counts = x[:, -1]
    for name, value, error in (
        ("mean", counts.mean(), counts.std() / 632),
        ("variance", counts.var(), ((counts - counts.mean()) ** 2).std() / 632),
    ):
        assert abs(metrics[name] - value) < 4 * error
    assert float(family.metrics["log_variance"](REAL)) == pytest.approx(np.log(metrics["variance"]))
    other = np.array([0.3, -0.4, 0.4])
    excess = [
        np.exp(x[:, :3] @ w) - np.exp(x[:, :3] @ WEIGHTS) * (x[:, :3] @ w) for w in (other, WEIGHTS)
    ]
    ours = float(family.distances["excess_log_loss"](poisson_regression_params(other), REAL))
    difference = excess[0] - excess[1]
    assert abs(ours - difference.mean()) < 4 * difference.std() / 632
    assert float(family.distances["excess_log_loss"](REAL, REAL)) == 0
    assert float(
        family.distances["squared_distance"](poisson_regression_params(other), REAL)
    ) == pytest.approx(0.08)


def test_moments_over_a_design():
    design = points(30)[:, :3]
    rate = np.exp(design @ WEIGHTS)
    family = poisson_regression(3, design)
    assert float(family.metrics["mean"](REAL)) == pytest.approx(rate.mean(), rel=1e-5)
    variance = rate.mean() + rate.var()
    assert float(family.metrics["variance"](REAL)) == pytest.approx(variance, rel=1e-5)
    x = family.sample(jax.random.key(0), REAL, 30)
    np.testing.assert_allclose(x[:, :3], design, rtol=1e-6)


def test_log_prob_and_samples():
    family = poisson_regression(3)
    x = np.array(family.sample(jax.random.key(1), REAL, 20_000), float)
    rate = np.exp(x[:, :3] @ WEIGHTS)
    z = (x[:, 3] - rate).sum() / np.sqrt(rate.sum())
    assert abs(z) < 4 and np.array_equal(x[:, 3], np.floor(x[:, 3])) and x[:, 3].min() == 0
    ours = family.log_prob(REAL, jnp.asarray(x[:50]))
    want = stats.poisson.logpmf(x[:50, 3], rate[:50]) + stats.norm.logpdf(x[:50, :3]).sum(1)
    np.testing.assert_allclose(ours, want, rtol=1e-4)
    assert family.log_prob(REAL, jnp.array([[0, 0, 0, 1.5], [0, 0, 0, -1.0]])).tolist() == [
        -np.inf,
        -np.inf,
    ]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: poisson_regression(0), "dim is 0"),
        (lambda: poisson_regression(2, penalty=-1), "penalty is -1"),
        (lambda: poisson_regression(2, steps=0), "steps is 0"),
        (lambda: poisson_regression_params([[1.0]]), "weights"),
        (lambda: made(np.c_[points(20)[:, :3], np.full(20, -1)]), r"x\[0, 3\] is -1.*counts 0, 1"),
        (lambda: made(np.c_[points(20)[:, :3], np.full(20, 0.5)]), r"x\[0, 3\] is 0.5.*counts"),
        (lambda: made(points(20)[:, 1:]), "rows of 3 features"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(InputError, match=says) as error:
        call()
    assert "\n" not in str(error.value)


def made(x):
    return cj.generational_process(
        poisson_regression(3), cj.sources.dataset(x), cj.workflows.replace(), sample_size=10
    )
