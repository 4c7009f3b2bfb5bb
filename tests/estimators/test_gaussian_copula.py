"""Gaussian copula: latent correlations by quadrature, marginals, names, and collapsed tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax.core.types import Dataset
from collapse_jax.errors import InputError
from collapse_jax.estimators.gaussian_copula import (
    CopulaParams,
    copula_log_density,
    correlation,
    gaussian_copula,
    gaussian_copula_params,
)
from collapse_jax.numerics import copula

pytestmark = pytest.mark.usefixtures("quick_compile")
NAMES, CATEGORIES = ("age", "city", "smokes"), (None, ("Bonn", "Oslo", "Rome"), ("no", "yes"))
FAMILY = gaussian_copula(NAMES, CATEGORIES)
LATENT = np.array([[1.0, 0.6, -0.4], [0.6, 1.0, 0.2], [-0.4, 0.2, 1.0]])
CUTS = [-0.4, 1.2], [0.8]
FIT = jax.jit(FAMILY.fit)
SLOTS = 3000


def table(latent):
    """Rows [n, 3] of latent normal vectors: whole years, most of them 0 or 1, cities, kinds."""
    age = np.floor(-np.log(stats.norm.sf(latent[:, 0])))
    return np.stack(
        [age, np.digitize(latent[:, 1], CUTS[0]), np.digitize(latent[:, 2], CUTS[1])], 1
    )


def fitted(x, weight=None):
    """The params of a table, in a program for up to `SLOTS` rows."""
    empty = SLOTS - len(x)
    weight = np.ones(len(x)) if weight is None else weight
    rows = np.concatenate([x, np.full((empty, 3), np.nan)])
    data = Dataset(jnp.asarray(rows, jnp.float32), jnp.asarray(np.pad(weight, (0, empty)), float))
    return FIT(None, None, data)[0]


@jax.jit
def polychoric(rows, columns, weight):
    """The correlations of codes 0 to 3 and of codes 0 and 1."""
    scores, terms = jax.vmap(copula.column, (0, None))(jnp.stack([rows, columns]), weight)
    return copula.correlations(scores.T, weight, terms)


def test_latent_correlations_are_recovered():
    """The estimate's own error from 20 tables, and none beyond it."""
    found = []
    for seed in range(20):
        z = np.random.default_rng(seed).multivariate_normal(np.zeros(3), LATENT, SLOTS)
        found.append(np.asarray(correlation(fitted(table(z)))))
    found = np.array(found)
    error = found.std(0, ddof=1) / np.sqrt(20) + np.eye(3)
    z = (found.mean(0) - LATENT) / error
    assert np.abs(z).max() < 4


@pytest.mark.parametrize("true", [-0.97, -0.5, 0.0, 0.3, 0.9])
def test_categories_are_polychoric(true):
    """Solved from the exact cells of two columns; p near 0 and 1, and a category of no one."""
    ends = [np.array([-9.0, -2.3, -2.3, 0.7, 9.0]), np.array([-9.0, 1.9, 9.0])]
    law = stats.multivariate_normal(np.zeros(2), [[1, true], [true, 1]])
    grid = np.array([[law.cdf([a, b]) for b in ends[1]] for a in ends[0]])
    cells = np.maximum(np.diff(np.diff(grid, axis=0), axis=1), 0)
    rows, columns = np.indices(cells.shape)
    weight = jnp.asarray(cells.ravel(), float)
    found = polychoric(jnp.asarray(rows.ravel()), jnp.asarray(columns.ravel()), weight)
    assert float(found[0, 1]) == pytest.approx(true, abs=4e-3)


def test_samples_have_the_training_marginals_and_correlation():
    z = np.random.default_rng(0).multivariate_normal(np.zeros(3), LATENT, SLOTS)
    x = table(z).astype(np.float32)
    params = fitted(x)
    drawn = np.asarray(jax.jit(FAMILY.sample, static_argnums=2)(jax.random.key(0), params, 20_000))
    assert set(drawn[:, 0]) <= set(x[:, 0])
    for column, size in ((0, 1 + int(x[:, 0].max())), (1, 3), (2, 2)):
        shares = np.bincount(x[:, column].astype(int), minlength=size) / SLOTS
        counts = np.bincount(drawn[:, column].astype(int), minlength=size)
        counts, shares = counts[shares > 0], shares[shares > 0]
        assert stats.chisquare(counts, shares * 20_000).pvalue > 1e-4
    theirs, ours = stats.spearmanr(x).statistic, stats.spearmanr(drawn).statistic
    assert np.abs(theirs - ours).max() < 4 * np.sqrt(1 / SLOTS + 1 / 20_000)


def test_the_density_of_the_copula_is_scipys():
    """At training values, and far beyond them, of all columns and of two; none without inverse."""
    levels = (np.arange(99) + 0.5) / 99
    params = gaussian_copula_params([levels**2, np.exp(levels), levels], LATENT)
    density = jax.jit(copula_log_density, static_argnums=2)
    rows = np.array([params.values[:, place] for place in (10, 40, 98)])
    rows[2, 0], rows[2, 1] = -7, 7  # half a row beyond either end
    share = np.array([[10.5] * 3, [40.5] * 3, [0, 99, 98.5]]) / 99
    z = stats.norm.ppf(np.clip(share, 0.5 / 100, 1 - 0.5 / 100))
    for columns in (None, (0, 2)):
        chosen = list(columns or range(3))
        law = stats.multivariate_normal(cov=LATENT[np.ix_(chosen, chosen)])
        exact = law.logpdf(z[:, chosen]) - stats.norm.logpdf(z[:, chosen]).sum(1)
        found = density(params, jnp.asarray(rows), columns)
        np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-5)
    one = gaussian_copula_params([levels, levels], np.ones((2, 2)))
    assert np.isneginf(density(one, jnp.asarray(rows[:, :2]), None)).all()


def test_metrics_by_the_columns_names():
    x = np.array([[1.0, 0, 1], [4.0, 0, 0], [4.0, 2, 0], [9.0, 2, 0]])
    weight = np.array([1.0, 2.0, 1.0, 4.0])
    params = fitted(x, weight)
    shares = weight / 8
    every = jax.jit(lambda params: {name: one(params) for name, one in FAMILY.metrics.items()})
    measured = {name: np.asarray(value) for name, value in every(params).items()}
    mean = shares @ x[:, 0]
    assert measured["mean_age"] == pytest.approx(mean)
    assert measured["variance_age"] == pytest.approx(shares @ (x[:, 0] - mean) ** 2, rel=1e-5)
    assert measured["variance"] == measured["variance_age"]
    np.testing.assert_allclose(measured["mean"], shares @ x, rtol=1e-6)
    assert [int(measured[f"support_{name}"]) for name in NAMES] == [3, 2, 2]
    np.testing.assert_allclose(measured["probabilities_city"], [3 / 8, 0, 5 / 8])
    assert measured["heterozygosity_city"] == pytest.approx(1 - 9 / 64 - 25 / 64)
    assert measured["entropy_smokes"] == pytest.approx(stats.entropy([7 / 8, 1 / 8]), rel=1e-5)
    real = gaussian_copula_params([[1.0], ([0, 1], [0.5, 0.5]), ([0], [1.0])], np.eye(3))
    distances = {name: float(one(params, real)) for name, one in FAMILY.distances.items()}
    assert distances["total_variation_city"] == pytest.approx(5 / 8)
    assert distances["total_variation_smokes"] == pytest.approx(1 / 8)
    apart = np.linalg.norm(measured["correlation"] - np.eye(3))
    assert distances["correlation_distance"] == pytest.approx(apart, rel=1e-5)


def test_collapsed_tables():
    """One row, equal rows, a constant column, a category that all have, columns that are equal."""
    rng = np.random.default_rng(0)
    age = rng.normal(size=50)
    tables = {
        "row": np.array([[2.0, 1, 0]]),
        "equal": np.tile([[2.0, 1, 0]], (9, 1)),
        "constant": np.stack([np.full(50, 3.0), rng.integers(0, 3, 50), np.ones(50)], 1),
        "same": np.stack([age, (age > 0) * 2, age > 0], 1),
    }
    for name, x in tables.items():
        params = fitted(x.astype(float))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)), name
        matrix = np.asarray(correlation(params))
        np.testing.assert_allclose(np.diag(matrix), 1, rtol=1e-5)
        if name == "same":
            assert matrix[0, 2] > 0.95 and matrix[1, 2] > 0.95
            continue
        expected = np.eye(3)
        assert np.abs(matrix - expected).max() < 0.5 if name == "constant" else True
        if name != "constant":
            np.testing.assert_allclose(matrix, expected, atol=1e-6)
            drawn = FAMILY.sample(jax.random.key(0), params, 4)
            np.testing.assert_array_equal(drawn, np.tile(x[0], (4, 1)))
        else:
            assert matrix[0, 1] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_smoothed_marginals_are_kernel_estimates():
    family = gaussian_copula(NAMES, CATEGORIES, marginals="smoothed")
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=200) * 3 + 1, rng.integers(0, 3, 200), np.ones(200)], 1)
    data = Dataset(jnp.asarray(x, jnp.float32), jnp.ones(200))
    params, _ = jax.jit(family.fit)(None, None, data)
    width = x[:, 0].std() * (4 / 600) ** 0.2
    np.testing.assert_allclose(params.bandwidth, [width, 0, 0], rtol=1e-5)
    draw = jax.jit(family.sample, static_argnums=2)
    drawn = np.asarray(draw(jax.random.key(0), params, 20_000))

    def cdf(at):
        return np.mean(stats.norm.cdf((np.asarray(at)[:, None] - x[:, 0]) / width), axis=1)

    assert stats.kstest(drawn[:, 0], cdf).pvalue > 1e-4
    assert set(drawn[:, 1]) <= {0.0, 1.0, 2.0}
    exact = x[:, 0].var() + width**2
    assert float(family.metrics["variance_age"](params)) == pytest.approx(exact, rel=1e-5)


def test_codes_are_checked():
    with pytest.raises(InputError, match=r"column 'city' takes the codes 0 to 2 of its 3"):
        cj.generational_process(
            FAMILY,
            cj.sources.dataset([[1.0, 3, 0], [1.0, 2, 0]]),
            cj.workflows.replace(),
            sample_size=2,
        )


@pytest.mark.slow
def test_a_table_as_the_source():
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal(np.zeros(3), LATENT, 400)
    process = cj.generational_process(
        FAMILY, cj.sources.dataset(table(z)), cj.workflows.replace(), sample_size=8
    )
    names = ("support_age", "heterozygosity_city", "probabilities_smokes", "log_determinant")
    trace = cj.simulate(process, jax.random.key(0), generations=12, chains=50, metrics=names)
    assert trace["probabilities_smokes"].shape == (50, 13, 2)
    support = trace["support_age"]
    assert (np.diff(support, axis=1) <= 0).all() and support[:, -1].mean() < 4


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gaussian_copula(0), "columns is 0"),
        (lambda: gaussian_copula("age"), "columns is 'age'; it must be the names of the columns"),
        (lambda: gaussian_copula(("a", "a")), "columns has 'a' more than once"),
        (lambda: gaussian_copula(("a", 3)), "columns has 3; it must be the name"),
        (lambda: gaussian_copula(2, (None,)), "categories has 1 entries for 2 columns"),
        (lambda: gaussian_copula(("a", "b"), {"c": 2}), "categories has 'c'; it must be one of"),
        (lambda: gaussian_copula(1, [("x", "x")]), "they must be distinct"),
        (lambda: gaussian_copula(1, [0]), "categories of '0' is 0"),
        (lambda: gaussian_copula(1, bandwidth=0.1), "bandwidth is 0.1 with marginals 'empirical'"),
        (lambda: gaussian_copula(1, marginals="smoothed", bandwidth=0), "bandwidth is 0"),
        (lambda: gaussian_copula(1, marginals="kde"), "marginals is 'kde'"),
        (lambda: gaussian_copula_params([[1.0]], [[2.0]]), "with 1 on its diagonal"),
        (lambda: gaussian_copula_params([[1.0]], np.eye(2)), "for 1 marginals"),
        (lambda: gaussian_copula_params([([1.0], [-1.0])], [[1.0]]), "one above 0"),
    ],
)
def test_what_means_nothing_is_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_columns_by_number_or_by_name():
    assert "mean_1" in gaussian_copula(2).metrics
    named = gaussian_copula(("a", "b"), {"b": 2}).metrics
    assert "mean_a" in named and "probabilities_b" in named
    assert isinstance(gaussian_copula_params([[1.0, 2.0]], [[1.0]]), CopulaParams)
