"""Dohmatob, Feng and Kempe 2024: least squares, ridge, least norm on the last fit's labels."""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2402.07712", "Dohmatob et al. 2024", "Model Collapse Demystified: The Case of Regression"
)
AT = np.array([0, 1, 4, 9])


def test_error(key, size, weights, *, chains, workflow=None, **options):
    """Excess risk [chain, AT] of the fits to labels of true `weights`; by default under replace."""
    estimator = cj.estimators.linear_regression(len(weights), **options)
    real = cj.sources.population(estimator, cj.estimators.regression_params(weights))
    process = cj.generational_process(
        estimator, real, workflow or cj.workflows.replace(), sample_size=size
    )
    return cj.simulate(
        process, key, generations=int(AT[-1]), chains=chains, metrics="test_error", record=AT
    )["test_error"]


@entry(
    "dohm-covariance",
    claim="Each generation adds the same to the test error of least squares, for every "
    "covariance of the features.",
    status="published formula",
    setting="T = 40 rows, d = 8 features with variances 1 to 1/64, noise 0.5, generations 0 to 9, "
    "20,000 chains",
    oracle="n noise^2 d / (T - d - 1) after n fits (as Gerstgrasser et al. 2024 give it): "
    "theory.regression.expected_test_error",
    y="test error",
)
def any_covariance(key):
    covariance = np.diag(1 / np.arange(1, 9.0) ** 2)
    errors = test_error(
        key, 40, np.ones(8), chains=20_000, noise=0.5, feature_covariance=covariance
    )
    return compare.means(
        errors,
        theory.regression.expected_test_error(AT, 40, 8, noise=0.5),
        at=AT,
        what="test error",
    )


@entry(
    "dohm-minimum-norm",
    claim="With fewer rows than features, the fit loses a share of the true weights in every "
    "generation, even without noise, until none is left.",
    status="derived here",
    setting="T = 10 rows, d = 20 features, |w| = 1, without noise and with 0.5, generations 0 to "
    "9, 5,000 chains",
    oracle="(1 - (T/d)^n)(|w|^2 + ...) after n fits: theory.regression.minimum_norm_test_error; "
    "the paper's section on T < d",
    y="test error",
)
def minimum_norm(key):
    def of(noise):
        weights = np.full(20, 20**-0.5)
        errors = test_error(key, 10, weights, chains=5_000, method="minimum_norm", noise=noise)
        exact = theory.regression.minimum_norm_test_error(AT, 10, 20, noise=noise)
        return compare.means(errors, exact, at=AT, what=f"test error, noise {noise:g}")

    return [of(0.0), of(0.5)]


@entry(
    "dohm-ridge-design",
    claim="With a ridge penalty every fit shrinks the true weights further. Keeping all data "
    "only slows this: pi^2/6 times the first error is no bound.",
    status="derived here",
    setting="one design of T = 40 rows and d = 8 features, |w|^2 = 8, noise 1, penalty 0.1, "
    "generations 0 to 9, 20,000 chains",
    oracle="shrinkage in the singular directions of the design: "
    "theory.regression.design_test_error",
    y="test error",
)
def ridge_design(key):
    design, weights = np.random.default_rng(1).normal(size=(40, 8)), np.ones(8)
    options = {"method": "ridge", "penalty": 0.1, "design": design}

    def of(workflow, name):
        errors = test_error(key, 40, weights, chains=20_000, workflow=workflow, **options)
        exact = theory.regression.design_test_error(AT, design, weights, penalty=0.1, workflow=name)
        return errors, compare.means(errors, exact, at=AT, what=f"test error, {name}")

    kept, accumulate = of(cj.workflows.accumulate(), "accumulate")
    above = compare.exceeds(
        kept[:, -1],
        accumulate.expected[0] * np.pi**2 / 6,
        at=[9],
        what="accumulate above pi^2/6 of its first",
    )
    return [of(cj.workflows.replace(), "replace")[1], accumulate, above]


@entry(
    "dohm-ridge-proportional",
    claim="Ridge regression with half as many features as rows follows the limit of "
    "random-matrix theory in every generation.",
    status="derived here",
    setting="fresh features N(0, I), d / T = 0.5, |w| = 1, noise 0.5, penalty 0.2, d = 10 and 20 "
    "(10,000 and 4,000 chains), taken to inf",
    oracle="Stieltjes transform of the Marchenko-Pastur law: "
    "theory.regression.limiting_ridge_test_error; the paper's proportional limit",
    y="test error",
)
def ridge_proportional(key):
    def of(own_key, dim, chains):
        errors = test_error(
            own_key,
            2 * dim,
            np.full(dim, dim**-0.5),
            chains=chains,
            method="ridge",
            penalty=0.2,
            noise=0.5,
        )
        return errors.mean(0), errors.std(0) / np.sqrt(chains)

    # The error of the difference is that of independent means.
    first, second = jax.random.split(key)
    (small, small_error), (large, large_error) = of(first, 10, 10_000), of(second, 20, 4_000)
    ours, error = 2 * large - small, np.hypot(2 * large_error, small_error)
    exact = theory.regression.limiting_ridge_test_error(AT, 0.5, 0.2, noise=0.5)
    return compare.estimates(
        ours, error, exact, at=AT, what="test error", rule="2 x mean at d = 20 - mean at 10"
    )
