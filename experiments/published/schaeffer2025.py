"""Schaeffer et al. 2025: eight definitions of model collapse, each on processes with known answers.

One entry per definition, with a process that meets it and one that does not, by plain formulas of
recorded numbers. If two definitions disagree about a process, the entry says so.
"""

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry
from collapse_jax.random.bits import split

PAPER = Paper(
    "2503.03150", "Schaeffer et al. 2025", "Position: Model Collapse Does Not Mean What You Think"
)


def simulated(key, family, source, flow, size, at, chains, metrics):
    process = cj.generational_process(family, source, flow, sample_size=size)
    return cj.simulate(
        process, key, generations=int(at[-1]), chains=chains, metrics=metrics, record=at
    )


def squared_errors(key, flow, size, at, chains):
    """Squared error of the mean [chain, at] of a Gaussian of known variance 1: twice its KL."""
    family = cj.estimators.gaussian_mean([[1.0]])
    real = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0]))
    trace = simulated(key, family, real, flow, size, at, chains, ("mean",))
    return trace["mean"].astype(float) ** 2


def slope(larger, smaller, unit, exact, *, what, at):
    """The slope of the logarithm of two means of the same chains, by its linear error."""
    ends = larger.mean(), smaller.mean()
    errors = larger / ends[0] - smaller / ends[1]
    error = errors.std(ddof=1) / np.sqrt(len(errors)) / unit
    ours = np.log(ends[0] / ends[1]) / unit
    rule = f"log of two means of {len(errors):,}"
    return compare.estimates([ours], [error], [exact], at=[at], what=what, rule=rule)


@entry(
    "def-catastrophic",
    claim="Catastrophic increase of the test loss: with discarded data least squares is worse "
    "than no model from generation 7 on; with kept data it never is.",
    status="derived here",
    setting="d = 5, M = 30, noise 1, |w|^2 = 1.56, which is the error of w = 0; fresh features, "
    "generations 0 to 12, 4,000 chains",
    oracle="theory.regression.expected_test_error: (g + 1) 5/24 exceeds 1.56 first at g = 7; "
    "accumulate stays below pi^2/6 times the first",
    y="squared distance of the weights",
)
def catastrophic(key):
    at, weights = np.arange(13), np.sqrt(1.56 / 5) * np.ones(5)
    family = cj.estimators.linear_regression(5)
    real = cj.sources.population(family, cj.estimators.regression_params(weights))
    flows = cj.workflows.replace(), cj.workflows.accumulate()
    thrown, kept = (
        simulated(one, family, real, flow, 30, at, 4_000, "squared_distance")[
            "squared_distance"
        ].astype(float)
        for one, flow in zip(split(key), flows, strict=True)
    )
    worse = thrown.mean(0) > 1.56
    return [
        compare.means(
            thrown, theory.regression.expected_test_error(at, 30, 5), at=at, what="thrown away"
        ),
        compare.equal(
            [np.argmax(worse), worse.sum()],
            [7, 6],
            0,
            "whole numbers",
            at=["first", "how many"],
            what="generations worse than no model",
        ),
        compare.at_most(
            kept, np.full(13, np.pi**2 / 6 * 5 / 24), at=at, what="kept, at most pi^2/6"
        ),
    ]


@entry(
    "def-any-increase",
    claim="Any increase of the test loss: if all data is kept, every generation meets this "
    "definition, though the loss is bounded. With 80% real data in every batch the loss "
    "falls instead.",
    status="derived here",
    setting="Gaussian of known variance, M = 10, accumulate without and with real share 0.8, "
    "generations 0, 1, 3 and 20, 50,000 chains",
    oracle="sum of 1/(i^2 M): theory.known_variance; theory.real_batches, rounded counts; the loss "
    "is half of the squared error",
    y="squared error",
)
def any_increase(key):
    at, keys = np.array([0, 1, 3, 20]), split(key)
    alone = squared_errors(keys[0], cj.workflows.accumulate(), 10, at, 50_000)
    flow = cj.workflows.accumulate(0.8, random_counts=False)
    helped = squared_errors(keys[1], flow, 10, at, 50_000)
    exact = theory.known_variance.expected_squared_mean_error(at, 10, workflow="accumulate")
    mixed = theory.real_batches.expected_squared_mean_error(
        at, 10, 0.0, (1.0, 0.0, 0.0), real_share=0.8, random_counts=False
    )
    return [
        compare.means(alone, exact, at=at, what="no real data"),
        compare.means(helped, mixed, at=at, what="80% real"),
        compare.exceeds(alone[:, 1:] - alone[:, :1], 0.0, at=at[1:], what="increase, no real data"),
        compare.exceeds(helped[:, :1] - helped[:, 1:], 0.0, at=at[1:], what="decrease, 80% real"),
    ]


@entry(
    "def-divergence",
    claim="A diverging test loss: with discarded data it doubles whenever the generations do, "
    "for ever. If all data is kept, or M points are drawn from all, its slope on log axes goes "
    "to 0.",
    status="derived here",
    setting="Gaussian of known variance, M = 10, replace, accumulate, accumulate_subsample, "
    "generations 24 and 49, 20,000 chains, of the last 4,000",
    oracle="theory.known_variance: slopes on log axes 1, .017 and .038, in the limit 1, 0 and 0",
    y="squared error",
)
def divergence(key):
    at, out = np.array([24, 49]), []
    names = "replace", "accumulate", "accumulate_subsample"
    for name, own in zip(names, split(key, 3), strict=True):
        chains = 4_000 if name == names[-1] else 20_000
        errors = squared_errors(own, getattr(cj.workflows, name)(), 10, at, chains)[:, -2:]
        exact = theory.known_variance.expected_squared_mean_error(at, 10, workflow=name)
        out.append(compare.means(errors, exact, at=at, what=f"squared error, {name}"))
        found = slope(
            errors[:, 1],
            errors[:, 0],
            np.log(2),
            np.log2(exact[1] / exact[0]),
            what=name,
            at="slope",
        )
        out.append(found._replace(what=f"slope, {name}"))
    return out


@entry(
    "def-variance",
    claim="Collapsing variance depends on the statistic: with ddof = 1 the mean variance stays 1 "
    "while the median falls. That of a kernel density estimate grows, though almost no "
    "ancestors are left.",
    status="derived here",
    setting="1-D, M = 20, replace; Gaussian to generation 60, 20,000 chains, and kernels of h = "
    "0.5 to generation 40, 4,000 chains",
    oracle="theory.gaussian.log_variance_quantile; expected variance 1, to generation 10; "
    "theory.kernel_density.expected_variance; theory.lineages.expected_living_ancestors",
    y="variance, or its logarithm",
)
def variance(key):
    keys, at, real = split(key, 3), np.array([0, 10, 60]), cj.sources.normal([0.0], [[1.0]])
    family, flow = cj.estimators.gaussian(1, ddof=1), cj.workflows.replace()
    gaussian = simulated(keys[0], family, real, flow, 20, at, 20_000, ("variance", "log_variance"))
    kernels, later = cj.estimators.kde(1, 0.5), np.array([0, 5, 40])
    wide = simulated(keys[1], kernels, real, flow, 20, later, 4_000, ("variance",))["variance"]
    process = cj.generational_process(kernels, real, flow, sample_size=20)
    lineages = cj.genealogy_of(
        process, keys[2], generations=40, chains=2_000, metrics="living_ancestors", record=later
    )
    medians = [float(theory.gaussian.log_variance_quantile(0.5, int(g), 20, ddof=1)) for g in at]
    return [
        compare.means(gaussian["variance"][:, :2], [1.0, 1.0], at=at[:2], what="Gaussian, mean"),
        compare.medians(gaussian["log_variance"], medians, at=at, what="Gaussian, median log"),
        compare.means(
            wide,
            theory.kernel_density.expected_variance(later, 20, bandwidth=0.5),
            at=later,
            what="kernels, mean",
        ),
        compare.means(
            lineages["living_ancestors"],
            theory.lineages.expected_living_ancestors(later, 20),
            at=later,
            what="kernels, living ancestors of 20",
        ),
    ]


@entry(
    "def-scaling",
    claim="A change of the scaling law: after twenty generations the loss is 21 times as large "
    "and the exponent in M still -1. With ten real points in each set of M, the loss no "
    "longer falls with M.",
    status="derived here",
    setting="Gaussian of known variance, M = 100 and 1,600; replace at generation 20, and mix with "
    "10 real points (rounded) at generation 1,200; 20,000 chains",
    oracle="theory.known_variance.expected_squared_mean_error; with m real points 1/(2m) for large "
    "M, exponent -0.01 between these",
    x="points a generation",
    y="squared error",
    log="xy",
)
def scaling(key):
    sizes, out = np.array([100, 1_600]), []
    keys = split(key, 4)
    for place, (name, last) in enumerate({"replace": 20, "mix": 1_200}.items()):
        errors, exact = [], []
        for size, own in zip(sizes, keys[2 * place : 2 * place + 2], strict=True):
            shares = (1 - 10 / size, 0.0, 10 / size)
            named = dict(zip(("alpha", "beta", "gamma"), shares, strict=True))
            is_mix = name == "mix"
            flow = cj.workflows.mix(*shares, random_counts=False) if is_mix else None
            flow = flow or cj.workflows.replace()
            errors.append(squared_errors(own, flow, int(size), np.array([last]), 20_000)[:, -1])
            options = named | {"random_counts": False} if is_mix else {}
            exact.append(
                theory.known_variance.expected_squared_mean_error(
                    last, int(size), workflow=name, **options
                )
            )
        out.append(compare.means(np.stack(errors, 1), exact, at=sizes, what=f"error, {name}"))
        ends = np.array([one.mean() for one in errors])
        noise = [one.std(ddof=1) / one.mean() / np.sqrt(len(one)) for one in errors]
        unit = np.log(sizes[1] / sizes[0])
        out.append(
            compare.estimates(
                [np.log(ends[1] / ends[0]) / unit],
                [np.hypot(*noise) / unit],
                [np.log(exact[1] / exact[0]) / unit],
                at=["exponent"],
                what=f"exponent, {name}",
                rule="log of two means of 20,000",
            )
        )
    return out


def modes_left(state):
    """Which of eight modes, 100 apart, have a training point: their number."""
    data = state.params.data
    nearest = jnp.round(data.x[:, 0] / 100).astype(int)
    held = jnp.sum((nearest[:, None] == jnp.arange(8)) * data.weight[:, None], 0) > 0
    return jnp.sum(held)


@entry(
    "def-modes",
    claim="Disappearing modes: a kernel density estimate loses whole modes of eight, as "
    "categories are lost, while the variance within each grows. If all data is kept, it "
    "loses no mode that it has seen.",
    status="derived here",
    setting="eight modes of equal mass and standard deviation 1, 100 apart, kernels of h = 0.5, "
    "M = 50, generations 0 to 100 (replace) and 30 (accumulate), 2,000 chains",
    oracle="categories are copied with their points: theory.lineages.expected_support; kept: 8 (1 "
    "- (7/8)^50) for ever",
    y="modes left",
)
def modes(key):
    def sample(key, n):
        place, spread = jax.random.split(key)
        mode = jax.random.randint(place, (n, 1), 0, 8)
        return 100.0 * mode + jax.random.normal(spread, (n, 1))

    out, family, real = [], cj.estimators.kde(1, 0.5), cj.Source(sample)
    for name, last, own in zip(("replace", "accumulate"), (100, 30), split(key), strict=True):
        at = np.array([0, 5, last])
        flow = getattr(cj.workflows, name)()
        found = simulated(own, family, real, flow, 50, at, 2_000, (modes_left,))["modes_left"]
        law = np.full(8, 1 / 8)
        exact = theory.lineages.expected_support(at if name == "replace" else 0 * at, 50, law)
        out.append(compare.means(found, exact, at=at, what=name))
    return out


@entry(
    "def-tails",
    claim="Disappearing tails: the tail keeps its mass on average, but fewer and fewer of its "
    "outcomes are left. If all data is kept, the outcomes of the first sample stay.",
    status="derived here",
    setting="one outcome of probability .8 and 100 of .002, M = 100, generations 0, 5 and 50, "
    "4,000 chains",
    oracle="theory.lineages.loss_probability; the mass is a martingale; kept: 100 (1 - .998^100) "
    "for ever",
    y="outcomes of the tail, or mass",
)
def tails(key):
    at, out = np.array([0, 5, 50]), []
    real = np.array([0.8, *np.full(100, 0.002)])
    for name, own in zip(("replace", "accumulate"), split(key), strict=True):
        flow = getattr(cj.workflows, name)()
        family, source = cj.estimators.categorical(101), cj.sources.categorical(real)
        tail = simulated(own, family, source, flow, 100, at, 4_000, "probabilities")[
            "probabilities"
        ][:, :, 1:]
        lost = theory.lineages.loss_probability(at if name == "replace" else 0 * at, 100, 0.002)
        kinds = np.sum(tail > 0, -1)
        out += [
            compare.means(kinds, 100 * (1 - lost), at=at, what=f"outcomes, {name}"),
            compare.means(tail.astype(float).sum(-1), np.full(3, 0.2), at=at, what=f"mass, {name}"),
        ]
    return out


def mass_outside(state):
    """The mass [] that kernels of deviation 0.05 put outside [0, 1]."""
    data = state.params.data
    x = data.x[:, 0]
    outside = jax.scipy.stats.norm.cdf(-x / 0.05) + jax.scipy.stats.norm.cdf((x - 1) / 0.05)
    return jnp.sum(outside * data.weight) / jnp.sum(data.weight)


@entry(
    "def-hallucination",
    claim="Mass outside the real support: kernel density estimates of a uniform distribution "
    "leak more and more, with the square root of the generations, and more slowly if all "
    "data is kept. A fitted range never does.",
    status="derived here",
    setting="uniform on [0, 1], kernels of h = 0.05, M = 10, replace and accumulate, generations 0 "
    "to 40, 4,000 chains; the uniform family the same",
    oracle="a draw is a real point and g + 1 kernels: theory.kernel_support.expected_mass_outside",
    y="mass outside [0, 1]",
)
def hallucination(key):
    at, out, keys = np.array([0, 1, 10, 40]), [], split(key, 3)
    real = cj.Source(lambda key, n: jax.random.uniform(key, (n, 1)))
    for name, own in zip(("replace", "accumulate"), keys, strict=False):
        flow, family = getattr(cj.workflows, name)(), cj.estimators.kde(1, 0.05)
        found = simulated(own, family, real, flow, 10, at, 4_000, (mass_outside,))
        exact = theory.kernel_support.expected_mass_outside(at, 0.05, workflow=name)
        out.append(compare.means(found["mass_outside"], exact, at=at, what=f"kernels, {name}"))
    family = cj.estimators.uniform()
    source = cj.sources.population(family, cj.estimators.uniform_params(1.0))
    flow = cj.workflows.replace()
    trace = simulated(keys[2], family, source, flow, 10, at, 4_000, ("maximum",))
    outside = np.maximum(trace["maximum"] - 1, 0).max(0)
    why = "a rounding of float32"
    return [*out, compare.equal(outside, np.zeros(4), 1e-6, why, at=at, what="fitted range")]
