"""Shumailov et al. 2024, Theorem 3.1: a Gaussian fitted to its own draws loses its variance.

And its mean moves away for ever. Generation 0 is fitted to M real draws, so generation g is the
paper's n = g + 1. The theorem's estimators are unbiased (ddof = 1); the released code divides by M
(ddof = 0). Means of variances and distances are compared up to n = M/2: later, rarer and rarer
chains determine them.
"""

from types import SimpleNamespace

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2305.17493",
    "Shumailov et al. 2024",
    "AI models collapse when trained on recursively generated data",
)


def chains_of(
    key,
    size,
    generations,
    chains,
    metrics,
    *,
    ddof=1,
    record=1,
    source=None,
    covariance=((1.0,),),
    by="law",
):
    """A trace of Gaussians refitted to `size` of their own draws.

    source: N(0, covariance) by default.
    """
    source = cj.sources.normal(np.zeros(len(covariance)), covariance) if source is None else source
    family = cj.estimators.gaussian(len(covariance), ddof=ddof, by=by)
    process = cj.generational_process(family, source, cj.workflows.replace(), sample_size=size)
    return cj.simulate(
        process, key, generations=int(generations), chains=chains, metrics=metrics, record=record
    )


def law_of_log_variance(generation, size, ddof=1):
    """The exact law of the log variance, a sum of log chi-squares, in SciPy's form."""
    return SimpleNamespace(
        cdf=lambda x: theory.gaussian.log_variance_cdf(x, generation, size, ddof=ddof),
        ppf=lambda q: theory.gaussian.log_variance_quantile(q, generation, size, ddof=ddof),
    )


@entry(
    "shum-thm31-var",
    claim="The log variance falls by about 1/(M - 1) per generation, with the spread of a random "
    "walk, so the variance goes to 0.",
    status="published formula",
    setting="d = 1, ddof = 1; M = 10, 100, 1,000 with n = 20, 200, 100; 50,000 chains",
    oracle="variance -> 0 with probability 1 (Theorem 3.1), by E log variance = n "
    "[digamma((M-1)/2) + log(2/(M-1))]: theory.gaussian.expected_log_variance, log_variance_std",
    y="log variance",
)
def log_variance(key):
    found = []
    for size, last in ((10, 19), (100, 199), (1000, 99)):
        at = np.linspace(0, last, 5).astype(int)
        logs = chains_of(
            jax.random.fold_in(key, size), size, last, 50_000, ("log_variance",), record=at
        )["log_variance"].astype(float)
        exact = theory.gaussian.expected_log_variance(at, size, ddof=1)
        spread = theory.gaussian.log_variance_std(at, size)
        found.append(compare.means(logs, exact, at=at, what=f"log variance, M = {size}"))
        found.append(
            compare.means(
                (logs - exact) ** 2, spread**2, at=at, what=f"its variance over chains, M = {size}"
            )
        )
    return found


@entry(
    "shum-thm31-law",
    claim="After n fits the variance is a product of n independent chi-squares over M - 1, "
    "whether single points or moments are drawn.",
    status="derived here",
    setting="d = 1, ddof = 1; M = 10, n = 20 (by moments and by points); M = 100, n = 200; 20,000 "
    "chains",
    oracle="the distribution behind the proof of Theorem 3.1: theory.gaussian.log_variance_cdf",
    x="quantile",
    y="log variance",
)
def law(key):
    found = []
    for size, last, by in ((10, 19, "law"), (10, 19, "points"), (100, 199, "law")):
        own = jax.random.fold_in(key, 2 * size + (by == "points"))
        logs = chains_of(own, size, last, 20_000, ("log_variance",), record=[last], by=by)[
            "log_variance"
        ][:, -1]
        found.append(
            compare.distribution(
                logs,
                law_of_log_variance(last, size),
                what=f"log variance, M = {size}, n = {last + 1}, by {by}",
            )
        )
    return found


@entry(
    "shum-thm31-W2",
    claim="With unbiased estimators the expected squared Wasserstein-2 distance to the real "
    "distribution grows by 1/M per generation for ever.",
    status="published formula",
    setting="d = 1, ddof = 1; M = 10, n <= 5, and M = 100, n <= 50; 50,000 chains",
    oracle="E W2^2 -> infinity (Theorem 3.1), as n/M + 2 (1 - c4(M)^n): "
    "theory.wasserstein.expected_squared_wasserstein2",
    y="squared Wasserstein-2 distance",
)
def distance(key):
    found = []
    for size, at in ((10, np.arange(5)), (100, np.array([0, 4, 9, 24, 49]))):
        own = jax.random.fold_in(key, size)
        trace = chains_of(own, size, at[-1], 50_000, ("squared_wasserstein2", "mean"), record=at)
        exact = theory.wasserstein.expected_squared_wasserstein2(at, size, ddof=1)
        found.append(
            compare.means(
                trace["squared_wasserstein2"], exact, at=at, what=f"squared distance, M = {size}"
            )
        )
        found.append(
            compare.means(
                trace["mean"].astype(float) ** 2,
                (at + 1) / size,
                at=at,
                what=f"squared mean, M = {size}",
            )
        )
    return found


@entry(
    "shum-thm31-vs-code",
    claim="With the released code's variance (ddof = 0) the expected squared distance never "
    "exceeds twice the real variance.",
    status="derived here",
    setting="d = 1, M = 20, n to 20 (ddof = 0) and 10 (ddof = 1), 20,000 chains; bound: M = 10, n "
    "= 200",
    oracle="2 - 2 (sqrt(1 - 1/M) c4(M))^n <= 2: "
    "theory.wasserstein.expected_squared_wasserstein2(ddof=0)",
    y="squared Wasserstein-2 distance",
    differs="Theorem 3.1 and its proof use the unbiased variance, with which the distance "
    "diverges. The released code divides by M, with which it does not.",
)
def distance_in_code(key):
    at = np.array([0, 1, 4, 9, 19])
    keys = jax.random.split(key, 3)
    theirs = chains_of(keys[0], 20, 19, 20_000, ("squared_wasserstein2",), ddof=0, record=at)[
        "squared_wasserstein2"
    ]
    text = chains_of(keys[1], 20, 9, 20_000, ("squared_wasserstein2",), record=at[:-1])[
        "squared_wasserstein2"
    ]
    late = chains_of(
        keys[2], 10, 199, 20_000, ("squared_wasserstein2",), ddof=0, record=[49, 99, 199]
    )["squared_wasserstein2"]
    unbiased, biased = (
        theory.wasserstein.expected_squared_wasserstein2(at, 20, ddof=ddof) for ddof in (1, 0)
    )
    return (
        compare.means(theirs, biased, at=at, what="squared distance, ddof = 0"),
        compare.means(text, unbiased[:-1], at=at[:-1], what="squared distance, ddof = 1"),
        compare.at_most(
            late[:, 1:], 2.0, at=[49, 99, 199], what="squared distance, ddof = 0, M = 10, beside 2"
        ),
        compare.refuted(
            compare.means(theirs, unbiased, at=at, what="the theorem's growth, ddof = 0")
        ),
    )


@entry(
    "shum-thm31-anydist",
    claim="The real data need not be Gaussian: from generation 1 on the variance falls as if it "
    "were.",
    status="published formula",
    setting="Laplace, uniform and Student t with 5 degrees of freedom, all of variance 1; M = 20, "
    "ddof = 1, n = 21, 20,000 chains",
    oracle="Theorem 3.1, 'not necessarily Gaussian': each later fit multiplies the variance by "
    "chi^2_{M-1}/(M-1), theory.gaussian.log_variance_cdf; the first is unbiased for every "
    "distribution",
    x="quantile (means: generation)",
    y="log variance lost since generation 0",
)
def any_distribution(key):
    draws = {
        "Laplace": lambda key, n: jax.random.laplace(key, (n, 1)) / np.sqrt(2),
        "uniform": lambda key, n: jax.random.uniform(
            key, (n, 1), minval=-np.sqrt(3), maxval=np.sqrt(3)
        ),
        "Student t, 5": lambda key, n: jax.random.t(key, 5, (n, 1)) * np.sqrt(3 / 5),
    }
    found = []
    for own, (name, draw) in zip(jax.random.split(key, len(draws)), draws.items(), strict=True):
        trace = chains_of(
            own,
            20,
            20,
            20_000,
            ("log_variance", "variance", "mean"),
            record=[0, 20],
            source=cj.Source(draw),
        )
        lost = np.diff(trace["log_variance"].astype(float), axis=1)[:, 0]
        found.append(
            compare.distribution(
                lost,
                law_of_log_variance(19, 20),
                what=f"log variance lost in 20 generations, {name}",
            )
        )
        found.append(
            compare.means(trace["variance"][:, 0], 1.0, what=f"variance of generation 0, {name}")
        )
        found.append(
            compare.means(
                trace["mean"][:, 0].astype(float) ** 2,
                1 / 20,
                what=f"squared mean of generation 0, {name}",
            )
        )
    return found


@entry(
    "shum-thm31-schedule",
    claim="The sum of 1/M_i determines how far the mean moves: sample sizes that grow with the "
    "square of the generation stop it, equal ones do not.",
    status="derived here",
    setting="d = 1, ddof = 1; M_i = 10 i^2 and M_i = 10, n to 200 (equal: 5), 20,000 chains",
    oracle="E (mean error)^2 = variance sum 1/M_i (Theorem 3.1's first part; its supplement's "
    "varying sizes): theory.gaussian.expected_squared_mean_error, "
    "theory.wasserstein.expected_squared_wasserstein2 with a schedule",
    y="squared error",
    log="x",
)
def schedule(key):
    at = np.array([0, 1, 4, 19, 199])
    sizes = 10 * np.arange(1, 201) ** 2
    trace = chains_of(
        key,
        lambda g: 10 * (g + 1) ** 2,
        199,
        20_000,
        ("mean", "squared_wasserstein2", "log_variance"),
        record=at,
    )
    # No chain of the first simulation has this number.
    other = jax.random.fold_in(key, np.uint32(2**32 - 1))
    equal = chains_of(other, 10, 4, 20_000, ("mean",), record=at[:3])["mean"].astype(float)
    return (
        compare.means(
            trace["squared_wasserstein2"],
            theory.wasserstein.expected_squared_wasserstein2(at, sizes, ddof=1),
            at=at + 1,
            what="squared distance, M_i = 10 i^2",
        ),
        compare.means(
            trace["mean"].astype(float) ** 2,
            theory.gaussian.expected_squared_mean_error(at, sizes, ddof=1),
            at=at + 1,
            what="squared mean, M_i = 10 i^2",
        ),
        compare.means(
            trace["log_variance"],
            theory.gaussian.expected_log_variance(at, sizes, ddof=1),
            at=at + 1,
            what="log variance",
        ),
        compare.means(equal**2, (at[:3] + 1) / 10, at=at[:3] + 1, what="squared mean, M_i = 10"),
    )


@entry(
    "shum-dD",
    claim="In d dimensions the log-determinant also falls by a constant per generation, and the "
    "mean moves away by tr(covariance)/M.",
    status="derived here",
    setting="d = 5, ddof = 1; M = 20, n = 10 and M = 200, n = 50; covariance diag(1, 2, 3, 4, 5) "
    "and correlated; 20,000 chains",
    oracle="sum of [digamma((M-j)/2) + log(2/(M-1))] over j = 1..d (Bartlett): "
    "theory.gaussian.expected_log_variance(dim=5), log_variance_std; "
    "theory.wasserstein.expected_squared_mean_distance",
    y="log-determinant",
)
def dimensions(key):
    found, spread = [], np.diag([1.0, 2.0, 3.0, 4.0, 5.0]) + 0.3
    level, eigenvalues = np.linalg.slogdet(spread)[1], np.linalg.eigvalsh(spread)
    for size, last in ((20, 9), (200, 49)):
        at = np.array([0, last // 2, last])
        metrics = ("log_determinant", "mean", "trace")
        trace = chains_of(
            jax.random.fold_in(key, size), size, last, 20_000, metrics, record=at, covariance=spread
        )
        logs = trace["log_determinant"].astype(float)
        exact = level + 5 * theory.gaussian.expected_log_variance(at, size, ddof=1, dim=5)
        variance = (5 * theory.gaussian.log_variance_std(at, size, dim=5)) ** 2
        away = theory.wasserstein.expected_squared_mean_distance(at, size, eigenvalues, ddof=1)
        found.append(compare.means(logs, exact, at=at, what=f"log-determinant, M = {size}"))
        found.append(
            compare.means(
                (logs - exact) ** 2, variance, at=at, what=f"its variance over chains, M = {size}"
            )
        )
        found.append(
            compare.means(
                np.sum(trace["mean"].astype(float) ** 2, -1),
                away,
                at=at,
                what=f"squared mean, M = {size}",
            )
        )
    return found


@entry(
    "shum-dD-singular",
    claim="With M <= d draws the fitted covariance has rank M - 1 at once and never again more; "
    "with M = d + 1 it has full rank.",
    status="derived here",
    setting="d = 3, M = 2, 3 and 4, generations 0 and 10, 1,000 chains",
    oracle="rank of M points about their mean is min(M - 1, d) (Theorem 3.1 in several dimensions; "
    "Bartlett)",
    x="M",
    y="rank of the covariance",
)
def singular(key):
    sizes, first, last = np.arange(2, 5), [], []
    for size in sizes:
        scales = chains_of(
            jax.random.fold_in(key, size),
            int(size),
            10,
            1_000,
            ("log_scale",),
            record=[0, 10],
            covariance=np.eye(3),
        )
        rank = np.isfinite(scales["log_scale"]).sum(-1)
        first.append([rank[:, 0].min(), rank[:, 0].max()])
        last.append([rank[:, 1].min(), rank[:, 1].max()])
    exact = np.minimum(sizes - 1, 3)
    return [
        compare.equal(
            np.array(ranks)[:, side],
            exact,
            0.0,
            "",
            at=sizes,
            what=f"{name} rank over chains, generation {generation}",
        )
        for generation, ranks in ((0, first), (10, last))
        for side, name in enumerate(("smallest", "largest"))
    ]


@entry(
    "shum-mean-typical",
    claim="The expected variance stays at its initial value for ever while the typical one falls "
    "to 0: rarer and rarer chains determine the mean.",
    status="derived here",
    setting="d = 1, ddof = 1, M = 20, n to 400 (means to 10), 20,000 chains",
    oracle="E variance = 1: theory.gaussian.expected_variance; median and share above the mean: "
    "log_variance_quantile, log_variance_cdf; spread: "
    "theory.monte_carlo.relative_variance_of_variance (at n = 400 a mean to 5% needs 9e19 runs)",
    y="variance",
    log="y",
)
def mean_and_median(key):
    at = np.array([0, 4, 9, 99, 399])
    logs = chains_of(key, 20, 399, 20_000, ("log_variance",), record=at)["log_variance"].astype(
        float
    )
    early, spread = (
        np.exp(logs[:, :3]),
        theory.monte_carlo.relative_variance_of_variance(at[:3], 20),
    )
    above = 1 - theory.gaussian.log_variance_cdf(0.0, at, 20, ddof=1)
    medians = np.exp(theory.gaussian.log_variance_quantile(0.5, at, 20, ddof=1))
    return (
        compare.medians(np.exp(logs), medians, at=at, what="median variance"),
        compare.means(
            early,
            theory.gaussian.expected_variance(at[:3], 20, ddof=1),
            at=at[:3],
            what="mean variance",
        ),
        compare.means(
            (early[:, :2] - 1) ** 2, spread[:2], at=at[:2], what="variance of the variance"
        ),
        compare.proportions(
            np.sum(logs > 0, axis=0),
            len(logs),
            above,
            at=at,
            what="share of chains above the mean variance",
        ),
    )


@entry(
    "shum-fig1-hist",
    claim="Scored by the first model, the samples of most chains come to look more likely than "
    "real data, while their mean score stays the same (ddof = 0) or gets worse (ddof = 1).",
    status="derived here",
    setting="d = 1, M = 10, n to 5 (share: to 40), 100,000 chains; score: -log p_0 of the model's "
    "draws, on average",
    oracle="the Gaussian analogue of Fig. 1b, c (mass moves left, tails grow): "
    "theory.gaussian_divergence.expected_cross_entropy_under_population",
    y="-log p_0, nats",
)
def score_of_first_model(key):
    at, found = np.array([0, 1, 2, 4, 39]), []
    of_real_data = np.log(2 * np.pi * np.e) / 2
    for own, ddof in zip(jax.random.split(key), (0, 1), strict=True):
        trace = chains_of(
            own, 10, 39, 100_000, ("entropy", "kl_model_to_real"), ddof=ddof, record=at
        )
        score = trace["entropy"].astype(float) + trace["kl_model_to_real"]
        exact = theory.gaussian_divergence.expected_cross_entropy_under_population(
            at[:4], 10, ddof=ddof
        )
        share = f"share of chains that score better than real data, ddof = {ddof}"
        found.append(compare.means(score[:, :4], exact, at=at[:4], what=f"-log p_0, ddof = {ddof}"))
        found.append(compare.exceeds(score[:, -1] < of_real_data, 0.5, at=39, what=share))
    return found
