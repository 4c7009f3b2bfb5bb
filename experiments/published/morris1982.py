"""Morris 1982: families whose variance is a quadratic function of the mean.

Refitted to their own draws, their chains have closed forms.
"""

import types

import numpy as np
from scipy import stats

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Morris 1982", "Natural Exponential Families with Quadratic Variance Functions")


def chain(key, name, parameter, size, generations, chains, metrics, record=1, workflow=None):
    """Trace of a one-parameter family from the model with this parameter on."""
    family, params = (
        getattr(cj.estimators, name)(),
        getattr(cj.estimators, f"{name}_params")(parameter),
    )
    process = cj.generational_process(
        family,
        cj.sources.population(family, params),
        workflow or cj.workflows.replace(),
        sample_size=size,
    )
    return cj.simulate(
        process, key, generations=generations, chains=chains, metrics=metrics, record=record
    )


def log_mean_law(generation, size):
    """cdf and ppf of the log mean of an exponential of mean 1 after generation + 1 samplings."""
    law = theory.log_chi.LogChiSquareSum(np.full(generation + 1, 2.0 * size))
    center = theory.exponential_families.exponential_expected_log_mean(generation, size)
    return types.SimpleNamespace(
        cdf=lambda x: law.cdf(x - center), ppf=lambda p: center + law.quantile(np.asarray(p))
    )


@entry(
    "exp-mle",
    claim="An exponential keeps its mean on average and collapses nevertheless: its log mean "
    "falls by ln M - psi(M) per sampling.",
    status="derived here",
    setting="M = 20, generations 0 to 99 (moments to 9), 50,000 chains",
    oracle="products of Gamma(M)/M: theory.exponential_families.exponential_expected_log_mean, "
    "exponential_second_moment, exact distribution",
    y="log mean",
)
def exponential(key):
    trace = chain(key, "exponential", 1.0, 20, 99, 50_000, ("log_mean",), (0, 4, 9, 49, 99))
    at, log_mean = trace.generations, trace["log_mean"].astype(float)
    early = np.exp(log_mean[:, :3])
    exact = theory.exponential_families
    return [
        compare.means(
            log_mean, exact.exponential_expected_log_mean(at, 20), at=at, what="log mean"
        ),
        compare.distribution(
            log_mean[:, -1], log_mean_law(99, 20), what="law of the log mean, generation 99"
        ),
        compare.means(early, np.ones(3), at=at[:3], what="mean"),
        compare.means(
            early**2,
            exact.exponential_second_moment(at[:3], 20),
            at=at[:3],
            what="mean squared, (1 + 1/M)^t",
        ),
    ]


@entry(
    "pareto-mle",
    claim="A Pareto tail gets lighter for ever: the shape grows by M / (M - 1) per sampling, its "
    "logarithm by ln M - psi(M).",
    status="derived here",
    setting="minimum 1, shape 3, M = 20, generations 0 to 99 (mean shape to 9), 50,000 chains",
    oracle="theory.exponential_families.pareto_expected_shape and exponential_expected_log_mean "
    "with mean 1/shape",
    y="log shape",
)
def pareto(key):
    trace = chain(key, "pareto", 3.0, 20, 99, 50_000, ("log_shape",), (0, 4, 9, 49, 99))
    at, log_shape = trace.generations, trace["log_shape"].astype(float)
    exact = theory.exponential_families
    law = log_mean_law(99, 20)
    return [
        compare.means(
            log_shape,
            -exact.exponential_expected_log_mean(at, 20, mean=1 / 3),
            at=at,
            what="log shape",
        ),
        compare.distribution(
            np.log(3) - log_shape[:, -1], law, what="law of -log(shape / 3), generation 99"
        ),
        compare.means(
            np.exp(log_shape[:, :3]),
            exact.pareto_expected_shape(at[:3], 20, shape=3.0),
            at=at[:3],
            what="shape",
        ),
    ]


@entry(
    "unif-max",
    claim="If the largest point is the upper end, its logarithm falls by 1/M per sampling; if "
    "all data is kept, the first fit stays for ever.",
    status="derived here",
    setting="[0, 1], M = 20, generations 0 to 50, 50,000 chains",
    oracle="M times the log lost is Gamma(t): "
    "theory.exponential_families.uniform_expected_log_maximum, uniform_expected_power",
    y="log maximum",
)
def uniform(key):
    trace = chain(key, "uniform", 1.0, 20, 50, 50_000, ("log_maximum",), (0, 4, 9, 24, 50))
    at, log_maximum = trace.generations, trace["log_maximum"].astype(float)
    kept = chain(
        key, "uniform", 1.0, 20, 50, 1_000, ("log_maximum",), (0, 50), cj.workflows.accumulate()
    )["log_maximum"]
    exact = theory.exponential_families
    return [
        compare.means(
            log_maximum, exact.uniform_expected_log_maximum(at, 20), at=at, what="log maximum"
        ),
        compare.means(
            np.exp(log_maximum),
            exact.uniform_expected_power(at, 20),
            at=at,
            what="maximum, (M / (M + 1))^t",
        ),
        compare.distribution(
            -20 * log_maximum[:, -1], stats.gamma(51), what="law of -M log maximum, generation 50"
        ),
        compare.equal(
            np.abs(kept[:, 1] - kept[:, 0]).max(),
            0.0,
            0.0,
            "the largest point is real",
            at=["accumulate"],
            what="change",
        ),
    ]


@entry(
    "unif-mix",
    claim="With a tenth of fresh real data the upper end settles just below the real one; its "
    "distribution is exact in every generation.",
    status="derived here",
    setting="[0, 1], M = 20, mix(0.9, 0, 0.1), generations 0, 3 and 12, 50,000 chains",
    oracle="quadrature over the distribution of the last maximum: "
    "theory.exponential_families.uniform_mixed_maximum_cdf",
    x="maximum",
    y="probability to be below",
)
def uniform_mix(key):
    trace = chain(
        key,
        "uniform",
        1.0,
        20,
        12,
        50_000,
        ("maximum",),
        (0, 3, 12),
        cj.workflows.mix(0.9, 0.0, 0.1),
    )
    at = np.array([0.7, 0.8, 0.9, 0.95, 0.98])
    found = []
    for i, generation in enumerate(trace.generations):
        exact = theory.exponential_families.uniform_mixed_maximum_cdf(at, generation, 20, 0.1)
        below = trace["maximum"][:, i, None] <= at
        error = below.std(0) / np.sqrt(len(below)) + 1e-5
        why = "error of the quadrature"
        found.append(
            compare.estimates(
                below.mean(0),
                error,
                exact,
                at=at,
                what=f"law, generation {generation}",
                tolerance=2e-4,
                why=why,
            )
        )
    return found


@entry(
    "gauss-mean",
    claim="With known variance nothing shrinks, and the mean is a random walk: its variance is t "
    "sigma^2 / M after t samplings.",
    status="published formula",
    setting="sigma = 1, M = 20, generations 0 to 99, 50,000 chains; 10% fresh real data bound it",
    oracle="theory.known_variance.expected_squared_mean_error and the normal distribution",
    y="squared error of the mean",
    log="y",
)
def gaussian_mean(key):
    def means(workflow):
        real = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0]))
        process = cj.generational_process(family, real, workflow, sample_size=20)
        return cj.simulate(
            process, key, generations=99, chains=50_000, metrics=("mean",), record=at
        )["mean"]

    family, at = cj.estimators.gaussian_mean(), np.array([0, 4, 9, 49, 99])
    free, held = means(cj.workflows.replace()), means(cj.workflows.mix(0.9, 0.0, 0.1))
    exact = theory.known_variance.expected_squared_mean_error
    mixed = {"workflow": "mix", "alpha": 0.9, "gamma": 0.1}
    return [
        compare.means(free**2, exact(at, 20), at=at, what="squared error of the mean, replace"),
        compare.distribution(
            free[:, -1],
            stats.norm(0, np.sqrt(exact(99, 20))),
            what="law of the mean, generation 99",
        ),
        compare.means(
            held**2, exact(at, 20, **mixed), at=at, what="squared error of the mean, mix 10%"
        ),
        compare.means(
            held[:, -1:] ** 2,
            theory.known_variance.fresh_real_limit(20, 0.1),
            at=[99],
            what="its limit, mix 10%",
        ),
    ]


@entry(
    "poisson-extinction",
    claim="The rate of a Poisson model refitted to its own draws reaches 0: the sum of the "
    "sample is a branching process with one child on average.",
    status="derived here",
    setting="rate 0.5, M = 10, generations 0 to 100, 50,000 chains",
    oracle="composed generating functions: "
    "theory.exponential_families.poisson_absorption_probability, poisson_sum_distribution",
    y="probability that the rate is 0",
)
def poisson(key):
    trace = chain(
        key, "poisson", 0.5, 10, 100, 50_000, ("rate", "absorbed"), (0, 1, 3, 10, 30, 100)
    )
    at, exact = trace.generations, theory.exponential_families
    dead = exact.poisson_absorption_probability(at, 10, 0.5)
    sums = np.rint(10 * trace["rate"][:, 3]).astype(int)
    return [
        compare.proportions(trace["absorbed"].sum(0), 50_000, dead, at=at, what="rate 0"),
        compare.counts(
            np.bincount(sums, minlength=400)[:400],
            exact.poisson_sum_distribution(10, 10, 0.5, 399),
            what="sum of ten, generation 10",
        ),
        compare.means(trace["rate"][:, :4], 0.5, at=at[:4], what="mean rate"),
    ]


@entry(
    "bernoulli-law",
    claim="Refitted coin flips: the exact distribution of the number of ones, absorbed at 0 or M "
    "without real data, spread out with real data.",
    status="published formula",
    setting="p = .3, M = 30, generation 20, replace and mix with 5% fresh real data, 100,000 "
    "chains",
    oracle="powers of the matrix Binomial(M, (1 - gamma) i/M + gamma p): "
    "theory.exponential_families.bernoulli_sum_distribution",
    x="ones",
    y="share of chains",
)
def bernoulli(key):
    found = []
    for name, workflow, gamma in (
        ("replace", cj.workflows.replace(), 0.0),
        ("mix", cj.workflows.mix(0.95, 0.0, 0.05), 0.05),
    ):
        mean = chain(key, "bernoulli", 0.3, 30, 20, 100_000, ("mean",), (20,), workflow)["mean"][
            :, -1
        ]
        law = theory.exponential_families.bernoulli_sum_distribution(
            20, 30, 0.3, workflow=name, gamma=gamma
        )
        found.append(
            compare.counts(
                np.bincount(np.rint(30 * mean).astype(int), minlength=31),
                law,
                what=f"ones of 30, {name}",
            )
        )
    return found


@entry(
    "nef-mix",
    claim="One recursion gives the error of the fitted mean for every quadratic variance function, "
    "in workflows that keep data.",
    status="derived here",
    setting="M = 10, generation 10, 40,000 chains: Poisson (accumulate), exponential (mix 20% "
    "real, 30% kept), Bernoulli (subsampled)",
    oracle="theory.exponential_families.expected_squared_mean_error",
    y="squared error of the mean",
)
def quadratic_families(key):
    shares = {"alpha": 0.5, "beta": 0.3, "gamma": 0.2}
    cases = {
        "poisson": (0.8, cj.workflows.accumulate(), {"workflow": "accumulate"}),
        "exponential": (2.0, cj.workflows.mix(**shares), {"workflow": "mix", **shares}),
        "bernoulli": (
            0.3,
            cj.workflows.accumulate_subsample(),
            {"workflow": "accumulate_subsample"},
        ),
    }
    found, at, exact = [], np.array([0, 2, 10]), theory.exponential_families
    for name, (mean, workflow, options) in cases.items():
        fitted = chain(key, name, mean, 10, 10, 40_000, ("mean",), at, workflow)["mean"].astype(
            float
        )
        error = exact.expected_squared_mean_error(at, 10, mean, exact.QUADRATICS[name], **options)
        found.append(
            compare.means(
                (fitted - mean) ** 2,
                error,
                at=at,
                what=f"squared error, {name}, {options['workflow']}",
            )
        )
    return found
