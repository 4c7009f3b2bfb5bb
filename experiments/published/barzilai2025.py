"""Barzilai and Shamir 2025: if all data is kept, maximum likelihood stays consistent.

In regular families.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2505.19046",
    "Barzilai and Shamir 2025",
    "When Models Don't Collapse: On the Consistency of Iterative MLE",
)
SIZES = np.array([10, 300, 10_000])


def means(key, name, truth, size, *, metric="mean", chains=100_000):
    """Fitted means [chain, (generation 0, generation 49)] of a family, with all data kept."""
    estimator = getattr(cj.estimators, name)()
    real = cj.sources.population(estimator, getattr(cj.estimators, f"{name}_params")(truth))
    process = cj.generational_process(
        estimator, real, cj.workflows.accumulate(), sample_size=int(size)
    )
    return cj.simulate(process, key, generations=49, chains=chains, metrics=metric, record=[0, 49])[
        metric
    ]


@entry(
    "bar-consistent",
    claim="If all data is kept, the squared error of generation 49 falls like one over the "
    "points per generation: more data still helps.",
    status="derived here",
    setting="Poisson of mean 2 and exponential of mean 1, M = 10, 300, 10,000, generation 49, "
    "100,000 chains",
    oracle="theory.exponential_families.expected_squared_mean_error, at most a constant over M; "
    "the paper proves the same kind of bound for regular families with bounds to which we "
    "had no access",
    x="points a generation",
    y="squared error of the mean",
    log="xy",
)
def consistent(key):
    found = []
    for name, truth in (("poisson", 2.0), ("exponential", 1.0)):
        quadratic = theory.exponential_families.QUADRATICS[name]
        errors = np.stack(
            [(means(key, name, truth, size)[:, -1] - truth) ** 2 for size in SIZES], 1
        )
        error_of = theory.exponential_families.expected_squared_mean_error
        exact = np.array(
            [error_of(49, size, truth, quadratic, workflow="accumulate") for size in SIZES]
        )
        found.append(compare.means(errors, exact, at=SIZES, what=f"squared error, {name}"))
    return found


@entry(
    "bar-uniform",
    claim="A uniform distribution is not a regular family. It stays consistent for another "
    "reason: the largest of all kept points is always a real one.",
    status="derived here",
    setting="uniform on [0, 1], M = 50, generations 0 and 49, accumulate and replace, 100,000 "
    "chains",
    oracle="points of a model are below the maximum that it was fitted to; replace: "
    "theory.exponential_families.uniform_expected_log_maximum",
    y="log maximum",
)
def uniform(key):
    kept, at = means(key, "uniform", 1.0, 50, metric="log_maximum"), [0, 49]
    estimator = cj.estimators.uniform()
    real = cj.sources.population(estimator, cj.estimators.uniform_params(1.0))
    process = cj.generational_process(estimator, real, cj.workflows.replace(), sample_size=50)
    replaced = cj.simulate(
        process, key, generations=49, chains=100_000, metrics="log_maximum", record=at
    )["log_maximum"]
    first = theory.exponential_families.uniform_expected_log_maximum(0, 50)
    return [
        compare.means(kept, first, at=at, what="accumulate"),
        compare.equal(
            np.abs(kept[:, 1] - kept[:, 0]).max(),
            0,
            1e-6,
            "float32",
            at=[49],
            what="accumulate, largest change",
        ),
        compare.means(
            replaced,
            theory.exponential_families.uniform_expected_log_maximum(np.array(at), 50),
            at=at,
            what="replace",
        ),
    ]
