"""He, Xu and Cheng 2025: a synthetic point should have less weight in the fit than a real one.

With 100 real points per generation and p = 2, as in the released settings.
"""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry
from collapse_jax.random.bits import split

PAPER = Paper(
    "2502.18049", "He, Xu and Cheng 2025", "Golden Ratio Weighting Prevents Model Collapse"
)
REAL = 100


def errors_of(key, family, source, metric, synthetic, weight, at, chains):
    """A metric [chain, at] where synthetic points weigh so much."""
    size = REAL + synthetic
    flow = cj.workflows.mix(synthetic / size, 0.0, REAL / size, random_counts=False)
    process = cj.generational_process(
        family, source, cj.workflows.weighted(flow, synthetic=weight), sample_size=size
    )
    return cj.simulate(
        process, key, generations=int(at[-1]), chains=chains, metrics=metric, record=at
    )[metric].astype(float)


@entry(
    "he-best-weight",
    claim="The best weight of real data is (sqrt(k^2 + 4k) - k) / 2 with k real points per "
    "synthetic one, the reciprocal of the golden ratio at k = 1. Equal weights have a "
    "larger error.",
    status="published formula",
    setting="mean of a Gaussian and least squares, p = 2, n = 100 real points, k = 1/2 and 1, "
    "generations 0 and 200, 4,000 chains",
    oracle="the best w is the paper's; the errors: theory.weights.expected_squared_error and "
    "expected_test_error, derived",
    y="squared error",
)
def best_weight(key):
    found, at = [], np.array([0, 200])
    mean, line = cj.estimators.gaussian_mean(np.eye(2)), cj.estimators.linear_regression(2)
    for (ratio, synthetic), own in zip(((0.5, 200), (1.0, 100)), split(key), strict=True):
        best = theory.weights.best_weight(ratio)
        published = (np.sqrt(ratio**2 + 4 * ratio) - ratio) / 2
        every = np.linspace(0, 1, 10_001)
        limits = [theory.weights.squared_error_limit(REAL, synthetic, w) for w in every]
        found.append(
            compare.equal(
                [best, every[np.argmin(limits)]],
                published,
                6e-5,
                "the grid",
                at=["formula", "minimum of the exact error"],
                what=f"best w, k = {ratio:g}",
            )
        )
        keys = split(own, 4)
        for i, w in enumerate((best, 1.0)):
            real = cj.sources.population(mean, cj.estimators.gaussian_mean_params([0.0, 0.0]))
            distances = errors_of(
                keys[i], mean, real, "squared_wasserstein2", synthetic, w, at, 4_000
            )
            exact = 2 * theory.weights.expected_squared_error(at, REAL, synthetic, w)
            what = f"mean, k = {ratio:g}, w = {w:.3f}"
            found.append(compare.means(distances, exact, at=at, what=what))
            real = cj.sources.population(line, cj.estimators.regression_params([0.6, -0.3]))
            tests = errors_of(keys[2 + i], line, real, "test_error", synthetic, w, at, 4_000)
            exact = theory.weights.expected_test_error(at, REAL, synthetic, 2, w)
            what = f"least squares, k = {ratio:g}, w = {w:.3f}"
            found.append(compare.means(tests, exact, at=at, what=what))
    return found


@entry(
    "he-families",
    claim="The same weight is best for logistic and Poisson regression and for the empirical "
    "distribution function, with half of the error of real data alone at k = 1/2.",
    status="published formula",
    setting="n = 100 real and 200 synthetic points, p = 2, generation 15; Cramer-von Mises of a "
    "normal, 2,000 chains; logistic and Poisson: 1,000 and 2,000 points, 500 chains",
    oracle="empirical: theory.weights.expected_squared_error over 6, exact; the regressions: the "
    "same times tr of the inverse information, for many points, whose next order is left 5 d/T",
    x="generation",
    y="error over that of real data alone",
)
def families(key):
    at, keys, best = np.array([0, 1, 15]), split(key, 3), theory.weights.best_weight(0.5)
    family = cj.estimators.empirical(jax.scipy.stats.norm.cdf)
    real = cj.Source(lambda key, n: jax.random.normal(key, (n,)))
    distances = errors_of(keys[0], family, real, "cramer_von_mises", 200, best, at, 2_000)
    exact = theory.weights.expected_squared_error(at, REAL, 200, best, v2=-1.0)
    found = [compare.means(distances * 6 * REAL, exact * REAL, at=at, what="empirical")]
    beta, size = np.array([0.6, -0.3]), 3_000
    flow = cj.workflows.mix(2 / 3, 0.0, 1 / 3, random_counts=False)
    for name, params, own in (
        ("logistic", cj.estimators.logistic_params(beta), keys[1]),
        ("poisson", cj.estimators.poisson_regression_params(beta), keys[2]),
    ):
        regression = getattr(cj.estimators, f"{name}_regression")(2)
        process = cj.generational_process(
            regression,
            cj.sources.population(regression, params),
            cj.workflows.weighted(flow, synthetic=best),
            sample_size=size,
        )
        squared = cj.simulate(
            process, own, generations=6, chains=500, metrics="squared_distance", record=[0, 1, 6]
        )["squared_distance"]
        norm = float(np.linalg.norm(beta))
        once = (
            theory.regression.logistic_squared_error(norm, 2)
            if name == "logistic"
            else theory.weights.poisson_squared_error(norm, 2)
        )
        exact = theory.weights.expected_squared_error(
            np.array([0, 1, 6]), size // 3, 2 * size // 3, best
        )
        relative = exact * size / 3
        found.append(
            compare.means(
                squared / once * size / 3,
                relative,
                at=[0, 1, 6],
                what=f"{name} regression",
                tolerance=relative * 10 / (size / 3),
                why="terms of order d/T",
            )
        )
    return found
