"""Kernel density estimates against SciPy, scikit-learn and `theory.kernel_density`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Dataset
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate, simulate_chunks
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.gaussian import gaussian, gaussian_params
from collapse_jax.estimators.kde import KernelParams, covariance, kde, log_prob
from collapse_jax.theory import kernel_density

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(5)
POINTS = np.random.default_rng(1).normal(size=(30, 2)) @ np.array([[2.0, 0.0], [1.5, 0.4]]) + [
    3.0,
    -1.0,
]
PROBES = np.random.default_rng(2).normal(size=(40, 2)) * 3 + [3.0, -1.0]


def fitted(family, x, weight=None):
    x = jnp.asarray(x, float)
    return family.fit(
        KEY, None, Dataset(x, jnp.ones(len(x)) if weight is None else jnp.asarray(weight))
    )[0]


@pytest.mark.parametrize("rule", ["scott", "silverman"])
@pytest.mark.parametrize("dim", [1, 2])
def test_rules_are_scipys(rule, dim):
    params = fitted(kde(dim, rule), POINTS[:, :dim])
    law = stats.gaussian_kde(POINTS[:, :dim].T, bw_method=rule)
    np.testing.assert_allclose(
        log_prob(params, jnp.asarray(PROBES[:, :dim])),
        law.logpdf(PROBES[:, :dim].T),
        rtol=2e-4,
        atol=2e-4,
    )
    columns = np.cov(POINTS[:, :dim].T, ddof=0).reshape(dim, dim) + law.covariance
    np.testing.assert_allclose(covariance(params), columns, rtol=1e-4)


@pytest.mark.parametrize("bandwidth", [0.3, "scott", "silverman"])
def test_unscaled_bandwidths_are_scikit_learns(bandwidth):
    neighbours = pytest.importorskip("sklearn.neighbors")
    law = neighbours.KernelDensity(bandwidth=bandwidth).fit(POINTS)
    params = fitted(kde(2, bandwidth, scaled=False, held_out=PROBES), POINTS)
    np.testing.assert_allclose(
        log_prob(params, jnp.asarray(PROBES)), law.score_samples(PROBES), rtol=2e-4, atol=2e-4
    )
    found = kde(2, bandwidth, held_out=PROBES).metrics["held_out_log_likelihood"](params)
    np.testing.assert_allclose(found, law.score(PROBES) / len(PROBES), rtol=1e-4)


def test_empty_slots_and_repeated_points_count_by_their_weight():
    padded = np.concatenate([POINTS, 1e3 + POINTS[:4]])
    weight = np.concatenate([np.ones(30), np.zeros(4)])
    # on an empty slot too, where its own kernel would hide all the others
    probes = jnp.asarray(np.concatenate([PROBES, padded[-1:]]))
    for rule in (0.7, "scott"):
        one, other = fitted(kde(2, rule), POINTS), fitted(kde(2, rule), padded, weight)
        np.testing.assert_allclose(
            log_prob(one, probes), log_prob(other, probes), rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(covariance(one), covariance(other), rtol=1e-4)


@pytest.mark.parametrize("bandwidth", [0.05, 3.0])
def test_sample_has_its_law(bandwidth):
    params = fitted(kde(1, bandwidth), [[-2.0], [0.0], [5.0], [99.0]], [1.0, 1.0, 1.0, 0.0])
    x = np.asarray(kde(1, bandwidth).sample(KEY, params, 20_000))[:, 0]

    def distribution(value):
        return np.mean(
            [stats.norm.cdf(value, centre, bandwidth) for centre in (-2.0, 0.0, 5.0)], axis=0
        )

    assert stats.kstest(x, distribution).pvalue > 1e-4


def test_kernels_of_samples_have_the_covariance(chi_square_p):
    params = fitted(kde(2, "silverman"), POINTS)
    x = np.asarray(kde(2, "silverman").sample(KEY, params, 40_000), float)
    kernel = stats.gaussian_kde(POINTS.T, bw_method="silverman").covariance
    squared = (x - POINTS.mean(0)) @ np.linalg.inv(np.cov(POINTS.T, ddof=0) + kernel)
    # mean squared Mahalanobis length is d, whatever the law
    lengths = np.sum(squared * (x - POINTS.mean(0)), axis=1)
    assert abs(lengths.mean() - 2) < 4 * lengths.std() / np.sqrt(len(lengths))
    single = fitted(kde(2, "silverman"), np.repeat(POINTS[:1], 3, 0))
    assert (np.asarray(kde(2, "silverman").sample(KEY, single, 50)) == np.float32(POINTS[0])).all()


@pytest.mark.parametrize(
    ("workflow", "options", "bandwidth"),
    [
        pytest.param(
            workflows.replace(),
            {"workflow": "replace", "bandwidth": 0.5},
            0.5,
            marks=pytest.mark.slow,
        ),
        (workflows.replace(), {"workflow": "replace", "factor": 12 ** (-1 / 5)}, "scott"),
        (workflows.accumulate(), {"workflow": "accumulate", "bandwidth": 0.5}, 0.5),
        (workflows.mix(0.8, 0.0, 0.2), {"workflow": "mix", "bandwidth": 0.5, "gamma": 0.2}, 0.5),
    ],
    ids=["replace", "replace scott", "accumulate", "mix"],
)
def test_chains_against_theory(workflow, options, bandwidth, assert_mean):
    process = generational_process(
        kde(1, bandwidth), sources.normal([0.0], [[1.0]]), workflow, sample_size=12
    )
    trace = simulate(process, KEY, generations=8, chains=4000, metrics=("variance",))
    assert_mean(trace["variance"], kernel_density.expected_variance(np.arange(9), 12, **options))


def test_a_longer_run_goes_on_from_a_shorter_one():
    """Under `accumulate` the parameters hold the pool, whose room grows with the run."""
    process = generational_process(
        kde(1, 0.5),
        sources.normal([0.0], [[1.0]]),
        workflows.accumulate(),
        sample_size=5,
        remember_first=True,
    )
    whole = simulate(process, KEY, generations=6, chains=3, metrics=("variance",))
    plan = Plan(generations=2, chains=3, metrics=("variance",))
    *_, part = simulate_chunks(process, KEY, plan)
    state = part.copy_state()
    assert state.params.data.x.shape == (3, 15, 1)
    rest = list(simulate_chunks(process, KEY, plan._replace(generations=6, after=(2, state))))
    np.testing.assert_allclose(
        rest[-1].arrays["variance"][:, -1], whole["variance"][:, -1], rtol=1e-5
    )


def test_collapsed_densities_hold_no_nan():
    line = np.stack([np.linspace(-1, 1, 9), np.zeros(9)], 1)
    for x in (np.ones((9, 2)), line):
        for rule in ("scott", "silverman"):
            params = fitted(kde(2, rule), x)
            values = [
                kde(2, rule).metrics[name](params)
                for name in ("mean", "variance", "log_variance", "bandwidth")
            ]
            assert not any(np.isnan(value).any() for value in values) and values[2] == -np.inf
            density = np.asarray(
                log_prob(params, jnp.asarray(np.concatenate([x[:2], [[0.0, 5.0]]])))
            )
            assert density[-1] == -np.inf and (density[:2] == np.inf).all()
    law = stats.norm(0, 0.2)
    params = fitted(kde(1, 0.2), np.zeros((4, 1)))
    np.testing.assert_allclose(
        log_prob(params, jnp.array([[0.1], [3.0]])), law.logpdf([0.1, 3.0]), rtol=1e-5
    )


def test_narrow_kernels_far_away_are_told_by_their_logarithm():
    params = KernelParams(Dataset(jnp.zeros((2, 1)), jnp.ones(2)), (jnp.log(1e-3),), ())
    np.testing.assert_allclose(
        log_prob(params, jnp.array([[1.0]])), stats.norm(0, 1e-3).logpdf([1.0]), rtol=1e-5
    )


def test_real_points_may_come_from_another_family():
    truth = sources.population(gaussian(1), gaussian_params(4.0, 9.0))
    process = generational_process(kde(1, 0.1), truth, workflows.replace(), sample_size=2000)
    trace = simulate(process, KEY, generations=1, chains=4, metrics=("mean", "variance"))
    assert (abs(trace["mean"] - 4) < 0.5).all() and (abs(trace["variance"] - 9) < 2).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kde(0), "dim is 0; it must be an integer of at least 1"),
        (
            lambda: kde(1, "scot"),
            "bandwidth is 'scot'; it must be a positive number, 'scott' or 'silverman'",
        ),
        (lambda: kde(1, 0.0), "bandwidth is 0.0; it must be a positive number"),
        (
            lambda: kde(2, held_out=np.zeros((5, 1))),
            r"held_out has shape \(5, 1\); it must be \[m, 2\]",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
