"""Exponential variates and their means against SciPy."""

import jax
import numpy as np
import pytest
from scipy import special, stats

from collapse_jax.random.exponential import exponential_vector, log_mean_of_exponentials

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(71)


def test_variates_have_their_law_in_both_tails(fit_of_reals, assert_fits):
    x = np.asarray(exponential_vector(KEY, 2 * 10**6), np.float64)
    small = x[x < 1e-3]
    given_small = stats.uniform(0, 1e-3).cdf(
        np.asarray(small)
    )  # to 1e-3 relative: the density hardly falls there
    tails = {
        "all": fit_of_reals(x, stats.expon.cdf),
        "log": fit_of_reals(np.log(x), lambda t: -np.expm1(-np.exp(t))),
    }
    assert_fits(tails | {"small": stats.kstest(given_small, "uniform").pvalue})
    assert len(np.unique(small)) > 0.99 * len(small) and x.min() > 0


@pytest.mark.parametrize("traced", [False, True])
def test_means_have_the_law_of_a_gamma_sum(traced, fit_of_reals, assert_fits):
    keys = jax.random.split(KEY, 10**5)
    p_values = {}
    for n in (1, 3, 50, 10**6):
        size = np.float32(n) if traced else n
        found = np.asarray(
            jax.jit(jax.vmap(lambda key, size=size: log_mean_of_exponentials(key, size)))(keys),
            np.float64,
        )
        p_values[str(n)] = fit_of_reals(found, lambda t, n=n: special.gammainc(n, n * np.exp(t)))
    assert_fits(p_values)
    nothing = log_mean_of_exponentials(KEY, np.float32(0) if traced else 0)
    assert nothing == -np.inf
