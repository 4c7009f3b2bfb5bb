"""Rare categories behind common ones: exact laws in every order, up to 2^31 - 1 draws."""

import functools
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.random.binomial import binomial, exact_product
from collapse_jax.random.multinomial import categories_of_draws, ends_of_floats, multinomial

LARGEST = 2**31 - 1
CHAINS = 100_000
KEYS = jax.random.split(jax.random.key(5), CHAINS)


@functools.partial(jax.jit, static_argnames="method")
def drawn(keys, n, weights, method="binomials"):
    return jax.vmap(lambda key: multinomial(key, n, weights, method=method))(keys)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_in_ten_million(order, assert_fits, fit_of_counts):
    shares = np.array([1 - 1e-7, 1e-7])[list(order)]
    p_values = {}
    for n in (1, 10**3, 10**6, 10**7, LARGEST):
        counts = np.asarray(drawn(KEYS, jnp.int32(n), jnp.asarray(shares, jnp.float32)))
        rare = counts[:, order.index(1)]
        np.testing.assert_array_equal(counts.sum(1), n)
        p_values[f"law at {n}"] = fit_of_counts(rare, stats.binom(n, 1e-7))
        lost, expected = np.mean(rare == 0), np.exp(n * np.log1p(-1e-7))
        if n in (10**6, 10**7):
            error = (expected * (1 - expected) / CHAINS) ** 0.5
            p_values[f"lost at {n}"] = 2 * stats.norm.sf(abs(lost - expected) / error)
    assert_fits(p_values)


def test_one_of_two_hundred_million(assert_fits, fit_of_counts):
    n = 200_000_001
    p_values = {}
    for order in sorted(set(itertools.permutations([10**8, 10**8, 1]))):
        for dtype in (jnp.int32, jnp.float32):
            counts = np.asarray(drawn(KEYS[:30_000], jnp.int32(n), jnp.asarray(order, dtype)))
            law = stats.binom(n, 1 / n)
            p_values[order, dtype] = fit_of_counts(counts[:, order.index(1)], law)
    assert_fits(p_values)


@pytest.mark.parametrize("order", ["forward", "reversed", "shuffled"])
def test_every_category_of_a_power_law(order):
    shares = 1 / np.arange(1, 1001)
    shares = shares[::-1] if order == "reversed" else shares
    shares = np.random.default_rng(1).permutation(shares) if order == "shuffled" else shares
    shares, n, chains = shares / shares.sum(), 10**9, 300
    counts = np.asarray(drawn(KEYS[:chains], jnp.int32(n), jnp.asarray(shares, jnp.float32)))
    z = (counts.mean(0) - n * shares) / np.sqrt(n * shares * (1 - shares) / chains)
    # One sum is fixed: 999 degrees of freedom.
    assert 1e-4 < stats.chi2.sf(np.sum(z**2 * (1 - shares)), 999) < 1 - 1e-4


def test_a_probability_next_to_one_is_taken_from_the_host(assert_fits, fit_of_counts):
    draw = jax.jit(lambda key: binomial(key, 10**8, 1 - 1e-8, (CHAINS,)))
    missing = 10**8 - np.asarray(draw(jax.random.key(3)))
    assert_fits({"missing": fit_of_counts(missing, stats.binom(10**8, 1e-8))})


@pytest.mark.parametrize(
    "weights", [[0.5, 1e-7, 0.5], [1, 2e-8], [0, 1e-9, 1, 0, 3e-7, 2e2], [3e-33, 1e-30, 2e-30]]
)
def test_ends_are_right_to_the_grain_of_the_bits(weights):
    weights = np.array(weights, np.float32)
    ends = np.asarray(jax.jit(ends_of_floats)(weights))
    total = sum(map(Fraction, weights.tolist()))
    for end, exact in zip(
        ends.tolist(), itertools.accumulate(map(Fraction, weights.tolist())), strict=True
    ):
        assert abs(Fraction(end, int(ends[-1])) - exact / total) < Fraction(1, 2**30)
    assert ends[-1] >= 2**30 and (np.diff(ends.astype(np.int64))[weights[1:] == 0] == 0).all()


def test_single_draws_among_many_have_their_law(assert_fits, fit_of_counts):
    n = 5000
    p_values = {}
    for dtype in (jnp.int32, jnp.float32):
        weights = np.array([10**9, 30_000, 0, 10**9, 5 * 10**7])
        draw = jax.jit(
            jax.vmap(
                lambda key, w: jnp.bincount(
                    categories_of_draws(*jax.random.key_data(key), w, n), length=5
                ),
                (0, None),
            )
        )
        counts = np.asarray(draw(KEYS[:4000], jnp.asarray(weights, dtype)))
        assert (counts[:, 2] == 0).all() and (counts.sum(1) == n).all()
        for k in (0, 1, 3, 4):
            law = stats.binom(n, weights[k] / weights.sum())
            p_values[k, dtype] = fit_of_counts(counts[:, k], law)
    assert_fits(p_values)


def test_a_product_with_a_share_up_to_one_is_exact():
    for n, share in [(LARGEST, 1.0), (LARGEST, 0.9999999), (2**30 + 1, 0.75), (3, 1 / 3)]:
        share = np.float32(share)
        whole, fraction = jax.jit(exact_product)(jnp.int32(n), share)
        exact = n * Fraction(float(share))
        assert abs(int(whole) + Fraction(float(fraction)) - exact) < Fraction(1, 2**20)


def test_rounded_shares_of_traced_sizes_are_those_of_known_ones():
    from collapse_jax.core.workflows import _rounded

    sizes = [7, 2**20 - 1, 2**24 + 1, 2**30 + 7, LARGEST - 1, LARGEST]
    for share in (1.0, 0.5, 1 - 1e-7, 1 / 3):
        found = jax.jit(jax.vmap(lambda n, share=share: _rounded(share, n)))(jnp.array(sizes))
        assert found.tolist() == [round(Fraction(share) * n) for n in sizes]


def test_a_mix_draws_its_rare_real_points(assert_fits, fit_of_counts):
    from collapse_jax.core.workflows import _random_counts

    n, shares = 10**7, (1 - 1e-7, 0.0, 1e-7)
    counts = jax.jit(jax.vmap(lambda key: _random_counts(key, n, shares)))(KEYS)
    assert_fits({"real": fit_of_counts(counts[:, 2], stats.binom(n, 1e-7))})
