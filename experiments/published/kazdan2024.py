"""Kazdan et al. 2024: Gaussians, kernels and regressions under three workflows.

replace, accumulate, and accumulate with subsampling.
"""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2410.16713",
    "Kazdan et al. 2024",
    "Collapse or Thrive? Perils and Promises of Synthetic Data in a Self-Generating World",
)
FLOWS = ("replace", "accumulate", "accumulate_subsample")


def gaussian(
    key,
    workflow,
    size,
    at,
    *,
    ddof=0,
    chains=100_000,
    metrics=("variance", "mean", "log_variance"),
    covariance=((1.0,),),
):
    """Metrics [chain, at] of Gaussians fitted to `size` points, from N(0, covariance) on."""
    process = cj.generational_process(
        cj.estimators.gaussian(len(covariance), ddof=ddof),
        cj.sources.normal(np.zeros(len(covariance)), covariance),
        getattr(cj.workflows, workflow)(),
        sample_size=size,
    )
    return cj.simulate(
        process, key, generations=int(at[-1]), chains=chains, metrics=metrics, record=at
    )


@entry(
    "kaz-acc-gauss",
    claim="If all data is kept, the expected variance of a refitted Gaussian falls by 1 - 1/(i^2 "
    "M) at its i-th fit, and stops falling.",
    status="published formula",
    setting="1-D, ddof=0, M = 10 (and 5 with ddof=1), generations 0 to 199, 100,000 chains",
    oracle="theory.gaussian.expected_variance, expected_squared_mean_error, "
    "theory.accumulation.expected_log_variance; the product is the paper's, its sibling for ddof=1 "
    "and the log variance are derived here",
    y="variance",
)
def accumulated_gaussian(key):
    at = np.array([0, 1, 4, 19, 199])
    found = []
    for ddof, size in ((0, 10), (1, 5)):
        trace, flow = (
            gaussian(key, "accumulate", size, at, ddof=ddof),
            {"ddof": ddof, "workflow": "accumulate"},
        )
        exact = theory.gaussian.expected_variance(at, size, **flow)
        error = theory.gaussian.expected_squared_mean_error(at, size, **flow)
        found += [
            compare.means(trace["variance"], exact, at=at, what=f"variance, ddof={ddof}"),
            compare.means(trace["mean"] ** 2, error, at=at, what=f"squared mean, ddof={ddof}"),
        ]
        exact = theory.accumulation.expected_log_variance(at, size, ddof=ddof)
        found.append(
            compare.means(trace["log_variance"], exact, at=at, what=f"log variance, ddof={ddof}")
        )
    return found


@entry(
    "kaz-acc-limit",
    claim="If all data is kept, a Gaussian keeps sin(pi/sqrt M)/(pi/sqrt M), about 1 - 1.645/M, "
    "of its variance for ever.",
    status="published formula",
    setting="1-D, ddof=0, M = 3, 5, 10, 30, generation 300, 200,000 chains",
    oracle="theory.gaussian.accumulate_variance_limit (the paper's limit); what generations beyond "
    "300 take away is at most 1/(301 M)",
    x="points a generation",
    y="variance kept",
    log="x",
)
def accumulate_limit(key):
    sizes = np.array([3, 5, 10, 30])
    kept = [
        gaussian(key, "accumulate", int(size), [300], chains=200_000, metrics=("variance",))[
            "variance"
        ][:, -1]
        for size in sizes
    ]
    limit = np.array([theory.gaussian.accumulate_variance_limit(size, ddof=0) for size in sizes])
    tail = limit / (301 * sizes)
    law = 1 - np.pi**2 / 6 / sizes
    return [
        compare.means(
            np.stack(kept, 1),
            limit,
            at=sizes,
            tolerance=tail,
            why="generations beyond 300",
            what="variance kept",
        ),
        compare.equal(
            limit,
            law,
            np.pi**4 / 120 / sizes**2,
            "the next term of the sine",
            at=sizes,
            what="limit by 1 - 1.645/M",
        ),
    ]


@entry(
    "kaz-gauss-data",
    claim="The authors' runs end where theory says: .31 of the variance after 100 fits of 100 "
    "new points, .997 if all are kept.",
    status="published number",
    setting="1-D, ddof=0, M = 100, generation 99 (their t = 100), 100,000 chains beside their runs",
    oracle="means and standard errors of the released run histories (replace .309 +- .040, "
    "accumulate .997 +- .017); exact: theory.gaussian.log_variance_quantile, "
    "theory.accumulation.expected_log_variance",
    x="workflow",
    y="variance",
)
def published_runs(key):
    at = [9, 99]
    replace, accumulate = (gaussian(key, flow, 100, at) for flow in FLOWS[:2])
    both = np.stack([replace["variance"][:, -1], accumulate["variance"][:, -1]], 1)
    quantiles = (0.05, 0.5, 0.95)
    exact = theory.gaussian.log_variance_quantile(np.array(quantiles), 99, 100, ddof=0)
    log_kept = theory.accumulation.expected_log_variance(np.array([99]), 100, ddof=0)
    return [
        compare.published_means(
            both, [0.309, 0.997], [0.040, 0.017], at=FLOWS[:2], what="variance after 100 fits"
        ),
        *(
            compare.quantiles(
                replace["log_variance"][:, -1], q, p, at=[99], what=f"log variance, {p:.0%}"
            )
            for p, q in zip(quantiles, exact, strict=True)
        ),
        compare.means(
            accumulate["log_variance"][:, -1], log_kept, at=[99], what="log variance, accumulate"
        ),
    ]


@entry(
    "kaz-gauss-rare",
    claim="Of 96 runs with M = 10 hardly any reaches the mean after 100 fits, so their average "
    "is no estimate of it.",
    status="derived here",
    setting="1-D, ddof=0, M = 10, generations 0 to 99 (their t = 100), replace, 100,000 chains",
    oracle="P(variance > its exact mean (1 - 1/M)^t), theory.gaussian.log_variance_cdf; it "
    "explains the one place where the released run histories miss the mean (t = 100, 2.66e-5)",
    y="share of runs above the mean",
)
def rare_runs(key):
    at = np.array([0, 9, 29, 99])
    trace = gaussian(key, "replace", 10, at)["log_variance"]
    mean = np.log(theory.gaussian.expected_variance(at, 10, ddof=0))
    above = np.array(
        [
            1 - theory.gaussian.log_variance_cdf(m, g, 10, ddof=0)
            for m, g in zip(mean, at, strict=True)
        ]
    )
    median = [theory.gaussian.log_variance_quantile(0.5, g, 10, ddof=0) for g in at]
    return [
        compare.proportions(
            (trace > mean).sum(0), len(trace), above, at=at, what="share of runs above the mean"
        ),
        compare.medians(trace, median, at=at, what="median log variance"),
    ]


@entry(
    "kaz-trace",
    claim="The share of the trace that is kept has the same mean in every dimension, also with "
    "fewer points than dimensions.",
    status="derived here",
    setting="d = 1, 3, 100 (accumulate: 1, 3) with variances 1 to 1/d, ddof=0, M = 32, generations "
    "4 and 15; 100,000, 50,000, 500 chains",
    oracle="theory.gaussian.expected_variance, which knows no dimension "
    "(theory.wasserstein.expected_trace); the paper's sweep has these d",
    x="dimensions",
    y="trace over the real one",
    log="x",
)
def trace_ratio(key):
    at, found = np.array([4, 15]), []
    for flow, dims in (
        ("replace", {1: 100_000, 3: 50_000, 100: 500}),
        ("accumulate", {1: 100_000, 3: 50_000}),
    ):
        ratios = []
        for dim, chains in dims.items():
            spread = 1 / np.arange(1, dim + 1)
            trace = gaussian(
                key, flow, 32, at, chains=chains, metrics=("trace",), covariance=np.diag(spread)
            )["trace"]
            ratios.append(trace[:, 1:] / spread.sum())
        ours, error = (
            np.array([f(r) for r in ratios])
            for f in (lambda r: r.mean(0), lambda r: r.std(0) / len(r) ** 0.5)
        )
        exact = theory.gaussian.expected_variance(at, 32, ddof=0, workflow=flow)
        for j, g in enumerate(at):
            found.append(
                compare.estimates(
                    ours[:, j],
                    error[:, j],
                    exact[j],
                    at=list(dims),
                    what=f"{flow}, generation {g}",
                    rule="mean",
                )
            )
    return found


@entry(
    "kaz-kde",
    claim="Keeping all data does not bound the variance of a kernel density estimate of fixed "
    "width: it grows with the harmonic numbers.",
    status="derived here",
    setting="1-D, h = 0.5, M = 50, generations 0 to 49, 2,000 chains, accumulate; 10,000 with "
    "subsamples",
    oracle="S_1 + h^2 (H_t - 1) up to terms of order 1/M: theory.kernel_density.expected_variance "
    "(exact; the paper sweeps such kernels)",
    y="variance",
)
def kernels(key):
    at, found = np.array([0, 4, 19, 49]), []
    for flow, chains in (("accumulate", 2_000), ("accumulate_subsample", 10_000)):
        family, real = cj.estimators.kde(1, 0.5), cj.sources.normal([0.0], [[1.0]])
        process = cj.generational_process(
            family, real, getattr(cj.workflows, flow)(), sample_size=50
        )
        variance = cj.simulate(
            process, key, generations=49, chains=chains, metrics="variance", record=at
        )["variance"]
        exact = theory.kernel_density.expected_variance(at, 50, bandwidth=0.5, workflow=flow)
        found.append(compare.means(variance, exact, at=at, what=f"variance, {flow}"))
        if flow == "accumulate":
            harmonic = np.array([np.sum(1 / np.arange(1, g + 2)) for g in at])
            short = found[0].expected[0] + 0.25 * (harmonic - 1)
            found.append(
                compare.equal(
                    exact,
                    short,
                    harmonic / 50,
                    "terms of order 1/M",
                    at=at,
                    what="exact by harmonic numbers",
                )
            )
    return found


@entry(
    "kaz-linreg-subsample",
    claim="Least squares on a subsample of all data loses more than on all of it, and far less "
    "than on the newest data alone.",
    status="published formula",
    setting="T = 30 rows, d = 5 features, noise 1, generations 0 to 24, 4,000 chains",
    oracle="replace n noise^2 d / (T - d - 1), accumulate by the Wishart sum: "
    "theory.regression.expected_test_error; the paper's order",
    y="test error",
)
def regression_subsample(key):
    at, errors = np.array([0, 9, 24]), {}
    family = cj.estimators.linear_regression(5)
    real = cj.sources.population(family, cj.estimators.regression_params(np.zeros(5)))
    for own, flow in zip(jax.random.split(key, len(FLOWS)), FLOWS, strict=True):
        process = cj.generational_process(
            family, real, getattr(cj.workflows, flow)(), sample_size=30
        )
        errors[flow] = cj.simulate(
            process, own, generations=24, chains=4_000, metrics="test_error", record=at
        )["test_error"]
    replace, accumulate, subsample = errors.values()
    return [
        *(
            compare.means(
                errors[flow],
                theory.regression.expected_test_error(at, 30, 5, workflow=flow),
                at=at,
                what=f"test error, {flow}",
            )
            for flow in FLOWS[:2]
        ),
        compare.exceeds(
            replace[:, 1:], subsample[:, 1:], at=at[1:], what="replace above subsamples"
        ),
        compare.exceeds(
            subsample[:, 1:], accumulate[:, 1:], at=at[1:], what="subsamples above accumulate"
        ),
    ]
