"""Linear regression on generated labels: law of its statistics, fits, whole chains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.linear_regression import (
    RegressionParams,
    linear_regression,
    regression_params,
    summarise,
)
from collapse_jax.theory import regression as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
DIM, NOISE = 4, 0.7
WEIGHTS = np.array([1.0, -2.0, 0.5, 0.0])
REAL = regression_params(WEIGHTS)
ROOT = np.array([[1.5, 0, 0, 0], [0.4, 0.8, 0, 0], [-0.3, 0.2, 0.5, 0], [0.1, 0, 0.4, 1.2]])
COVARIANCE = ROOT @ ROOT.T
DESIGN = np.random.default_rng(0).normal(size=(7, DIM))
WIDE_DESIGN = np.random.default_rng(1).normal(size=(3, DIM))
RUNS = 4000


def many(function, runs=RUNS, key=3):
    """What function(key) gives for many keys, leaves [runs, ...] in NumPy."""
    return jax.tree.map(
        np.asarray, jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(key), runs))
    )


@functools.cache
def drawn(kind, n, traced=False):
    family = {
        "fresh": linear_regression(DIM, NOISE, feature_covariance=COVARIANCE),
        "design": linear_regression(DIM, NOISE, design=DESIGN),
        "wide": linear_regression(DIM, NOISE, design=WIDE_DESIGN),
    }[kind]
    by_law = many(lambda key: family.draw(key, REAL, jnp.asarray(n) if traced else n))
    by_points = many(lambda key: family.summarise(family.sample(key, REAL, n), jnp.ones(n)), key=4)
    return by_law, by_points


@pytest.mark.parametrize(
    ("kind", "n", "traced"),
    [
        ("fresh", 1, False),
        ("fresh", 3, True),
        ("fresh", 4, False),
        ("fresh", 30, True),
        ("design", 7, False),
        ("wide", 3, False),
    ],
)
def test_drawn_statistics_has_the_law_of_summarised_points(kind, n, traced):
    """Two-sample Kolmogorov-Smirnov tests of marginals, and of functions of several entries."""
    features = {
        "gram": lambda e: e.gram[:, 1, 2],
        "trace": lambda e: np.trace(e.gram, axis1=1, axis2=2),
        "cross": lambda e: e.cross[:, 0],
        "square": lambda e: e.square,
        "error": lambda e: ((e.cross - e.gram @ WEIGHTS) ** 2).sum(1),
        "together": lambda e: (
            e.square - 2 * e.cross @ WEIGHTS + np.einsum("i,nij,j->n", WEIGHTS, e.gram, WEIGHTS)
        ),
        "both": lambda e: e.cross[:, 0] * e.gram[:, 0, 1] - e.square,
    }
    by_law, by_points = drawn(kind, n, traced)
    assert (by_law.count == n).all()
    for name, of in features.items():
        a, b = of(by_law), of(by_points)
        if kind != "fresh" and name in ("gram", "trace"):
            np.testing.assert_allclose(a, b, rtol=1e-5)
        else:
            assert stats.ks_2samp(a, b).pvalue > 1e-4, name
    rank = np.linalg.matrix_rank(by_law.gram.astype(np.float64), tol=1e-4, hermitian=True)
    assert (rank <= min(n, DIM)).all()


def fitted(method, n, traced=False, **options):
    family = linear_regression(DIM, NOISE, method, **options)

    def one(key):
        statistics = family.draw(key, REAL, jnp.asarray(n) if traced else n)
        params, info = family.fit(None, None, statistics)
        return params.weights, info, statistics

    return many(one)


@pytest.mark.parametrize("n", [5, 6, 40])
def test_the_exact_law_of_a_fit(n):
    """Errors are Student t with n - d + 1 degrees of freedom over the root of those.

    The loss is chi-square with n - d, independently.
    """
    weights, info, statistics = fitted("ordinary", n, traced=True)
    error = (weights - WEIGHTS).astype(np.float64) / NOISE
    left = n - DIM + 1
    for j in range(DIM):
        assert stats.kstest(error[:, j] * np.sqrt(left), stats.t(left).cdf).pvalue > 1e-4
    loss = np.maximum(info.loss * n / NOISE**2, 0)
    assert stats.kstest(loss, stats.chi2(n - DIM).cdf).pvalue > 1e-4
    among = np.einsum("ni,nij,nj->n", error, statistics.gram.astype(np.float64), error)
    assert stats.kstest(among, stats.chi2(DIM).cdf).pvalue > 1e-4
    assert abs(stats.spearmanr(among, loss).statistic) < 4 / np.sqrt(RUNS)
    assert info.converged.all() and (info.detail["rank"] == DIM).all()


def points(n, seed=0, dim=DIM):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim))
    return np.concatenate([x, x @ rng.normal(size=(dim, 1)) + rng.normal(size=(n, 1))], axis=1)


def fit_of(x, method="ordinary", weight=None, **options):
    dim = x.shape[1] - 1
    family = linear_regression(dim, method=method, **options)
    params, info = family.fit(
        None, None, family.summarise(jnp.asarray(x), jnp.ones(len(x)) if weight is None else weight)
    )
    return np.asarray(params.weights), info


@pytest.mark.parametrize("n", [2, 3, 4, 5, 30])
def test_least_norm_is_that_of_numpy(n):
    x = points(n, seed=n)
    want = np.linalg.lstsq(x[:, :-1], x[:, -1])[0]
    weights, info = fit_of(x, "minimum_norm")
    np.testing.assert_allclose(weights, want, rtol=2e-3, atol=2e-4)
    assert info.converged and info.detail["rank"] == min(n, DIM)
    if n > DIM:
        np.testing.assert_allclose(fit_of(x)[0], want, rtol=2e-4, atol=2e-5)


def test_least_norm_of_collinear_points_is_that_of_pinv():
    x = points(20)
    x[:, 3] = x[:, 0] - 2 * x[:, 1]
    weights, info = fit_of(x, "minimum_norm")
    np.testing.assert_allclose(weights, np.linalg.pinv(x[:, :-1]) @ x[:, -1], rtol=1e-3, atol=1e-4)
    assert info.detail["rank"] == 3


def test_ordinary_leaves_out_what_other_features_explain():
    """As R's lm: a dependent feature has weight 0, the rest are fitted without it."""
    x = points(20)
    x[:, 3] = x[:, 0] - 2 * x[:, 1]
    weights, info = fit_of(x)
    want = np.linalg.lstsq(x[:, :3], x[:, -1])[0]
    np.testing.assert_allclose(weights, [*want, 0], rtol=1e-4, atol=1e-5)
    assert not info.converged and info.detail["rank"] == 3


@pytest.mark.parametrize("n", [3, 30])
def test_ridge_is_that_of_scikit_learn(n):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x = points(n, seed=n)
    want = linear_model.Ridge(alpha=0.3 * n, fit_intercept=False).fit(x[:, :-1], x[:, -1]).coef_
    np.testing.assert_allclose(fit_of(x, "ridge", penalty=0.3)[0], want, rtol=2e-4, atol=2e-5)


def test_features_of_all_scales():
    x = points(40)
    scales = np.array([1e-6, 1.0, 1e3, 1e6])
    np.testing.assert_allclose(fit_of(x * [*scales, 1])[0] * scales, fit_of(x)[0], rtol=1e-4)


def test_statistics_adds_and_knows_empty_slots():
    x, weight = points(12).astype(np.float32), np.r_[np.ones(7), 0, 0, 2, 1, 1].astype(np.float32)
    x[7] = np.nan
    repeated = np.concatenate([np.delete(x, [7, 8], 0), x[9:10]]).astype(np.float64)
    family = linear_regression(DIM)
    a, b = (
        summarise(jnp.asarray(x[part]), jnp.asarray(weight[part]), DIM)
        for part in (slice(0, 5), slice(5, 12))
    )
    for pooled in (
        family.merge(a, b),
        family.merge(b, a),
        summarise(jnp.asarray(x), jnp.asarray(weight), DIM),
    ):
        assert pooled.count == 11
        np.testing.assert_allclose(
            pooled.gram, repeated[:, :-1].T @ repeated[:, :-1], rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(
            pooled.cross, repeated[:, :-1].T @ repeated[:, -1], rtol=1e-5, atol=1e-5
        )
        np.testing.assert_allclose(pooled.square, repeated[:, -1] @ repeated[:, -1], rtol=1e-5)


@pytest.mark.parametrize("method", ["ordinary", "minimum_norm"])
def test_a_collapsed_sample_gives_finite_weights(method):
    for x in (points(1), np.zeros((3, 5)), np.ones((6, 5)), points(4) * [0, 0, 1, 0, 1]):
        for weight in (np.ones(len(x)), np.zeros(len(x))):
            weights, info = fit_of(x, method, jnp.asarray(weight))
            assert np.isfinite(weights).all() and np.isfinite(info.loss)


FRESH = {"noise": NOISE, "feature_covariance": COVARIANCE}
FLOWS = {
    "replace": (workflows.replace(), {"workflow": "replace"}),
    "accumulate": (workflows.accumulate(), {"workflow": "accumulate"}),
    "mix": (workflows.mix(0.75, 0.0, 0.25), {"workflow": "mix", "gamma": 0.25}),
    "fixed mix": (
        workflows.mix(0.75, 0.0, 0.25, random_counts=False),
        {"workflow": "mix", "gamma": 0.25, "random_counts": False},
    ),
}


def chain_errors(family, flow, size, generations, chains=RUNS, real=REAL):
    """Test error [chains, 1 + generations] of whole chains."""
    process = generational_process(family, sources.population(family, real), flow, sample_size=size)
    return simulate(
        process, jax.random.key(11), generations=generations, chains=chains, metrics="test_error"
    )["test_error"]


@pytest.mark.parametrize(
    "flow",
    [pytest.param(flow, marks=pytest.mark.slow if flow == "fixed mix" else ()) for flow in FLOWS],
)
def test_chains_with_fresh_features(flow, assert_mean):
    made, law = FLOWS[flow]
    errors = chain_errors(linear_regression(DIM, **FRESH), made, 20, 5)
    assert_mean(errors, theory.expected_test_error(np.arange(6), 20, DIM, noise=NOISE, **law))


@pytest.mark.parametrize("flow", ["replace", "accumulate"])
@pytest.mark.parametrize("case", ["ordinary", "minimum_norm", "ridge"])
def test_chains_of_one_design(flow, case, assert_mean):
    design, penalty = (
        (WIDE_DESIGN, 0.0) if case == "minimum_norm" else (DESIGN, 0.2 * (case == "ridge"))
    )
    family = linear_regression(DIM, NOISE, case, penalty, design, COVARIANCE)
    errors = chain_errors(family, FLOWS[flow][0], len(design), 5)
    law = {"noise": NOISE, "penalty": penalty, "workflow": flow, "covariance": COVARIANCE}
    assert_mean(errors, theory.design_test_error(np.arange(6), design, WEIGHTS, **law))


def test_heavy_tails_have_the_right_law_after_many_generations():
    """One design, generation 9: whitened errors over (g + 1) noise^2 are chi-square, with tails."""
    family = linear_regression(DIM, NOISE, design=DESIGN, feature_covariance=DESIGN.T @ DESIGN)
    errors = chain_errors(family, workflows.replace(), len(DESIGN), 9)
    for generation in (0, 3, 9):
        assert (
            stats.kstest(
                errors[:, generation] / ((generation + 1) * NOISE**2), stats.chi2(DIM).cdf
            ).pvalue
            > 1e-4
        )


def test_medians_where_the_mean_is_infinite():
    """T = d + 1, fresh features: the mean is infinite; quantiles against plain NumPy."""
    size = DIM + 1
    errors = chain_errors(linear_regression(DIM, NOISE), workflows.replace(), size, 4)
    rng = np.random.default_rng(2)
    total, wanted = np.zeros((RUNS, DIM)), []
    for _ in range(5):
        x, e = rng.normal(size=(RUNS, size, DIM)), rng.normal(size=(RUNS, size))
        total = (
            total
            + NOISE
            * np.linalg.solve(np.swapaxes(x, 1, 2) @ x, np.einsum("rnd,rn->rd", x, e)[..., None])[
                ..., 0
            ]
        )
        wanted.append((total**2).sum(1))
    for generation in (0, 4):
        assert stats.ks_2samp(errors[:, generation], wanted[generation]).pvalue > 1e-4


@pytest.mark.slow
def test_least_norm_chains_with_fresh_features(assert_mean):
    real = regression_params(np.arange(9) / 5)
    errors = chain_errors(
        linear_regression(9, NOISE, "minimum_norm"),
        workflows.replace(),
        4,
        4,
        chains=2000,
        real=real,
    )
    law = {"noise": NOISE, "squared_norm": float(np.sum((np.arange(9) / 5) ** 2))}
    assert_mean(errors, theory.minimum_norm_test_error(np.arange(5), 4, 9, **law))


@pytest.mark.slow
@pytest.mark.slow
def test_subsampled_accumulation_lies_between():
    """No closed form: above accumulation of all, below replacement, through whole points."""
    flows = (workflows.accumulate(), workflows.accumulate_subsample(), workflows.replace())
    errors = [
        np.median(chain_errors(linear_regression(DIM, NOISE), flow, 20, 8, chains=500)[:, -1])
        for flow in flows
    ]
    assert errors[0] < 0.8 * errors[1] < 0.64 * errors[2]


def test_metrics_and_distances(assert_mean):
    family = linear_regression(DIM, NOISE, feature_covariance=COVARIANCE)
    x = np.asarray(family.sample(jax.random.key(0), REAL, 20_000), np.float64)
    assert_mean(x[:, -1], family.metrics["mean"](REAL))
    assert_mean(x[:, -1] ** 2, family.metrics["variance"](REAL))
    assert family.metrics["log_variance"](REAL) == pytest.approx(
        np.log(WEIGHTS @ COVARIANCE @ WEIGHTS + NOISE**2), rel=1e-5
    )
    assert family.metrics["weight_norm"](REAL) == pytest.approx(np.linalg.norm(WEIGHTS), rel=1e-6)
    other = regression_params(WEIGHTS + np.array([0.1, 0.2, 0, -0.3]))
    change = np.array([0.1, 0.2, 0, -0.3])
    assert family.distances["test_error"](other, REAL) == pytest.approx(
        change @ COVARIANCE @ change, rel=1e-4
    )
    assert family.distances["squared_distance"](other, REAL) == pytest.approx(
        change @ change, rel=1e-4
    )
    of_design = linear_regression(DIM, NOISE, design=DESIGN)
    assert of_design.metrics["mean"](REAL) == pytest.approx((DESIGN @ WEIGHTS).mean(), rel=1e-4)
    assert of_design.metrics["variance"](REAL) == pytest.approx(
        (DESIGN @ WEIGHTS).var() + NOISE**2, rel=1e-4
    )


def test_log_prob():
    x = np.random.default_rng(0).normal(size=(6, DIM + 1))
    joint = np.block(
        [
            [COVARIANCE, (COVARIANCE @ WEIGHTS)[:, None]],
            [COVARIANCE @ WEIGHTS, WEIGHTS @ COVARIANCE @ WEIGHTS + NOISE**2],
        ]
    )
    want = stats.multivariate_normal(np.zeros(DIM + 1), joint).logpdf(x)
    np.testing.assert_allclose(
        linear_regression(DIM, **FRESH).log_prob(REAL, jnp.asarray(x)), want, rtol=1e-4
    )
    of_design = linear_regression(DIM, NOISE, design=DESIGN).log_prob(REAL, jnp.asarray(x))
    np.testing.assert_allclose(
        of_design, stats.norm(x[:, :-1] @ WEIGHTS, NOISE).logpdf(x[:, -1]), rtol=1e-4
    )
    assert linear_regression(DIM, 0.0).log_prob is None


def test_a_real_data_set_keeps_its_features():
    """Generation 0 is the fit to the logged labels; later ones relabel the same rows."""
    x = points(25, seed=8)
    family = linear_regression(DIM, 1e-3, design=x[:, :-1])
    process = generational_process(family, sources.dataset(x), workflows.replace(), sample_size=25)
    trace = simulate(process, jax.random.key(0), generations=3, chains=3, metrics="weights")
    np.testing.assert_allclose(
        trace["weights"][:, 0], np.tile(np.linalg.lstsq(x[:, :-1], x[:, -1])[0], (3, 1)), rtol=1e-4
    )
    np.testing.assert_allclose(trace["weights"][:, 3], trace["weights"][:, 0], atol=5e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"noise": -1.0}, "noise is -1.0"),
        ({"method": "lasso"}, "method is 'lasso'"),
        ({"penalty": 0.1}, "penalty is 0.1 with method 'ordinary'"),
        ({"method": "ridge"}, "penalty is 0 with method 'ridge'"),
        ({"design": np.ones((3, 2))}, r"design has shape \(3, 2\)"),
        ({"feature_covariance": np.zeros((4, 4))}, "positive definite"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(InputError, match=said):
        linear_regression(**({"dim": DIM} | options))


@pytest.mark.parametrize(
    ("flow", "size"), [(workflows.replace(), 8), (workflows.mix(0.5, 0.0, 0.5), 7)]
)
def test_sets_of_another_size_than_the_design(flow, size):
    family = linear_regression(DIM, design=DESIGN)
    with pytest.raises(InputError, match="design has 7 rows"):
        chain_errors(family, flow, size, 1, chains=2)


def test_bad_params():
    with pytest.raises(InputError, match="weights"):
        regression_params([[1.0]])
    with pytest.raises(InputError, match="weights"):
        regression_params([np.nan])
    assert isinstance(REAL, RegressionParams)
