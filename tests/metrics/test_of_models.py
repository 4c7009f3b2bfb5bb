"""Metrics that any family has, held against NumPy and derivatives by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.errors import InputError
from collapse_jax.estimators.exponential import exponential_params


def states(params):
    return cj.State(jnp.asarray(0), params, (), ())


def test_eigenvalues_of_draws():
    x = np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 0.3, 1e-3]
    family = cj.estimator(
        lambda key, params, data: (params, cj.FitInfo.exact()),
        lambda key, params, n: params["x"][:n] * params["scale"],
    )
    values = np.linalg.eigvalsh(np.cov(x.T))
    shares = values / values.sum()
    for scale in (1.0, 1e-30):  # the covariance is below the smallest float
        state = states({"x": jnp.asarray(x), "scale": scale})
        rank = cj.metrics.effective_rank(family, 40)(state)
        condition = cj.metrics.log_condition_number(family, 40)(state)
        assert rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-4)
        assert condition == pytest.approx(np.log(values[-1] / values[0]), rel=1e-2)
    collapsed = states({"x": jnp.ones((40, 3)), "scale": 1.0})
    assert cj.metrics.effective_rank(family, 40)(collapsed) == 0
    assert cj.metrics.log_condition_number(family, 40)(collapsed) == np.inf


def test_gradient_of_the_likelihood_by_hand():
    """log p = -log m - x/m, whose slope in log m is x/m - 1."""
    family = cj.estimators.exponential()
    x = np.array([0.5, 1.5, 4.0])
    norm = cj.metrics.gradient_norm(family, x)
    assert norm == cj.metrics.gradient_norm(family, x.copy()) and hash(norm)
    for mean in (2.0, 0.7):
        state = states(exponential_params(mean))
        assert jax.jit(norm)(state) == pytest.approx(abs(2.0 / mean - 1), abs=1e-6)
    without = cj.estimators.linear_regression(dim=2)
    if without.log_prob is None:
        with pytest.raises(InputError, match="needs a family with log_prob"):
            cj.metrics.gradient_norm(without, x)


def test_their_names():
    names = [
        metric.__name__
        for metric in (
            cj.metrics.effective_rank(cj.estimators.kde(dim=2)),
            cj.metrics.log_condition_number(cj.estimators.kde(dim=2)),
            cj.metrics.gradient_norm(cj.estimators.exponential(), np.ones(2)),
        )
    ]
    assert names == ["effective_rank", "log_condition_number", "gradient_norm"]
