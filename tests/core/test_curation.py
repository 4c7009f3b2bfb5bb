"""What stands between sampling and fitting, against enumeration and `theory.interventions`: |z| <
4, p > 1e-4, fixed keys.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from collapse_jax.core import curation, workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Supply
from collapse_jax.drivers.run import run
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical, categorical_params
from collapse_jax.estimators.gaussian import gaussian, gaussian_params
from collapse_jax.theory import ancestry, interventions
from collapse_jax.theory import gaussian as gaussian_theory

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(11)
LAW = np.array([0.5, 0.3, 0.15, 0.05])
REWARD = jnp.array([0.0, 1.0, -0.5, 2.0])
PARAMS = categorical_params(LAW)


def reward(x):
    return REWARD[x]


def sampled(wrapper, n=20_000, params=PARAMS, family=None):
    """Points of a model, as a wrapped `replace` draws them."""
    generator = wrapper(workflows.replace()).generator(family or categorical(4))
    return np.asarray(jax.jit(lambda key: generator.sample(key, params, n))(KEY))


def best_of_law(k, choose):
    """By enumeration of all candidates; choose(rewards [k]) -> [k] probabilities."""
    law = np.zeros(4)
    for candidates in itertools.product(range(4), repeat=k):
        chosen = choose(np.array([float(REWARD[c]) for c in candidates]))
        for candidate, probability in zip(candidates, chosen, strict=True):
            law[candidate] += np.prod(LAW[list(candidates)]) * probability
    return law


def greatest(rewards):
    return np.eye(len(rewards))[np.argmax(rewards)]


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("choice", ["bradley_terry", "greatest"])
def test_best_of_has_the_law_of_all_its_candidates(k, choice, chi_square_p):
    found = sampled(curation.best_of(k, reward, choice=choice))
    law = best_of_law(k, special.softmax if choice == "bradley_terry" else greatest)
    assert chi_square_p(np.bincount(found, minlength=4), law) > 1e-4
    if k > 1:
        assert chi_square_p(np.bincount(found, minlength=4), LAW) < 1e-10


def test_best_of_many_tilts_the_model_by_its_reward():
    wrapper = curation.best_of(400, lambda x: 0.5 * x[:, 0])
    x = sampled(wrapper, 3000, gaussian_params(1.0, 1.44), gaussian(1))[:, 0]
    mean, variance = interventions.curated_gaussian(1, mean=1.0, variance=1.44, slope=0.5)
    assert abs(x.mean() - mean) < 4 * np.sqrt(variance / len(x)) + 0.01
    assert stats.kstest(x, "norm", (mean, np.sqrt(variance))).pvalue > 1e-4


@pytest.mark.parametrize(("cap", "kept"), [(1, LAW), (3, None), (100, None)])
def test_verified_points_are_drawn_anew(cap, kept, chi_square_p):
    accepts = np.array([0.1, 1.0, 0.0, 0.5])
    share = LAW @ accepts
    missed = (1 - share) ** (cap - 1)
    law = (1 - missed) * LAW * accepts / share + missed * LAW if kept is None else kept
    found = sampled(curation.verified(lambda x: jnp.asarray(accepts)[x], cap=cap))
    assert chi_square_p(np.bincount(found, minlength=4), law) > 1e-4


def test_verified_by_a_criterion_never_lets_others_through():
    x = sampled(
        curation.verified(lambda x: x[:, 0] > 1.0), 20_000, gaussian_params(0.0, 1.0), gaussian(1)
    )[:, 0]
    assert x.min() > 1.0
    assert stats.kstest(x, stats.truncnorm(1.0, np.inf).cdf).pvalue > 1e-4


def test_what_is_never_accepted_stands_after_the_last_try():
    x = sampled(curation.verified(lambda x: x < 0, cap=3))
    assert set(x) <= set(range(4))


def test_labelled_verifier_keeps_phi_of_the_correct_and_psi_of_the_wrong(chi_square_p):
    correct = LAW[:2].sum()
    found = sampled(curation.labelled_verifier(0.9, 0.3, lambda x: x < 2)) < 2
    wanted = 0.9 * correct / (0.9 * correct + 0.3 * (1 - correct))
    assert (
        chi_square_p(np.bincount(found.astype(int), minlength=2), np.array([1 - wanted, wanted]))
        > 1e-4
    )


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_tempered_categories(tau, chi_square_p):
    family = curation.tempered(tau)(workflows.replace()).generator(categorical(4))
    law = LAW ** (1 / tau) / np.sum(LAW ** (1 / tau))
    assert chi_square_p(np.bincount(sampled(curation.tempered(tau)), minlength=4), law) > 1e-4
    draws = jax.vmap(lambda key: family.draw(key, PARAMS, 7).counts)(jax.random.split(KEY, 5000))
    for k, p in enumerate(law):
        assert (
            chi_square_p(np.bincount(draws[:, k], minlength=8), stats.binom.pmf(np.arange(8), 7, p))
            > 1e-4
        )


def test_top_p_keeps_the_fewest_that_hold_it(chi_square_p):
    for p, kept in ((0.5, 1), (0.6, 2), (0.81, 3), (1.0, 4)):
        law = np.where(np.arange(4) < kept, LAW, 0) / LAW[:kept].sum()
        assert chi_square_p(np.bincount(sampled(curation.top_p(p), 5000), minlength=4), law) > 1e-4


def test_tempered_gaussian_chains_drift_by_the_logarithm_of_the_temperature(assert_mean):
    """Temperature multiplies a Gaussian's variance, so it is the sampling bias lambda of
    Alemohammad et al. (2023).
    """
    process = generational_process(
        gaussian(2),
        sources.normal([0, 0], np.eye(2)),
        curation.tempered(0.8)(workflows.replace()),
        sample_size=12,
    )
    trace = simulate(process, KEY, generations=10, chains=2000, metrics=("log_variance", "mean"))
    generation = np.arange(11)
    assert_mean(
        trace["log_variance"],
        interventions.biased_expected_log_variance(generation, 12, 0.8, ddof=1, dim=2),
    )
    moments = interventions.biased_expected_moments(generation, 12, 0.8, ddof=1)
    assert_mean((trace["mean"].astype(float) ** 2).mean(-1), moments[1])


def test_a_detector_makes_another_mix(assert_mean):
    wrapped = curation.detector(0.8, 0.1)(workflows.mix(0.9, 0.0, 0.1))
    share = float(interventions.real_share_after_detection(0.1, 0.8, 0.1))
    process = generational_process(
        gaussian(1, 0), sources.normal([0], [[1]]), wrapped, sample_size=10
    )
    trace = simulate(process, KEY, generations=15, chains=3000, metrics=("variance",))
    expected = gaussian_theory.expected_variance(
        np.arange(16), 10, ddof=0, workflow="mix", alpha=1 - share, beta=0.0, gamma=share
    )
    assert_mean(trace["variance"], expected)
    without = gaussian_theory.expected_variance(
        np.arange(16), 10, ddof=0, workflow="mix", alpha=0.9, beta=0.0, gamma=0.1
    )
    assert abs(without[-1] - expected[-1]) > 0.1


def test_a_detector_leaves_workflows_without_later_real_data_alone():
    for workflow in (workflows.replace(), workflows.accumulate()):
        assert curation.detector(0.9, 0.1)(workflow) is workflow


def test_wrappers_compose_from_the_inside_out(chi_square_p):
    """Of two tempered and verified candidates the better one; the detector may stand outside or
    inside.
    """
    tempered = np.where(np.arange(4) < 3, LAW**0.5, 0)
    tempered /= tempered.sum()
    law = np.zeros(4)
    for a, b in itertools.product(range(4), repeat=2):
        law[a if REWARD[a] >= REWARD[b] else b] += tempered[a] * tempered[b]
    verify, best = (
        curation.verified(lambda x: x < 3),
        curation.best_of(2, reward, choice="greatest"),
    )
    found = sampled(lambda workflow: best(verify(curation.tempered(2.0)(workflow))))
    assert chi_square_p(np.bincount(found, minlength=4), law) > 1e-4
    outside = curation.detector(0.5, 0.0)(verify(workflows.mix(0.5, 0.0, 0.5)))
    inside = verify(curation.detector(0.5, 0.0)(workflows.mix(0.5, 0.0, 0.5)))
    for wrapped in (outside, inside):
        assert "verified" in wrapped.name and "detector" in wrapped.name
        assert wrapped.generator(categorical(4)).draw is None


FLOWS = [
    workflows.replace(),
    workflows.accumulate(),
    workflows.accumulate_subsample(),
    workflows.mix(0.5, 0.25, 0.25),
]


@pytest.mark.parametrize("workflow", FLOWS, ids=lambda workflow: workflow.name)
def test_only_what_the_model_makes_is_verified(workflow):
    """Category 3 is never let through: it lives on where real points come back, and is lost at once
    under `replace`.
    """
    wrapped = curation.verified(lambda x: x != 3)(workflow)
    process = generational_process(
        categorical(4), sources.categorical([0.25] * 4), wrapped, sample_size=40
    )
    trace = simulate(process, KEY, generations=4, chains=50, metrics=("probabilities", "support"))
    lost = trace["probabilities"][:, :, 3]
    assert (lost[:, 0] > 0).all()
    assert (lost[:, 1:] == 0).all() if workflow.name == "replace" else (lost[:, 1] > 0).any()


def test_both_drivers_give_the_same_numbers(tmp_path):
    wrapped = curation.best_of(3, lambda x: -(x[:, 0] ** 2))(workflows.mix(0.7, 0.0, 0.3))
    process = generational_process(gaussian(1), sources.normal([0], [[1]]), wrapped, sample_size=20)
    ours = simulate(process, KEY, generations=3, chains=2, metrics=("variance",))
    theirs = run(process, KEY, generations=3, folder=tmp_path, chains=2, metrics=("variance",))
    np.testing.assert_allclose(ours["variance"], theirs["variance"], rtol=2e-5)


def host_family():
    """Numbers 0 .. 9 by a host loop; it continues x with x + 100 and a digit."""

    def sample(key, params, n):
        return np.asarray(jax.random.randint(key, (n,), 0, 10))

    def continued(key, params, x):
        return np.asarray(x) + 100 + np.asarray(jax.random.randint(key, (len(x),), 0, 10))

    return estimator(
        lambda key, params, data: ({"mean": jnp.mean(jnp.asarray(data.x, float))}, None),
        sample,
        init=lambda key, data: {"mean": jnp.zeros(())},
        traceable=False,
        continued=continued,
    )


def test_host_families_are_curated_too():
    asked = []

    def accept(x):
        asked.append(np.asarray(x))
        return jnp.asarray(x) % 10 < 2

    generator = curation.best_of(3, jnp.asarray, choice="greatest")(
        curation.verified(accept)(workflows.replace())
    ).generator(host_family())
    x = np.asarray(generator.sample(KEY, None, 200))
    assert set(x) == {0, 1} and np.mean(x) > 0.75
    assert len(asked) > 3
    continued = np.asarray(generator.continued(KEY, None, np.zeros(50, int)))
    assert set(continued) <= {100, 101}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: curation.best_of(0, reward), "k is 0; it must be an integer of at least 1"),
        (
            lambda: curation.best_of(2, reward, choice="worst"),
            "choice is 'worst'; it must be 'bradley_terry' or 'greatest'",
        ),
        (lambda: curation.verified(reward, cap=0), "cap is 0; it must be an integer of at least 1"),
        (
            lambda: curation.labelled_verifier(1.2, 0.1, reward),
            r"phi is 1.2; it must be in \[0, 1\]",
        ),
        (lambda: curation.labelled_verifier(0, 0, reward), "phi and psi are 0"),
        (lambda: curation.tempered(0), "tau is 0; it must be finite and above 0"),
        (lambda: curation.top_p(0), r"p is 0; it must be in \(0, 1\]"),
        (lambda: curation.detector(-0.1, 0), r"true_positive is -0.1; it must be in \[0, 1\]"),
        (
            lambda: curation.detector(1.0, 1.0)(workflows.mix(0.5, 0.0, 0.5)),
            "no points pass the detector",
        ),
        (
            lambda: curation.detector(0.5, 0.1)(workflows.mix(jnp.array(0.5), 0.0, jnp.array(0.5))),
            "they must be numbers, because a detector",
        ),
        (
            lambda: curation.top_p(0.9)(workflows.replace()).generator(gaussian(1)),
            "top_p.0.9. needs an estimator with `nucleus`",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "name"),
    [(curation.tempered, "tempered"), (curation.top_p, "top_p")],
)
def test_amounts_may_be_traced(make, name):
    """As many models at once as there are amounts, each with the numbers that it has alone."""
    amounts = np.array([0.3, 0.6, 0.9], np.float32)

    def sample(amount):
        generator = make(amount)(workflows.replace()).generator(categorical(4))
        return generator.sample(KEY, PARAMS, 50)

    alone = [np.asarray(sample(float(amount))) for amount in amounts]
    together = jax.jit(jax.vmap(sample))(amounts)
    np.testing.assert_array_equal(together, alone)
    assert make(0.5)(workflows.replace()).name == f"{name}(0.5)(replace)"
    assert jax.eval_shape(sample, jnp.float32(0.5)).shape == (50,)


@pytest.mark.parametrize("tau", [0.7, 1.6])
def test_the_gradient_in_the_temperature_goes_through_the_points(tau):
    """E[x^2] of N(0, v) at temperature tau is v tau: each x is the root of tau times a standard
    one, and the derivative of its square x^2 / tau.
    """

    def squares(tau):
        generator = curation.tempered(tau)(workflows.replace()).generator(gaussian(1))
        x = generator.sample(KEY, gaussian_params(0.0, 2.0), 500)
        return jnp.mean(x**2)

    value, slope = jax.value_and_grad(squares)(tau)
    np.testing.assert_allclose(slope, value / tau, rtol=1e-4)
    error = 2 * np.sqrt(2 / 500)
    assert abs(slope - 2) < 4 * error


def test_traced_amounts_out_of_range_make_nan():
    for make, bad in ((curation.tempered, [0.0, -1.0, jnp.inf]), (curation.top_p, [0.0, 1.5])):

        def weights(amount, make=make):
            seen = []

            def reshape(params, amount):
                seen.append(amount)
                return params

            family = categorical(4)._replace(tempered=reshape, nucleus=reshape)
            generator = make(amount)(workflows.replace()).generator(family)
            generator.sample(KEY, PARAMS, 2)
            return seen[0]

        assert np.isnan(jax.vmap(weights)(jnp.array([*bad, jnp.nan]))).all()


def test_shares_of_verifiers_and_detectors_may_be_traced(chi_square_p):
    def kept(phi, psi):
        wrapper = curation.labelled_verifier(phi, psi, lambda x: x < 2)
        sample = wrapper(workflows.replace()).generator(categorical(4)).sample
        return sample(KEY, PARAMS, 40)

    together = jax.jit(jax.vmap(kept))(jnp.array([0.9, 1.0]), jnp.array([0.3, 0.0]))
    np.testing.assert_array_equal(together, [kept(0.9, 0.3), kept(1.0, 0.0)])


def test_what_a_detector_finds_may_be_traced():
    """Many detectors at once: the mean count of real points is that of the mix that is left."""
    asked = []

    def real_points(true_positive):
        wrapped = curation.detector(true_positive, 0.1)(workflows.mix(0.9, 0.0, 0.1))
        asked.append(wrapped.name)
        supply = Supply(
            model=lambda key, n: 0,
            real=lambda key, n: n,
            merge=lambda a, b: a + b,
            subsample=None,
            reserve=None,
            append=None,
            compact=lambda data: data,
            previous_size=200,
        )
        return wrapped.next(KEY, (), supply, 200)[1]

    found = jax.vmap(real_points)(jnp.array([0.0, 0.8, 1.0]))
    share = interventions.real_share_after_detection(0.1, np.array([0.0, 0.8, 1.0]), 0.1)
    error = np.sqrt(200 * share * (1 - share))
    assert (np.abs(found - 200 * share) <= 4 * error + 1e-3).all() and found[2] == 200
    assert asked == ["detector(mix(0.9, 0, 0.1))"]


def test_retention_of_a_tempered_population_is_not_that_of_replace():
    """A guard of the tests above: at tau = 1 a wrapped chain is the plain one, number by number."""

    def simulated(workflow):
        process = generational_process(
            categorical(4), sources.categorical(LAW), workflow, sample_size=30
        )
        options = {"generations": 5, "chains": 2000, "metrics": "heterozygosity"}
        return simulate(process, KEY, **options)["heterozygosity"]

    plain = simulated(workflows.replace())
    wrapped = simulated(curation.tempered(1.0)(workflows.replace()))
    expected = (1 - np.sum(LAW**2)) * ancestry.retention(np.arange(6), 30, workflow="replace")
    for values in (plain, wrapped):
        error = values.std(0) / np.sqrt(len(values))
        assert (np.abs(values.mean(0) - expected) < 4 * error).all()


@pytest.mark.parametrize("key", [3, None, jax.random.PRNGKey(0), jax.random.split(KEY)])
@pytest.mark.parametrize(
    "wrapper",
    [
        curation.best_of(2, reward),
        curation.verified(lambda x: x < 2),
        curation.labelled_verifier(0.9, 0.1, lambda x: x < 2),
        curation.tempered(0.5),
        curation.top_p(0.5),
        lambda workflow: workflow,
    ],
)
def test_what_is_no_key_is_one_line(wrapper, key):
    generator = wrapper(workflows.replace()).generator(categorical(4))
    with pytest.raises(InputError, match=r"^key is .*one key, such as jax.random.key\(0\)"):
        jax.eval_shape(lambda: generator.sample(key, PARAMS, 3))
    source = sources.population(categorical(4), PARAMS)
    with pytest.raises(InputError, match=r"^key is "):
        jax.eval_shape(lambda: source.sample(key, 3))
