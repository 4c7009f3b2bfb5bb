"""The exact discrete samplers against scipy.stats; every test of fit asks for p > 1e-4 or |z| < 4 at fixed keys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.random import multinomial as module
from collapse_jax.random.multinomial import multinomial, multivariate_hypergeometric

pytestmark = pytest.mark.usefixtures("quick_compile")
PROBABILITIES = np.array([0.45, 0.3, 0.2, 0.05])


def draws(n, probabilities, chains, traced, sampler=multinomial):
    """[chains, K] counts, with n known at compile time or traced."""
    keys = jax.random.split(jax.random.key(11), chains)
    probabilities = jnp.asarray(probabilities, jnp.float32)
    if traced:
        return np.asarray(jax.jit(jax.vmap(sampler, (0, None, None)))(keys, n, probabilities))
    return np.asarray(jax.jit(jax.vmap(lambda key: sampler(key, n, probabilities)))(keys))


def assert_multinomial(counts, n, probabilities, assert_mean, chi_square_p):
    """Totals are exact, the marginals pass a chi-square test of fit against the binomial, the covariances are right (|z| < 4)."""
    assert counts.dtype == np.int32
    assert (counts >= 0).all() and (counts.sum(1) == n).all()
    for k, p in enumerate(probabilities):
        assert chi_square_p(np.bincount(counts[:, k], minlength=n + 1), stats.binom.pmf(np.arange(n + 1), n, p)) > 1e-4, k
    centred = counts - n * probabilities
    assert_mean(centred[:, :, None] * centred[:, None, :], n * (np.diag(probabilities) - np.outer(probabilities, probabilities)))


# n = 7 and 150 fit into one block where they are known; traced they take 1 and 3 blocks of 64, and 1100 takes 18 in both.
@pytest.mark.parametrize(("n", "traced"), [(7, False), (7, True), (150, False), (150, True), (1100, False), (1100, True)])
def test_multinomial_has_its_law(n, traced, assert_mean, chi_square_p):
    assert module._WHOLE < 1100 and module._BLOCK < 150
    assert_multinomial(draws(n, PROBABILITIES, 20_000, traced), n, PROBABILITIES, assert_mean, chi_square_p)


def shifted(key, n, probabilities):
    """Biased: a hundredth too much for the first category."""
    return multinomial(key, n, probabilities + jnp.array([0.01, 0, 0, -0.01]))


def too_even(key, n, probabilities):
    """Biased: the right means, but spread evenly (systematic resampling), so with too little variance."""
    ends = jnp.floor(jnp.cumsum(probabilities) * n + jax.random.uniform(key)).astype(jnp.int32)
    return jnp.diff(ends.at[-1].set(n), prepend=0)


def repeated_block(key, n, probabilities):
    """Biased: both halves from the same uniforms, so with too much variance."""
    return 2 * multinomial(key, n // 2, probabilities)


@pytest.mark.parametrize("biased", [shifted, too_even, repeated_block])
def test_the_test_of_fit_finds_biased_samplers(biased, assert_mean, chi_square_p):
    counts = draws(150, PROBABILITIES, 20_000, False, biased)
    assert (counts.sum(1) == 150).all()
    with pytest.raises(AssertionError):
        assert_multinomial(counts, 150, PROBABILITIES, assert_mean, chi_square_p)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("probabilities", [[0.0, 0.5, 0.0, 0.5, 0.0], [1.0, 0.0], [0.0, 1.0], [0.1] * 10 + [0.0]])
def test_a_category_of_probability_zero_is_never_drawn(probabilities, traced):
    counts = draws(100, probabilities, 5_000, traced)
    assert not counts[:, np.array(probabilities) == 0].any()
    assert (counts.sum(1) == 100).all()


@pytest.mark.parametrize("p", [1e-4, 1e-2, 1 - 1e-2, 1 - 1e-4])
def test_probabilities_near_0_and_1(p, assert_mean, chi_square_p):
    probabilities = np.array([1 - p, p], np.float32).astype(float)
    counts = draws(50, probabilities, 50_000, True)
    assert (counts.sum(1) == 50).all()
    assert_mean(counts, 50 * probabilities)
    assert chi_square_p(np.bincount(counts[:, 1], minlength=51), stats.binom.pmf(np.arange(51), 50, probabilities[1])) > 1e-4


@pytest.mark.parametrize("traced", [False, True])
def test_smallest_cases(traced, chi_square_p):
    one = draws(1, PROBABILITIES, 20_000, traced)
    assert (one.sum(1) == 1).all() and one.max() == 1
    assert chi_square_p(one.sum(0), PROBABILITIES) > 1e-4
    assert not draws(0, PROBABILITIES, 10, traced).any()
    assert (draws(9, [1.0], 10, traced) == 9).all()


def test_probabilities_need_not_sum_to_1(chi_square_p):
    counts = draws(1, 7.3 * PROBABILITIES, 20_000, False)
    assert chi_square_p(counts.sum(0), PROBABILITIES) > 1e-4


def test_sizes_around_the_block_size_have_exact_totals():
    sizes = jnp.array([63, 64, 65, 127, 128, 129, 1023, 1024, 1025])
    keys = jax.random.split(jax.random.key(3), len(sizes))
    counts = jax.jit(jax.vmap(multinomial, (0, 0, None)))(keys, sizes, jnp.asarray(PROBABILITIES, jnp.float32))
    np.testing.assert_array_equal(counts.sum(1), sizes)
    assert all(int(multinomial(keys[0], n, jnp.ones(3)).sum()) == n for n in (1024, 1025))


@functools.cache
def hypergeometric_draws(urn, n, chains=20_000):
    keys = jax.random.split(jax.random.key(5), chains)
    return np.asarray(jax.jit(jax.vmap(multivariate_hypergeometric, (0, None, None)))(keys, jnp.array(urn, jnp.int32), n))


@pytest.mark.parametrize(("urn", "n"), [((4, 3, 0, 2), 5), ((30, 1, 9, 20), 12), ((6, 5, 1, 3), 14), ((2, 0, 1, 1), 1)])
def test_multivariate_hypergeometric_has_its_law(urn, n, assert_mean, chi_square_p):
    counts = hypergeometric_draws(urn, n)
    assert counts.dtype == np.int32
    assert (counts.sum(1) == n).all() and (counts >= 0).all() and (counts <= np.array(urn)).all()
    for k, colour in enumerate(urn):
        law = stats.hypergeom.pmf(np.arange(n + 1), sum(urn), colour, n)
        assert chi_square_p(np.bincount(counts[:, k], minlength=n + 1), law) > 1e-4, k
    law = stats.multivariate_hypergeom(np.array(urn), n)
    centred = counts - law.mean()
    assert_mean(centred[:, :, None] * centred[:, None, :], law.cov())


def test_multivariate_hypergeometric_edges():
    urn = (4, 3, 0, 2)
    assert not hypergeometric_draws(urn, 0, 10).any()
    np.testing.assert_array_equal(hypergeometric_draws(urn, 9, 10), np.tile(urn, (10, 1)))


def test_draws_with_replacement_fail_the_hypergeometric_test(assert_mean):
    urn, n = np.array([4, 3, 0, 2]), 5
    counts = draws(n, urn / urn.sum(), 20_000, False)
    centred = counts - n * urn / urn.sum()
    with pytest.raises(AssertionError):
        assert_mean(centred[:, :, None] * centred[:, None, :], stats.multivariate_hypergeom(urn, n).cov())
