"""Borji 2024: kernel density estimates sampled and fitted again.

Their kernels widen the distribution, where a Gaussian shrinks.
"""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2410.12954",
    "Borji 2024",
    "A Note on Shumailov et al. (2024): AI Models Collapse When Trained on Recursively Generated "
    "Data",
)


def variances(key, estimator, workflow, size, generations, chains, record, metric="variance"):
    process = cj.generational_process(
        estimator, cj.sources.normal([0.0], [[1.0]]), workflow, sample_size=size
    )
    return cj.simulate(
        process, key, generations=generations, chains=chains, metrics=(metric,), record=record
    )[metric].astype(np.float64)


@entry(
    "kde-widening",
    claim="Under replace the variance of a kernel density estimate of fixed bandwidth h grows "
    "towards (M - 1) h^2. It shrinks only if h^2 is below 1/(M - 1) of the variance of its "
    "points.",
    status="derived here",
    setting="1-D, M = 50, replace; h = 0.5 to generation 29 and h = 0.1414, the threshold, to "
    "generation 20, 20,000 chains",
    oracle="S' = (1 - 1/M)(S + h^2): theory.kernel_density.expected_variance (2.85 for the points "
    "of the tenth fit, h = 0.5) and widening_boundary",
    y="variance",
)
def widening(key):
    at, wide, narrow = (
        np.array([0, 1, 9, 29]),
        jax.random.fold_in(key, 0),
        jax.random.fold_in(key, 1),
    )
    border = theory.kernel_density.widening_boundary(50, 0.98)
    large = variances(
        wide, cj.estimators.kde(1, 0.5), cj.workflows.replace(), 50, 29, 20_000, at.tolist()
    )
    level = variances(
        narrow, cj.estimators.kde(1, float(border)), cj.workflows.replace(), 50, 20, 20_000, [20]
    )
    return [
        compare.means(
            large,
            theory.kernel_density.expected_variance(at, 50, bandwidth=0.5),
            at=at,
            what="variance, h = 0.5",
        ),
        compare.means(
            large[:, 2] - 0.25,
            2.85,
            at=[9],
            what="variance of the points, tenth fit",
            tolerance=0.005,
            why="two decimals",
        ),
        compare.means(
            level, 0.98 + border**2, at=[0, 20], what=f"variance, h = {border:.3g} (the border)"
        ),
    ]


@entry(
    "kde-scott",
    claim="Scott's rule scaled with the data (SciPy) widens the distribution without bound, by "
    "the same factor in each generation. The unscaled rule (scikit-learn's "
    "bandwidth='scott') is a fixed bandwidth and saturates.",
    status="derived here",
    setting="1-D, M = 50, replace, generations 0 to 20, 4,000 chains",
    oracle="factor (1 - 1/M)(1 + M^(-2/5) M/(M - 1)) = 1.19: "
    "theory.kernel_density.expected_variance",
    y="variance",
    log="y",
)
def scott(key):
    at, rule = np.array([0, 1, 5, 20]), 50 ** (-1 / 5)
    scaled, unscaled = (
        variances(
            one,
            cj.estimators.kde(1, "scott", scaled=kind),
            cj.workflows.replace(),
            50,
            20,
            4_000,
            at.tolist(),
        )
        for one, kind in zip(jax.random.split(key), (True, False), strict=True)
    )
    exact = [
        theory.kernel_density.expected_variance(at, 50, **{name: rule})
        for name in ("factor", "bandwidth")
    ]
    return [
        compare.means(scaled, exact[0], at=at, what="variance, scaled"),
        compare.means(unscaled, exact[1], at=at, what="variance, unscaled"),
        compare.exceeds(scaled[:, -1], unscaled[:, -1], at=[20], what="scaled above unscaled"),
    ]


@entry(
    "kde-accumulate",
    claim="Even if all data is kept, the variance of a kernel density estimate of fixed "
    "bandwidth is unbounded: it grows by about h^2/t, like log t.",
    status="derived here",
    setting="1-D, M = 20, h = 0.5, accumulate, generations 0 to 60, 3,000 chains",
    oracle="theory.kernel_density.expected_variance(workflow='accumulate'), S_1 + h^2 (H_t - 1) "
    "for large M",
    y="variance",
    log="x",
)
def accumulate(key):
    at = np.array([0, 1, 5, 20, 60])
    found = variances(
        key, cj.estimators.kde(1, 0.5), cj.workflows.accumulate(), 20, 60, 3_000, at.tolist()
    )
    return compare.means(
        found,
        theory.kernel_density.expected_variance(at, 20, bandwidth=0.5, workflow="accumulate"),
        at=at,
        what="variance",
    )
