"""Models that read each other: one model alone bit for bit, the others against exact recursions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.core.process import check_run, process_grid
from collapse_jax.errors import InputError
from collapse_jax.theory import islands

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(20)
GAUSSIAN = cj.estimators.gaussian(1, ddof=0)
NORMAL = cj.sources.normal([0.0], [[1.0]])
SIX = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
CATEGORIES, REAL = cj.estimators.categorical(6), cj.sources.categorical(SIX)
PARETO = cj.sources.population(cj.estimators.pareto(1.0), cj.estimators.pareto_params(2.0))
UNEVEN = np.array([[0.5, 0.3, 0.0], [0.1, 0.6, 0.2], [0.9, 0.0, 0.1]])
W = cj.workflows


def assert_same(one, other, name):
    """A metric of an ecosystem of one model, and that of the process of one."""
    np.testing.assert_array_equal(one[name][:, :, 0], other[name])


@pytest.mark.parametrize(
    ("coupling", "workflow", "alone"),
    [
        ([[1.0]], W.replace(), W.replace()),
        ([[0.9]], W.replace(), W.mix(0.9, 0.0, 0.1)),
        ([[1.0]], W.accumulate(), W.accumulate()),
    ],
    ids=str,
)
def test_one_model_is_the_ordinary_process_bit_for_bit(coupling, workflow, alone):
    options = {"generations": 3, "chains": 5, "metrics": ("mean", "variance")}
    ours = cj.simulate(
        cj.ecosystem(GAUSSIAN, NORMAL, coupling, 20, workflows=workflow), KEY, **options
    )
    process = cj.generational_process(GAUSSIAN, NORMAL, alone, sample_size=20)
    theirs = cj.simulate(process, KEY, **options)
    assert_same(ours, theirs, "mean")
    assert_same(ours, theirs, "variance")


@pytest.mark.slow
def test_one_model_under_accumulate_with_rounded_counts():
    """A pool of points: a family by points, a growing carry."""
    family = cj.estimators.kde(1, bandwidth=0.3)
    ours = cj.ecosystem(family, NORMAL, [[0.7]], 6, workflows=W.replace(), random_counts=False)
    alone = cj.generational_process(
        family, NORMAL, W.mix(0.7, 0.0, 0.3, random_counts=False), sample_size=6
    )
    options = {"generations": 2, "chains": 3, "metrics": ("mean", "variance")}
    for name in options["metrics"]:
        assert_same(cj.simulate(ours, KEY, **options), cj.simulate(alone, KEY, **options), name)


def z_scores(values, exact):
    """[...] distances of means over the first axis from exact ones, in standard errors."""
    values = np.asarray(values, float)
    return (values.mean(0) - exact) / (values.std(0) / len(values) ** 0.5)


@pytest.mark.parametrize("random_counts", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gaussians_on_uneven_islands(random_counts):
    process = cj.ecosystem(GAUSSIAN, NORMAL, UNEVEN, 10, random_counts=random_counts)
    trace = cj.simulate(
        process,
        KEY,
        generations=4,
        chains=3_000,
        metrics=("mean", "variance", "within_variance", "between_variance", "pooled_variance"),
        record=[4],
    )
    exact = [4, 10, UNEVEN]
    same = islands.identity_by_descent(*exact, random_counts=random_counts)
    last = {name: values[:, -1] for name, values in trace.items()}
    mean = last["mean"]
    assert np.abs(z_scores(last["variance"], 1 - np.diagonal(same))).max() < 4
    assert np.abs(z_scores(mean[:, :, None] * mean[:, None, :], same)).max() < 4
    within, pooled = 1 - np.trace(same) / 3, 1 - same.mean()
    assert abs(z_scores(last["within_variance"], within)) < 4
    assert abs(z_scores(last["between_variance"], pooled - within)) < 4
    assert abs(z_scores(last["pooled_variance"], pooled)) < 4


def test_categories_whose_mixture_is_drawn_at_once():
    """Rows that are mixtures of categories are drawn as one model, with the same law."""
    coupling = np.full((3, 3), 0.25)
    process = cj.ecosystem(CATEGORIES, REAL, coupling, 10)
    names = ("heterozygosity", "pooled_heterozygosity", "within_heterozygosity")
    names = (*names, "between_heterozygosity", "pooled_probabilities", "probabilities")
    trace = cj.simulate(process, KEY, generations=3, chains=3_000, metrics=names, record=[3])
    last = {name: values[:, -1] for name, values in trace.items()}
    start = 1 - np.sum(SIX**2)
    exact = start * islands.retention(3, 10, coupling)
    assert np.abs(z_scores(last["heterozygosity"], exact)).max() < 4
    pooled = start * islands.pooled_retention(3, 10, coupling)
    assert abs(z_scores(last["pooled_heterozygosity"], pooled)) < 4
    assert abs(z_scores(last["between_heterozygosity"], pooled - exact.mean())) < 4
    together = last["within_heterozygosity"] + last["between_heterozygosity"]
    np.testing.assert_allclose(together, last["pooled_heterozygosity"], atol=1e-6)
    np.testing.assert_allclose(
        last["probabilities"].mean(1), last["pooled_probabilities"], atol=1e-6
    )


def test_models_that_read_nobody_else_are_each_the_process_of_its_own_key():
    """Streams: model k's are those of the key that k is folded into, and no other's."""
    process = cj.ecosystem(GAUSSIAN, NORMAL, np.eye(3), 10)
    alone = cj.generational_process(GAUSSIAN, NORMAL, W.replace(), sample_size=10)
    state, _ = process.init(KEY)
    states = [alone.init(jax.random.fold_in(KEY, k))[0] for k in range(3)]
    later, _ = process.step(jax.random.key(1), state)
    laters = [
        alone.step(jax.random.fold_in(jax.random.key(1), k), one)[0] for k, one in enumerate(states)
    ]
    for ours, theirs in ((state, states), (later, laters)):
        values = [one.params.mean[0] for one in theirs]
        np.testing.assert_allclose(ours.params.mean[0], np.stack(values), rtol=2e-5)
    assert len(set(np.asarray(later.params.mean[0]).tolist())) == 3


def test_unlike_models_share_points_and_statistics():
    """Gaussians of either ddof by their statistics; a density by points, which reads both."""
    families = [cj.estimators.gaussian(1, ddof=0), cj.estimators.gaussian(1, ddof=1)]
    coupling = np.array([[0.5, 0.5], [0.5, 0.5]])
    process = cj.ecosystem(families, NORMAL, coupling, 8, remember_first=True)
    trace = cj.simulate(
        process, KEY, generations=1, chains=3_000,
        metrics=("variance", "pooled_mean", "wasserstein2_to_first"),
    )  # fmt: skip
    assert trace["wasserstein2_to_first"].shape == (3_000, 2, 2)
    # A sample variance of 8 points with the divisors 8 and 7, of points whose variance is the mean
    # of 7/8 and 1, and whose makers' means are two of variance 1/8, each met half of the time.
    total = (7 / 8 + 1) / 2 + 1 / 8 / 2
    found = trace["variance"][:, 1]
    assert np.abs(z_scores(found, np.array([7 / 8, 1]) * total)).max() < 4


def test_models_of_another_family_are_read_by_points():
    """A mean of known variance reads a Gaussian, and the other way about."""
    families = [cj.estimators.gaussian_mean([[4.0]]), GAUSSIAN]
    process = cj.ecosystem(families, cj.sources.normal([0.0], [[4.0]]), [[0, 1], [1, 0]], 8)
    trace = cj.simulate(process, KEY, generations=1, chains=3_000, metrics=("mean", "variance"))
    mean, variance = (trace[name][:, 1] for name in ("mean", "variance"))
    assert np.all(variance[:, 0] == 4)
    # The Gaussian is fitted to 8 points of a model of variance 4, the other to some of 7/8 of it.
    assert abs(z_scores(variance[:, 1], 4 * 7 / 8)) < 4
    assert abs(z_scores(mean[:, 1] ** 2, 4 / 8 + 4 / 8)) < 4
    assert abs(z_scores(mean[:, 0] ** 2, 4 / 8 + 4 * 7 / 8 / 8)) < 4


def test_workflows_and_curations_of_their_own():
    processes = cj.ecosystem(
        CATEGORIES,
        REAL,
        [[0.5, 0.5], [0.2, 0.8]],
        12,
        workflows=[W.accumulate(), W.mix(0.7, 0.3, 0.0)],
        published=[cj.curation.tempered(0.5), None],
    )
    trace = cj.simulate(processes, KEY, generations=3, chains=4, metrics="heterozygosity")
    assert trace["heterozygosity"].shape == (4, 4, 2)
    state, _ = processes.init(KEY, 3)
    shapes = jax.tree.map(jnp.shape, processes.template(KEY, 3))
    assert jax.tree.map(jnp.shape, state) == shapes
    after, _ = processes.step(KEY, state)
    assert jax.tree.map(jnp.shape, after) == shapes
    first, second = after.params
    assert first.weights.sum() == 24 and second.weights.sum() == 12


def test_both_drivers_give_the_same(tmp_path):
    process = cj.ecosystem(CATEGORIES, REAL, [[0.5, 0.5], [0.3, 0.6]], 10)
    options = {"generations": 2, "metrics": ("heterozygosity", "pooled_support")}
    by_run = cj.run(process, KEY, folder=tmp_path / "one", **options)
    simulated = cj.simulate(process, KEY, **options)
    summary = cj.simulate_summary(process, KEY, chains=1, **options)
    for name in options["metrics"]:
        np.testing.assert_allclose(by_run[name], simulated[name], rtol=2e-5)
        np.testing.assert_allclose(summary.mean[name], simulated[name][0], rtol=2e-5)
    other = cj.ecosystem(CATEGORIES, REAL, [[0.5, 0.5], [0.3, 0.7]], 10)
    with pytest.raises(InputError, match=r"another process \(the workflow has another coupling"):
        cj.run(other, KEY, folder=tmp_path / "one", **options)


def test_a_grid_of_couplings_is_one_program():
    lopsided = [[0.1, 0.0], [0.0, 1.0]]
    couplings = np.stack([np.eye(2), np.full((2, 2), 0.5), np.full((2, 2), 0.25), lopsided])
    made = []

    def at(coupling):
        made.append(coupling)
        return cj.ecosystem(CATEGORIES, REAL, coupling, 10)

    trace = cj.simulate_couplings(
        at, couplings, KEY, generations=3, chains=2_000, metrics="heterozygosity", record=[3]
    )
    assert trace["heterozygosity"].shape == (4, 2_000, 2, 2)
    start = 1 - np.sum(SIX**2)
    for values, coupling in zip(trace["heterozygosity"], couplings, strict=True):
        exact = start * islands.retention(3, 10, coupling)
        assert np.abs(z_scores(values[:, -1], exact)).max() < 4
    with pytest.raises(InputError, match=r"couplings\[1\]: row 0 of coupling sums to 1.2"):
        wrong = couplings * np.reshape([0.9, 1.2, 1, 1], (4, 1, 1))
        cj.simulate_couplings(at, wrong, KEY, generations=1)


def test_a_function_that_ignores_its_coupling_is_refused():
    with pytest.raises(InputError, match="ecosystem_of returns the same process at all couplings"):
        cj.simulate_couplings(
            lambda coupling: cj.ecosystem(CATEGORIES, REAL, np.eye(2), 10),
            np.stack([np.eye(2), np.full((2, 2), 0.5)]),
            KEY,
            generations=1,
        )


WRONG = {
    "row 1 of coupling sums to 1.1": {"coupling": [[0.5, 0.5], [0.5, 0.6]]},
    r"coupling\[0, 1\] is -0.1": {"coupling": [[0.5, -0.1], [0.5, 0.5]]},
    r"coupling\[1, 0\] is nan": {"coupling": [[0.5, 0.1], [np.nan, 0.5]]},
    r"coupling has shape \[1, 2\]": {"coupling": [[0.5, 0.5]]},
    "coupling .* an array of numbers": {"coupling": [["a"]]},
    "estimators are 3, but coupling is": {"estimators": [GAUSSIAN] * 3},
    "workflows are 1, but coupling is": {"workflows": [W.replace()]},
    "published is 3 curations, but coupling is": {"published": [None] * 3},
    r"published is 'tempered'.*such as cj.curation.tempered\(0.8\)": {"published": "tempered"},
    r"published\[0\] must be a curation with its arguments": {"published": cj.curation.tempered},
    r"published\[0\] is called with": {"published": W.replace},
    "must be a curation": {"published": lambda workflow: workflow},
    "have 1 dimensions, the family has 2": {
        "estimators": [GAUSSIAN, cj.estimators.gaussian(2)],
    },
    "which does not accept its points": {
        "estimators": [cj.estimators.exponential(), cj.estimators.pareto(1.0)],
        "source": PARETO,
    },
    "draws no fresh points": {
        "estimators": GAUSSIAN._replace(continued=lambda key, params, x: x),
        "workflows": W.keep_or_continue(0.5),
    },
    "stores points relative": {
        "estimators": cj.estimators.gaussian(1, by="relative"), "workflows": W.mix(0.5, 0.5, 0.0)
    },
}  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_bad_input_is_one_line_before_any_work(line):
    given = {"estimators": GAUSSIAN, "source": NORMAL, "coupling": np.full((2, 2), 0.5)}
    given |= {"sample_size": 10} | WRONG[line]
    with pytest.raises(InputError, match=line) as caught:
        cj.ecosystem(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("at", "values", "line"),
    [
        (lambda s: {"coupling": jnp.array([[s, 1 - s], [0, 1]])}, 1.4, r"coupling\[0, 1\] is -0.4"),
        (
            lambda s: {"coupling": jnp.array([[0.1, 0.1], [s, 0.7]])},
            0.6,
            r"the sum of row 1 of coupling is 1.3; it must be at most 1 \(the rest is real data\)",
        ),
        (
            lambda s: {"coupling": np.eye(2), "workflows": cj.workflows.mix(gamma=s)},
            1.3,
            "gamma is 1.3",
        ),
    ],
)
def test_every_point_of_a_grid_is_looked_at_before_any_work(at, values, line):
    def process_at(settings):
        return cj.ecosystem(CATEGORIES, REAL, sample_size=10, **at(settings["s"]))

    grid = process_grid(process_at, {"s": 0.3})
    check_run(grid, 3, {"s": np.float32([0.3])})
    with pytest.raises(InputError, match=line):
        check_run(grid, 3, {"s": np.float32([0.3, values])})


def test_families_on_the_host_are_refused():
    host = GAUSSIAN._replace(runtime=GAUSSIAN.runtime._replace(traceable=False))
    with pytest.raises(InputError, match=r"estimators\[0\].*on the host"):
        cj.ecosystem(host, NORMAL, np.eye(2), 10)
