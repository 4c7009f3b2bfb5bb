"""Every workflow in every family and size, whole chains against `theory`: |z| < 4 and p > 1e-4 at
fixed keys.

The whole matrix runs under the slow marker; each workflow, size and ddof of it runs always
(`test_theory_against_chains` has more in
one dimension and four categories).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
KEY = jax.random.key(7)
VARIANCE, SIZE = 2.5, 10
SCHEDULE = [5, 12, 8, 20, 6, 9]
FLOWS = {
    "replace": (workflows.replace(), {"workflow": "replace"}),
    "accumulate": (workflows.accumulate(), {"workflow": "accumulate"}),
    "accumulate_subsample": (
        workflows.accumulate_subsample(),
        {"workflow": "accumulate_subsample"},
    ),
}
for alpha, beta, gamma in ((0.9, 0.0, 0.1), (0.5, 0.0, 0.5), (0.5, 0.3, 0.2)):
    shares = {"workflow": "mix", "alpha": alpha, "beta": beta, "gamma": gamma}
    FLOWS[f"mix {alpha} {beta} {gamma}"] = workflows.mix(alpha, beta, gamma), shares


def schedule(generation):
    return jnp.array(SCHEDULE)[generation]


def cases(sizes, options, always):
    """All combinations of size, workflow and option; those not in `always` are marked as slow."""
    return [
        pytest.param(*case, marks=() if case in always else pytest.mark.slow)
        for case in itertools.product(sizes, FLOWS, options)
    ]


def gaussian_trace(dim, flow, ddof, sample_size, record):
    process = generational_process(
        gaussian(dim, ddof),
        sources.normal(np.ones(dim), VARIANCE * np.eye(dim)),
        flow,
        sample_size=sample_size,
    )
    chains = 1000 if dim > 12 else 4000
    trace = simulate(
        process,
        KEY,
        generations=record[-1],
        chains=chains,
        metrics=("mean", "variance"),
        record=record,
    )
    errors = (trace["mean"].astype(np.float64) - 1) ** 2
    return (
        trace.generations,
        trace["variance"].astype(np.float64),
        errors.mean(-1) if dim > 1 else errors,
    )


ALWAYS = {
    *((3, flow, place // 2 % 2) for place, flow in enumerate(FLOWS) if place % 2 == 0),
    (1, "mix 0.9 0.0 0.1", 0),
    (14, "replace", 1),
    (14, "accumulate", 0),
}


@pytest.mark.parametrize(("dim", "flow", "ddof"), cases((1, 3, 14), (0, 1), ALWAYS))
def test_gaussian_moments(dim, flow, ddof, assert_mean):
    """Up to generation M / 2: later means of the variance are carried by rare runs."""
    size = 20 if dim > 12 else SIZE
    made, case = FLOWS[flow]
    generations, variances, errors = gaussian_trace(
        dim, made, ddof, size, [1, size // 4, size // 2]
    )
    case = {"ddof": ddof, "variance": VARIANCE, **case}
    assert_mean(variances, theory.expected_variance(generations, size, **case))
    assert_mean(errors, theory.expected_squared_mean_error(generations, size, **case))


@pytest.mark.parametrize(("dim", "ddof"), [(3, 1), pytest.param(14, 0, marks=pytest.mark.slow)])
def test_gaussian_moments_of_a_schedule(dim, ddof, assert_mean):
    """Traced sample sizes; in 14 dimensions most are below the dimension."""
    generations, variances, errors = gaussian_trace(
        dim, workflows.replace(), ddof, schedule, [1, 3, 5]
    )
    assert_mean(
        variances, theory.expected_variance(generations, SCHEDULE, ddof=ddof, variance=VARIANCE)
    )
    assert_mean(
        errors,
        theory.expected_squared_mean_error(generations, SCHEDULE, ddof=ddof, variance=VARIANCE),
    )


def rising(number):
    """Probabilities [number] proportional to 1, 2, 3 ..."""
    return np.arange(1, number + 1) / np.arange(1, number + 1).sum()


@functools.cache
def categorical_trace(number, flow, sample_size, record, chains=4000):
    process = generational_process(
        categorical(number), sources.categorical(rising(number)), flow, sample_size=sample_size
    )
    metrics = ("heterozygosity", "probabilities", "support")
    return simulate(
        process, KEY, generations=record[-1], chains=chains, metrics=metrics, record=record
    )


ALWAYS = {
    *((10, flow, "") for flow in FLOWS),
    (2, "replace", ""),
    (100, "accumulate_subsample", ""),
}


@pytest.mark.parametrize(("number", "flow", "_"), cases((2, 10, 100), ("",), ALWAYS))
def test_categorical_moments(number, flow, _, assert_mean):
    made, case = FLOWS[flow]
    trace = categorical_trace(
        number, made, SIZE, (1, 4, 12), chains=1000 if number == 100 else 4000
    )
    generations, probabilities = trace.generations, trace["probabilities"].astype(np.float64)
    initial = 1 - np.sum(rising(number) ** 2)
    assert_mean(trace["heterozygosity"], initial * ancestry.retention(generations, SIZE, **case))
    picked = [number // 4, number // 2, number - 1]
    assert_mean(probabilities[..., picked], np.tile(rising(number)[picked], (len(generations), 1)))
    squares = (probabilities - rising(number))[..., picked] ** 2
    assert_mean(
        squares,
        categorical_theory.probability_variance(generations, SIZE, rising(number)[picked], **case),
    )


def test_categorical_moments_of_a_schedule(assert_mean):
    trace = categorical_trace(30, workflows.replace(), schedule, (1, 3, 5))
    initial = 1 - np.sum(rising(30) ** 2)
    assert_mean(trace["heterozygosity"], initial * ancestry.retention(trace.generations, SCHEDULE))
    assert (np.diff(trace["support"], axis=1) <= 0).all() and (
        trace["support"][:, 0] <= SCHEDULE[0]
    ).all()


class TestWholeChainsOfManyCategories:
    """50 categories by 30 points for 40 generations: nearly all die out, and the lists get shorter
    on the way.
    """

    NUMBER, SIZE = 50, 30

    def counts(self):
        trace = categorical_trace(
            self.NUMBER, FLOWS["replace"][0], self.SIZE, (1, 6, 18, 40), chains=6000
        )
        return trace.generations, np.rint(trace["probabilities"] * self.SIZE).astype(int)

    def test_they_are_counts(self):
        _, counts = self.counts()
        assert (counts.sum(-1) == self.SIZE).all()
        assert np.mean((counts[:, -1] > 0).sum(-1)) < 5

    @pytest.mark.parametrize("category", [0, 25, 49])
    def test_each_category_has_its_exact_law(self, category, chi_square_p):
        generations, counts = self.counts()
        for place, generation in enumerate(generations):
            law = categorical_theory.count_distribution(
                generation, self.SIZE, rising(self.NUMBER)[category]
            )
            assert (
                chi_square_p(np.bincount(counts[:, place, category], minlength=self.SIZE + 1), law)
                > 1e-4
            ), generation

    def test_two_categories_together_have_the_law_of_one(self, chi_square_p):
        generations, counts = self.counts()
        both = rising(self.NUMBER)[40:].sum()
        for place, generation in enumerate(generations):
            pooled = counts[:, place, 40:].sum(-1)
            law = categorical_theory.count_distribution(generation, self.SIZE, both)
            assert chi_square_p(np.bincount(pooled, minlength=self.SIZE + 1), law) > 1e-4, (
                generation
            )

    def test_another_generation_is_found(self, chi_square_p):
        generations, counts = self.counts()
        wrong = categorical_theory.count_distribution(
            generations[2] + 4, self.SIZE, rising(self.NUMBER)[40:].sum()
        )
        assert (
            chi_square_p(np.bincount(counts[:, 2, 40:].sum(-1), minlength=self.SIZE + 1), wrong)
            < 1e-4
        )
