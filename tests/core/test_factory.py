"""What `cj.estimator` fills in for a newcomer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.core import points
from collapse_jax.core.factory import estimator
from collapse_jax.core.types import Dataset, FitInfo
from collapse_jax.estimators import linear_regression

pytestmark = pytest.mark.usefixtures("quick_compile")


def test_what_is_left_out_is_filled_in(laplace):
    assert (
        laplace.draw is None
        and laplace.subsample is None
        and laplace.statistics.kind is Dataset
        and laplace.traceable
    )
    assert laplace.init(jax.random.key(0), None) is None
    data = points.merge(
        laplace.summarise(jnp.arange(2.0), jnp.ones(2)),
        laplace.summarise(jnp.ones(1), jnp.zeros(1)),
    )
    pooled = laplace.merge(data, points.of_sample(jnp.array([9.0])))
    np.testing.assert_array_equal(pooled.x, [0, 1, 1, 9])
    np.testing.assert_array_equal(pooled.weight, [1, 1, 0, 1])


def test_what_is_given_is_kept():
    functions = {
        name: (lambda *arguments, name=name: name)
        for name in ("init", "summarise", "draw", "merge", "subsample", "continued")
    }
    made = estimator(len, len, metrics={"mean": max}, statistics=int, traceable=False, **functions)
    assert all(getattr(made, name) is function for name, function in functions.items())
    assert made.metrics == {"mean": max} and made.statistics.kind is int and not made.traceable


@pytest.mark.slow
def test_the_newcomer_fits_median_and_mean_deviation(laplace):
    rng = np.random.default_rng(0)
    for size in (1, 8, 13):
        x = rng.normal(size=size)
        data = Dataset(
            jnp.asarray(np.concatenate([x, [99.0, -99.0]])), jnp.asarray([1.0] * size + [0, 0])
        )
        params, _ = laplace.fit(jax.random.key(0), None, data)
        np.testing.assert_allclose(params.location, np.median(x), rtol=1e-5)
        np.testing.assert_allclose(
            params.scale, np.mean(np.abs(x - np.median(x))), rtol=1e-5, atol=1e-7
        )


def test_default_metrics_are_moments_of_4096_draws(laplace):
    params = laplace.fit(
        jax.random.key(0), None, points.of_sample(jnp.array([1.0, 2.0, 4.0, 9.0]))
    )[0]
    law = stats.laplace(float(params.location), float(params.scale))
    # standard errors of the mean and of the variance of 4096 Laplace draws (kurtosis 6)
    assert abs(laplace.metrics["mean"](params) - law.mean()) < 4 * law.std() / 64
    assert abs(laplace.metrics["variance"](params) / law.var() - 1) < 4 * np.sqrt(5) / 64
    np.testing.assert_allclose(
        laplace.metrics["log_variance"](params),
        np.log(laplace.metrics["variance"](params)),
        rtol=1e-5,
    )


def test_default_metrics_of_vectors(assert_mean):
    covariance = np.array([[2.0, 0.6], [0.6, 1.0]])
    root = jnp.asarray(np.linalg.cholesky(covariance))

    def sample(key, params, n):
        return jax.random.normal(key, (n, 2)) @ root.T + params

    pair = estimator(lambda key, params, data: (params, FitInfo.exact()), sample)
    assert_mean(pair.sample(jax.random.key(0), 3.0, 4096), [3, 3])
    assert pair.metrics["mean"](3.0).shape == (2,)
    np.testing.assert_allclose(pair.metrics["variance"](3.0), 1.5, rtol=0.15)
    np.testing.assert_allclose(
        pair.metrics["log_variance"](3.0), np.linalg.slogdet(covariance)[1] / 2, atol=0.15
    )


def test_keywords_of_version_0_1_0_are_taken_with_a_warning():
    with pytest.warns(DeprecationWarning, match="evidence is called statistics now"):
        made = estimator(len, len, evidence=int)
    assert made.statistics.kind is int
    with pytest.raises(TypeError, match="unexpected keyword argument 'unheard'"):
        estimator(len, len, unheard=1)


def test_estimators_print_what_they_are(laplace):
    assert repr(laplace) == "laplace"
    assert str(laplace).splitlines() == [
        "laplace",
        "  data: Dataset, computed from points",
        "  metrics: mean, variance, log_variance",
    ]
    host = estimator(len, len, name="mine", init=len, traceable=False, log_prob=len)
    assert str(host).splitlines()[-2:] == ["  also: log_prob", "  runs on the host (`cj.run`)"]


def test_an_option_that_came_later_is_no_part_of_a_name_where_it_has_its_default():
    """Folders of `cj.run` that began before know the family by its name."""
    plain = linear_regression(3)
    assert "resampled" not in plain.name
    rows = np.eye(5, 3)
    drawn = linear_regression(3, design=rows, resampled=True)
    assert "resampled=True" in drawn.name
