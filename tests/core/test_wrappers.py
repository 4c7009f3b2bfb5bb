"""Wrappers of workflows around each other: what is handed on, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import gaussian_kde

import collapse_jax as cj
from collapse_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY, SIZE, CHAINS = jax.random.key(0), 20, 2000
FLOWS, VERIFIERS = cj.workflows, cj.verifiers
MIX = FLOWS.mix(0.5, 0, 0.5, random_counts=False)
FAMILY = cj.estimators.gaussian_mean([[1.0]])
REAL = cj.sources.population(FAMILY, cj.estimators.gaussian_mean_params([0.0]))
VERIFIER = VERIFIERS.centred(1.0, centre=0.5, refresh=0.1)


def means(workflow, generations=6):
    process = cj.generational_process(FAMILY, REAL, workflow, sample_size=SIZE)
    trace = cj.simulate(process, KEY, generations=generations, chains=CHAINS, metrics=("mean",))
    return trace["mean"].reshape(CHAINS, -1)


def error(squares):
    return squares.std(0) / np.sqrt(len(squares))


@pytest.mark.parametrize(
    ("wrapped", "says"),
    [
        (lambda: FLOWS.weighted(VERIFIER(MIX), synthetic=0.1), "apply weighted to the workflow"),
        (lambda: FLOWS.contaminated(VERIFIER(MIX), 0.5), "apply contaminated to the workflow"),
        (lambda: cj.curation.tempered(0.5)(VERIFIER(MIX)), r"apply tempered\(0.5\) to the"),
        (lambda: VERIFIER(VERIFIER(MIX)), "which must be the outermost"),
        (lambda: cj.curation.detector(0.9, 0.0)(VERIFIER(MIX)), "which must be the outermost"),
        (
            lambda: cj.curation.detector(0.9, 0.0)(FLOWS.planned([5])),
            "real points it cannot be applied",
        ),
        (
            lambda: FLOWS.weighted(FLOWS.contaminated(MIX, 0.5), synthetic=0.1),
            "put contaminated around weighted",
        ),
        (
            lambda: cj.genealogy(FLOWS.keep_real(1.0), KEY, sample_size=9, generations=1),
            "more than sample_size points",
        ),
        (
            lambda: cj.genealogy_of(
                cj.generational_process(FAMILY, REAL, VERIFIER(MIX), sample_size=5),
                KEY,
                generations=1,
            ),
            "fitted to points, which have labels",
        ),
    ],
)
def test_what_would_be_passed_over_is_refused(wrapped, says):
    with pytest.raises(InputError, match=says) as caught:
        wrapped()
    assert "\n" not in str(caught.value)


def test_a_detector_leaves_alone_what_takes_nothing_real():
    assert cj.curation.detector(0.9, 0.0)(FLOWS.replace()).name == "replace"


@pytest.mark.parametrize(
    "around",
    [lambda flow: FLOWS.weighted(flow, synthetic=0.1), VERIFIER],
    ids=["weighted", "verifier"],
)
def test_schedules_are_looked_at_through_wrappers(around):
    late = FLOWS.mix(None, 0.0, lambda generation: 0.5 + 0.2 * generation)
    process = cj.generational_process(FAMILY, REAL, around(late), sample_size=SIZE)
    with pytest.raises(InputError, match=r"gamma at generation 3 is 1\.1"):
        cj.simulate(process, KEY, generations=5, chains=2)


def test_a_weighted_workflow_takes_over_the_pool_of_a_switch():
    """With a weight of nearly 1 the numbers are nearly those without one."""
    plain = FLOWS.switch({0: FLOWS.accumulate(0.5), 3: FLOWS.accumulate(0.5)})
    nearly = FLOWS.weighted(FLOWS.accumulate(0.5), synthetic=0.9999)
    weighed = FLOWS.switch({0: FLOWS.accumulate(0.5), 3: nearly})
    np.testing.assert_allclose(means(weighed), means(plain), atol=1e-3)


def test_a_planned_workflow_reads_the_row_of_its_generation():
    """All real in generations 5 and 6: the error is that of a mean of real points, 1 / n."""
    table = [0] * 4 + [SIZE] * 2
    squares = means(FLOWS.switch({0: FLOWS.replace(), 5: FLOWS.planned(table)}))[:, 5:] ** 2
    z = (squares.mean(0) - 1 / SIZE) / error(squares)
    assert np.abs(z).max() < 4


def test_a_traced_weight_that_is_none_gives_nan():
    def of(weight):
        flow = FLOWS.weighted(MIX, synthetic=weight)
        process = cj.generational_process(FAMILY, REAL, flow, sample_size=SIZE)
        state, _ = process.init(KEY)
        return jnp.ravel(jax.tree.leaves(process.step(KEY, state)[0].params)[0])[0]

    found = jax.vmap(of)(jnp.array([0.3, 1.0, -0.1, jnp.nan, jnp.inf, 0.0]))
    assert np.isnan(found).tolist() == [False, False, True, True, True, False]


def test_a_fixed_verifier_judges_older_models_too():
    old = FLOWS.contaminated(MIX, 0.9, lag=2, random_counts=False)
    fixed = cj.curation.verified(lambda x: jnp.exp(-0.5 * (x[:, 0] - 2.0) ** 2))(old)
    ours = means(VERIFIERS.centred(1.0, centre=2.0, refresh=0.0)(old), 4) ** 2
    theirs = means(fixed, 4) ** 2
    z = (ours.mean(0) - theirs.mean(0)) / np.hypot(error(ours), error(theirs))
    assert np.abs(z).max() < 4


def test_contamination_in_an_ecosystem_is_by_the_model_itself():
    """With all of its real data contaminated a model is left with the coupling's share of it.

    Derived: of the fresh points half are a mix with 50% real data, and the other half are the
    model's own: `mix` with 25%.
    """
    family, real = cj.estimators.gaussian(1, ddof=0), cj.sources.normal([0.0], [[1.0]])
    flow = FLOWS.contaminated(FLOWS.mix(gamma=0.5), 1.0, lag=1)
    process = cj.ecosystem(family, real, [[0.5]], 5, workflows=flow)
    trace = cj.simulate(process, KEY, generations=10, chains=4000, metrics="variance")
    found = trace["variance"].reshape(4000, -1)[:, -1]
    exact = cj.theory.ancestry.retention(10, 5, workflow="mix", alpha=0.75, gamma=0.25)
    assert abs(found.mean() - float(exact)) < 4 * found.std() / np.sqrt(4000)


@pytest.mark.parametrize("weights", [[0.1] * 3 + [1] * 3, [1] * 3 + [10] * 3, [1] * 6, [4, 1] * 3])
def test_the_bandwidth_of_weighted_points_is_scipys(weights):
    x = np.array([0, 1, 2, 4, 7, 9.0])
    kernel = cj.estimators.kde(1, "scott")
    data = cj.Dataset(jnp.array(x)[:, None], jnp.array(weights, float))
    params, _ = kernel.fit(None, kernel.init(None, data), data)
    wanted = np.sqrt(gaussian_kde(x, weights=weights).covariance[0, 0])
    np.testing.assert_allclose(kernel.metrics["bandwidth"](params), wanted, rtol=1e-5)
