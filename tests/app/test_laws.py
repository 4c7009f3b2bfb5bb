"""Whole chains against the closed forms of `theory`, which shares no code with them.

|z| < 4 and p > 1e-4 at fixed keys. Means of the variance are held against theory only up to
generation M / 2 for ddof=1, since later ones are carried by rare runs; after that, the log variance
and its quantiles.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.drivers.simulate import simulate
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.estimators.gaussian import gaussian
from collapse_jax.theory import ancestry
from collapse_jax.theory import categorical as categorical_theory
from collapse_jax.theory import gaussian as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(20)
VARIANCE = 2.5
PROBABILITIES = np.array([0.5, 0.3, 0.15, 0.05])
SCHEDULE = [5, 12, 8, 20, 6]
SIZE = 10


def schedule(generation):
    return jnp.array(SCHEDULE)[generation]


@functools.cache
def gaussian_chains(
    ddof, workflow, generations, chains, sample_size=SIZE, dim=1, shares=None, random_counts=True
):
    """variance, log_variance and squared mean error [chain, generation] of N(1, VARIANCE I)."""
    flow = (
        workflows.mix(*shares, random_counts=random_counts)
        if shares
        else getattr(workflows, workflow)()
    )
    source = sources.normal(np.ones(dim), VARIANCE * np.eye(dim))
    process = generational_process(gaussian(dim, ddof), source, flow, sample_size=sample_size)
    trace = simulate(process, KEY, generations=generations, chains=chains)
    return {name: np.asarray(values, np.float64) for name, values in trace.items()}


@functools.cache
def categorical_chains(
    workflow, generations, chains, sample_size=SIZE, shares=None, random_counts=True
):
    flow = (
        workflows.mix(*shares, random_counts=random_counts)
        if shares
        else getattr(workflows, workflow)()
    )
    process = generational_process(
        categorical(4), sources.categorical(PROBABILITIES), flow, sample_size=sample_size
    )
    metrics = ("heterozygosity", "support", "probabilities")
    trace = simulate(process, KEY, generations=generations, chains=chains, metrics=metrics)
    return {name: np.asarray(values, np.float64) for name, values in trace.items()}


def assert_gaussian_moments(chains, last, size, assert_mean, **case):
    generations = np.arange(last + 1)
    assert_mean(
        chains["variance"][:, : last + 1],
        theory.expected_variance(generations, size, variance=VARIANCE, **case),
    )
    error = (chains["mean"][:, : last + 1] - 1) ** 2
    assert_mean(
        error, theory.expected_squared_mean_error(generations, size, variance=VARIANCE, **case)
    )


@pytest.mark.parametrize("ddof", [0, 1])
class TestGaussianReplace:
    GENERATIONS = 40

    def chains(self, ddof):
        return gaussian_chains(ddof, "replace", self.GENERATIONS, 20_000)

    def test_variance_and_mean_error(self, ddof, assert_mean):
        assert_gaussian_moments(self.chains(ddof), SIZE // 2, SIZE, assert_mean, ddof=ddof)

    def test_standard_deviation(self, ddof, assert_mean):
        early = np.arange(SIZE + 1)
        deviation = np.sqrt(self.chains(ddof)["variance"][:, : SIZE + 1])
        assert_mean(
            deviation, theory.expected_standard_deviation(early, SIZE, ddof=ddof, variance=VARIANCE)
        )

    def test_log_variance(self, ddof, assert_mean):
        generations = np.arange(self.GENERATIONS + 1)
        values = self.chains(ddof)["log_variance"]
        expected = theory.expected_log_variance(generations, SIZE, ddof=ddof, variance=VARIANCE)
        assert_mean(values, expected)
        assert_mean((values - expected) ** 2, theory.log_variance_std(generations, SIZE) ** 2)

    def test_quantiles(self, ddof):
        levels = np.array([0.01, 0.25, 0.5, 0.9])
        values = self.chains(ddof)["log_variance"]
        for generation in (0, 7, self.GENERATIONS):
            quantiles = theory.log_variance_quantile(
                levels, generation, SIZE, ddof=ddof, variance=VARIANCE
            )
            below = np.mean(values[:, generation, None] <= quantiles, axis=0)
            assert (np.abs(below - levels) < 4 * np.sqrt(levels * (1 - levels) / len(values))).all()

    def test_the_other_ddof_is_found(self, ddof, assert_mean):
        with pytest.raises(AssertionError):
            assert_gaussian_moments(self.chains(ddof), SIZE // 2, SIZE, assert_mean, ddof=1 - ddof)


@pytest.mark.slow
def test_gaussian_in_three_dimensions(assert_mean):
    generations = np.arange(13)
    chains = gaussian_chains(0, "replace", 12, 5_000, dim=3)
    expected = theory.expected_log_variance(generations, SIZE, ddof=0, dim=3, variance=VARIANCE)
    assert_mean(chains["log_variance"], expected)
    assert_mean(
        (chains["log_variance"] - expected) ** 2,
        theory.log_variance_std(generations, SIZE, dim=3) ** 2,
    )
    assert_mean(
        chains["variance"], theory.expected_variance(generations, SIZE, ddof=0, variance=VARIANCE)
    )


def test_gaussian_of_a_schedule(assert_mean):
    generations = np.arange(len(SCHEDULE))
    chains = gaussian_chains(0, "replace", len(SCHEDULE) - 1, 20_000, sample_size=schedule)
    assert_gaussian_moments(chains, len(SCHEDULE) - 1, SCHEDULE, assert_mean, ddof=0)
    assert_mean(
        chains["log_variance"],
        theory.expected_log_variance(generations, SCHEDULE, ddof=0, variance=VARIANCE),
    )


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("workflow", "ddof", "chains"),
    [
        ("accumulate", 0, 20_000),
        ("accumulate", 1, 20_000),
        pytest.param("accumulate_subsample", 0, 5_000, marks=SLOW),
        ("accumulate_subsample", 1, 5_000),
    ],
)
def test_gaussian_with_accumulated_data(workflow, ddof, chains, assert_mean):
    assert_gaussian_moments(
        gaussian_chains(ddof, workflow, 10, chains),
        10,
        SIZE,
        assert_mean,
        ddof=ddof,
        workflow=workflow,
    )


@pytest.mark.parametrize(
    ("ddof", "shares", "random_counts"),
    [
        pytest.param(1, (0.7, 0.0, 0.3), True, marks=SLOW),
        pytest.param(0, (0.55, 0.0, 0.45), False, marks=SLOW),
        (0, (0.5, 0.3, 0.2), True),
        (1, (0.5, 0.3, 0.2), False),
    ],
)
def test_gaussian_mix(ddof, shares, random_counts, assert_mean):
    chains = gaussian_chains(ddof, "mix", 5, 10_000, shares=shares, random_counts=random_counts)
    case = {
        "alpha": shares[0],
        "beta": shares[1],
        "gamma": shares[2],
        "random_counts": random_counts,
    }
    assert_gaussian_moments(chains, 5, SIZE, assert_mean, ddof=ddof, workflow="mix", **case)


class TestCategoricalReplace:
    GENERATIONS, SIZE, CHAINS = 60, 6, 20_000

    def chains(self):
        return categorical_chains("replace", self.GENERATIONS, self.CHAINS, sample_size=self.SIZE)

    def test_heterozygosity_and_support(self, assert_mean):
        early = np.arange(11)
        found = self.chains()
        assert_mean(
            found["heterozygosity"][:, :11],
            categorical_theory.expected_heterozygosity(early, self.SIZE, PROBABILITIES),
        )
        assert_mean(
            found["support"][:, :11],
            categorical_theory.expected_support(early, self.SIZE, PROBABILITIES),
        )
        assert_mean(found["probabilities"][:, :11], np.tile(PROBABILITIES, (11, 1)))

    @pytest.mark.parametrize("generation", [0, 1, 4, 15])
    def test_count_distribution(self, generation, chi_square_p):
        counts = np.rint(self.chains()["probabilities"][:, generation] * self.SIZE).astype(int)
        for k, p in enumerate(PROBABILITIES):
            law = categorical_theory.count_distribution(generation, self.SIZE, p)
            assert chi_square_p(np.bincount(counts[:, k], minlength=self.SIZE + 1), law) > 1e-4, k
        wrong = categorical_theory.count_distribution(
            generation + 1 + generation // 5, self.SIZE, PROBABILITIES[1]
        )
        assert chi_square_p(np.bincount(counts[:, 1], minlength=self.SIZE + 1), wrong) < 1e-4

    def test_fixation(self, chi_square_p):
        last = self.chains()["probabilities"][:, -1]
        # the share not yet absorbed is at most the heterozygosity over its least value of one
        # single copy
        assert np.mean(last.max(1) == 1) > 0.999
        observed = np.bincount(last.argmax(1), minlength=4)
        assert chi_square_p(observed, categorical_theory.fixation_probability(PROBABILITIES)) > 1e-4

    def test_what_is_lost_stays_lost(self):
        assert (np.diff(self.chains()["support"], axis=1) <= 0).all()


INITIAL = 1 - np.sum(PROBABILITIES**2)


@pytest.mark.parametrize("workflow", ["accumulate", "accumulate_subsample"])
def test_categorical_with_accumulated_data(workflow, assert_mean):
    found = categorical_chains(workflow, 12, 10_000)
    assert_mean(
        found["heterozygosity"],
        INITIAL * ancestry.retention(np.arange(13), SIZE, workflow=workflow),
    )
    assert_mean(found["probabilities"], np.tile(PROBABILITIES, (13, 1)))


@pytest.mark.parametrize(
    ("shares", "random_counts"),
    [
        pytest.param((0.7, 0.0, 0.3), True, marks=SLOW),
        ((0.5, 0.3, 0.2), True),
        pytest.param((0.5, 0.3, 0.2), False, marks=SLOW),
        ((0.0, 0.6, 0.4), True),
    ],
)
def test_categorical_mix(shares, random_counts, assert_mean):
    found = categorical_chains("mix", 10, 10_000, shares=shares, random_counts=random_counts)
    case = {
        "alpha": shares[0],
        "beta": shares[1],
        "gamma": shares[2],
        "random_counts": random_counts,
    }
    assert_mean(
        found["heterozygosity"],
        INITIAL * ancestry.retention(np.arange(11), SIZE, workflow="mix", **case),
    )


def test_categorical_of_a_schedule(assert_mean):
    generations = np.arange(len(SCHEDULE))
    found = categorical_chains("replace", len(SCHEDULE) - 1, 20_000, sample_size=schedule)
    assert_mean(found["heterozygosity"], INITIAL * ancestry.retention(generations, SCHEDULE))


def in_numpy(rng, workflow, generations, chains, size):
    """[chains] scale of each chain's last Laplace model, by plain NumPy: median, mean deviation."""
    pool = data = rng.laplace(size=(chains, size))
    for generation in range(generations + 1):
        location = np.median(data, axis=1)
        scale = np.mean(np.abs(data - location[:, None]), axis=1)
        if generation == generations:
            return scale
        new = rng.laplace(location[:, None], scale[:, None], size=(chains, size))
        if workflow == "mix":
            origin = rng.choice(3, p=(0.5, 0.3, 0.2), size=(chains, size))
            data = np.choose(
                origin, [new, rng.permuted(data, axis=1), rng.laplace(size=(chains, size))]
            )
        elif workflow == "accumulate_subsample":
            pool = np.concatenate([pool, new], axis=1)
            data = rng.permuted(pool, axis=1)[:, :size]
        else:
            data = new
    return None


@pytest.mark.parametrize(
    "workflow", [pytest.param("replace", marks=SLOW), "accumulate_subsample", "mix"]
)
def test_a_newcomer_has_the_law_of_a_plain_numpy_chain(workflow, laplace):
    flow = workflows.mix(0.5, 0.3, 0.2) if workflow == "mix" else getattr(workflows, workflow)()
    standard = type(laplace.fit(KEY, None, laplace.summarise(jnp.ones(1), jnp.ones(1)))[0])(
        jnp.array(0.0), jnp.array(1.0)
    )
    process = generational_process(
        laplace, sources.population(laplace, standard), flow, sample_size=7
    )

    def scale(state):
        return state.params.scale

    found = simulate(process, KEY, generations=5, chains=8_000, metrics=scale)["scale"]
    rng = np.random.default_rng(9)
    for generation in (0, 2, 5):
        want = in_numpy(rng, workflow, generation, 8_000, 7)
        assert stats.ks_2samp(found[:, generation], want).pvalue > 1e-4, generation
    assert stats.ks_2samp(found[:, 5], in_numpy(rng, workflow, 1, 8_000, 7)).pvalue < 1e-4
