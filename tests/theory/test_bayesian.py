"""Laws of posterior chains: by enumeration of counts, by SciPy's laws, and by a NumPy chain."""

import itertools

import numpy as np
import pytest
from scipy import stats

from collapse_jax.theory import bayesian as theory
from collapse_jax.theory import categorical

GENERATIONS = np.arange(7)


def counts_chain(size, prior):
    """(counts [n, K], transition [n, n]): p integrated out, so Dirichlet-multinomial each time."""
    categories = len(prior)
    every = itertools.product(range(size + 1), repeat=categories)
    counts = np.array([one for one in every if sum(one) == size])
    transition = np.array(
        [[stats.dirichlet_multinomial.pmf(to, prior + c, size) for to in counts] for c in counts]
    )
    return counts, transition


def heterozygosity_of(alpha):
    """E[1 - sum p^2] of p ~ Dirichlet(alpha [..., K])."""
    total = alpha.sum(-1)
    return 1 - (alpha * (alpha + 1)).sum(-1) / (total * (total + 1))


@pytest.mark.parametrize("prior", [[0.3, 1.5, 0.01], [2.0, 2.0, 2.0]])
def test_heterozygosity_is_that_of_all_counts(prior):
    prior, size, q = np.array(prior), 4, np.array([0.7, 0.2, 0.1])
    counts, transition = counts_chain(size, prior)
    law = stats.multinomial.pmf(counts, size, q)
    drawn, means = [], []
    for _ in GENERATIONS:
        drawn.append(law @ heterozygosity_of(prior + counts))
        law = law @ transition
    np.testing.assert_allclose(
        theory.expected_heterozygosity(GENERATIONS, size, q, prior), drawn, rtol=1e-10
    )
    # The posterior's mean is a chain of its own: multinomial counts of it.
    law = stats.multinomial.pmf(counts, size, q)
    mean = (prior + counts) / (prior.sum() + size)
    steps = np.array([stats.multinomial.pmf(counts, size, one) for one in mean])
    for _ in GENERATIONS:
        means.append(law @ (1 - (mean**2).sum(1)))
        law = law @ steps
    np.testing.assert_allclose(
        theory.expected_heterozygosity(GENERATIONS, size, q, prior, sampled=False),
        means,
        rtol=1e-10,
    )
    left = law  # after many more steps
    for _ in range(400):
        left = left @ steps
    limit = theory.stationary_heterozygosity(size, prior, sampled=False)
    assert limit == pytest.approx(left @ (1 - (mean**2).sum(1)), rel=1e-6)


def test_the_prior_is_the_stationary_law():
    prior = np.array([0.3, 1.5, 0.01])
    counts, transition = counts_chain(5, prior)
    of_prior = stats.dirichlet_multinomial.pmf(counts, prior, 5)
    np.testing.assert_allclose(of_prior @ transition, of_prior, rtol=1e-9)
    assert theory.stationary_heterozygosity(5, prior) == pytest.approx(heterozygosity_of(prior))
    values = np.sort(np.linalg.eigvals(transition).real)[::-1]
    total = prior.sum()
    assert values[1] == pytest.approx(5 / (5 + total))  # the rate of m
    assert np.isclose(values, theory.heterozygosity_rate(5, total)).any()


def test_without_a_prior_it_collapses_twice_as_fast():
    q = [0.5, 0.3, 0.2]
    sampled = theory.expected_heterozygosity(GENERATIONS, 10, q, 0)
    np.testing.assert_allclose(sampled[1:] / sampled[:-1], 9 / 11)
    mean = theory.expected_heterozygosity(GENERATIONS, 10, q, 0, sampled=False)
    np.testing.assert_allclose(mean, categorical.expected_heterozygosity(GENERATIONS, 10, q))
    smoothed = categorical.smoothed_heterozygosity(GENERATIONS, 10, q, 0.7)
    ours = theory.expected_heterozygosity(GENERATIONS, 10, q, 0.7, sampled=False)
    np.testing.assert_allclose(ours, smoothed)
    np.testing.assert_allclose(theory.expected_heterozygosity(GENERATIONS, 1, q, 0), 0, atol=1e-15)


def numpy_chain(size, mean, strength, shape, scale, estimate, generations=4, chains=200_000):
    """(variance, squared distance of the mean) [generations, chains] of SciPy's conjugate laws."""
    rng = np.random.default_rng(7)
    center, variance, kept = np.full(chains, 0.5), np.full(chains, 2.0), []
    for _ in range(generations):
        average = center + np.sqrt(variance / size) * rng.normal(size=chains)
        scatter = variance * rng.chisquare(size - 1, chains) if size > 1 else np.zeros(chains)
        pull = strength * size / (strength + size)
        b = scale + scatter / 2 + pull * (average - mean) ** 2 / 2
        a = shape + size / 2
        center = (strength * mean + size * average) / (strength + size)
        if estimate == "sample":
            variance = b / rng.gamma(a, size=chains)
            center = center + np.sqrt(variance / (strength + size)) * rng.normal(size=chains)
        else:
            variance = b / {"mean": a - 1, "mode": a + 1.5}[estimate]
        kept.append((variance, (center - mean) ** 2))
    return np.array(kept).swapaxes(0, 1)


@pytest.mark.parametrize("estimate", ["sample", "mean", "mode"])
@pytest.mark.parametrize("prior", [(0.0, 0.0, -0.5, 0.0), (1.0, 2.0, 3.0, 2.0)])
def test_gaussian_moments_are_those_of_a_numpy_chain(estimate, prior):
    names = dict(zip(("mean", "strength", "shape", "scale"), prior, strict=True))
    chain = numpy_chain(12, *prior, estimate)
    exact = theory.gaussian_moments(
        np.arange(4), 12, estimate=estimate, population_mean=0.5, population_variance=2.0, **names
    )
    error = chain.std(-1) / np.sqrt(chain.shape[-1])
    assert np.abs((chain.mean(-1) - exact) / error).max() < 4


def test_gaussian_moments_end_in_the_prior():
    prior = {"mean": 1.0, "strength": 0.5, "shape": 3.0, "scale": 2.0}
    variance, apart = theory.gaussian_moments(4000, 6, population_variance=50.0, **prior)
    assert variance == pytest.approx(stats.invgamma(3.0, scale=2.0).mean())
    assert apart == pytest.approx(stats.t(6, scale=np.sqrt(2 / (3 * 0.5))).var())
    assert theory.stationary_variance_law(strength=0.5, shape=3.0, scale=2.0) == (3.0, 2.0)
    # Without a law for the mean: the fixed point of b' / (a - 1) with M - 1 deviations.
    shape, scale = theory.stationary_variance_law(strength=0, shape=3.0, scale=2.0)
    variance, _ = theory.gaussian_moments(4000, 6, strength=0, shape=3.0, scale=2.0)
    assert variance == pytest.approx(stats.invgamma(shape, scale=scale).mean())


def test_the_log_variance_walks():
    def log_moments(degrees):
        mean = stats.chi2(degrees).expect(np.log)
        return mean, stats.chi2(degrees).expect(lambda x: (np.log(x) - mean) ** 2)

    (own, spread), (posterior, noise) = log_moments(9), log_moments(14)
    drift, variance = theory.log_variance_walk(10, shape=2.0)
    assert (drift, variance) == (pytest.approx(own - posterior), pytest.approx(spread + noise))
    assert theory.log_variance_walk(10) == (pytest.approx(0), pytest.approx(2 * spread))
    drift, variance = theory.log_variance_walk(10, estimate="maximum_likelihood")
    assert (drift, variance) == (pytest.approx(own - np.log(10)), pytest.approx(spread))
    for dim in (1, 3, 8):
        assert theory.log_determinant_drift(10, dim) == pytest.approx(0, abs=1e-12)
    assert theory.log_determinant_drift(10, 1, shape=2.0) == pytest.approx(own - posterior)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: theory.expected_heterozygosity(1, 5, [0.5, 0.5], -1), "prior must be"),
        (lambda: theory.expected_heterozygosity(1, 5, [0.5, 0.5], [1, 2, 3]), "prior must be"),
        (lambda: theory.stationary_heterozygosity(5, [0.0, 0.0]), "must not be 0"),
        (lambda: theory.gaussian_moments(1, 5, estimate="median"), "estimate must be"),
        (lambda: theory.gaussian_moments(1, 5, strength=-1), "strength and scale"),
        (lambda: theory.stationary_variance_law(strength=0, shape=-0.5, scale=1), "improper"),
        (lambda: theory.log_variance_walk(5, estimate="median"), "estimate must be"),
    ],
)
def test_what_means_nothing_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()
