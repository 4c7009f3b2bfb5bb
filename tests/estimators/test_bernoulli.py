"""The Bernoulli family against SciPy, and whole chains against their exact law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax.estimators.bernoulli import (
    BernoulliCounts,
    BernoulliParams,
    bernoulli,
    bernoulli_params,
)
from collapse_jax.theory import absorption, exponential_families

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(81)
FAMILY, REAL = bernoulli(), bernoulli_params(0.3)


def counted(zeros, ones):
    return BernoulliParams(jnp.asarray(zeros, jnp.int32), jnp.asarray(ones, jnp.int32))


@jax.jit
def drawn(keys, params, n):
    return jax.vmap(lambda key: FAMILY.draw(key, params, n))(keys)


@pytest.mark.parametrize(
    ("params", "p"),
    [
        (REAL, 0.3),
        (counted(1, 4), 0.8),
        (counted(10**9 - 1, 1), 1e-9),
        (counted(1, 10**9 - 1), 1 - 1e-9),
    ],
)
def test_statistics_has_its_law(params, p, fit_of_ones):
    for n in (7, 10**6):
        statistics = drawn(jax.random.split(KEY, 20_000), params, n)
        assert (
            statistics.ones.dtype == jnp.int32 and (statistics.zeros + statistics.ones == n).all()
        )
        rare = (
            statistics.ones if p < 0.5 else statistics.zeros
        )  # SciPy's law of n - k keeps the digits of a p near 1
        assert (
            fit_of_ones(rare, n, min(p, 1 - p) if p < 0.9 else 1e-9 if p > 0.99 else 1 - p) > 1e-4
        )
    x = FAMILY.sample(KEY, params, 20_000)
    assert x.dtype == jnp.int32 and stats.binomtest(int(x.sum()), 20_000, p).pvalue > 1e-4


@pytest.fixture
def fit_of_ones(chi_square_p):
    def p_value(ones, n, p):
        largest = int(max(np.max(ones), stats.binom.isf(1e-9, n, p)))
        low = int(min(np.min(ones), stats.binom.ppf(1e-9, n, p)))
        width = (largest - low) // 60 + 1
        edges = np.arange(low, largest + width + 1, width)
        cdf = stats.binom.cdf(edges[1:] - 1, n, p)
        cdf[-1] = 1
        return chi_square_p(np.histogram(ones, edges)[0], np.diff(cdf, prepend=0))

    return p_value


def test_summarise_merge_fit_and_subsample(chi_square_p):
    x, weight = jnp.array([1, 0, 0, 1, 1, 0]), jnp.array([1.0, 1, 0, 1, 0, 1])
    statistics = FAMILY.summarise(x, weight)
    assert (int(statistics.zeros), int(statistics.ones)) == (2, 2)
    pooled = FAMILY.merge(statistics, BernoulliCounts(jnp.int32(3), jnp.int32(1)))
    params, _ = FAMILY.fit(KEY, REAL, pooled)
    assert params.ones.dtype == jnp.int32 and FAMILY.metrics["mean"](params) == pytest.approx(3 / 8)
    taken = jax.vmap(lambda key: FAMILY.subsample(key, pooled, 4))(jax.random.split(KEY, 5000))
    assert (taken.zeros + taken.ones == 4).all()
    assert (
        chi_square_p(
            np.bincount(taken.ones, minlength=5), stats.hypergeom.pmf(np.arange(5), 8, 3, 4)
        )
        > 1e-4
    )


def test_metrics_and_distances_against_scipy():
    model, law, real = counted(1, 4), stats.bernoulli(0.8), np.array([0.7, 0.3])
    value = {name: float(metric(model)) for name, metric in FAMILY.metrics.items()}
    assert value["mean"] == value["probability"] == pytest.approx(0.8)
    assert value["variance"] == pytest.approx(law.var()) and value["log_variance"] == pytest.approx(
        np.log(law.var())
    )
    assert value["log_odds"] == pytest.approx(np.log(4)) and value["entropy"] == pytest.approx(
        law.entropy()
    )
    assert (value["support"], value["absorbed"]) == (2, 0)
    distance = {name: float(one(model, REAL)) for name, one in FAMILY.distances.items()}
    assert distance["total_variation"] == pytest.approx(0.5) and distance[
        "wasserstein2"
    ] == pytest.approx(0.5**0.5)
    assert distance["kl_model_to_real"] == pytest.approx(stats.entropy([0.2, 0.8], real), rel=1e-5)
    assert distance["kl_real_to_model"] == pytest.approx(stats.entropy(real, [0.2, 0.8]), rel=1e-5)
    near = bernoulli_params(0.3001)
    assert float(FAMILY.distances["kl_model_to_real"](near, REAL)) == pytest.approx(
        stats.entropy([0.6999, 0.3001], real), rel=2e-3
    )
    np.testing.assert_allclose(
        FAMILY.log_prob(model, jnp.array([0, 1, 2])), law.logpmf([0, 1, 2]), rtol=1e-6
    )


@pytest.mark.parametrize("ones", [0, 8])
def test_an_absorbed_model(ones):
    model = counted(8 - ones, ones)
    value = {name: float(metric(model)) for name, metric in FAMILY.metrics.items()}
    assert (value["mean"], value["variance"], value["log_variance"]) == (ones / 8, 0, -np.inf)
    assert (value["support"], value["absorbed"], value["entropy"]) == (1, 1, 0)
    assert value["log_odds"] == (np.inf if ones else -np.inf)
    assert FAMILY.distances["kl_real_to_model"](model, REAL) == np.inf
    assert FAMILY.distances["kl_model_to_real"](model, REAL) == pytest.approx(
        -np.log(0.3 if ones else 0.7), rel=1e-6
    )
    assert (
        FAMILY.distances["kl_model_to_real"](model, model)
        == FAMILY.distances["kl_real_to_model"](model, model)
        == 0
    )
    assert FAMILY.distances["kl_model_to_real"](REAL, model) == np.inf
    assert (drawn(jax.random.split(KEY, 20_000), model, 100).ones == (100 if ones else 0)).all()
    assert (FAMILY.sample(KEY, model, 100) == (1 if ones else 0)).all()


def test_temperature_and_nucleus():
    for temperature in (0.5, 1.0, 3.0):
        odds = (0.3 / 0.7) ** (1 / temperature)
        assert FAMILY.metrics["mean"](FAMILY.tempered(REAL, temperature)) == pytest.approx(
            odds / (1 + odds), rel=1e-5
        )
    assert FAMILY.metrics["mean"](FAMILY.tempered(counted(5, 0), 2.0)) == 0
    assert [
        float(FAMILY.metrics["mean"](FAMILY.nucleus(REAL, p))) for p in (0.5, 0.69, 0.9)
    ] == pytest.approx([0, 0, 0.3])
    assert FAMILY.metrics["mean"](FAMILY.nucleus(counted(2, 3), 0.5)) == 1


@pytest.mark.parametrize(("flow", "gamma"), [("replace", 0.0), ("mix", 0.3)])
def test_whole_chains_have_their_exact_law(flow, gamma, chi_square_p):
    workflow = (
        cj.workflows.replace() if flow == "replace" else cj.workflows.mix(1 - gamma, 0.0, gamma)
    )
    process = cj.generational_process(
        FAMILY, cj.sources.population(FAMILY, REAL), workflow, sample_size=12
    )
    trace = cj.simulate(
        process, KEY, generations=9, chains=20_000, metrics=("mean", "absorbed"), record=(1, 9)
    )
    for place, generation in enumerate(trace.generations):
        law = exponential_families.bernoulli_sum_distribution(
            generation, 12, 0.3, workflow=flow, gamma=gamma
        )
        assert (
            chi_square_p(
                np.bincount(np.rint(trace["mean"][:, place] * 12).astype(int), minlength=13), law
            )
            > 1e-4
        )
    if flow == "replace":
        absorbed = absorption.absorption_probability(9, 12, np.array([0.7, 0.3]))
        assert (
            abs(trace["absorbed"][:, -1].mean() - absorbed)
            < 4 * (absorbed * (1 - absorbed) / 20_000) ** 0.5
        )


def test_bad_input_is_named():
    for probability in (-0.1, 1.5, np.nan):
        with pytest.raises(cj.InputError, match="probability is"):
            bernoulli_params(probability)
