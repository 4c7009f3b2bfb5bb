"""The workflows, from shared ancestry; not from a paper.

One recursion for counts and Gaussians, subsamples, growing samples.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "", "collapse_jax", "Derived here: shared ancestry of training points (theory.ancestry)"
)
REAL = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])


def gaussian(key, workflow, size, at, *, ddof=0, chains=100_000, metrics=("variance", "mean")):
    """Metrics [chain, at] of 1-D Gaussians fitted to `size` points, from N(0, 1) on."""
    process = cj.generational_process(
        cj.estimators.gaussian(1, ddof=ddof),
        cj.sources.normal([0.0], [[1.0]]),
        workflow,
        sample_size=size,
    )
    return cj.simulate(
        process, key, generations=int(at[-1]), chains=chains, metrics=metrics, record=at
    )


def heterozygosity(key, workflow, size, at, *, chains=50_000):
    """1 - sum p^2 [chain, at] of counts of six categories, over that of the real distribution."""
    process = cj.generational_process(
        cj.estimators.categorical(6), cj.sources.categorical(REAL), workflow, sample_size=size
    )
    trace = cj.simulate(
        process, key, generations=int(at[-1]), chains=chains, metrics="heterozygosity", record=at
    )
    return trace["heterozygosity"] / (1 - np.sum(REAL**2))


@entry(
    "acc-exact-discrete",
    claim="Counts of categories, and a Gaussian fitted by maximum likelihood, keep the same "
    "share of their diversity in every generation.",
    status="derived here",
    setting="six categories (.4 to .03) and N(0, 1), M = 10, generations 0 to 49, replace and "
    "accumulate, 50,000 and 100,000 chains",
    oracle="theory.ancestry.retention: 1 - P(two draws from the training data share a real "
    "ancestor)",
    y="diversity kept",
)
def one_recursion(key):
    at, found = np.array([0, 1, 4, 9, 49]), []
    for flow in ("replace", "accumulate"):
        workflow, exact = (
            getattr(cj.workflows, flow)(),
            theory.ancestry.retention(at, 10, workflow=flow),
        )
        found.append(
            compare.means(
                heterozygosity(key, workflow, 10, at), exact, at=at, what=f"heterozygosity, {flow}"
            )
        )
        early = (
            at[:-1] if flow == "replace" else at
        )  # beyond generation M rare runs carry the mean of the Gaussian
        variance = gaussian(key, workflow, 10, early)["variance"]
        found.append(
            compare.means(variance, exact[: len(early)], at=early, what=f"variance, {flow}")
        )
    return found


@entry(
    "sub-exact",
    claim="A Gaussian that is fitted to M of all points so far keeps .5347, .7390, .9710 of its "
    "variance for ever (M = 5, 10, 100).",
    status="derived here",
    setting="1-D, ddof=0, M = 5, 10 (generations 0 to 49, 30,000 chains) and 100 (generations 0 to "
    "4, 20,000 chains)",
    oracle="theory.gaussian.expected_variance and accumulate_subsample_variance_limit, about 1 - "
    "(pi^2/2 - 2)/M",
    y="variance",
)
def subsampled(key):
    at, limits, found = np.array([0, 1, 4, 19, 49]), [0.5347, 0.7390, 0.9710], []
    for size in (5, 10, 100):
        last = at if size < 100 else at[:3]
        trace = gaussian(
            key,
            cj.workflows.accumulate_subsample(),
            size,
            last,
            chains=30_000 if size < 100 else 20_000,
        )
        moments = {"ddof": 0, "workflow": "accumulate_subsample"}
        exact = theory.gaussian.expected_variance(last, size, **moments)
        error = theory.gaussian.expected_squared_mean_error(last, size, **moments)
        found.append(compare.means(trace["variance"], exact, at=last, what=f"variance, M = {size}"))
        found.append(
            compare.means(trace["mean"] ** 2, error, at=last, what=f"squared mean, M = {size}")
        )
    limit = [
        theory.gaussian.accumulate_subsample_variance_limit(size, ddof=0) for size in (5, 10, 100)
    ]
    return [
        *found,
        compare.equal(
            limit, limits, 5e-5, "digits", at=[5, 10, 100], what="limit of the closed form"
        ),
    ]


@entry(
    "sub-discrete",
    claim="Counts of a subsample of all data keep on average the same share as a Gaussian.",
    status="derived here",
    setting="six categories, M = 10, generations 0 to 49, 50,000 chains",
    oracle="theory.ancestry.retention; the same numbers as theory.gaussian.expected_variance with "
    "ddof=0",
    y="heterozygosity kept",
)
def subsampled_counts(key):
    at = np.array([0, 1, 4, 19, 49])
    exact = theory.ancestry.retention(at, 10, workflow="accumulate_subsample")
    sibling = theory.gaussian.expected_variance(at, 10, ddof=0, workflow="accumulate_subsample")
    return [
        compare.means(
            heterozygosity(key, cj.workflows.accumulate_subsample(), 10, at),
            exact,
            at=at,
            what="heterozygosity",
        ),
        compare.equal(exact, sibling, 1e-12, "float64", at=at, what="Gaussian's closed form"),
    ]


@entry(
    "sub-plateau",
    claim="With subsamples of all data the diversity reaches a plateau: counts lose almost "
    "nothing more between generations 100 and 999.",
    status="derived here",
    setting="six categories, M = 10, 20,000 chains",
    oracle="theory.ancestry.retention and theory.gaussian.accumulate_subsample_variance_limit; "
    "the abstract of Kazdan et al. 2024 reports a plateau in version 2 and a slow and "
    "gradual degradation in version 4: kernels degrade for ever (kaz-kde), counts do not",
    y="heterozygosity kept",
    log="x",
)
def plateau(key):
    at = np.array([0, 9, 99, 999])
    kept = heterozygosity(key, cj.workflows.accumulate_subsample(), 10, at, chains=20_000)
    exact = theory.ancestry.retention(at, 10, workflow="accumulate_subsample")
    limit = theory.gaussian.accumulate_subsample_variance_limit(10, ddof=0)
    return [
        compare.means(kept, exact, at=at, what="heterozygosity"),
        compare.means(
            kept[:, 3] - kept[:, 2],
            exact[3] - exact[2],
            at=[999],
            what="change from generation 99 to 999",
        ),
        compare.equal(
            exact[-1],
            limit,
            1e-3,
            "generations beyond 999",
            at=[999],
            what="closed form by its limit",
        ),
    ]


@entry(
    "sub-unbiased",
    claim="With the unbiased variance the same subsampling has no plateau: the mean variance grows "
    "like the M-th root of the generation.",
    status="derived here",
    setting="1-D, ddof=1, M = 4, generations 0 to 99, 20,000 chains",
    oracle="theory.gaussian.expected_variance; each round u multiplies it by 1 + (u - 3) / (u (u M "
    "- 1)).",
    y="variance",
)
def unbiased(key):
    at, flow = np.array([0, 1, 4, 19, 99]), {"ddof": 1, "workflow": "accumulate_subsample"}
    trace = gaussian(key, cj.workflows.accumulate_subsample(), 4, at, ddof=1, chains=20_000)
    return [
        compare.means(
            trace["variance"],
            theory.gaussian.expected_variance(at, 4, **flow),
            at=at,
            what="variance",
        ),
        compare.means(
            trace["mean"] ** 2,
            theory.gaussian.expected_squared_mean_error(at, 4, **flow),
            at=at,
            what="squared mean",
        ),
    ]


@entry(
    "sameness-i2",
    claim="Replacing the data, with M i^2 points at the i-th fit, keeps exactly as much as "
    "accumulating all data with M points per fit.",
    status="derived here",
    setting="six categories and N(0, 1), M = 10, generations 0 to 19, 50,000 and 100,000 chains",
    oracle="theory.ancestry.retention with the schedule M i^2 equals its accumulate: both are the "
    "product of 1 - 1/(i^2 M)",
    y="diversity kept",
)
def sameness(key):
    at, kept = (
        np.array([0, 1, 4, 19]),
        theory.ancestry.retention(np.array([0, 1, 4, 19]), 10, workflow="accumulate"),
    )
    scheduled = theory.ancestry.retention(at, 10 * np.arange(1, 21) ** 2)

    def size(generation):
        return 10 * (generation + 1) ** 2

    return [
        compare.means(
            heterozygosity(key, cj.workflows.replace(), size, at),
            kept,
            at=at,
            what="heterozygosity, M i^2",
        ),
        compare.means(
            gaussian(key, cj.workflows.replace(), size, at)["variance"],
            kept,
            at=at,
            what="variance, M i^2",
        ),
        compare.equal(scheduled, kept, 1e-12, "float64", at=at, what="closed forms"),
    ]


@entry(
    "schedule-growth",
    claim="If sample sizes grow linearly, the collapse of a Gaussian only slows; if they grow "
    "with the square, it stops.",
    status="derived here",
    setting="1-D, ddof=1, replace, M_i = 10 i and 10 i^2, generations 0 to 99, 100,000 chains",
    oracle="theory.wasserstein.expected_squared_wasserstein2 and "
    "theory.gaussian.expected_log_variance with schedules: sums of 1/M_i; Shumailov et al. 2024 "
    "ask for faster than linear growth",
    y="squared Wasserstein distance",
    log="x",
)
def growth(key):
    at, found = np.array([0, 1, 9, 99]), []
    for power, name in ((1, "10 i"), (2, "10 i^2")):
        size = lambda generation, power=power: 10 * (generation + 1) ** power  # noqa: E731
        trace = gaussian(
            key,
            cj.workflows.replace(),
            size,
            at,
            ddof=1,
            metrics=("squared_wasserstein2", "log_variance"),
        )
        sizes = size(np.arange(100))
        distance = theory.wasserstein.expected_squared_wasserstein2(at, sizes, ddof=1)
        log_variance = theory.gaussian.expected_log_variance(at, sizes, ddof=1)
        found.append(
            compare.means(
                trace["squared_wasserstein2"], distance, at=at, what=f"squared distance, M = {name}"
            )
        )
        found.append(
            compare.means(
                trace["log_variance"], log_variance, at=at, what=f"log variance, M = {name}"
            )
        )
    return found
