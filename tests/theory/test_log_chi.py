"""Chi moments against SciPy and recurrences.

The law of the sums is tested with the Gaussian quantiles that use it.
"""

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import log_chi


def test_c4_recurrence_and_chi_moments():
    """c4(M) c4(M + 1) = sqrt((M - 1)/M) for each M, also across the switch to the series.

    Chi moments are SciPy's.
    """
    size = np.concatenate([np.arange(2, 300), [10**4, 10**6, 10**9]])
    pair = log_chi.log_c4(size) + log_chi.log_c4(size + 1)
    np.testing.assert_allclose(pair, np.log1p(-1 / size) / 2, rtol=0, atol=2e-13)
    assert log_chi.c4(2) == pytest.approx(np.sqrt(2 / np.pi), rel=1e-14)
    assert np.isnan(log_chi.c4(1))
    for degrees in (1, 4, 30):
        mean = stats.chi(degrees).expect(np.log)
        assert log_chi.log_chi_mean(degrees) == pytest.approx(mean, abs=1e-6)
        square = stats.chi(degrees).expect(lambda x, mean=mean: (np.log(x) - mean) ** 2)
        assert log_chi.log_chi_variance(degrees) == pytest.approx(square, rel=1e-5)


def test_mean_of_chi():
    for degrees in (1, 4, 30, 200):
        assert np.exp(log_chi.log_mean_chi(degrees)) == pytest.approx(
            stats.chi(degrees).mean(), rel=1e-12
        )
    assert np.isnan(log_chi.log_mean_chi(0))
