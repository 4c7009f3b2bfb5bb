"""Least squares on partly wrong labels, by simulation."""

import numpy as np
import pytest

from collapse_jax.theory import regression, wrong_labels


def test_simulated_least_squares():
    rng, chains, size, dim, share, offset = np.random.default_rng(5), 20_000, 12, 3, 0.3, 2.0
    x = rng.normal(size=(chains, size, dim))
    wrong = rng.random((chains, size)) < share
    labels = wrong * x[..., 0] * offset + rng.normal(size=(chains, size))
    fitted = np.einsum("cij,cj->ci", np.linalg.pinv(x), labels)
    found = np.sum(fitted**2, 1)
    exact = wrong_labels.expected_test_error(size, dim, share, offset)
    assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(chains)


def test_ends():
    clean = wrong_labels.expected_test_error(20, 3, 0.0, 5.0)
    assert clean == pytest.approx(regression.expected_test_error(0, 20, 3))
    many = wrong_labels.expected_test_error(10**8, 3, 0.01, 5.0)
    assert many == pytest.approx(wrong_labels.floor(0.01, 5.0), rel=1e-3)
    few = wrong_labels.expected_test_error([4, 20], 3, 0.0, 1.0)
    np.testing.assert_allclose(few, [np.inf, clean])
    with pytest.raises(ValueError, match="sample_size must be at least 1, got 0"):
        wrong_labels.expected_test_error(0, 3, 0.1, 1.0)
    assert wrong_labels.expected_test_error(30, 3, 1.0, 2.0, noise=0) == pytest.approx(4.0)
