"""Weights in the fit: each family by its exact recursion, the limits w = 0 and 1, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.core import process as core_process
from collapse_jax.drivers.chunks import join_chunks
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate_chunks

pytestmark = pytest.mark.usefixtures("quick_compile")
E, W = cj.estimators, cj.workflows
KEY = jax.random.key(7)
# A quarter of the points is real; its best weight is .39.
N, REAL = 24, 6
MIX = W.mix(0.75, 0.0, 0.25, random_counts=False)
RANDOM = W.mix(0.75, 0.0, 0.25)
GRID = np.array([0.0, theory.weights.best_weight(REAL, N - REAL), 1.0])
GENERATIONS = 4
AT = np.arange(GENERATIONS + 1)


def source_of(estimator, real):
    return cj.sources.population(estimator, real)


def paths(estimator, source, metric, *, flow=MIX, size=N, chains=2000, grid=GRID, key=KEY):
    """A metric [weights, chains, generation] with w traced: one program for all."""

    def chain(w, key):
        process = cj.generational_process(
            estimator, source, W.weighted(flow, synthetic=w), sample_size=size
        )
        keys = jax.vmap(lambda g: jax.random.fold_in(key, g))(jnp.arange(GENERATIONS + 1))
        first, _ = process.init(keys[0], GENERATIONS)
        measure = process.metrics[metric] if isinstance(metric, str) else metric

        def step(state, key):
            state, _ = process.step(key, state)
            return state, measure(state.params)

        return jnp.concatenate(
            [measure(first.params)[None], jax.lax.scan(step, first, keys[1:])[1]]
        )

    keys = jax.random.split(key, (len(grid), chains))
    of_chains = jax.vmap(jax.vmap(chain, (None, 0)), (0, 0))
    return np.asarray(jax.jit(of_chains)(jnp.asarray(grid, float), keys), np.float64)


def held(assert_mean, samples, exact):
    """Each weight's paths [weights, chains, generation] have the means that exact(w) gives."""
    for w, of_weight in zip(GRID, samples, strict=True):
        assert_mean(of_weight, exact(float(np.float32(w))))


@pytest.mark.parametrize("flow", [MIX, RANDOM], ids=["counts", "random"])
def test_gaussian_mean(flow, assert_mean):
    family = E.gaussian_mean(4.0)
    means = paths(family, source_of(family, E.gaussian_mean_params(1.0)), "mean", flow=flow)
    exact = functools.partial(
        theory.weights.mixed_squared_error, AT, N, 0.25, random_counts=flow is RANDOM
    )
    held(assert_mean, (means - 1) ** 2 / 4, exact)


def test_gaussian_by_its_law_and_by_points(assert_mean):
    def exact(w):
        return 1 - theory.weights.expected_squared_error(AT, REAL, N - REAL, w, v2=-1.0)

    one, two = E.gaussian(1, ddof=0), E.gaussian(2, ddof=0)
    held(assert_mean, paths(one, source_of(one, E.gaussian_params(0.0, 1.0)), "variance"), exact)
    normal = E.gaussian_params([1.0, 2.0], [[1.5, 0.3], [0.3, 0.5]])
    held(assert_mean, paths(two, source_of(two, normal), "variance", chains=1000), exact)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mean", "v2"), [("poisson", 3.0, 0.0), ("exponential", 2.0, 1.0)])
def test_families_of_one_mean(name, mean, v2, assert_mean):
    family = getattr(E, name)()
    real = source_of(family, getattr(E, f"{name}_params")(mean))
    errors = (paths(family, real, "mean") - mean) ** 2 / (mean if v2 == 0 else mean**2)
    held(
        assert_mean,
        errors,
        lambda w: theory.weights.expected_squared_error(AT, REAL, N - REAL, w, v2=v2),
    )


def test_least_squares(assert_mean):
    family = E.linear_regression(2, noise=0.5, feature_covariance=[[2.0, 0.5], [0.5, 1.0]])
    real = source_of(family, E.regression_params([1.0, -2.0]))
    exact = functools.partial(theory.weights.expected_test_error, AT, REAL, N - REAL, 2, noise=0.5)
    held(assert_mean, paths(family, real, "test_error"), exact)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logistic", "poisson"])
def test_regressions_of_many_points(name, assert_mean):
    """To first order in 1 / T; the next one is below a third of a standard error here."""
    size, weights, at = 1200, np.array([0.6, -0.3]), (1, 4)
    family = getattr(E, f"{name}_regression")(2, steps=8)
    params = "logistic_params" if name == "logistic" else "poisson_regression_params"
    real = source_of(family, getattr(E, params)(weights))
    errors = paths(family, real, "squared_distance", size=size, chains=200, grid=GRID[:2])
    norm = np.linalg.norm(weights)
    once = (
        theory.regression.logistic_squared_error(norm, 2)
        if name == "logistic"
        else theory.weights.poisson_squared_error(norm, 2)
    )
    for w, of_weight in zip(GRID[:2], errors, strict=True):
        exact = theory.weights.expected_squared_error(AT, size // 4, 3 * size // 4, float(w))
        assert_mean(of_weight[:, at], once * exact[list(at)])


def test_empirical_distribution_function(assert_mean):
    family = E.empirical(jax.scipy.stats.norm.cdf)
    real = cj.Source(lambda key, n: jax.random.normal(key, (n,)))
    distances = paths(family, real, "cramer_von_mises")
    held(
        assert_mean,
        distances,
        lambda w: theory.weights.expected_squared_error(AT, REAL, N - REAL, w, v2=-1.0) / 6,
    )


def two_steps(flow, estimator, real, size=N):
    """The parameters of generations 0 to 2."""
    process = cj.generational_process(estimator, source_of(estimator, real), flow, sample_size=size)

    @jax.jit
    def states(key):
        state, _ = process.init(key, 2)
        one, _ = process.step(jax.random.fold_in(key, 1), state)
        return state.params, one.params, process.step(jax.random.fold_in(key, 2), one)[0].params

    return states(KEY)


SAME = {
    "statistics": (E.gaussian(1, ddof=0), E.gaussian_params(1.0, 2.0)),
    "sums": (E.linear_regression(2), E.regression_params([1.0, 2.0])),
    "points": (E.empirical(), E.empirical_params([0.0, 1.0, 2.0, 4.0, 7.0])),
}


FLOWS = {"mix": RANDOM, "accumulate": W.accumulate(), "beta": W.mix(0.4, 0.4, 0.2)}


@pytest.mark.parametrize(
    ("name", "flow"),
    [
        ("statistics", "mix"),
        ("points", "beta"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("sums", "mix"), ("points", "mix"), ("statistics", "accumulate"))
        ),
        pytest.param("points", "accumulate", marks=pytest.mark.slow),
    ],
)
def test_weight_1_changes_no_bit(name, flow):
    (family, real), flow = SAME[name], FLOWS[flow]
    plain = two_steps(flow, family, real)
    traced = jax.jit(lambda w: two_steps(W.weighted(flow, synthetic=w), family, real))(1.0)
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(traced), strict=True):
        np.testing.assert_array_equal(one, other)


def real_alone():
    """mix(., 0, .), of which the model's points are not trained on."""

    def next_set(key, carry, supply, n):
        # The keys that mix gives its parts.
        keys = cj.random.bits.split(key, 4)
        return (), supply.real(keys[3], REAL)

    return cj.Workflow("real_alone", lambda supply, data: (), next_set)


@pytest.mark.parametrize("name", ["sums", pytest.param("statistics", marks=pytest.mark.slow)])
def test_weight_0_fits_to_the_real_points_alone(name):
    family, real = SAME[name]
    plain = two_steps(real_alone(), family, real)
    weightless = two_steps(W.weighted(MIX, synthetic=0.0), family, real)
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(weightless), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_points_of_weight_0_keep_their_slots():
    """So a subsample takes of them too, and has as many points as with any other weight."""
    family, real = SAME["points"]
    params = two_steps(W.weighted(W.mix(0.5, 0.4, 0.1), synthetic=0.0), family, real)
    tiny = two_steps(W.weighted(W.mix(0.5, 0.4, 0.1), synthetic=1e-6), family, real)
    real, real_of_tiny = ([int(np.sum(one.weight == 1)) for one in of] for of in (params, tiny))
    assert real == real_of_tiny and real[0] == N and 0 < real[2] < N
    assert int(np.sum(params[2].weight > 0)) == real[2]
    assert int(np.sum(tiny[2].weight > 0)) == N


@pytest.mark.parametrize("where", ["set", pytest.param("pool", marks=pytest.mark.slow)])
def test_weights_of_pools_and_earlier_sets(where):
    """Of the statistics that the fit is given: real points count 1, the model's w, also later."""
    flow = W.accumulate() if where == "pool" else W.mix(0.5, 0.3, 0.2, random_counts=False)
    process = cj.generational_process(
        E.kde(1),
        source_of(E.gaussian(1), E.gaussian_params(0.0, 1.0)),
        W.weighted(flow, synthetic=0.25),
        sample_size=20,
    )
    state, info = process.init(KEY, 2)
    for g in (1, 2):
        state, info = process.step(jax.random.fold_in(KEY, g), state)
    values, counts = np.unique(np.asarray(info.data.weight), return_counts=True)
    counts = dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert counts == {0.25: 40, 1.0: 20} if where == "pool" else set(counts) == {0.25, 1.0}
    assert counts[0.25] + counts[1.0] == (60 if where == "pool" else 20)


def test_a_weight_is_an_axis_of_a_grid(assert_mean):
    family = E.gaussian_mean()
    source = source_of(family, E.gaussian_mean_params(0.0))

    def at(settings):
        flow = W.weighted(MIX, synthetic=settings["w"])
        return cj.generational_process(family, source, flow, sample_size=N)

    grid = core_process.process_grid(at, {"w": 0.5})
    plan = Plan(3, 1000, ("mean",), settings={"w": GRID})
    trace = join_chunks(list(simulate_chunks(grid, KEY, plan)))
    errors = trace["mean"].reshape(len(GRID), 1000, -1) ** 2
    for w, of_weight in zip(GRID, errors, strict=True):
        assert_mean(of_weight, theory.weights.expected_squared_error(np.arange(4), 6, 18, w))


@pytest.mark.slow
def test_the_derivative_by_the_weight_is_that_of_the_recursion():
    """Of a mean over many chains, pathwise, beside differences of the exact errors."""
    family = E.gaussian_mean()
    source = source_of(family, E.gaussian_mean_params(0.0))

    def error(w, key):
        process = cj.generational_process(
            family, source, W.weighted(MIX, synthetic=w), sample_size=N
        )
        state, _ = process.init(jax.random.fold_in(key, 0))
        for g in (1, 2):
            state, _ = process.step(jax.random.fold_in(key, g), state)
        return state.params.mean[0] ** 2

    slopes = jax.jit(jax.vmap(jax.grad(error), (None, 0)))(0.5, jax.random.split(KEY, 4000))
    exact = [theory.weights.expected_squared_error(2, 6, 18, w) for w in (0.49, 0.51)]
    z = (slopes.mean() - (exact[1] - exact[0]) / 0.02) / (slopes.std() / np.sqrt(4000))
    assert abs(z) < 4


def test_a_detector_keeps_the_weight():
    flow = cj.curation.detector(0.5, 0.0)(W.weighted(MIX, synthetic=0.5))
    process = cj.generational_process(
        E.gaussian_mean(),
        source_of(E.gaussian_mean(), E.gaussian_mean_params(0.0)),
        flow,
        sample_size=20,
    )
    # Half of 15 of 20 passes: 12 and 8 of 20, the former at half their weight.
    state, _ = process.init(KEY)
    _, info = process.step(jax.random.fold_in(KEY, 1), state)
    assert float(info.data.count) == 12 * 0.5 + 8


def made(estimator, flow, real=None):
    real = source_of(estimator, real) if real is not None else cj.sources.normal(0.0, 1.0)
    return cj.generational_process(estimator, real, flow, sample_size=10)


HALF = W.weighted(MIX, synthetic=0.5)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: W.weighted(MIX, synthetic=-1), "synthetic is -1; it must be"),
        (lambda: W.weighted(MIX, synthetic=np.inf), "synthetic is inf"),
        (lambda: W.weighted(MIX, synthetic="half"), "synthetic is 'half'"),
        (lambda: W.weighted(MIX, synthetic=jnp.ones(2)), r"synthetic has shape \[2\]"),
        (lambda: W.weighted(E.gaussian(1), synthetic=0.5), "workflow is"),
        (
            lambda: W.weighted(W.replace(), synthetic=0.5),
            "replace trains on synthetic points alone",
        ),
        (lambda: made(E.gaussian(1), HALF), "weighted.mix.*take ddof=0"),
        (
            lambda: made(E.categorical(2), HALF, E.categorical_params([0.5, 0.5])),
            "categorical.*counts its points in whole numbers",
        ),
        (
            lambda: made(E.uniform(), HALF, E.uniform_params(1.0)),
            "uniform.*is fitted by the largest point, whose weight has no effect",
        ),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(cj.InputError, match=says) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dim", [1, 2], ids=["statistics", "points"])
def test_a_traced_weight_below_0_makes_nan(dim):
    family, real = E.gaussian(dim, ddof=0), E.gaussian_params(np.zeros(dim), np.eye(dim))

    def variance(w):
        process = made(family, W.weighted(MIX, synthetic=w), real)
        state, _ = process.init(KEY)
        return process.metrics["variance"](process.step(KEY, state)[0].params)

    variances = jax.jit(jax.vmap(variance))(jnp.array([-0.5, jnp.nan, 0.5]))
    assert np.isnan(variances[:2]).all() and np.isfinite(variances[2])


@pytest.mark.slow
def test_own_workflows_weigh_by_their_supply(assert_mean):
    """`supply.weighed` is for everyone's workflows."""

    def next_set(key, carry, supply, n):
        model_key, real_key = jax.random.split(key)
        made = supply.weighed(supply.model(model_key, n), 0.5)
        return (), supply.merge(made, supply.real(real_key, n))

    flow = cj.Workflow("half_weight", lambda supply, data: (), next_set)
    process = cj.generational_process(
        E.gaussian_mean(),
        source_of(E.gaussian_mean(), E.gaussian_mean_params(0.0)),
        flow,
        sample_size=10,
    )
    trace = cj.simulate(process, KEY, generations=4, chains=2000, metrics="mean")
    exact = theory.weights.expected_squared_error(AT, 10, 10, 0.5, first=10)
    assert_mean(trace["mean"] ** 2, exact)


@pytest.mark.slow
def test_it_keeps_the_contract_of_workflows():
    for flow in (RANDOM, W.accumulate(), W.mix(0.5, 0.2, 0.3)):
        assert "same_in_both_drivers" in cj.check_workflow(W.weighted(flow, synthetic=0.4))
