"""Poisson counts against SciPy: draws over all means, and the whole law word by word."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.random.binomial import SUMMED
from collapse_jax.random.poisson import average_of_poissons, poisson, poisson_of_words

pytestmark = pytest.mark.usefixtures("quick_compile")
MEANS = [1e-6, 1e-3, 0.3, 1.0, 5.5, 11.9, 12.1, 20.0, 100.0, 1e4, 1e6, 4e6, 1e9, 2e9]
grid = functools.partial(jax.jit, static_argnames="shape")(poisson)


def draws(seed, mean, count):
    return np.asarray(
        grid(jax.random.fold_in(jax.random.key(62), seed), np.float32(mean), shape=(count,))
    )


def law(mean):
    return stats.poisson(float(np.float32(mean)))


def test_draws_have_their_law(fit_of_counts, assert_fits):
    assert_fits(
        {str(mean): fit_of_counts(draws(i, mean, 10**6), law(mean)) for i, mean in enumerate(MEANS)}
    )


def rounded_normal(mean, z):
    return np.maximum(np.rint(mean + np.sqrt(mean) * z), 0).astype(np.int64)


@pytest.mark.parametrize(
    ("biased", "mean"), [(rounded_normal, 5.5), (rounded_normal, 100.0), (rounded_normal, 1e3)]
)
def test_biased_samplers_are_found_out(biased, mean, fit_of_counts, assert_fits):
    counts = biased(mean, np.random.default_rng(0).standard_normal(10**6))
    with pytest.raises(AssertionError):
        assert_fits({"biased": fit_of_counts(counts, law(mean))})


def test_a_slightly_wrong_mean_is_found_out(fit_of_counts, assert_fits):
    for mean in (1.0, 100.0, 1e9):
        with pytest.raises(AssertionError):
            assert_fits(
                {"biased": fit_of_counts(draws(1, mean + 0.01 * mean**0.5, 10**6), law(mean))}
            )


@jax.jit
def of_words(words, mean):
    return sum(part.astype(jnp.int32) for part in poisson_of_words((words,), mean))


def variation(mean, word_at):
    """Distances between the sampler's law and the exact one.

    Total variation, and the largest difference of the distribution functions.
    """
    exact = law(mean)
    counts = np.arange(max(0, int(exact.ppf(1e-12)) - 20), int(exact.isf(1e-12)) + 21)
    begin, end = np.zeros(len(counts), np.int64), np.full(len(counts), 2**32)
    for _ in range(33):
        middle = (begin + end) // 2
        not_more = (
            np.asarray(of_words(word_at(np.minimum(middle, 2**32 - 1)), np.float32(mean))) <= counts
        )
        begin, end = (
            np.where(not_more & (begin < end), middle + 1, begin),
            np.where(not_more, end, middle),
        )
    cumulative = begin / 2.0**32
    assert cumulative[-1] == 1
    return np.abs(np.diff(cumulative, prepend=0) - exact.pmf(counts)).sum() / 2, np.abs(
        cumulative - exact.cdf(counts)
    ).max()


@pytest.mark.parametrize(
    ("means", "most"),
    [
        ((1e-6, 1e-3), 2e-10),
        ((0.3, 3.7, SUMMED), 4e-7),
        ((12.01, 15.0), 4e-6),
        ((20.0, 40.0, 100.0), 6e-7),
    ],
)
def test_every_word_gives_its_quantile(means, most, word_at):
    for mean in means:
        distance, gap = variation(mean, word_at)
        assert distance < most and gap < most, (mean, distance, gap)


def test_large_means_keep_their_distribution_function(word_at):
    for mean in (1e3, 1e5, 1e6):
        distance, gap = variation(mean, word_at)
        # Single counts are as rare as the grain of the words there; their distribution function is
        # not affected.
        assert distance < 6e-7 + 3e-8 * mean**0.5 and gap < 1.2e-7, (mean, distance, gap)


def test_corners():
    counts = np.asarray(grid(jax.random.key(0), np.float32([[0], [3e9], [np.inf]]), shape=(3, 100)))
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts[0], 0)
    np.testing.assert_array_equal(counts[1:], 2**31 - 1)
    assert poisson(jax.random.key(0), 4).shape == ()
    keys, means = jax.random.split(jax.random.key(1), len(MEANS)), jnp.asarray(MEANS)
    traced = jax.jit(jax.vmap(poisson))(keys, means)
    np.testing.assert_array_equal(
        traced, [poisson(*arguments) for arguments in zip(keys, means, strict=True)]
    )


@jax.jit
def averages(keys, n, rate):
    return jax.vmap(lambda key: average_of_poissons(key, n, rate))(keys)


def test_averages_have_the_law_of_their_sum(fit_of_counts, fit_of_reals, assert_fits):
    keys = jax.random.split(jax.random.key(2), 10**5)
    p_values = {}
    for n, rate in ((10, 0.03), (10, 2.5), (1000, 40.0)):
        sums = np.asarray(averages(keys, n, np.float32(rate)), np.float64) * n
        assert np.abs(sums - np.rint(sums)).max() < 1e-2
        p_values[f"{n},{rate}"] = fit_of_counts(
            np.rint(sums).astype(np.int64), stats.poisson(n * float(np.float32(rate)))
        )
    # Sums far beyond int32, where the grain of a float32 rate is 1/150 and 1/30 of a standard
    # deviation.
    for n, rate in ((10**9, 5.0), (2 * 10**6, 10.0**5)):
        found = (np.asarray(averages(keys, float(n), np.float32(rate)), np.float64) - rate) / (
            rate / n
        ) ** 0.5
        assert abs(found.mean()) < 4 / 10**2.5 and abs(found.std() - 1) < 4 / (2 * len(keys)) ** 0.5
        if n == 10**9:
            p_values[f"{n},{rate}"] = stats.kstest(found, stats.norm(0, 1).cdf).pvalue
    assert_fits(p_values)
    np.testing.assert_array_equal(averages(keys[:9], 0, np.float32(2)), 0)
    np.testing.assert_array_equal(averages(keys[:9], 10, np.float32(0)), 0)


def test_double_precision(fit_of_counts, assert_fits):
    with jax.enable_x64(True):
        p_values = {}
        for i, mean in enumerate((0.3, 11.0, 13.0, 1e5)):
            counts = grid(jax.random.key(i), np.float64(mean), shape=(3 * 10**5,))
            assert counts.dtype == np.int32
            p_values[str(mean)] = fit_of_counts(counts, stats.poisson(mean))
        assert_fits(p_values)
