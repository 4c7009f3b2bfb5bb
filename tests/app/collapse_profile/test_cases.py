"""Processes whose profile is known: verdicts and numbers against theory.

The cases themselves take a compiled program each, and are slow tests but for one. The same
processes in plain NumPy, which needs none, are told apart in every run.
"""

import json

import jax
import numpy as np
import pytest
from scipy import stats

from collapse_jax import theory
from collapse_jax.app.collapse_profile import cases

pytestmark = pytest.mark.usefixtures("quick_compile")
# Case -> arguments of one that takes seconds; the first generations are held against their exact
# means, up to where these are carried by few chains.
SIZES = {
    "kernels, replace": {"chains": 100, "generations": 40},
    "Gaussian (ddof = 1), replace": {"chains": 1000},
    "Gaussian, accumulate": {"chains": 1000, "generations": 60},
    "Gaussian, a tenth of fresh real points": {"chains": 2000},
    "categories, replace": {"chains": 500, "generations": 60},
}


@pytest.fixture(scope="module")
def made():
    """made(name): the case, simulated once."""
    kept = {}

    def of(name):
        if name not in kept:
            key = jax.random.key(list(cases.CASES).index(name))
            kept[name] = cases.CASES[name](key, **SIZES[name])
        return kept[name]

    return of


NAMES = [
    pytest.param(name, marks=[] if name.startswith("Gaussian (ddof") else pytest.mark.slow)
    for name in cases.CASES
]


@pytest.mark.parametrize("name", NAMES)
def test_verdicts_are_those_of_theory(made, name):
    case = made(name)
    assert_verdicts(case.profile, case.verdicts)
    assert json.loads(case.profile.to_json())["chains"] == SIZES[name]["chains"]


@pytest.mark.parametrize("name", NAMES)
def test_means_over_chains_are_exact(made, name, assert_mean):
    case = made(name)
    for metric, exact in case.exact.items():
        values = np.asarray(case.trace[metric], float)[:, [0, 1, 3, 6]]
        assert_mean(values, exact[[0, 1, 3, 6]])


def test_the_mean_diverges_and_the_typical_variance_goes_to_0(made):
    """The typical variance is a product of chi squares, whose median is known exactly."""
    case = made("Gaussian (ddof = 1), replace")
    found = case.profile.verdict("diversity").median
    exact = np.exp(theory.gaussian.log_variance_quantile(0.5, [10, 50, 200], 10, ddof=1))
    assert np.all(found.lows[[10, 50, 200]] <= exact)
    assert np.all(exact <= found.highs[[10, 50, 200]])
    said = "\n".join(case.profile.disagreements)
    assert "the mean over chains meets it" in said and "the typical chain does not" in said
    assert "the mean test loss grows without bound while the typical diversity goes to 0" in said


def assert_verdicts(profile, verdicts):
    """verdicts: definition -> those of mean and median, None where theory says nothing."""
    for definition, (mean, median) in verdicts.items():
        verdict = profile.verdict(definition)
        if mean is not None:
            assert verdict.mean.verdict == mean, (definition, verdict)
        if median is not None:
            assert verdict.median.verdict == median, (definition, verdict)


def gaussians(next_set, size, generations, chains, seed):
    """Metrics [chain, generation] of Gaussians with ddof = 1 in NumPy; their law is N(0, 1).

    next_set(rng, mean, deviation, sets) makes a training set [chain, points] of the ones before.
    """
    rng = np.random.default_rng(seed)
    sets, found = [rng.normal(size=(chains, size))], []
    for _ in range(generations + 1):
        mean, variance = sets[-1].mean(1), sets[-1].var(1, ddof=1)
        found.append((mean, variance))
        fresh = next_set(rng, mean[:, None], np.sqrt(variance)[:, None], (chains, size))
        sets = [fresh] if next_set is not accumulated else [np.hstack([sets[-1], fresh])]
    mean, variance = (np.stack(part, axis=1) for part in zip(*found, strict=True))
    return {
        "mean": mean,
        "variance": variance,
        "squared_wasserstein2": mean**2 + (np.sqrt(variance) - 1) ** 2,
        "kl_real_to_model": ((1 + mean**2) / variance - 1 + np.log(variance)) / 2,
    }


def accumulated(rng, mean, deviation, shape):
    return mean + deviation * rng.normal(size=shape)


def a_tenth_is_real(rng, mean, deviation, shape):
    is_real = rng.random(shape) < 0.1
    return np.where(is_real, rng.normal(size=shape), mean + deviation * rng.normal(size=shape))


NORMAL = {"family": "gaussian", "truth": {"mean": 0.0, "variance": 1.0}}


def test_accumulate_is_none_in_nats_and_rises_as_an_error():
    """The error of the mean tends to pi^2 / 6 of the first; the whole error follows it."""
    run = gaussians(accumulated, 100, 60, 300, seed=4)
    profile = cases.profile(run, **NORMAL)
    none = ("not met", "not met")
    assert_verdicts(profile, dict.fromkeys(
        ("catastrophic", "increase", "divergence", "diversity", "tails", "hallucination"), none
    ))  # fmt: skip
    assert profile.disagreements == ()
    errors = cases.profile(run, metrics={"loss": "squared_wasserstein2"})
    found = errors.verdict("increase").mean
    exact = theory.wasserstein.expected_squared_wasserstein2(
        np.array([0, 60]), 100, ddof=1, workflow="accumulate"
    )
    error = (np.log(found.highs[60]) - np.log(found.lows[60])) / 2 / stats.norm.ppf(0.975)
    assert found.verdict == "met"
    assert abs(np.log(found.numbers[60] / (exact[1] / exact[0]))) < 4 * error
    assert errors.verdict("divergence").mean.verdict == "not met"


def test_a_share_of_real_points_bounds_the_loss():
    """The mean squared error settles at 1 / (M g (2 - g) - (1 - g)) for a share g (derived)."""
    run = gaussians(a_tenth_is_real, 50, 120, 1000, seed=5)
    profile = cases.profile(run, metrics={"loss": "squared_wasserstein2"}, **NORMAL)
    assert_verdicts(profile, {
        "catastrophic": ("not met", "not met"), "increase": ("met", "met"),
        "divergence": ("not met", None), "diversity": ("not met", "not met"),
    })  # fmt: skip
    assert profile.verdict("divergence").median.verdict != "met"
    squares = (run["mean"][:, 60:] ** 2).mean(1)
    error = squares.std(ddof=1) / np.sqrt(len(squares))
    assert abs(squares.mean() - 1 / (50 * 0.1 * 1.9 - 0.9)) < 4 * error


def wright_fisher(size, generations, chains, probabilities, seed):
    rng = np.random.default_rng(seed)
    law, found = np.broadcast_to(probabilities, (chains, len(probabilities))), []
    for _ in range(generations + 1):
        law = rng.multinomial(size, law) / size
        with np.errstate(divide="ignore"):
            log_ratio = np.where(law > 0, np.log(law / probabilities), 0.0)
        found.append({
            "heterozygosity": 1 - (law**2).sum(1),
            "support": (law > 0).sum(1).astype(float),
            "missing_mass": (probabilities * (law == 0)).sum(1),
            "kl_model_to_real": (law * log_ratio).sum(1),
            "kl_real_to_model": np.where((law == 0).any(1), np.inf, 0.0),
        })  # fmt: skip
    return {name: np.stack([at[name] for at in found], axis=1) for name in found[0]}


def test_categories_lose_modes_and_tails_and_invent_none():
    probabilities = 1 / np.arange(1, 21)
    probabilities /= probabilities.sum()
    run = wright_fisher(50, 60, 500, probabilities, seed=6)
    profile = cases.profile(run)
    assert_verdicts(profile, {
        "diversity": ("met", "met"), "modes": ("met", "met"), "tails": ("met", "met"),
        "hallucination": ("not met", "not met"),
    })  # fmt: skip
    # kl_real_to_model is infinite from the first: it tells nothing, and another stands in.
    assert profile.verdict("increase").metric == "kl_model_to_real"
    assert "kl_real_to_model is infinite at generation 0" in profile.verdict("increase").note
    found = profile.verdict("diversity").mean
    exact = theory.categorical.expected_heterozygosity(np.array([0, 20, 40]), 50, probabilities)
    for at, ratio in ((20, exact[1] / exact[0]), (40, exact[2] / exact[0])):
        error = (np.log(found.highs[at]) - np.log(found.lows[at])) / 2 / stats.norm.ppf(0.975)
        assert abs(np.log(found.numbers[at] / ratio)) < 4 * error


def test_kernels_widen_and_lose_their_ancestors():
    """Each point is a copy of one before, with a normal step of the kernel's width."""
    rng, size, chains, width = np.random.default_rng(7), 20, 200, 0.5
    x, ancestor, found = rng.normal(size=(chains, size)), np.tile(np.arange(size), (chains, 1)), []
    limit = stats.norm.ppf(1 - 0.5e-4)
    for _ in range(41):
        outside = stats.norm.sf((limit - x) / width) + stats.norm.cdf((-limit - x) / width)
        living = [len(np.unique(row)) for row in ancestor]
        found.append((x.var(1) + width**2, np.array(living, float), outside.mean(1)))
        parent = rng.integers(size, size=(chains, size))
        x = np.take_along_axis(x, parent, 1) + width * rng.normal(size=(chains, size))
        ancestor = np.take_along_axis(ancestor, parent, 1)
    names = ("variance", "living_ancestors", "outside_mass")
    run = {name: np.stack(part, axis=1) for name, part in zip(names, zip(*found, strict=True),
                                                              strict=True)}  # fmt: skip
    profile = cases.profile(run)
    assert_verdicts(profile, {
        "diversity": ("not met", "not met"), "modes": ("met", "met"),
        "hallucination": ("met", "met"),
    })  # fmt: skip
    assert profile.verdict("diversity").number > 1.5  # variance up
    assert profile.verdict("modes").number < 0.2  # ancestors gone
    assert any("modes disappear while the diversity" in one for one in profile.disagreements)
    exact = theory.kernel_density.expected_variance(np.arange(41), size, bandwidth=width)
    mean, error = run["variance"].mean(0), run["variance"].std(0, ddof=1) / np.sqrt(chains)
    assert np.abs((mean - exact) / error)[[1, 5, 40]].max() < 4
