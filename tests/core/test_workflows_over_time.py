"""Real data in accumulation, schedules, switches and contaminated real data: whole chains of counts
against `theory` (|z| < 4 at fixed keys), and workflows written out by hand bit for bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import curation, workflows
from collapse_jax.core.process import generational_process, process_grid, unwatched
from collapse_jax.core.types import Workflow
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate, simulate_chunks
from collapse_jax.drivers.workflow_contract import _normal
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.bernoulli import bernoulli, bernoulli_params
from collapse_jax.estimators.gaussian import gaussian
from collapse_jax.estimators.kde import example as kde_example
from collapse_jax.theory import ancestry, real_batches, schedules

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY, CHAINS, P = jax.random.key(3), 4000, 0.3
FAMILY, QUADRATIC = bernoulli(), (0.0, 1.0, -1.0)
SOURCE = sources.population(FAMILY, bernoulli_params(P))


def process_of(workflow, size=10):
    return generational_process(FAMILY, SOURCE, workflow, sample_size=size)


def means(workflow, last=6, size=10, chains=CHAINS):
    """Probabilities [chain, generation] of Bernoulli models, with the keys of `simulate`.

    In one program, which is quicker to compile than those of the driver.
    """
    process = unwatched(process_of(workflow, size))

    def of_chain(number):
        key = jax.random.fold_in(KEY, number)

        def step(state, generation):
            state, _ = process.step(jax.random.fold_in(key, generation), state)
            return state, process.metrics["mean"](state.params)

        first, _ = process.init(jax.random.fold_in(key, 0), last)
        _, later = jax.lax.scan(step, first, jnp.arange(1, last + 1))
        return jnp.append(process.metrics["mean"](first.params), later)

    return np.asarray(jax.jit(jax.vmap(of_chain))(jnp.arange(chains)), np.float64)


def errors(*arguments, **options):
    return (means(*arguments, **options) - P) ** 2


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("workflow", "random_counts"),
    [
        ("accumulate", True),
        pytest.param("accumulate", False, marks=SLOW),
        pytest.param("accumulate_subsample", True, marks=SLOW),
        ("accumulate_subsample", False),
    ],
)
def test_real_data_in_each_batch(workflow, random_counts, assert_mean):
    flow = getattr(workflows, workflow)(0.35, random_counts=random_counts)
    exact = real_batches.expected_squared_mean_error(
        np.arange(7), 10, P, QUADRATIC, real_share=0.35, workflow=workflow,
        random_counts=random_counts,
    )  # fmt: skip
    assert_mean(errors(flow), exact)


@pytest.mark.parametrize("random_counts", [True, pytest.param(False, marks=SLOW)])
def test_one_point_a_batch_and_real_data_alone(random_counts, assert_mean):
    """M = 1, all of it real: the pool is a sample of n real points."""
    flow = workflows.accumulate(1.0, random_counts=random_counts)
    assert_mean(errors(flow, size=1), P * (1 - P) / np.arange(1, 8))


def plain(subsampled):
    """`accumulate` and `accumulate_subsample` as they were before real_share."""

    def next_set(key, pool, supply, n):
        if not subsampled:
            pool = supply.append(pool, supply.model(key, n))
            return pool, pool
        model_key, subsample_key = jax.random.split(key)
        pool = supply.append(pool, supply.model(model_key, n))
        return pool, supply.subsample(subsample_key, pool, n)

    return Workflow("plain", lambda supply, data: supply.reserve(data), next_set)


@pytest.mark.parametrize("subsampled", [False, True])
def test_share_0_is_accumulate_bit_for_bit(subsampled):
    name = "accumulate_subsample" if subsampled else "accumulate"
    flow = getattr(workflows, name)(0.0)
    assert flow.name == name and flow.reweighted is None
    np.testing.assert_array_equal(means(flow, chains=50), means(plain(subsampled), chains=50))


def test_a_traced_share_is_an_axis_of_a_grid():
    """One program; a point has the counts that it has alone. What is no share is refused before."""

    def at(settings):
        return process_of(workflows.accumulate(settings["real_share"]))

    def run(shares):
        plan = Plan(3, 20, ("mean",), settings={"real_share": np.float32(shares)}, streams="common")
        return list(simulate_chunks(process_grid(at, {"real_share": 0.5}), KEY, plan))

    (first, rest) = run([0.2, 0.7])
    found = np.concatenate([first.arrays["mean"], rest.arrays["mean"]], axis=1)
    for place, share in enumerate((0.2, 0.7)):
        alone = means(workflows.accumulate(share), last=3, chains=20)
        np.testing.assert_allclose(found[20 * place : 20 * (place + 1)], alone, rtol=1e-6)
    with pytest.raises(InputError, match=r"real_share is -0.1; it must be in \[0, 1\]"):
        run([0.2, -0.1])


@pytest.mark.parametrize("size", [pytest.param(8, marks=SLOW), lambda g: jnp.where(g >= 0, 8, 8)])
def test_real_points_kept_whole(size, assert_mean):
    """2.5 synthetic points for each of the same 8 real ones, counted in traced numbers too."""
    found = means(workflows.keep_real(2.5), size=size)
    kept = ancestry.kept_real_retention(np.arange(7), 8, 20)
    assert_mean((found - P) ** 2, P * (1 - P) * (1 - kept))
    assert_mean(found * (1 - found), P * (1 - P) * kept)


@pytest.mark.slow
def test_none_synthetic_is_the_first_fit_for_ever():
    found = means(workflows.keep_real(0), chains=20)
    np.testing.assert_array_equal(found, np.tile(found[:, :1], 7))


@pytest.mark.slow
def test_a_share_that_falls_while_sets_grow(assert_mean):
    """gamma_g = g^-.7 with M_g = 10 g^.5, in one line of user code."""
    flow = workflows.mix(gamma=lambda g: g**-0.7)
    sizes = lambda g: jnp.round(10 * jnp.maximum(g, 1) ** 0.5)  # noqa: E731
    at = np.arange(7)
    exact = schedules.expected_squared_mean_error(
        at, np.round(10 * np.maximum(at, 1) ** 0.5).astype(int), P, QUADRATIC,
        gamma=np.maximum(at, 1) ** -0.7,
    )  # fmt: skip
    assert_mean(errors(flow, size=sizes), exact)


def test_rounded_shares_of_a_schedule(assert_mean):
    """0.35 of 10 is 3.5, a half that float32 does not hold: 4, as of a known share."""
    flow = workflows.mix(gamma=lambda g: jnp.where(g < 3, 0.35, 0.6), random_counts=False)
    exact = schedules.expected_squared_mean_error(
        np.arange(7), 10, P, QUADRATIC, random_counts=False,
        gamma=np.where(np.arange(7) < 3, 0.35, 0.6),
    )  # fmt: skip
    assert_mean(errors(flow), exact)


def test_recovery_after_a_switch(assert_mean):
    """Up to the switch the numbers are those of replace; after it, those of the theory."""
    flow = workflows.switch({0: workflows.replace(), 4: workflows.mix(0.7, 0.1, 0.2)})
    found = means(flow, last=12)
    np.testing.assert_array_equal(found[:50, :4], means(workflows.replace(), 3, chains=50))
    later = np.arange(13) >= 4
    exact = schedules.expected_squared_mean_error(
        np.arange(13), 10, P, QUADRATIC, beta=0.1 * later, gamma=0.2 * later
    )
    assert_mean((found - P) ** 2, exact)


def test_a_pool_holds_what_came_before_the_switch(assert_mean):
    """replace, then accumulate: the pool of generation 3 has the sets of 0, 1, 2 and its own."""
    found = means(workflows.switch({0: workflows.replace(), 3: workflows.accumulate(1.0)}), last=3)
    rng = np.random.default_rng(0)
    p, sets = np.full(200_000, P), []
    for _ in range(3):
        sets.append(rng.binomial(10, p))
        p = sets[-1] / 10
    exact = ((sum(sets) + rng.binomial(10, P, 200_000)) / 40 - P) ** 2
    assert_mean((found[:, 3:] - P) ** 2, [exact.mean()])


@pytest.mark.parametrize("lag", [pytest.param(1, marks=SLOW), 3])
def test_contaminated_real_data(lag, assert_mean):
    flow = workflows.contaminated(workflows.mix(gamma=0.6), 0.5, lag=lag)
    exact = schedules.expected_squared_mean_error(
        np.arange(7), 10, P, QUADRATIC, gamma=0.6, contamination=0.5, lag=lag
    )
    assert_mean(errors(flow), exact)


@pytest.mark.slow
def test_a_detector_finds_contamination_too(assert_mean):
    """Half of .6 is a model's: .7 of the set's points pass with .2, .3 with .9."""
    flow = curation.detector(0.8, 0.1)(workflows.contaminated(workflows.mix(gamma=0.6), 0.5))
    gamma = 0.3 * 0.9 / (0.7 * 0.2 + 0.3 * 0.9)
    exact = schedules.expected_squared_mean_error(np.arange(7), 10, P, QUADRATIC, gamma=gamma)
    assert_mean(errors(flow), exact)


def test_a_detector_beside_accumulate(assert_mean):
    share = 0.35 * 0.9 / (0.35 * 0.9 + 0.65 * 0.2)
    exact = real_batches.expected_squared_mean_error(
        np.arange(7), 10, P, QUADRATIC, real_share=share
    )
    flow = curation.detector(lambda g: 0.8, 0.1)(workflows.accumulate(0.35))
    assert_mean(errors(flow), exact)


def test_a_temperature_of_the_generation(assert_mean):
    """The variance of an unbiased Gaussian is the product of all temperatures so far."""
    flow = curation.tempered(lambda g: jnp.array([9.0, 0.9, 1.5, 0.5])[g])(workflows.replace())
    source = sources.normal([0.0], [[1.0]])
    process = generational_process(gaussian(1), source, flow, sample_size=20)
    found = simulate(process, KEY, generations=3, chains=CHAINS, metrics=("variance",))["variance"]
    assert_mean(np.asarray(found, np.float64), np.cumprod([1, 0.9, 1.5, 0.5]))


def late(g):
    return 1 - g / 80


REFUSED = {
    "gamma at generation 81 is -0.0125; it must be in [0, 1]": lambda: workflows.mix(gamma=late),
    "real_share at generation 81 is -0.0125; it must be in [0, 1]": lambda: workflows.accumulate(
        late
    ),
    "share of contaminated at generation 81 is -0.0125; it must be in [0, 1]": lambda: (
        workflows.contaminated(workflows.mix(gamma=0.5), late)
    ),
    "tau at generation 80 is 0; it must be finite and above 0": lambda: curation.tempered(late)(
        workflows.replace()
    ),
    "phi at generation 81 is -0.0125; it must be in [0, 1]": lambda: curation.labelled_verifier(
        late, 0.5, lambda x: x > 0
    )(workflows.replace()),
    "true_positive at generation 81 is -0.0125; it must be in [0, 1]": lambda: curation.detector(
        late, 0.5
    )(workflows.mix(gamma=0.5)),
    "alpha + beta + gamma at generation 1 is 1.1 (0.6 + 0 + 0.5); it must be 1": lambda: (
        workflows.mix(0.6, 0.0, lambda g: 0.5)
    ),
    "gamma at generation 90 is -0.125; it must be in [0, 1]": lambda: workflows.switch(
        {0: workflows.mix(gamma=lambda g: jnp.where(g < 50, 0.5, -1)), 50: workflows.replace(),
         90: workflows.mix(gamma=late)}
    ),
    "workflow of contaminated is replace, which uses no real data after generation 0; "
    "give mix, or accumulate with a real share": lambda: workflows.contaminated(
        workflows.replace(), 0.1
    ),
    "gamma fails for a generation that JAX traces": lambda: workflows.mix(
        gamma=lambda g: 0.5 if g < 3 else 0.1
    ),
    "gamma has shape [2]; it must be one number": lambda: workflows.mix(
        gamma=lambda g: jnp.ones(2)
    ),
    "real_share is 1.5; it must be in [0, 1]": lambda: workflows.accumulate(1.5),
    "real_share is 'a'; it must be a number": lambda: workflows.accumulate_subsample("a"),
    "synthetic_ratio is -1; it must be finite and at least 0": lambda: workflows.keep_real(-1),
    "switch begins at 3; one workflow must begin at generation 0": lambda: workflows.switch(
        {3: workflows.replace()}
    ),
    "switch has workflows at 0 and 1": lambda: workflows.switch(
        {0: workflows.replace(), 1: workflows.accumulate()}
    ),
    "switch[5] is tempered(0.5)(replace), which has a curation": lambda: workflows.switch(
        {0: workflows.replace(), 5: curation.tempered(0.5)(workflows.replace())}
    ),
    "workflows of switch is [replace()]; it must be {GENERATION": lambda: workflows.switch(
        [workflows.replace()]  # type: ignore[arg-type]
    ),
    "gamma is called with (generation), but it is": lambda: workflows.mix(gamma=lambda: 0.1),
    "lag is 0; it must be an integer of at least 1": lambda: workflows.contaminated(
        workflows.mix(gamma=0.5), 0.5, lag=0
    ),
}  # fmt: skip


@pytest.mark.parametrize("says", REFUSED)
def test_one_line_before_any_work(says):
    """Nothing is simulated: the run of 100 generations has 10^9 chains."""
    with pytest.raises(InputError) as error:
        simulate(process_of(REFUSED[says]()), KEY, generations=100, chains=10**9, metrics=("mean",))
    assert str(error.value).startswith(says)


def test_a_model_of_points_takes_no_sets_that_grow_once():
    family, params = kde_example()
    source = sources.population(family, params)
    with pytest.raises(InputError, match="its shape would change after generation 0"):
        generational_process(family, source, workflows.keep_real(), sample_size=6)


def test_a_step_by_hand_marks_what_no_driver_looked_at():
    process = process_of(workflows.mix(gamma=lambda g: 0.5 - g))
    state, _ = process.init(KEY)
    with pytest.raises(InputError, match=r"gamma at generation 1 is -0\.5"):
        process.step(KEY, state)
    after, _ = jax.jit(process.step)(KEY, state)
    assert all((np.isnan(leaf) | (leaf == 0)).all() for leaf in jax.tree.leaves(after.params))


def test_points_of_a_switch_lie_in_buffers():
    """A training set has 6 points, but for accumulate's, which has those of all generations."""
    flow = workflows.switch(
        {
            0: workflows.replace(),
            2: workflows.mix(0.5, 0.5, 0.0, random_counts=False),
            3: workflows.accumulate(0.5),
        }
    )
    family, params = _normal()
    source = sources.population(family, params)
    process = generational_process(family, source, flow, sample_size=6)
    state, _ = process.init(KEY, 4)
    step, sets = jax.jit(process.step), []
    for g in range(1, 5):
        state, info = step(jax.random.fold_in(KEY, g), state)
        sets.append(np.asarray(info.data.x)[np.asarray(info.data.weight) > 0])
    assert [len(x) for x in sets] == [6, 6, 24, 30]
    assert np.isin(sets[1], sets[0]).sum() == np.isin(sets[1], sets[2]).sum() - 3 == 3
    assert np.isin(sets[2], sets[3]).all()


OURS = {
    "accumulate(0.4)": lambda: workflows.accumulate(0.4),
    "accumulate_subsample(0.4)": lambda: workflows.accumulate_subsample(0.4, random_counts=False),
    "keep_real(1.5)": lambda: workflows.keep_real(1.5),
    "switch": lambda: workflows.switch(
        {0: workflows.replace(), 2: workflows.mix(0.5, 0.25, 0.25), 3: workflows.accumulate()}
    ),
    "contaminated": lambda: workflows.contaminated(workflows.mix(gamma=0.5), 0.5, lag=3),
    "schedule": lambda: workflows.mix(gamma=lambda g: 0.5 / g),
    "tempered": lambda: curation.labelled_verifier(lambda g: 1 / g, 0.5, lambda x: x > 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_they_keep_the_contract(name):
    from collapse_jax.drivers.workflow_contract import CHECKS, check_workflow

    assert check_workflow(OURS[name]()) == tuple(CHECKS)
