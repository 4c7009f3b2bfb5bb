"""Growth without bound, told from limits, on losses whose law of growth is known."""

import numpy as np
import pytest

from collapse_jax.app.collapse_profile.definitions import SCALES
from collapse_jax.app.collapse_profile.growth import divergence
from collapse_jax.app.collapse_profile.series import Chains

GENERATIONS = np.arange(101)
T = GENERATIONS + 1.0


def chains_of(law, chains=100, noise=0.05, seed=0):
    """Chains that follow a law, each times a factor of its own, with noise of 5%."""
    rng = np.random.default_rng(seed)
    return law * rng.gamma(20, 1 / 20, (chains, 1)) * (1 + noise * rng.normal(size=(chains, 101)))


def verdict_of(values, statistic, scale="error", threshold=1.05):
    return divergence(statistic, Chains(values), SCALES[scale], threshold, GENERATIONS)


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize(
    ("law", "verdict"),
    [
        (T, "met"),
        (np.sqrt(T), "met"),
        (np.exp(T / 30), "met"),
        (1 + np.log(T) ** 2, "met"),
        (np.ones_like(T), "not met"),
        (1 / T, "not met"),
        (2 - 1 / T, "not met"),  # accumulate
        (5 - 4 * np.exp(-T / 5), "not met"),
        (5 - 4 / np.sqrt(T), "not met"),
    ],
)
def test_laws_are_told_apart(law, verdict, statistic):
    found = verdict_of(chains_of(law), statistic)
    assert found.verdict == verdict, found.note
    if verdict == "met":
        assert found.generation == 100 and found.first == 75 and found.level == 0.95


def test_the_factor_of_a_doubling_is_that_of_the_law():
    """Of log t exactly: every window of averages lies on the line."""
    law = 3 + np.log(T)
    found = verdict_of(chains_of(law, noise=0.0) * 0 + law, "mean")
    middle = law[25:50].mean()
    assert found.number == pytest.approx(1 + np.log(2) / middle, rel=1e-12)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_a_logarithm_is_not_told_from_a_limit(statistic):
    assert verdict_of(chains_of(3 + np.log(T)), statistic).verdict == "cannot tell"


def test_chains_that_only_wander_are_seldom_said_to_diverge():
    """Random walks without a drift, where generations depend on each other: 2.5%, on one side."""
    rng, said = np.random.default_rng(3), 0
    for _ in range(150):
        walks = 10 + rng.normal(size=(30, 101)).cumsum(1)
        said += verdict_of(walks, "mean", threshold=1.0001).verdict == "met"
    assert said <= 150 * 0.025 + 4 * np.sqrt(150 * 0.025 * 0.975)


def test_one_chain_cannot_tell():
    found = verdict_of(chains_of(T, 1), "mean")
    assert found.verdict == "cannot tell" and "one chain" in found.note
    assert found.number == pytest.approx(2, rel=0.2) and found.level == 0


def test_few_chains_have_a_mean_and_no_bootstrap():
    values = chains_of(T, 4)
    assert verdict_of(values, "mean").verdict == "met"
    found = verdict_of(values, "median")
    assert found.verdict == "cannot tell" and "4 chains are too few" in found.note


def test_short_runs_cannot_tell():
    found = divergence("mean", Chains(chains_of(T)[:, :5]), SCALES["error"], 1.05, GENERATIONS[:5])
    assert found.verdict == "cannot tell" and "8 samplings" in found.note


def test_nats_are_read_as_perplexity():
    """A loss of .1 log t nats: every doubling multiplies the perplexity by 2^.1 = 1.072."""
    law = np.broadcast_to(0.1 * np.log(T), (10, 101))
    found = verdict_of(law, "mean", scale="nats", threshold=1.08)
    assert found.verdict == "not met" and found.number == pytest.approx(2**0.1, rel=1e-12)
    assert verdict_of(law, "mean", scale="nats", threshold=1.07).verdict == "cannot tell"


def test_an_infinite_loss_diverged():
    values = chains_of(np.ones_like(T))
    values[:5, 60:] = np.inf
    found = verdict_of(values, "mean")
    assert (found.verdict, found.first) == ("met", 60)
    assert verdict_of(values, "median").verdict == "not met"  # 5 of 100 chains


def test_a_mean_is_judged_before_few_chains_carry_it():
    """Chains of which 5 in 1,000 explode after generation 50: the mean is told up to there."""
    values = chains_of(T, 1000)
    values[:5, 50:] *= 1e6
    found = verdict_of(values, "mean")
    assert (found.verdict, found.generation) == ("met", 49)
