"""Counts of many categories against SciPy, with and without replacement.

Totals, marginal laws, covariances and corners.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.errors import InputError
from collapse_jax.random import multinomial as module
from collapse_jax.random.multinomial import (
    multinomial,
    multinomial_of_categories,
    multivariate_hypergeometric,
)

PROBABILITIES = np.array([0.45, 0.3, 0.2, 0.0, 0.05], np.float32).astype(float)
PROBABILITIES /= PROBABILITIES.sum()
LARGEST = 2**31 - 1
KEY = jax.random.key(71)


def draws(n, probabilities, chains, method="auto", sampler=multinomial):
    """[chains, K] counts; n is traced where it is a jax array."""
    keys = jax.random.split(KEY, chains)
    sampler = functools.partial(sampler, method=method) if sampler is multinomial else sampler
    if isinstance(n, int):
        return np.asarray(jax.jit(jax.vmap(lambda key: sampler(key, n, probabilities)))(keys))
    return np.asarray(traced(sampler)(keys, n, probabilities))


@functools.cache
def traced(sampler):
    return jax.jit(jax.vmap(sampler, (0, None, None)))


def fits(counts, n, probabilities, fit_of_counts, fit_of_covariances):
    """p-values of marginal laws, means, covariances, and sums and pairs of categories.

    Totals are exact.
    """
    assert counts.dtype == np.int32 and (counts >= 0).all()
    np.testing.assert_array_equal(counts.sum(1, dtype=np.int64), n)
    covariance = n * (np.diag(probabilities) - np.outer(probabilities, probabilities))
    p_values = fit_of_covariances(counts, n * probabilities, covariance)
    sums = np.cumsum(counts, 1)
    for k, (p, below) in enumerate(
        zip(probabilities, np.minimum(np.cumsum(probabilities), 1), strict=True)
    ):
        p_values[f"marginal {k}"] = fit_of_counts(counts[:, k], stats.binom(n, p))
        p_values[f"sum to {k}"] = fit_of_counts(
            sums[:, k], stats.binom(n, below if k < len(probabilities) - 1 else 1)
        )
    return p_values


@pytest.mark.parametrize("n", [1, 150, 10**6])
def test_a_known_size_has_its_law(n, assert_fits, fit_of_counts, fit_of_covariances):
    counts = draws(n, jnp.asarray(PROBABILITIES, jnp.float32), 400_000)
    assert_fits(fits(counts, n, PROBABILITIES, fit_of_counts, fit_of_covariances))


def test_ten_million_draws_have_their_law(assert_fits, fit_of_counts):
    counts = draws(jnp.int32(30), jnp.asarray(PROBABILITIES, jnp.float32), 10**7 // 2)
    assert_fits(
        {k: fit_of_counts(counts[:, k], stats.binom(30, p)) for k, p in enumerate(PROBABILITIES)}
    )
    pairs = counts[:, 0] * 31 + counts[:, 2]
    first, third = np.divmod(np.arange(31**2), 31)
    law = np.where(
        first + third <= 30,
        stats.multinomial(30, [0.45, 0.2, 0.35]).pmf(
            np.stack([first, third, np.abs(30 - first - third)], 1)
        ),
        0,
    )
    seen, rare = np.bincount(pairs, minlength=31**2), law * len(pairs) < 10
    assert not seen[law == 0].any()
    pooled, expected = (
        np.append(values[~rare], values[rare].sum()) for values in (seen, law * len(pairs))
    )
    assert_fits({"pair": stats.chisquare(pooled, expected * pooled.sum() / expected.sum()).pvalue})


@pytest.mark.parametrize("n", [0, 7, 1100, LARGEST])
def test_a_traced_size_has_its_law(n, assert_fits, fit_of_counts, fit_of_covariances):
    # Powers of 2 have no rounding, which 2^31 draws would show: a float32 probability is 3e-8 off,
    # a mean 60 of 46,341 deviations.
    probabilities = np.array([0.5, 0.25, 0.125, 0.0, 0.125])
    counts = draws(jnp.int32(n), jnp.asarray(probabilities, jnp.float32), 100_000)
    assert_fits(fits(counts, n, probabilities, fit_of_counts, fit_of_covariances))


@pytest.mark.parametrize("method", ["binomials", "individuals"])
def test_the_methods_have_one_law(method, assert_fits, fit_of_counts, fit_of_covariances):
    counts = draws(40, jnp.asarray(7.3 * PROBABILITIES, jnp.float32), 200_000, method)
    assert_fits(fits(counts, 40, PROBABILITIES, fit_of_counts, fit_of_covariances))


def shifted(key, n, probabilities):
    """Biased: a five-hundredth too much for the first category."""
    return multinomial(key, n, probabilities + jnp.array([0.002, 0, 0, 0, -0.002]))


def too_even(key, n, probabilities):
    """Biased: evenly spread (systematic resampling), so with too little variance.

    The means are right.
    """
    ends = jnp.floor(jnp.cumsum(probabilities) * n + jax.random.uniform(key)).astype(jnp.int32)
    return jnp.diff(ends.at[-1].set(n), prepend=0)


def repeated(key, n, probabilities):
    """Biased: both halves from the same random bits, so with too much variance."""
    return 2 * multinomial(key, n // 2, probabilities)


def poissonised(key, n, probabilities):
    """Biased: independent Poisson counts, mended in the first category."""
    counts = jax.random.poisson(key, n * probabilities).astype(jnp.int32)
    return counts.at[0].add(n - counts.sum())


def normal(key, n, probabilities):
    """Biased: a rounded normal approximation with the right means and covariances."""
    z = jnp.sqrt(n * probabilities) * jax.random.normal(key, probabilities.shape)
    counts = jnp.rint(n * probabilities + z - probabilities * z.sum()).astype(jnp.int32)
    return counts.at[0].add(n - counts.sum())


@pytest.mark.parametrize("biased", [shifted, too_even, repeated, poissonised, normal])
def test_biased_samplers_are_found_out(biased, assert_fits, fit_of_counts, fit_of_covariances):
    counts = draws(150, jnp.asarray(PROBABILITIES, jnp.float32), 200_000, sampler=biased)
    with pytest.raises(AssertionError):
        assert_fits(fits(counts, 150, PROBABILITIES, fit_of_counts, fit_of_covariances))


CORNERS = [
    [0, 0.5, 0, 0.5, 0],
    [1, 0, 0, 0, 0],
    [0, 0, 0, 0, 1],
    [0.1, 0.1, 0.1, 0.1, 0],
    [0, 0, 3, 0, 0],
    [1e-36, 0, 2e-36, 0, 0],
    [0, 1e30, 0, 1, 0],
]


@pytest.mark.parametrize("method", ["binomials", "individuals", "traced"])
@pytest.mark.parametrize("n", [0, 100])
def test_corners(n, method):
    weights = jnp.asarray(CORNERS, jnp.float32)

    def draw(key, n, method="auto"):
        return jax.vmap(lambda weights: multinomial(key, n, weights, method=method))(weights)

    keys = jax.random.split(KEY, 500)
    if method == "traced":
        counts = np.asarray(jax.jit(jax.vmap(draw, (0, None)))(keys, jnp.int32(n)))
    else:
        counts = np.asarray(jax.jit(jax.vmap(lambda key: draw(key, n, method)))(keys))
    np.testing.assert_array_equal(counts.sum(2), n)
    for corner, few in zip(np.array(CORNERS), counts.sum(0), strict=True):
        likely = corner > 1e-25 * corner.max()
        assert not few[~likely].any()
        assert n == 0 or (few[likely] > 0).all()


@pytest.mark.parametrize("method", ["binomials", "individuals"])
def test_one_category_gets_all(method):
    assert multinomial(KEY, 9, jnp.array([0.3]), method=method).tolist() == [9]


@pytest.mark.parametrize("p", [1e-7, 1e-4, 1e-2])
def test_probabilities_near_0_and_1(p, assert_fits, fit_of_counts):
    probabilities = np.array([1 - p, p], np.float32)
    rest = float(probabilities.astype(float).sum())
    for order in (slice(None), slice(None, None, -1)):
        counts = draws(jnp.int32(50), probabilities[order], 10**6)[:, order]
        np.testing.assert_array_equal(counts.sum(1), 50)
        assert_fits(
            {"rare": fit_of_counts(counts[:, 1], stats.binom(50, float(probabilities[1]) / rest))}
        )


def test_sizes_differ_between_chains():
    sizes = jnp.array([0, 1, 63, 64, 65, 10**6, LARGEST])
    counts = jax.jit(jax.vmap(multinomial, (0, 0, None)))(
        jax.random.split(KEY, 7), sizes, jnp.ones(3) / 3
    )
    np.testing.assert_array_equal(np.asarray(counts).sum(1, dtype=np.int64), sizes)


def zipf(categories):
    weights = 1 / np.arange(1, categories + 1)
    weights[np.random.default_rng(0).random(categories) < 0.3] = 0
    return weights.astype(np.float32)


@pytest.mark.parametrize(("n", "method"), [(1000, "auto"), (1000, "binomials"), (LARGEST, "auto")])
def test_50_000_categories(n, method, assert_fits, chi_square_p):
    weights = zipf(50_000)
    counts = draws(n, weights, 50, method)
    assert not counts[:, weights == 0].any()
    np.testing.assert_array_equal(counts.sum(1, dtype=np.int64), n)
    law = weights.astype(float) / weights.astype(float).sum()
    assert_fits({"categories": chi_square_p(counts.sum(0, dtype=np.int64), law)})


def test_many_equal_categories_are_equal(assert_fits):
    """Sums of equal floats in single precision would make the last ones likelier by 1e-3."""
    counts = draws(LARGEST, jnp.full(50_000, 1 / 50_000), 50)
    assert_fits({"categories": stats.chisquare(counts.sum(0, dtype=np.int64)).pvalue})


def test_no_category_of_probability_0_has_a_width():
    """The sums of single draws are monotone, whatever order the device adds in."""
    weights = zipf(20_000)
    for i in range(3):
        counts = multinomial(jax.random.fold_in(KEY, i), 10**6, weights, method="individuals")
        assert not counts[weights == 0].any() and counts.sum() == 10**6


@pytest.mark.parametrize("kind", ["counts", "floats"])
def test_categories_that_are_left_out_change_no_count(kind):
    weights = jnp.array([5, 0, 3, 0, 0, 11, 1, 0], jnp.int32)
    weights = weights if kind == "counts" else weights * jnp.float32(0.1)
    keys, numbers = jax.random.split(KEY, 500), jnp.arange(8)
    of_categories = jax.jit(jax.vmap(multinomial_of_categories, (0, None, None, None)))
    every = of_categories(keys, 20, weights, numbers)
    np.testing.assert_array_equal(every, traced(multinomial)(keys, jnp.int32(20), weights))
    listed = jnp.array([0, 2, 5, 6])
    few = of_categories(keys, 20, weights[listed], listed)
    np.testing.assert_array_equal(few, every[:, listed])
    padded = jnp.array(
        [0, 2, 3, 5, 6, 6]
    )  # what follows the last one of positive weight need not ascend
    some = of_categories(keys, 20, weights[padded].at[-1].set(0), padded)
    np.testing.assert_array_equal(some[:, :5], every[:, padded[:5]])


@pytest.mark.parametrize("kind", [jnp.int32, jnp.float32])
def test_chains_on_the_last_axis_are_the_chains_one_by_one(kind):
    keys = jax.random.split(KEY, 40)
    weights = jax.random.randint(KEY, (6, 40), 0, 9).at[0].add(1).astype(kind)
    sizes = jnp.arange(40) * 3
    together = jax.jit(jax.vmap(multinomial, (0, 0, -1), -1))(keys, sizes, weights)
    one_by_one = [jax.jit(multinomial)(keys[i], sizes[i], weights[:, i]) for i in range(40)]
    np.testing.assert_array_equal(together, np.stack(one_by_one, -1))


MANY = module.MANY_CATEGORIES + 5
OF_CHAINS = jax.jit(jax.vmap(multinomial_of_categories, (0, 0, -1, None), -1))


@pytest.mark.parametrize("kind", [jnp.int32, jnp.float32])
def test_few_chains_have_the_counts_of_many(kind):
    """Blocks of categories and a loop over them: the same numbers, at every size and corner."""
    rng = np.random.default_rng(0)
    sizes = jnp.array([0, 1, 40, 9_000, 10**6, LARGEST, -1], jnp.int32)
    weights = rng.geometric(0.2, (MANY, 7)) * (rng.random((MANY, 7)) < 0.5)
    weights[:3], weights[-300:] = 0, 0  # what is listed first and last may have died out
    weights[5:, 1], weights[5, 1] = 0, 2  # one category
    weights[:, 2] *= 100_000  # a rare one after common ones
    weights[MANY - 3, 2] = 1
    weights = jnp.asarray(weights, kind)
    keys, listed = jax.random.split(KEY, 7), jnp.arange(MANY, dtype=jnp.int32)
    few = np.asarray(OF_CHAINS(keys, sizes, weights, listed))
    again = jnp.arange(21) % 7  # three times the same: more than go in blocks
    assert len(again) > module.FEW_CHAINS >= len(sizes)
    many = np.asarray(OF_CHAINS(keys[again], sizes[again], weights[:, again], listed))
    np.testing.assert_array_equal(few, many[:, :7])
    np.testing.assert_array_equal(few[:, :6].sum(0, dtype=np.int64), sizes[:6])
    assert (few[:, 6] == -1).all() and few[5, 1] == 1
    assert not few[:, :6][np.asarray(weights)[:, :6] == 0].any()


def test_few_chains_of_many_categories_have_their_law(assert_fits, fit_of_counts, chi_square_p):
    """Marginal laws, the sums of parts that cut blocks, and the spread over equal categories."""
    n, chains, rounds = 9_000, 7, 20  # the shapes of the test above, compiled once
    weights = jnp.full((MANY, chains), 2, jnp.int32)
    sizes, listed = jnp.full(chains, n, jnp.int32), jnp.arange(MANY, dtype=jnp.int32)
    keys = jax.random.split(KEY, (rounds, chains))
    counts = np.concatenate([np.asarray(OF_CHAINS(k, sizes, weights, listed)).T for k in keys])
    p_values = {"categories": chi_square_p(counts.sum(0), np.full(MANY, 1 / MANY))}
    for end in (1, 700, 2_049, MANY - 1):
        law = stats.binom(n, end / MANY)
        p_values[f"sum to {end}"] = fit_of_counts(counts[:, :end].sum(1), law)
    # Of one chain, Pearson's statistic has a variance slightly below that of chi-square.
    pearson = ((counts - n / MANY) ** 2).sum(1) * MANY / n
    low, high = (f(pearson, MANY - 1) for f in (stats.chi2.cdf, stats.chi2.sf))
    p_values["spread"] = stats.kstest(np.where(low < high, low, 1 - high), "uniform").pvalue
    assert_fits(p_values)


def test_integer_counts_have_their_law(assert_fits, fit_of_counts, fit_of_covariances):
    weights = np.array([900_000_001, 0, 3_000_003, 1_200_000_000, 40_000_000], np.int32)
    exact = weights / weights.sum(dtype=np.int64)
    counts = draws(jnp.int32(1000), jnp.asarray(weights), 200_000)
    assert_fits(fits(counts, 1000, exact, fit_of_counts, fit_of_covariances))


def test_mistakes_are_told():
    with pytest.raises(InputError, match="one of auto, binomials, individuals"):
        multinomial(KEY, 5, jnp.ones(3), method="fast")
    with pytest.raises(InputError, match="traced n"):
        multinomial(KEY, jnp.int32(5), jnp.ones(3), method="individuals")


@functools.cache
def hypergeometric_draws(urn, n, chains=100_000):
    keys = jax.random.split(jax.random.key(5), chains)
    return np.asarray(traced(multivariate_hypergeometric)(keys, jnp.array(urn, jnp.int32), n))


@pytest.mark.parametrize(
    ("urn", "n"), [((4, 3, 0, 2), 5), ((30, 1, 9, 20), 12), ((6, 5, 1, 3), 14), ((2, 0, 1, 1), 1)]
)
def test_multivariate_hypergeometric_has_its_law(
    urn, n, assert_fits, fit_of_counts, fit_of_covariances
):
    counts = hypergeometric_draws(urn, n)
    assert counts.dtype == np.int32
    assert (counts.sum(1) == n).all() and (counts >= 0).all() and (counts <= np.array(urn)).all()
    law = stats.multivariate_hypergeom(np.array(urn), n)
    p_values = fit_of_covariances(counts, law.mean(), law.cov())
    assert_fits(
        p_values
        | {
            f"{k}": fit_of_counts(counts[:, k], stats.hypergeom(sum(urn), colour, n))
            for k, colour in enumerate(urn)
        }
    )


def test_multivariate_hypergeometric_corners():
    urn = (4, 3, 0, 2)
    assert not hypergeometric_draws(urn, 0, 10).any()
    np.testing.assert_array_equal(hypergeometric_draws(urn, 9, 10), np.tile(urn, (10, 1)))
    large = hypergeometric_draws((LARGEST - 5, 0, 5), 20, 10)
    assert (large.sum(1) == 20).all() and not large[:, 1].any()


def test_draws_with_replacement_fail_the_hypergeometric_test(assert_fits, fit_of_covariances):
    urn, n = np.array([4, 3, 0, 2]), 5
    counts = draws(n, jnp.asarray(urn), 100_000)
    law = stats.multivariate_hypergeom(urn, n)
    with pytest.raises(AssertionError):
        assert_fits(fit_of_covariances(counts, law.mean(), law.cov()))
