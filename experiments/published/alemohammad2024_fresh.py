"""Alemohammad et al. 2024 (MAD), the loop with fresh real data.

M points per generation, each real with probability g = m/M.
"""

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("2307.01850", "Alemohammad et al. 2024", "Self-Consuming Generative Models Go MAD")
LAW = np.array([0.5, 0.3, 0.15, 0.05])


def one_case_after_another(
    key, estimator, real, cases, generations, chains, metric="variance", record=None
):
    """A metric [case, chain, generation] of `cases` (M, g), in one program for all of them.

    Each case begins anew with real data alone.
    """
    sizes, shares = (jnp.array(part) for part in zip(*cases, strict=True))
    length = generations + 1

    def next_set(key, generation, supply, n):
        share = jnp.where((generation + 1) % length == 0, 1.0, shares[(generation + 1) // length])
        return generation + 1, cj.workflows.mix(1 - share, 0.0, share).next(key, (), supply, n)[1]

    workflow = cj.Workflow("mix, case by case", lambda supply, data: jnp.zeros((), int), next_set)
    process = cj.generational_process(
        estimator, real, workflow, sample_size=lambda generation: sizes[generation // length]
    )
    wanted = np.add.outer(
        length * np.arange(len(cases)), [generations] if record is None else record
    ).ravel()
    trace = cj.simulate(
        process,
        key,
        generations=int(wanted[-1]),
        chains=chains,
        metrics=(metric,),
        record=wanted.tolist(),
    )
    found = trace[metric][:, np.searchsorted(trace.generations, wanted)].astype(np.float64)
    return np.moveaxis(found.reshape(chains, len(cases), -1), 1, 0)


def gaussian(key, cases, generations, chains, ddof=0, record=None):
    real = cj.sources.normal([0.0], [[1.0]])
    return one_case_after_another(
        key, cj.estimators.gaussian(1, ddof=ddof), real, cases, generations, chains, record=record
    )


def retention(generation, size, share, random_counts=True):
    mixture = {
        "workflow": "mix",
        "alpha": 1 - share,
        "beta": 0.0,
        "gamma": share,
        "random_counts": random_counts,
    }
    return theory.ancestry.retention(generation, size, **mixture)


@entry(
    "mix-fresh-discrete",
    claim="Fresh real data keeps the diversity of a categorical model at a level that one "
    "recursion of shared ancestry gives exactly.",
    status="derived here",
    setting="4 categories, M = 50 with 2% or 10% real and M = 20 with 5%, generations 0 to 100, "
    "40,000 chains",
    oracle="(1 - 1/M) G / (1 - (1 - 1/M)(1 - g)^2) in the limit, G = 1 - (1 - g)^2, and before "
    "the limit: theory.ancestry.retention",
    y="retained heterozygosity",
)
def discrete(key):
    at, cases = np.array([0, 5, 20, 100]), ((50, 0.02), (50, 0.1), (20, 0.05))
    family, real = cj.estimators.categorical(4), cj.sources.categorical(LAW)
    found = one_case_after_another(key, family, real, cases, 100, 40_000, "heterozygosity", at) / (
        1 - np.sum(LAW**2)
    )
    named = zip(found, cases, strict=True)
    return [
        compare.means(
            kept, retention(at, *case), at=at, what="retention, M = {}, g = {}".format(*case)
        )
        for kept, case in named
    ]


@entry(
    "mix-fresh-gauss",
    claim="A Gaussian fitted by maximum likelihood keeps the same share of its variance as a "
    "categorical model keeps of its heterozygosity.",
    status="derived here",
    setting="1-D Gaussian, ddof = 0, M = 50 with 2% or 10% real and M = 20 with 5%, generations 0 "
    "to 100, 50,000 chains",
    oracle="theory.ancestry.retention",
    y="variance",
)
def gauss(key):
    at, cases = np.array([0, 5, 20, 100]), ((50, 0.02), (50, 0.1), (20, 0.05))
    named = zip(gaussian(key, cases, 100, 50_000, record=at), cases, strict=True)
    return [
        compare.means(
            kept, retention(at, *case), at=at, what="variance, M = {}, g = {}".format(*case)
        )
        for kept, case in named
    ]


@entry(
    "mix-fresh-rule",
    claim="One fresh real point per generation keeps two thirds of the variance, ten keep 95%: "
    "2m/(1 + 2m).",
    status="derived here",
    setting="1-D Gaussian, ddof = 0, M = 100, m = 1 and 10 real points per generation on "
    "average, generation 300, 100,000 chains",
    oracle="2m/(1 + 2m), the limit of theory.gaussian.fresh_real_limit for large M",
    x="real points a generation",
    y="variance",
)
def rule(key):
    real = np.array([1, 10])
    found = gaussian(key, [(100, m / 100) for m in real], 300, 100_000)[..., 0].T
    exact = [theory.gaussian.fresh_real_limit(100, m / 100, ddof=0)[0] for m in real]
    return [
        compare.means(found, exact, at=real, what="variance, exact"),
        compare.means(
            found,
            2 * real / (1 + 2 * real),
            at=real,
            what="variance, rule",
            tolerance=0.004,
            why="the rule is for M to infinity",
        ),
    ]


@entry(
    "mix-fresh-count",
    claim="The number of fresh real points per generation matters, not their share: two of 20, "
    "of 50 or of 200 keep the same variance.",
    status="derived here",
    setting="1-D Gaussian, ddof = 0, m = 2 of M = 20, 50, 200 points (shares 10%, 4%, 1%), "
    "generation 200, 50,000 chains",
    oracle="theory.ancestry.retention; 2m/(1 + 2m) = 0.8 to within 1/M",
    x="M",
    y="variance",
    log="x",
)
def count(key):
    sizes = np.array([20, 50, 200])
    found = gaussian(key, [(int(size), 2 / size) for size in sizes], 200, 50_000)[..., 0].T
    exact = [float(retention(200, int(size), 2 / size)) for size in sizes]
    return [
        compare.means(found, exact, at=sizes, what="variance, two real points"),
        compare.means(
            found,
            0.8,
            at=sizes,
            what="variance, rule",
            tolerance=1 / sizes,
            why="the rule is for M to infinity",
        ),
    ]


@entry(
    "mix-fresh-ddof1",
    claim="With the unbiased variance, fresh real data has a threshold: if M g (2 - g) < 1 - g, "
    "the mean variance grows for ever although the typical model does not change; above "
    "the threshold the mean settles.",
    status="derived here",
    setting="1-D Gaussian, ddof = 1, M = 50, threshold at g = 0.00985; g = 0.1 to generation 80, "
    "g = 0.004 to generation 25 (rare runs determine later means), 200,000 chains",
    oracle="theory.gaussian.fresh_real_limit (1.105 at g = 0.1), "
    "theory.gaussian.expected_variance, theory.gaussian.second_moment_boundary",
    y="variance",
)
def ddof1(key):
    at, below = np.array([0, 5, 10, 15, 20, 25, 80]), 0.004
    settled, growing = gaussian(key, [(50, 0.1), (50, below)], 80, 200_000, ddof=1, record=at)
    limit, _ = theory.gaussian.fresh_real_limit(50, 0.1, ddof=1)
    exact = theory.gaussian.expected_variance(
        at, 50, ddof=1, workflow="mix", alpha=1 - below, beta=0.0, gamma=below
    )
    border, typical = theory.gaussian.second_moment_boundary(50), (growing < 1).astype(float)
    return [
        compare.equal(
            50 * border * (2 - border),
            1 - border,
            1e-12,
            "a root",
            at=["border"],
            what="M g (2 - g) = 1 - g at the border",
        ),
        compare.means(settled[:, -1:], limit, at=[80], what="variance above the border, g = 0.1"),
        compare.means(
            growing[:, :-1], exact[:-1], at=at[:-1], what=f"variance below it, g = {below:g}"
        ),
        compare.exceeds(
            typical[:, 1:], 0.5, at=at[1:], what="share of chains below the real variance"
        ),
    ]


@entry(
    "mix-counts",
    claim="A random number of real points in each generation and a fixed number with the same "
    "mean differ: the fixed number keeps more diversity.",
    status="derived here",
    setting="1-D Gaussian, ddof = 0, M = 10 with 1 real point, on average or always, generations 0 "
    "to 40, 400,000 chains",
    oracle="theory.ancestry.retention with and without random_counts",
    y="variance",
)
def counts(key):
    at, kept, laws = np.array([0, 1, 3, 10, 40]), {}, {}
    for random in (True, False):
        workflow = cj.workflows.mix(0.9, 0.0, 0.1, random_counts=random)
        process = cj.generational_process(
            cj.estimators.gaussian(1, ddof=0),
            cj.sources.normal([0.0], [[1.0]]),
            workflow,
            sample_size=10,
        )
        options = {
            "generations": 40,
            "chains": 400_000,
            "metrics": ("variance",),
            "record": at.tolist(),
        }
        kept[random] = cj.simulate(process, jax.random.fold_in(key, random), **options)[
            "variance"
        ].astype(np.float64)
        laws[random] = retention(at, 10, 0.1, random)
    return [
        compare.means(kept[True], laws[True], at=at, what="variance, binomial counts"),
        compare.means(kept[False], laws[False], at=at, what="variance, fixed counts"),
        compare.refuted(
            compare.means(
                kept[False][:, 3:],
                laws[True][3:],
                at=at[3:],
                what="variance, fixed counts by the other law",
            )
        ),
    ]
