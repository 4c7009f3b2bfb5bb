"""Lead times in closed form, held against plain simulations of the chains."""

import numpy as np
import pytest

from collapse_jax.theory import lead_times


@pytest.mark.parametrize(("size", "probability", "alarm"), [(12, 0.5, 0.2), (25, 0.2, 0.0)])
def test_fixation(size, probability, alarm):
    rng, chains = np.random.default_rng(5), 20_000
    counts = rng.binomial(size, probability, chains)
    rang = np.full(chains, -1)
    fixed = np.full(chains, -1)
    for generation in range(1000):
        smaller = np.minimum(counts, size - counts)
        rang = np.where((rang < 0) & (smaller <= alarm * size), generation, rang)
        fixed = np.where((fixed < 0) & (smaller == 0), generation, fixed)
        if (fixed >= 0).all():
            break
        counts = rng.binomial(size, counts / size)
    mean, deviation = lead_times.fixation_lead(size, probability, alarm)
    leads = fixed - rang
    assert abs(leads.mean() - mean) <= 4 * deviation / np.sqrt(chains)
    assert leads.std() == pytest.approx(deviation, rel=0.05)


def test_fixation_of_many_points_is_a_diffusion():
    for size, error in ((100, 0.03), (400, 0.008)):
        exact, _ = lead_times.fixation_lead(size, 0.5, 0.1)
        assert exact == pytest.approx(lead_times.diffusion_fixation_lead(size, 0.1), rel=error)


def test_log_variance():
    """A walk from far above, whose jumps over both levels have one law."""
    rng, size, chains = np.random.default_rng(6), 6, 20_000
    steps = np.log(rng.chisquare(size - 1, size=(chains, 200)) / (size - 1))
    walk = 2.0 + np.cumsum(steps, axis=1)
    first = [np.argmax(walk <= level, axis=1) for level in (0.0, -1.0)]
    assert (walk.min(1) <= -1).all()
    leads = first[1] - first[0]
    mean, deviation = lead_times.log_variance_lead(size, 1.0, np.exp(-1.0), ddof=1)
    assert abs(leads.mean() - mean) < 4 * deviation / np.sqrt(chains)
    assert leads.std() == pytest.approx(deviation, rel=0.03)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="alarm must be above threshold"):
        lead_times.log_variance_lead(20, 0.1, 0.2, ddof=1)
    with pytest.raises(ValueError, match="alarm must be in"):
        lead_times.fixation_lead(20, 0.5, 0.6)
