"""A Gaussian in several dimensions, refitted to its own draws.

Directions, divergences, distances, and a collapse without end.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "",
    "collapse_jax",
    "derived here: collapse_jax/theory/lyapunov.py, gaussian_divergence.py, wasserstein.py",
)


def chain(key, eigenvalues, size, generations, chains, metrics, record=1, ddof=1):
    """Trace of a Gaussian under replace whose real covariance is diag(eigenvalues)."""
    dim = len(eigenvalues)
    real = cj.sources.normal(np.zeros(dim), np.diag(eigenvalues))
    process = cj.generational_process(
        cj.estimators.gaussian(dim, ddof=ddof), real, cj.workflows.replace(), sample_size=size
    )
    return cj.simulate(
        process, key, generations=generations, chains=chains, metrics=metrics, record=record
    )


@entry(
    "gaussian-lyapunov",
    claim="Directions collapse at different rates: the log scales are independent sums, and the "
    "condition number grows exponentially at the difference of their rates.",
    status="derived here",
    setting="d = 3, M = 10, ddof = 1, generations 0 to 300, 10,000 chains",
    oracle="Bartlett factors: theory.lyapunov.expected_log_scales, log_scales_std, "
    "log_condition_rate (psi(9/2) - psi(7/2) = 2/7)",
    y="log scale",
)
def lyapunov(key):
    trace = chain(
        key, np.ones(3), 10, 300, 10_000, ("log_scale", "log_condition_number"), (0, 9, 99, 300)
    )
    at, scales = trace.generations, trace["log_scale"].astype(float)
    mean, deviation = (
        theory.lyapunov.expected_log_scales(at, 10, 3, ddof=1),
        theory.lyapunov.log_scales_std(at, 10, 3),
    )
    condition = trace["log_condition_number"].astype(float)
    z = (scales - mean) / deviation
    grown = (condition[:, 3] - condition[:, 2]) / 201
    return [
        *(
            compare.means(scales[..., j], mean[:, j], at=at, what=f"log scale {j + 1}")
            for j in range(3)
        ),
        *(
            compare.means(z[..., j] ** 2, np.ones(4), at=at, what=f"squared z of log scale {j + 1}")
            for j in range(3)
        ),
        compare.means(
            z[..., 0] * z[..., 2], np.zeros(4), at=at, what="correlation of log scales 1 and 3"
        ),
        compare.means(
            grown,
            theory.lyapunov.log_condition_rate(10, 3),
            at=["99 to 300"],
            what="growth of the log condition number",
        ),
    ]


@entry(
    "gaussian-kl",
    claim="Expected divergences by generation: KL(model || real) grows about linearly, KL(real "
    "|| model) in the end exponentially.",
    status="derived here",
    setting="d = 1 and 2, M = 30, ddof = 0 and 1, generations 0 to 14, 40,000 chains",
    oracle="theory.gaussian_divergence.expected_reverse_kl, expected_forward_kl (Wishart and "
    "inverse Wishart moments)",
    y="nats",
    log="y",
)
def divergences(key):
    found = []
    for dim, ddof in ((1, 1), (2, 0)):
        trace = chain(
            key,
            np.arange(1.0, dim + 1),
            30,
            14,
            40_000,
            ("kl_model_to_real", "kl_real_to_model"),
            (0, 1, 4, 14),
            ddof,
        )
        at, options = trace.generations, {"ddof": ddof, "dim": dim}
        reverse, forward = (
            exact(at, 30, **options)
            for exact in (
                theory.gaussian_divergence.expected_reverse_kl,
                theory.gaussian_divergence.expected_forward_kl,
            )
        )
        name = f"d = {dim}, ddof = {ddof}"
        # Few chains carry the last mean of the other: its fourth moment is not there for long.
        found += [
            compare.means(
                trace["kl_model_to_real"], reverse, at=at, what=f"KL(model || real), {name}"
            ),
            compare.means(
                trace["kl_real_to_model"][:, :3],
                forward[:3],
                at=at[:3],
                what=f"KL(real || model), {name}",
            ),
        ]
    return found


@entry(
    "gaussian-w2",
    claim="E[W2^2] in three dimensions: its mean and trace parts are exact, the whole is between "
    "two bounds, and it starts linearly.",
    status="derived here",
    setting="eigenvalues 4, 1, 1/4, M = 30, ddof = 1, generations 0 to 15, 20,000 chains",
    oracle="theory.wasserstein: expected_squared_mean_distance, expected_trace, lower and upper "
    "bound, early_squared_wasserstein2",
    y="squared distance",
    log="xy",
)
def wasserstein(key):
    eigenvalues = np.array([4.0, 1.0, 0.25])
    trace = chain(
        key, eigenvalues, 30, 15, 20_000, ("mean", "trace", "squared_wasserstein2"), (0, 4, 9, 15)
    )
    large = chain(key, eigenvalues, 5_000, 4, 20_000, ("squared_wasserstein2",), (0, 4))
    at, exact, options = trace.generations, theory.wasserstein, {"ddof": 1}
    distance = trace["squared_wasserstein2"]
    offset = (trace["mean"].astype(float) ** 2).sum(-1)
    early = exact.early_squared_wasserstein2(large.generations, 5_000, eigenvalues)
    return [
        compare.means(
            offset,
            exact.expected_squared_mean_distance(at, 30, eigenvalues, **options),
            at=at,
            what="mean's part",
        ),
        compare.means(
            trace["trace"],
            exact.expected_trace(at, 30, eigenvalues, **options),
            at=at,
            what="trace",
        ),
        compare.at_least(
            distance,
            exact.squared_wasserstein2_lower_bound(at, 30, eigenvalues, **options),
            at=at,
            what="lower bound",
        ),
        compare.at_most(
            distance,
            exact.squared_wasserstein2_upper_bound(at, 30, eigenvalues, **options),
            at=at,
            what="upper bound",
        ),
        compare.means(
            large["squared_wasserstein2"],
            early,
            at=large.generations,
            what="first order, M = 5,000",
            tolerance=early.max() * 3 * 5 / 5_000,
            why="second order, a part d t / M of the first",
        ),
    ]


@entry(
    "log-scale-never-stops",
    claim="The log variance follows its exact distribution over a hundred thousand generations; "
    "rounding does not stop the fall.",
    status="derived here",
    setting="d = 1, M = 10, ddof = 1, 100,000 generations, 2,000 chains; by points 3,000 "
    "generations, 400 chains",
    oracle="sums of log chi-square variables: theory.gaussian.expected_log_variance, "
    "log_variance_std, log_variance_quantile",
    y="log variance",
)
def long_run(key):
    trace = chain(key, [1.0], 10, 100_000, 2_000, ("log_variance",), (999, 9_999, 100_000))
    at, logarithm = trace.generations, trace["log_variance"].astype(float)
    mean, deviation = (
        theory.gaussian.expected_log_variance(at, 10, ddof=1),
        theory.gaussian.log_variance_std(at, 10),
    )
    z = (logarithm - mean) / deviation
    family = cj.estimators.gaussian(1, ddof=1, by="points")
    process = cj.generational_process(
        family, cj.sources.normal([0.0], [[1.0]]), cj.workflows.replace(), sample_size=10
    )
    by_points = cj.simulate(
        process, key, generations=3_000, chains=400, metrics=("log_variance",), record=(3_000,)
    )
    return [
        compare.means(logarithm, mean, at=at, what="log variance"),
        compare.means(z**2, np.ones(4), at=at, what="its squared z"),
        *(
            compare.quantiles(
                logarithm,
                theory.gaussian.log_variance_quantile(q, at, 10, ddof=1),
                q,
                at=at,
                what=f"{q:.0%} quantile",
            )
            for q in (0.1, 0.9)
        ),
        compare.means(
            by_points["log_variance"],
            theory.gaussian.expected_log_variance([0, 3_000], 10, ddof=1),
            at=[0, 3_000],
            what="by points",
        ),
    ]
