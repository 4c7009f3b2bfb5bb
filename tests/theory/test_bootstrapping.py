"""Curated rounds by simulation, and the best budget against others."""

import numpy as np
import pytest
from scipy import optimize

from collapse_jax.theory import bootstrapping


def test_rounds_by_simulation():
    rng, chains, width = np.random.default_rng(0), 4_000, 1.5
    rate, sizes = width**2 / (width**2 + 1), [5, 9]
    means = np.full(chains, 1.5)
    squares = [means**2]
    for size in sizes:
        x = means[:, None] + rng.normal(size=(chains, 40 * size))
        kept = rng.random(x.shape) < np.exp(-(x**2) / (2 * width**2))
        first = np.cumsum(kept, 1) <= size
        assert np.all(kept.sum(1) >= size)
        means = np.sum(x * (kept & first), 1) / size
        squares.append(means**2)
    exact = bootstrapping.expected_squared_error(sizes, rate, first=1.5**2)
    for found, value in zip(squares[1:], exact[1:], strict=True):
        assert abs(found.mean() - value) < 4 * found.std() / np.sqrt(chains)


def test_no_budget_is_better():
    rate, budget = 0.7, 50.0

    def error(logits):
        sizes = budget * np.exp(logits) / np.exp(logits).sum()
        return bootstrapping.expected_squared_error(sizes, rate, first=2.0)[-1]

    found = optimize.minimize(error, np.zeros(6), tol=1e-12)
    best = bootstrapping.best_sizes(budget, 6, rate)
    assert error(np.log(best)) == pytest.approx(found.fun, rel=1e-8)
    np.testing.assert_allclose(best[1:] / best[:-1], 1 / rate)


def test_what_is_no_budget_is_refused():
    with pytest.raises(ValueError, match=r"rate must be in \(0, 1\)"):
        bootstrapping.expected_squared_error([1], 1.0, first=1.0)
