"""Categorical closed forms against exact enumeration, NumPy simulation and published numbers."""

import itertools

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import ancestry, categorical

START = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])


def z_scores(samples, expected):
    """z of the mean over chains (axis 1) of samples [generations, chains, ...]."""
    return (samples.mean(1) - expected) / (samples.std(1, ddof=1) / np.sqrt(samples.shape[1]))


def simulate(rng, chains, generations, size, start, accumulate=False):
    """[generations, chains, K] counts that each generation is fitted to under replace.

    Under accumulate they are the pool's.
    """
    counts = rng.multinomial(size, np.tile(start, (chains, 1)))
    result = [counts]
    for _ in range(generations - 1):
        new = rng.multinomial(size, counts / counts.sum(1, keepdims=True))
        counts = counts + new if accumulate else new
        result.append(counts)
    return np.array(result)


def enumerated(size, generations, start):
    """{count vector: probability} of the fitted counts at the last generation.

    Every ordered sample is listed.
    """
    laws = {tuple(start): 1.0}
    for _ in range(generations):
        following = {}
        for law, weight in laws.items():
            for draws in itertools.product(range(len(start)), repeat=size):
                new = tuple(np.bincount(draws, minlength=len(start)) / size)
                following[new] = following.get(new, 0.0) + weight * np.prod([law[k] for k in draws])
        laws = following
    return {tuple(round(size * p) for p in law): weight for law, weight in laws.items()}


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_exact_enumeration_of_tiny_chains(generation):
    size, start = 3, np.array([0.5, 0.3, 0.2])
    laws = enumerated(size, generation + 1, start)
    support = sum(w * np.count_nonzero(c) for c, w in laws.items())
    heterozygosity = sum(w * (1 - np.sum((np.array(c) / size) ** 2)) for c, w in laws.items())
    count = [sum(w for c, w in laws.items() if c[0] == j) for j in range(size + 1)]
    lost = [sum(w for c, w in laws.items() if c[k] == 0) for k in range(3)]
    assert categorical.expected_support(generation, size, start) == pytest.approx(
        support, rel=1e-12
    )
    assert categorical.expected_heterozygosity(generation, size, start) == pytest.approx(
        heterozygosity, rel=1e-12
    )
    np.testing.assert_allclose(
        categorical.count_distribution(generation, size, 0.5), count, rtol=1e-12
    )
    np.testing.assert_allclose(
        categorical.loss_probability(generation, size, start), lost, rtol=1e-12
    )
    shares = np.array(list(laws)) / size
    weights = np.array(list(laws.values()))
    logarithm = np.log(np.where(shares > 0, shares, 1))
    cases = (
        (categorical.expected_missing_mass(generation, size, start), (shares == 0) @ start),
        (categorical.expected_entropy(generation, size, start), -np.sum(shares * logarithm, 1)),
        (
            categorical.expected_reverse_kl(generation, size, start),
            np.sum(shares * (logarithm - np.log(start)), 1),
        ),
        (
            categorical.expected_total_variation(generation, size, start),
            np.sum(np.abs(shares - start), 1) / 2,
        ),
        (
            categorical.expected_squared_distance(generation, size, start),
            np.sum((shares - start) ** 2, 1),
        ),
        (categorical.probability_variance(generation, size, start)[1], (shares[:, 1] - 0.3) ** 2),
        (
            categorical.expectation_over_counts(lambda count: count**3, generation, size, 0.2),
            (size * shares[:, 2]) ** 3,
        ),
    )
    for value, outcomes in cases:
        assert value == pytest.approx(weights @ outcomes, rel=1e-12)


@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
def test_simulated_heterozygosity(workflow):
    """M = 10, 8 generations, 10^4 chains; |z| < 4."""
    counts = simulate(np.random.default_rng(11), 10_000, 8, 10, START, workflow == "accumulate")
    shares = counts / counts.sum(-1, keepdims=True)
    expected = categorical.expected_heterozygosity(np.arange(8), 10, START, workflow=workflow)
    assert np.max(np.abs(z_scores(1 - np.sum(shares**2, -1), expected))) < 4


def test_simulated_schedule():
    """Sizes 4, 9, 20, 6; 10^4 chains; |z| < 4."""
    rng, sizes = np.random.default_rng(12), np.array([4, 9, 20, 6])
    law, samples = np.tile(START, (10_000, 1)), []
    for size in sizes:
        law = rng.multinomial(size, law) / size
        samples.append(1 - np.sum(law**2, 1))
    expected = categorical.expected_heterozygosity(np.arange(4), sizes, START)
    assert np.max(np.abs(z_scores(np.array(samples), expected))) < 4


def test_simulated_support_and_count_law():
    """M = 20, 10 generations, 10^4 chains.

    |z| < 4 for the support, and for each count bin of category 1.
    """
    counts = simulate(np.random.default_rng(13), 10_000, 10, 20, START)
    generation = np.arange(10)
    expected = categorical.expected_support(generation, 20, START)
    assert np.max(np.abs(z_scores(np.count_nonzero(counts, axis=-1), expected))) < 4
    law = categorical.count_distribution(generation, 20, START[1])
    seen = np.array([np.bincount(c, minlength=21) for c in counts[..., 1]])
    likely = law * 10_000 > 25
    deviation = (seen - 10_000 * law) / np.sqrt(10_000 * law * (1 - law))
    assert np.max(np.abs(deviation[likely])) < 4.5  # some 150 bins
    lost = categorical.loss_probability(generation, 20, START)
    zero = np.mean(counts == 0, axis=1)
    assert np.max(np.abs(zero - lost) / np.sqrt(lost * (1 - lost) / 10_000 + 1e-12)) < 4.5


def test_count_law_has_the_exact_moments():
    law = categorical.count_distribution([0, 3, 40], 50, 0.3)
    share = np.arange(51) / 50
    np.testing.assert_allclose(law.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(law @ share, 0.3, rtol=1e-12)
    np.testing.assert_allclose(
        law @ (share * (1 - share)), 0.21 * 0.98 ** np.array([1, 4, 41]), rtol=1e-11
    )


def test_loss_tends_to_the_eventual_loss_and_starts_at_one_step_loss():
    share = np.array([0.0, 0.03, 0.4, 1.0])
    first, last = categorical.loss_probability([0, 3000], 30, share)
    np.testing.assert_allclose(first, (1 - share) ** 30, rtol=1e-12)
    np.testing.assert_allclose(
        last, categorical.eventual_loss_probability(share), rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(categorical.count_distribution(3000, 30, 0.4)[-1], 0.4, rtol=1e-9)


def test_fixation_published_frequencies():
    """Published shares of 4000 absorbed chains: .385 .258 .155 .099 .076 .028.

    Chains of our own have M = 10; |z| < 4.
    """
    fixed = categorical.fixation_probability(START)
    published = np.array([0.385, 0.258, 0.155, 0.099, 0.076, 0.028])
    assert np.max(np.abs(published - fixed) / np.sqrt(fixed * (1 - fixed) / 4000)) < 4
    counts = simulate(np.random.default_rng(14), 4000, 150, 10, START)[-1]
    ended = np.mean(counts == 10, axis=0)
    assert ended.sum() > 0.999
    assert np.max(np.abs(ended - fixed) / np.sqrt(fixed * (1 - fixed) / 4000)) < 4


@pytest.mark.parametrize("accumulate", [False, True])
def test_simulated_probability_variance(accumulate):
    """M = 10, 6 generations, 4 * 10^4 chains.

    |z| < 4 for each category's mean and variance and for the squared distance.
    """
    counts = simulate(np.random.default_rng(18), 40_000, 6, 10, START, accumulate)
    shares = counts / counts.sum(-1, keepdims=True)
    kwargs = {"workflow": "accumulate"} if accumulate else {}
    assert np.max(np.abs(z_scores(shares, START))) < 4
    assert (
        np.max(
            np.abs(
                z_scores(
                    (shares - START) ** 2,
                    categorical.probability_variance(np.arange(6), 10, START, **kwargs),
                )
            )
        )
        < 4
    )
    distance = np.sum((shares - START) ** 2, -1)
    assert (
        np.max(
            np.abs(
                z_scores(
                    distance,
                    categorical.expected_squared_distance(np.arange(6), 10, START, **kwargs),
                )
            )
        )
        < 4
    )


def test_probability_variance_in_a_mix_is_what_retention_leaves():
    kwargs = {"workflow": "mix", "alpha": 0.5, "beta": 0.3, "gamma": 0.2, "random_counts": False}
    spread = categorical.probability_variance([0, 7], 10, START, **kwargs).sum(-1)
    kept = (1 - np.sum(START**2)) * ancestry.retention([0, 7], 10, **kwargs)
    np.testing.assert_allclose(spread + kept, 1 - np.sum(START**2), rtol=1e-12)


def test_late_limits_of_the_distances():
    """In the end one category k is left with probability p_k: each mean is a sum over k."""
    last, kept = 2000, np.sum(START**2)
    assert categorical.expected_missing_mass(last, 20, START) == pytest.approx(1 - kept, rel=1e-9)
    assert categorical.expected_total_variation(last, 20, START) == pytest.approx(
        1 - kept, rel=1e-9
    )
    assert categorical.expected_squared_distance(last, 20, START) == pytest.approx(
        1 - kept, rel=1e-9
    )
    assert categorical.expected_entropy(last, 20, START) == pytest.approx(0, abs=1e-9)
    assert categorical.expected_reverse_kl(last, 20, START) == pytest.approx(
        -np.sum(START * np.log(START)), rel=1e-9
    )
    # one sample of many draws: Miller's and the Gaussian approximations
    assert categorical.expected_reverse_kl(0, 2000, START) == pytest.approx(5 / 4000, rel=0.02)
    normal = np.sum(np.sqrt(START * (1 - START) / 2000 / np.pi * 2)) / 2
    assert categorical.expected_total_variation(0, 2000, START) == pytest.approx(normal, rel=0.01)


def test_distinct_in_one_sample():
    counts = np.random.default_rng(16).multinomial(25, START, size=20_000)
    seen = np.count_nonzero(counts, axis=1)
    expected = categorical.expected_distinct_in_sample(25, START)
    assert abs(seen.mean() - expected) / (seen.std() / np.sqrt(20_000)) < 4
    zipf = np.arange(1, 3_000_001, dtype=float) ** -1.5
    zipf /= zipf.sum()
    # published: 652.7 simulated for b = 1.5, T = 10^4
    assert categorical.expected_distinct_in_sample(10_000, zipf) == pytest.approx(652.7, rel=0.02)
    assert categorical.expected_distinct_in_sample(1, START) == pytest.approx(1)
    assert categorical.expected_support(0, 10**7, START) == pytest.approx(6)


def test_sample_size_one_and_shapes():
    np.testing.assert_allclose(
        categorical.expected_heterozygosity([0, 5], 1, START), 0, rtol=0, atol=1e-300
    )
    np.testing.assert_allclose(categorical.expected_support(np.arange(3), 1, START), 1, rtol=1e-12)
    np.testing.assert_allclose(
        categorical.count_distribution([[0], [4]], 1, 0.3), np.tile([0.7, 0.3], (2, 1, 1))
    )
    assert categorical.loss_probability(np.arange(3), 5, np.full((2, 2), 0.1)).shape == (3, 2, 2)
    assert categorical.expected_support(2, 5, [1.0]) == pytest.approx(1)
    assert categorical.expected_missing_mass([0, 3], 1, START) == pytest.approx(
        1 - np.sum(START**2)
    )
    for form in (
        categorical.expected_entropy,
        categorical.expected_reverse_kl,
        categorical.expected_total_variation,
    ):
        np.testing.assert_allclose(
            form(np.zeros((2, 3), int), 5, [1.0, 0.0]), np.zeros((2, 3)), rtol=0, atol=1e-15
        )
    np.testing.assert_allclose(
        categorical.expected_entropy([0, 4], 1, START), 0, rtol=0, atol=1e-15
    )
    np.testing.assert_array_equal(categorical.probability_variance(4, 7, [0.0, 1.0]), 0)
    assert categorical.expected_missing_mass(0, 10**7, START) == pytest.approx(0, abs=1e-12)


def test_bad_arguments_are_refused():
    for call in (
        lambda: categorical.expected_support(1, 2001, START),
        lambda: categorical.count_distribution(1, 5, 1.2),
        lambda: categorical.expected_heterozygosity(0, 5, [0.5, 0.6]),
        lambda: categorical.expected_heterozygosity(0, 5, START, workflow="mix"),
        lambda: categorical.expected_heterozygosity(1, [5, 5], START, workflow="accumulate"),
        lambda: categorical.loss_probability(-1, 5, 0.2),
        lambda: categorical.expected_entropy(0, 2001, START),
        lambda: categorical.expected_total_variation(0, 5, [0.5]),
        lambda: categorical.probability_variance(0, 5, 1.5),
        lambda: categorical.expected_squared_distance(0, 5, START, workflow="append"),
    ):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 2.0])
def test_smoothed_heterozygosity_by_the_matrix_of_counts(smoothing):
    """K = 2, M = 7: powers of the binomial matrix whose probabilities are the smoothed shares."""
    size, start = 7, np.array([0.8, 0.2])
    counts = np.arange(size + 1)
    shares = (counts + smoothing) / (size + 2 * smoothing)
    matrix, law = (
        stats.binom.pmf(counts, size, shares[:, None]),
        stats.binom.pmf(counts, size, start[0]),
    )
    for generation in range(60):
        exact = categorical.smoothed_heterozygosity(generation, size, start, smoothing)
        assert law @ (2 * shares * (1 - shares)) == pytest.approx(exact, rel=1e-12)
        law = law @ matrix
    assert categorical.smoothed_heterozygosity(3000, size, start, smoothing) == pytest.approx(
        categorical.smoothed_heterozygosity_limit(size, 2, smoothing), abs=1e-12
    )


def test_smoothed_heterozygosity_of_known_cases():
    generation = np.arange(20)
    unsmoothed = categorical.expected_heterozygosity(generation, 10, START)
    np.testing.assert_allclose(
        categorical.smoothed_heterozygosity(generation, 10, START, 0.0), unsmoothed, rtol=1e-12
    )
    assert categorical.smoothed_heterozygosity_limit(10, 6, 0.0) == 0
    assert categorical.smoothed_heterozygosity_limit(10, 6, 1e9) == pytest.approx(5 / 6, rel=1e-6)
    # Ewens: theta/(theta + 1) (1 - 1/K) with theta = 2 K kappa, for many draws
    assert categorical.smoothed_heterozygosity_limit(10**7, 6, 0.25) == pytest.approx(
        3 / 4 * 5 / 6, rel=1e-6
    )
    with pytest.raises(ValueError, match="smoothing"):
        categorical.smoothed_heterozygosity(0, 10, START, -1.0)
