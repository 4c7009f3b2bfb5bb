"""Binomial counts against SciPy: draws over a grid of (n, p), and the whole law word by word."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.random import binomial as module
from collapse_jax.random.binomial import binomial, binomial_of_words

LARGEST = 2**31 - 1
SIZES = [0, 1, 2, 7, 40, 41, 100, 1000, 10**5, 10**6, 2**30, LARGEST]
PROBABILITIES = [0, 1e-7, 1e-3, 0.05, 0.2, 0.4999, 0.5, 0.7, 0.95, 1 - 1e-6, 1]
# Where other laws of the same mean must be found out; in the last the mean itself is far beyond the
# digits of float32.
TELLING = [(40, 0.2), (100, 0.2), (1000, 0.05), (10**6, 0.2), (LARGEST, 0.4999)]
grid = functools.partial(jax.jit, static_argnames="shape")(binomial)


def law(n, p):
    """The exact law, of p as the float32 that it is."""
    return stats.binom(n, float(np.float32(p)))


def draws(seed, n, p, count):
    return np.asarray(
        grid(jax.random.fold_in(jax.random.key(61), seed), n, np.float32(p), shape=(count,))
    )


def fits(sampler, cases, fit_of_counts, count):
    return {
        f"{n},{p}": fit_of_counts(sampler(i, n, p, count), law(n, p))
        for i, (n, p) in enumerate(cases)
    }


@pytest.mark.parametrize("n", SIZES)
def test_draws_have_their_law(n, fit_of_counts, assert_fits):
    assert_fits(fits(draws, [(n, p) for p in PROBABILITIES], fit_of_counts, 10**6))


def test_ten_million_draws_have_their_law(fit_of_counts, assert_fits):
    assert_fits(fits(draws, [(39, 0.4615), *TELLING], fit_of_counts, 10**7))


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
def test_ten_million_draws_everywhere_have_their_law(n, fit_of_counts, assert_fits):
    assert_fits(fits(draws, [(n, p) for p in PROBABILITIES], fit_of_counts, 10**7))


def poissonised(seed, n, p, count):
    return np.minimum(np.random.default_rng(seed).poisson(n * p, count), n)


def rounded_normal(seed, n, p, count):
    z = np.random.default_rng(seed).standard_normal(count)
    return np.clip(np.rint(n * p + np.sqrt(n * p * (1 - p)) * z), 0, n).astype(np.int64)


def rounded_p(seed, n, p, count):
    return draws(seed, n, p * (1 + 1e-2 / np.sqrt(n * p)), count)


def rounded_mean(seed, n, p, count):
    """What single precision would make of it: the mean in float32."""
    z = np.random.default_rng(seed).standard_normal(count)
    return np.clip(np.float32(n * p) + np.float32(np.sqrt(n * p * (1 - p)) * z), 0, n).astype(
        np.int64
    )


def of_jax(seed, n, p, count):
    """JAX's own sampler, whose float32 does not reach these sizes."""
    draw = jax.jit(functools.partial(jax.random.binomial, shape=(count,)))
    return np.asarray(draw(jax.random.key(seed), np.float32(n), np.float32(p))).astype(np.int64)


@pytest.mark.parametrize(
    ("biased", "n", "p"),
    [(poissonised, n, p) for n, p in TELLING]
    + [(rounded_normal, n, p) for n, p in TELLING[:3]]
    + [
        (rounded_p, 1000, 0.05),
        (rounded_mean, LARGEST, 0.4999),
        (of_jax, 10**6, 1e-3),
        (of_jax, LARGEST, 0.4999),
    ],
)
def test_biased_samplers_are_found_out(biased, n, p, fit_of_counts, assert_fits):
    with pytest.raises(AssertionError):
        assert_fits(fits(biased, [(n, p)], fit_of_counts, 10**6))


def distribution(n, p, word_at):
    """P(count <= k), k = low .. high, of the sampler.

    For each k, by bisection, how many of the 2^32 words give no more.
    """
    exact = law(n, p)
    low, high = max(0, int(exact.ppf(1e-12)) - 20), min(n, int(exact.isf(1e-12)) + 20)
    counts = np.arange(low, high + 1)
    begin, end = np.zeros(len(counts), np.int64), np.full(len(counts), 2**32)
    flip = p > 0.5  # larger words then give smaller counts
    for _ in range(33):
        middle = (begin + end) // 2
        q = np.minimum(middle, 2**32 - 1)
        not_more = (
            np.asarray(of_words(word_at(2**32 - 1 - q if flip else q), n, np.float32(p))) <= counts
        )
        begin, end = (
            np.where(not_more & (begin < end), middle + 1, begin),
            np.where(not_more, end, middle),
        )
    return counts, begin / 2.0**32


@jax.jit
def of_words(words, n, p):
    return binomial_of_words((words,), n, p)


def variation(n, p, word_at):
    """Distances between the sampler's law and the exact one.

    Total variation, and the largest difference of the distribution functions.
    """
    counts, cumulative = distribution(n, p, word_at)
    exact = law(n, p)
    assert cumulative[-1] == 1
    distance = np.abs(np.diff(cumulative, prepend=0) - exact.pmf(counts)).sum() / 2
    return distance, np.abs(cumulative - exact.cdf(counts)).max()


SUMMED = [
    (1, 0.3),
    (2, 0.5),
    (7, 0.7),
    (23, 0.4615),
    (24, 0.5),
    (25, 0.45),
    (100, 0.12),
    (1000, 0.012),
    (10**6, 1.19e-5),
    (LARGEST, 5.5e-9),
]
NEAR = [
    (25, 0.4999),
    (25, 0.5),
    (100, 0.121),
    (1000, 0.0121),
    (10**5, 1.21e-4),
    (10**6, 1.21e-5),
    (LARGEST, 5.7e-9),
]
BEYOND = [
    (41, 0.4999),
    (41, 0.5),
    (100, 0.201),
    (1000, 0.0201),
    (10**5, 2.01e-4),
    (10**6, 2.1e-5),
    (LARGEST, 9.5e-9),
]


@pytest.mark.slow
def test_every_word_gives_its_quantile(word_at):
    for n, p in SUMMED:
        assert n * min(p, 1 - p) <= module.SUMMED
        distance, gap = variation(n, p, word_at)
        assert distance < 4e-6 and gap < 4e-6, (n, p, distance, gap)
    for shapes, most in ((NEAR, 4e-6), (BEYOND, 6e-7)):
        for n, p in shapes:
            assert n * min(p, 1 - p) > module.SUMMED
            distance, gap = variation(n, p, word_at)
            assert distance < most and gap < most / 3, (n, p, distance, gap)
    for n, p in [
        (1000, 0.5),
        (10**5, 0.2),
        (10**6, 0.5),
        (2**30, 0.05),
        (LARGEST, 0.5),
        (LARGEST, 0.95),
    ]:
        distance, gap = variation(n, p, word_at)
        # Single counts are as rare as the grain of the words there; their distribution function is
        # not affected.
        assert distance < 6e-7 + 3e-8 * np.sqrt(n * p * (1 - p)) and gap < 1e-7, (
            n,
            p,
            distance,
            gap,
        )


def test_tails_have_their_own_precision(word_at):
    # The sums once left the rounding of their middle, 4e-6, in the count 39 of 39, summed then: a
    # ten-millionth of a millionth by the law.
    for n, p in [(23, 0.4615), (39, 0.3), (100, 0.12), (300, 0.039), (10**6, 1.1e-5)]:
        counts, cumulative = distribution(n, p, word_at)
        exact = law(n, p)
        lower, upper = exact.cdf(counts), exact.sf(counts)
        for drawn, tail in ((cumulative, lower), (1 - cumulative, upper)):
            telling = tail < 0.4
            assert (np.abs(drawn - tail)[telling] < 1e-5 * tail[telling] + 2.0**-31).all(), (n, p)


def test_larger_words_give_larger_counts(word_at):
    q = np.linspace(0, 2**32 - 1, 10**6).astype(np.int64)
    for n, p in [(40, 0.3), (1000, 0.01), (1000, 0.4), (10**6, 0.01)]:
        counts = np.asarray(of_words(word_at(q), n, np.float32(p)))
        assert (np.diff(counts) >= 0).all()
        support, cumulative = distribution(n, p, word_at)
        steps = np.unique(counts)[1:]
        np.testing.assert_allclose(
            np.searchsorted(counts, steps) / 1e6, cumulative[steps - 1 - support[0]], atol=3e-6
        )


def test_corners():
    everything = np.asarray(
        grid(
            jax.random.key(0),
            np.array(SIZES)[:, None, None],
            np.float32([0, 1]),
            shape=(12, 1000, 2),
        )
    )
    assert everything.dtype == np.int32
    np.testing.assert_array_equal(everything[..., 0], 0)
    np.testing.assert_array_equal(
        everything[..., 1], np.broadcast_to(np.array(SIZES)[:, None], (12, 1000))
    )
    assert int(binomial(jax.random.key(0), 5, 1.0)) == 5
    assert binomial(jax.random.key(0), LARGEST, 0.5).shape == ()
    keys, p = jax.random.split(jax.random.key(1), 12), np.linspace(0.1, 0.9, 12, dtype=np.float32)
    traced = jax.jit(jax.vmap(binomial))(keys, jnp.array(SIZES), p)
    np.testing.assert_array_equal(
        traced, [binomial(*arguments) for arguments in zip(keys, SIZES, p, strict=True)]
    )


def test_means_keep_every_digit():
    whole, fraction = jax.jit(module.exact_product)(jnp.int32(LARGEST), jnp.float32(0.4999))
    exact = LARGEST * int(np.float32(0.4999) * 2**26)
    assert (int(whole), float(fraction)) == (
        exact >> 26,
        float(np.float32((exact & (2**26 - 1)) / 2**26)),
    )
    rng = np.random.default_rng(0)
    n, p = (
        rng.integers(0, 2**31, 10**5).astype(np.int32),
        (rng.random(10**5) / 2).astype(np.float32),
    )
    whole, fraction = jax.jit(module.exact_product)(n, p)
    exact = n.astype(np.longdouble) * p  # 31 and 24 bits: exact in 64
    np.testing.assert_allclose((np.asarray(whole) - exact) + np.asarray(fraction), 0, atol=3e-7)


def test_double_precision(fit_of_counts, assert_fits):
    with jax.enable_x64(True):
        cases = [(7, 0.3), (40, 0.4999), (1000, 0.02), (1000, 0.3), (LARGEST, 0.3)]
        p_values = {}
        for n, p in cases:
            counts = grid(jax.random.key(n), n, np.float64(p), shape=(10**6,))
            assert counts.dtype == np.int32
            p_values[f"{n},{p}"] = fit_of_counts(counts, stats.binom(n, p))
        assert_fits(p_values)
