"""Verifiers that are refitted and detectors that are trained, against exact laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.core.process import process_grid
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate_chunks
from collapse_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY, SIZE, LAST = jax.random.key(8), 8, 5
FAMILY = cj.estimators.gaussian_mean([[1.0]])
REAL = cj.sources.population(FAMILY, cj.estimators.gaussian_mean_params([0.0]))


def mean(state):
    return state.params.mean[0]


def centre(state):
    return state.carry[1]["centre"][0]


def process(curation, workflow=cj.workflows.replace(), family=FAMILY, real=REAL, size=SIZE):
    return cj.generational_process(family, real, curation(workflow), sample_size=size)


def scores(values, expected):
    values = np.asarray(values, np.float64)
    error = np.maximum(values.std(0, ddof=1) / np.sqrt(len(values)), 1e-7)
    return (values.mean(0) - expected) / error


def test_the_refresh_rate_is_an_axis_and_its_moments_are_exact():
    """None, a part and all of the centre refitted, in one program."""
    rates, chains = np.array([0.0, 0.3, 1.0]), 2_000

    def at(settings):
        return process(cj.verifiers.centred(1.5, centre=0.5, refresh=settings["refresh"]))

    plan = Plan(LAST, chains, (mean, centre), settings={"refresh": rates})
    chunks = [*simulate_chunks(process_grid(at, {"refresh": 0.5}), KEY, plan)]
    values = {
        name: np.concatenate([one.arrays[name] for one in chunks], axis=1).reshape(3, chains, -1)
        for name in ("mean", "centre")
    }
    for i, rate in enumerate(rates):
        first, second = theory.drifting_verifier.centre_moments(
            np.arange(LAST + 1), SIZE, 1.5, rate, bias=0.5
        )
        m, c = (np.asarray(values[name][i], np.float64) for name in ("mean", "centre"))
        assert np.abs(scores(m, first[:, 0])).max() < 4
        assert np.abs(scores(c, first[:, 1])).max() < 4
        assert np.abs(scores(m**2, second[:, 0, 0])).max() < 4
        assert np.abs(scores(m * c, second[:, 0, 1])).max() < 4


@pytest.mark.parametrize("gamma", [0.2, 1.0])
def test_real_data_and_a_centre_that_is_fitted_every_other_generation(gamma):
    one = process(
        cj.verifiers.centred(1.5, refresh=0.7, every=2), cj.workflows.mix(1 - gamma, 0.0, gamma)
    )
    trace = cj.simulate(one, KEY, generations=4, chains=2_000, metrics=(mean, centre))
    first, second = theory.drifting_verifier.centre_moments(
        np.arange(5), SIZE, 1.5, 0.7, bias=None, gamma=gamma, every=2
    )
    assert np.abs(scores(trace["mean"], first[:, 0])).max() < 4
    assert np.abs(scores(trace["mean"].astype(float) ** 2, second[:, 0, 0])).max() < 4
    assert np.abs(scores(trace["centre"], first[:, 1])).max() < 4
    assert (trace["centre"][:, 0] == trace["centre"][:, 1]).all()


def test_without_refresh_it_is_the_fixed_verifier_bit_for_bit():
    def accept(x):
        return jnp.exp(-jnp.sum(((x - 0.5) / 1.5) ** 2, axis=1) / 2)

    workflow = cj.workflows.mix(0.5, 0.2, 0.3)
    moving = process(cj.verifiers.centred(1.5, centre=0.5, refresh=0), workflow)
    fixed = process(cj.curation.verified(accept), workflow)
    options = {"generations": 3, "chains": 20, "metrics": (mean,)}
    one, other = (cj.simulate(each, KEY, **options)["mean"] for each in (moving, fixed))
    assert np.array_equal(one, other)


def test_a_width_that_is_refitted():
    one = process(
        cj.verifiers.centred(1.5, scaled=True),
        family=cj.estimators.gaussian(1, ddof=1),
        real=cj.sources.normal(0, 1),
    )
    trace = cj.simulate(one, KEY, generations=4, chains=2_000, metrics="log_variance")
    expected = theory.drifting_verifier.refitted_width_log_variance(np.arange(5), SIZE, 1.5)
    assert np.abs(scores(trace["log_variance"], expected)).max() < 4


def shares(key, state, real, made):
    """The closed form of a saturated classifier of zeros and ones."""

    def counts(data):
        return jnp.stack([jnp.sum(data.weight * (data.x == value)) for value in (0, 1)])

    seen = counts(real) + counts(made)
    return jnp.where(seen > 0, counts(real) / jnp.where(seen > 0, seen, 1), 0.5)


BERNOULLI = cj.estimators.bernoulli()
COINS = cj.sources.population(BERNOULLI, cj.estimators.bernoulli_params(0.4))
DETECTORS = {
    "closed form": cj.verifiers.trained(
        lambda state: cj.curation.verified(lambda x: state[x]), shares, start=jnp.full(2, 0.5)
    ),
    "logistic": cj.verifiers.logistic(lambda x: x[:, None], penalty=1e-6),
}


@pytest.mark.parametrize("name", ["closed form", pytest.param("logistic", marks=pytest.mark.slow)])
def test_the_law_of_what_a_detector_lets_pass(name):
    one = process(DETECTORS[name], family=BERNOULLI, real=COINS, size=6)
    trace = cj.simulate(one, KEY, generations=2, chains=4_000, metrics="mean")
    for g in (1, 2):
        law = theory.drifting_verifier.detected_count_distribution(g, 6, 0.4)
        found = np.bincount(np.rint(trace["mean"][:, g] * 6).astype(int), minlength=7)
        assert stats.chisquare(found, law / law.sum() * found.sum()).pvalue > 1e-4


def test_the_weights_of_a_detector_are_the_best_by_scipy():
    """Those of the last training, held against an optimiser in float64."""
    seen = {}

    def fit_watched(real, made):
        x = np.concatenate([real, made]).astype(float)
        label = np.repeat([1.0, 0.0], [len(real), len(made)])
        features = np.stack([np.ones_like(x), x, x**2], axis=1)

        def loss(weights):
            logit = features @ weights
            nats = np.logaddexp(0, np.where(label > 0, -logit, logit)).mean()
            return nats + 0.5 * 0.01 * weights @ weights

        return optimize.minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x

    detector = cj.verifiers.logistic(
        lambda x: jnp.concatenate([x, x**2], axis=1), penalty=0.01, against="first"
    )
    workflow = detector(cj.workflows.replace())

    def spy(key, carry, supply, n):
        def model(key, n):
            data = supply.model(key, n)
            seen.setdefault("made", np.asarray(data.x)[:, 0])  # asked first: the detector's
            return data

        seen["first"] = np.asarray(carry[3].x)[:, 0]
        result = workflow.next(key, carry, supply._replace(model=model), n)
        seen["weights"] = np.asarray(result[0][1])
        return result

    one = process(lambda _: workflow._replace(next=spy))
    state, _ = one.init(KEY)
    seen.clear()
    one.step(jax.random.fold_in(KEY, 1), state)
    expected = fit_watched(seen["first"], seen["made"])
    assert np.allclose(seen["weights"], expected, atol=2e-4)


def test_another_curation_of_a_state():
    """A reward that follows the pool: the better of two by nearness to the newest mean."""
    drifting = cj.verifiers.refitted(
        lambda state: cj.curation.best_of(2, lambda x: -((x[:, 0] - state) ** 2)),
        lambda key, state, data: jnp.average(data.x[:, 0], weights=data.weight),
        start=0.0,
        refresh=0.5,
    )
    one = process(drifting)
    state, _ = one.init(jax.random.fold_in(KEY, 0))
    for number in (1, 2):
        before = float(state.carry[1])
        state, _ = one.step(jax.random.fold_in(KEY, number), state)
        # The model's mean is that of its training set.
        expected = (before + float(mean(state))) / 2
        assert float(state.carry[1]) == pytest.approx(expected, abs=1e-6)


ACCEPT = lambda state: cj.curation.verified(lambda x: x[:, 0] > state)  # noqa: E731
MEAN = lambda key, state, data: data.x.mean()  # noqa: E731


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: cj.verifiers.centred(0.0), "width is 0.0"),
        (lambda: cj.verifiers.centred(1.0, refresh=1.5), "refresh is 1.5"),
        (lambda: cj.verifiers.centred(1.0, every=0), "every is 0"),
        (lambda: cj.verifiers.centred(1.0, centre=np.inf), "centre is inf"),
        (lambda: cj.verifiers.centred(1.0, cap=0), "cap is 0"),
        (lambda: process(cj.verifiers.centred(1.0, centre=[0.0, 1.0])), "centre has 2 numbers"),
        (lambda: cj.verifiers.logistic(threshold=1.0), "threshold is 1.0"),
        (lambda: cj.verifiers.logistic(penalty=0), "penalty is 0"),
        (lambda: cj.verifiers.logistic(against="real"), "against is 'real'"),
        (lambda: cj.verifiers.logistic(examples=0), "examples is 0"),
        (lambda: process(cj.verifiers.logistic(lambda x: x[:, 0])), "features returned shape [8]"),
        (lambda: cj.verifiers.refitted(ACCEPT, lambda x: x, start=0.0), "fit of refitted"),
        (
            lambda: process(cj.verifiers.refitted(ACCEPT, MEAN, start="0")),
            "start of refitted is '0'",
        ),
        (
            lambda: process(cj.verifiers.refitted(ACCEPT, MEAN, start=0, refresh=0.5)),
            "refresh must be 0 or 1",
        ),
        (
            lambda: process(cj.verifiers.refitted(ACCEPT, MEAN, start=jnp.zeros(1))),
            "a state with the structure of start",
        ),
        (
            lambda: process(
                cj.verifiers.refitted(lambda state: cj.curation.detector(0.5, 0), MEAN, start=0.0)
            ),
            "does not choose points",
        ),
        (
            lambda: process(cj.verifiers.refitted(lambda state: state, MEAN, start=0.0)),
            "one of cj.curation",
        ),
        (
            lambda: process(cj.verifiers.logistic(against="pool"), cj.workflows.accumulate()),
            "training sets of accumulate grow",
        ),
        (
            lambda: process(
                cj.verifiers.logistic(against="fresh", examples=5),
                cj.workflows.keep_or_continue(0.5),
            ),
            "continue",
        ),
    ],
)
def test_bad_input_is_one_line(make, word):
    with pytest.raises(InputError) as caught:
        make()
    assert word in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("against", ["fresh", "first", "pool"])
def test_the_contract(against):
    cj.check_workflow(
        cj.verifiers.logistic(lambda x: jnp.stack([x, x**2], axis=1), against=against)
    )


@pytest.mark.slow
def test_the_contract_of_a_moving_centre():
    cj.check_workflow(cj.verifiers.centred(1.0))
