"""Zipf forms against plain sums, simulation and published numbers."""

import numpy as np
import pytest

from collapse_jax.theory import categorical, lineages, zipf


def test_sums_over_infinitely_many_ranks():
    """Against 2 * 10^6 ranks summed one by one.

    Beyond them p_i T <= 1e-5, so the first term of the rest is enough.
    """
    exponent, ranks, size = 1.8, 2_000_000, 5000
    total = 1.8822296181028  # zeta(1.8), checked below by its own series
    powers = np.arange(1, ranks + 1, dtype=float) ** -exponent
    rest = (ranks + 0.5) ** (1 - exponent) / (exponent - 1)
    assert powers.sum() + rest == pytest.approx(total, rel=1e-10)
    share = powers / total
    missing = np.sum(share * (1 - share) ** size) + rest / total
    assert zipf.expected_missing_mass(size, exponent) == pytest.approx(missing, rel=1e-6)
    distinct = np.sum(1 - (1 - share) ** size) + size * rest / total
    assert zipf.expected_distinct(size, exponent) == pytest.approx(distinct, rel=1e-6)
    assert zipf.tail_mass(100, exponent) == pytest.approx(
        share[100:].sum() + rest / total, rel=1e-9
    )
    assert zipf.heterozygosity(exponent) == pytest.approx(1 - np.sum(share**2), rel=1e-9)


def test_finite_ranks_are_the_categorical_forms():
    start = zipf.probabilities(400, 1.1)
    assert start[0] / start[9] == pytest.approx(10**1.1)
    assert start.sum() == pytest.approx(1, rel=1e-14)
    assert zipf.expected_missing_mass(50, 1.1, num_categories=400) == pytest.approx(
        categorical.expected_missing_mass(0, 50, start)
    )
    assert zipf.expected_distinct(50, 1.1, num_categories=400) == pytest.approx(
        categorical.expected_distinct_in_sample(50, start)
    )
    assert zipf.heterozygosity(1.1, num_categories=400) == pytest.approx(
        1 - np.sum(start**2), rel=1e-12
    )
    np.testing.assert_allclose(
        zipf.tail_mass([0, 7, 400, 900], 1.1, num_categories=400),
        [1, start[7:].sum(), 0, 0],
        rtol=1e-12,
    )
    np.testing.assert_allclose(zipf.probabilities(5, 0.0), 0.2)


def test_published_missing_mass_and_distinct_count():
    """b = 1.5, T = 10^4: .04347 / .04371 and 652.7 / 655.7 (simulated / form), within 2%.

    Asymptote within 1% for larger T.
    """
    for value in (
        zipf.expected_missing_mass(10_000, 1.5),
        zipf.missing_mass_asymptote(10_000, 1.5),
    ):
        assert value == pytest.approx(0.04347, rel=0.02) and value == pytest.approx(
            0.04371, rel=0.02
        )
    for value in (zipf.expected_distinct(10_000, 1.5), zipf.distinct_asymptote(10_000, 1.5)):
        assert value == pytest.approx(652.7, rel=0.02) and value == pytest.approx(655.7, rel=0.02)
    for exponent in (1.2, 1.5, 2.5):
        assert zipf.missing_mass_asymptote(1e7, exponent) == pytest.approx(
            zipf.expected_missing_mass(1e7, exponent), rel=0.01
        )
        assert zipf.distinct_asymptote(1e7, exponent) == pytest.approx(
            zipf.expected_distinct(1e7, exponent), rel=0.01
        )


def test_simulated_sample():
    """T = 300 draws of b = 1.5 by numpy's Zipf sampler, 2000 samples.

    |z| < 4 for missing mass and distinct count.
    """
    draws = np.random.default_rng(91).zipf(1.5, (2000, 300))
    missing, distinct = [], []
    for sample in draws:
        seen = np.unique(sample).astype(float)
        distinct.append(seen.size)
        missing.append(1 - np.sum(seen**-1.5) / 2.6123753486854883)
    for samples, expected in (
        (missing, zipf.expected_missing_mass(300, 1.5)),
        (distinct, zipf.expected_distinct(300, 1.5)),
    ):
        assert abs(np.mean(samples) - expected) < 4 * np.std(samples) / np.sqrt(2000)


def test_published_missing_mass_after_generations():
    """b = 1.5, T = 1000: the published form and simulation after n samplings.

    The simulated ranks were finite, about 10^6.
    """
    form = {1: 0.0934, 2: 0.1090, 5: 0.1381, 10: 0.1685, 20: 0.2082, 40: 0.2592}
    simulated = {1: 0.0933, 2: 0.1091, 5: 0.1381, 10: 0.1683, 20: 0.2078, 40: 0.2546}
    for n in form:
        size = zipf.effective_sample_size(n - 1, 1000)
        value = zipf.expected_missing_mass(size, 1.5, num_categories=10**6)
        assert value == pytest.approx(form[n], rel=0.005)
        assert value == pytest.approx(simulated[n], rel=0.02)


def test_effective_sample_size_against_exact_lineages():
    """K = 2000 ranks, T = 1000: within 2% of the exact values for g << T.

    Of the missing mass and the support.
    """
    start = zipf.probabilities(2000, 1.5)
    for generation in (0, 3, 15):
        size = zipf.effective_sample_size(generation, 1000)
        lost = lineages.loss_probability(generation, 1000, start)
        assert zipf.expected_missing_mass(size, 1.5, num_categories=2000) == pytest.approx(
            lost @ start, rel=0.02
        )
        assert zipf.expected_distinct(size, 1.5, num_categories=2000) == pytest.approx(
            np.sum(1 - lost), rel=0.02
        )


def test_growth_over_generations_is_sublinear():
    """(n/2)^(1 - 1/b), b = 2, while n << T."""
    early, late = (
        zipf.expected_missing_mass(zipf.effective_sample_size(n, 10**9), 2.0) for n in (1000, 4000)
    )
    assert late / early == pytest.approx(4**0.5, rel=0.01)


def test_a_cut_tail_is_a_plateau():
    """With ranks above k cut, more data cannot go below the tail.

    The height falls like k^-(b-1).
    """
    tail = zipf.tail_mass(50, 1.5)
    assert zipf.expected_missing_mass(1e9, 1.5, cut=50) == pytest.approx(tail, rel=1e-9)
    assert zipf.expected_missing_mass(100, 1.5, cut=50) > tail
    assert zipf.tail_mass(10**6, 1.5) / zipf.tail_mass(10**4, 1.5) == pytest.approx(0.1, rel=1e-3)
    # a cut at the last rank is no cut
    for cut in (30, 31):
        whole = zipf.expected_missing_mass(20, 1.5, num_categories=30)
        assert zipf.expected_missing_mass(20, 1.5, num_categories=30, cut=cut) == pytest.approx(
            whole, rel=1e-12
        )
    # 20 draws from ranks 1 .. 3 only, by hand
    share = zipf.probabilities(10, 1.5)
    kept = share[:3] / share[:3].sum()
    by_hand = share[3:].sum() + np.sum(share[:3] * (1 - kept) ** 20)
    assert zipf.expected_missing_mass(20, 1.5, num_categories=10, cut=3) == pytest.approx(
        by_hand, rel=1e-12
    )


def test_corners():
    assert zipf.expected_missing_mass(3, 1.5, num_categories=1) == 0
    assert zipf.expected_distinct(3, 0.7, num_categories=1) == pytest.approx(1)
    assert zipf.expected_distinct(1, 1.5) == pytest.approx(1, rel=1e-12)
    assert zipf.expected_missing_mass(1, 1.5) == pytest.approx(zipf.heterozygosity(1.5), rel=1e-12)
    assert zipf.tail_mass(0, 3.0) == pytest.approx(1, rel=1e-14)
    assert zipf.tail_mass(np.zeros((2, 3), int), 1.5).shape == (2, 3)
    assert zipf.effective_sample_size(np.arange(4), 10).shape == (4,)
    for call in (
        lambda: zipf.expected_missing_mass(5, 1.0),
        lambda: zipf.expected_missing_mass(0, 1.5),
        lambda: zipf.expected_missing_mass(5, 1.5, cut=0),
        lambda: zipf.probabilities(0, 1.5),
        lambda: zipf.probabilities(5, -1.0),
        lambda: zipf.tail_mass(-1, 1.5),
        lambda: zipf.distinct_asymptote(-3.0, 1.5),
        lambda: zipf.expected_distinct(5, 1.5, num_categories=[3, 4]),
    ):
        with pytest.raises(ValueError):
            call()
