"""Wright 1931: a gene pool that is drawn again from itself in every generation.

Refitting categories by counting is the same chain.
"""

import jax.numpy as jnp
import numpy as np
from scipy import stats

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Wright 1931", "Evolution in Mendelian Populations")
SIX = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])


def chain(key, real, size, generations, chains, metrics, record=1, smoothing=0.0):
    """Trace of a categorical model that replaces its data, from the real probabilities [K] on."""
    family = cj.estimators.categorical(len(real), smoothing=smoothing)
    process = cj.generational_process(
        family, cj.sources.categorical(real), cj.workflows.replace(), sample_size=size
    )
    return cj.simulate(
        process, key, generations=generations, chains=chains, metrics=metrics, record=record
    )


def samplings_until_one_is_left(absorbed):
    """[chains]: the first generation that has a single category, plus one.

    absorbed: [chains, generations].
    """
    return 1 + np.sum(absorbed == 0, axis=1)


@entry(
    "wf-H",
    claim="Every sampling removes 1/M of the heterozygosity on average, for any probabilities.",
    status="published formula",
    setting="six categories, M = 10, generations 0 to 40, 50,000 chains; two equal ones, M = "
    "100,000, generations 0 to 100, 80,000 chains",
    oracle="(1 - 1/M)^t H_0 after t samplings: theory.categorical.expected_heterozygosity",
    y="heterozygosity",
    log="y",
)
def heterozygosity(key):
    small = chain(key, SIX, 10, 40, 50_000, ("heterozygosity",), (0, 1, 4, 9, 19, 40))
    # What is lost at M = 10^5 is a thousandth of the whole: two equal categories lose nothing to
    # first order, so it stands out.
    large = chain(key, [0.5, 0.5], 100_000, 100, 80_000, ("squared_distance",), (0, 9, 100))
    exact = theory.categorical.expected_heterozygosity
    lost = 0.5 - exact(large.generations, 100_000, [0.5, 0.5])
    return [
        compare.means(
            small["heterozygosity"],
            exact(small.generations, 10, SIX),
            at=small.generations,
            what="H, M = 10",
        ),
        compare.means(
            large["squared_distance"], lost, at=large.generations, what="H lost, M = 100,000"
        ),
    ]


@entry(
    "wf-law",
    claim="The counts of a category follow powers of the binomial matrix, also for one of several "
    "categories.",
    status="published formula",
    setting="probabilities .5 .3 .2, M = 20 (200,000 chains) and M = 1,000 (100,000), the second "
    "category",
    oracle="rows Binomial(M, j/M): theory.categorical.count_distribution",
    x="count",
    y="share of chains",
)
def law_of_counts(key):
    real = [0.5, 0.3, 0.2]

    def checked(size, at, chains):
        shares = chain(key, real, size, at[-1], chains, ("probabilities",), at)["probabilities"][
            ..., 1
        ]
        found = np.rint(size * shares[:, np.isin([0, *at[1:]], at)]).astype(int)
        laws = theory.categorical.count_distribution(np.array(at), size, real[1])
        return [
            compare.counts(
                np.bincount(found[:, i], minlength=size + 1),
                laws[i],
                what=f"counts of {size}, generation {generation}",
            )
            for i, generation in enumerate(at)
        ]

    return checked(20, [0, 3, 15], 200_000) + checked(1_000, [0, 3, 15], 100_000)


@entry(
    "wf-fix2",
    claim="Two equal categories: one is left after 136.60 samplings of 100 on average; the "
    "diffusion formula says 138.63.",
    status="published formula",
    setting="p = .5; M = 20, 100,000 chains; M = 100, 20,000 chains",
    oracle="1 + row of (I - Q)^-1 1, Q the binomial matrix among 1 .. M - 1: "
    "theory.absorption.expected_samplings_until_absorption",
    x="M",
    y="samplings until one is left",
)
def fixation_of_two(key):
    def times(size, generations, chains):
        family = cj.estimators.bernoulli()
        real = cj.sources.population(family, cj.estimators.bernoulli_params(0.5))
        process = cj.generational_process(family, real, cj.workflows.replace(), sample_size=size)
        trace = cj.simulate(
            process, key, generations=generations, chains=chains, metrics=("absorbed",)
        )
        return samplings_until_one_is_left(trace["absorbed"])

    small, large = times(20, 500, 100_000), times(100, 2_000, 20_000)
    exact = [theory.absorption.expected_samplings_until_absorption(size, 0.5) for size in (20, 100)]
    diffusion = theory.absorption.diffusion_samplings_until_fixation(20, [0.5, 0.5])
    errors = [one.std() / np.sqrt(len(one)) for one in (small, large)]
    return [
        compare.estimates(
            [small.mean(), large.mean()],
            errors,
            exact,
            at=[20, 100],
            what="samplings until one of two is left",
        ),
        compare.refuted(
            compare.means(small, diffusion, at=[20], what="-2 M [p ln p + (1 - p) ln (1 - p)]")
        ),
    ]


@entry(
    "wf-fixK",
    claim="More categories: the time until a single one is left, its mean and its distribution. "
    "On average it is less than 2 M samplings for any number of categories.",
    status="published formula",
    setting="six unequal categories and 12 equal ones, M = 20, 20,000 chains each",
    oracle="powers of the binomial matrix: theory.absorption.expected_samplings_until_fixation, "
    "absorption_probability",
    x="samplings",
    y="probability that one is left",
)
def fixation_of_many(key):
    at, found = np.array([5, 10, 20, 30, 50, 80]), []
    for name, real in {"six": SIX, "12 equal": np.full(12, 1 / 12)}.items():
        times = samplings_until_one_is_left(
            chain(key, real, 20, 500, 20_000, ("absorbed",))["absorbed"]
        )
        exact = theory.absorption.expected_samplings_until_fixation(20, real)
        done, law = (
            (times[:, None] <= at).sum(0),
            theory.absorption.absorption_probability(at - 1, 20, real),
        )
        found += [
            compare.proportions(done, len(times), law, at=at, what=f"one of {name} left"),
            compare.means(times, exact, at=["mean"], what=f"samplings until one of {name} is left"),
            compare.at_most(times, 40.0, at=["mean"], what=f"2 M, {name}"),
        ]
    return found


@entry(
    "wf-types",
    claim="The expected number of categories left, and the real probability of those that are "
    "lost, by generation.",
    status="published formula",
    setting="50 Zipf categories (exponent 1), M = 50, generations 0 to 15, 10,000 chains",
    oracle="powers of the binomial matrix: theory.categorical.expected_support, "
    "expected_missing_mass; theory.lineages.expected_support",
    y="categories",
    log="xy",
)
def types(key):
    real = theory.zipf.probabilities(50, 1.0)
    trace = chain(key, real, 50, 15, 10_000, ("support", "missing_mass"), (0, 1, 3, 7, 15))
    at = trace.generations
    return [
        compare.means(
            trace["support"],
            theory.categorical.expected_support(at, 50, real),
            at=at,
            what="categories left",
        ),
        compare.means(
            trace["support"],
            theory.lineages.expected_support(at, 50, real),
            at=at,
            what="the same by lineages",
        ),
        compare.means(
            trace["missing_mass"],
            theory.categorical.expected_missing_mass(at, 50, real),
            at=at,
            what="missing mass",
        ),
    ]


@entry(
    "wf-lineages",
    claim="Of M distinct real points about 2 M / g still have descendants at generation g. The "
    "distribution of their number is exact.",
    status="derived here",
    setting="a fixed data set of M distinct points; M = 100, 20,000 chains; M = 5,000, 200 chains; "
    "generations 0 to 12",
    oracle="occupancy chain (Kingman's coalescent in discrete time): theory.lineages",
    y="ancestors with descendants",
    log="xy",
)
def lineages(key):
    def ancestors(size, generations, chains, record):
        real = cj.sources.dataset(jnp.arange(size, dtype=jnp.int32))
        process = cj.generational_process(
            cj.estimators.categorical(size), real, cj.workflows.replace(), sample_size=size
        )
        return cj.simulate(
            process,
            key,
            generations=generations,
            chains=chains,
            metrics=("support",),
            record=record,
        )

    small, large = (
        ancestors(100, 12, 20_000, (1, 3, 6, 12)),
        ancestors(5_000, 12, 200, (1, 3, 6, 12)),
    )
    law = theory.lineages.living_ancestors_distribution(12, 100)
    last = np.bincount(small["support"][:, -1], minlength=101)[1:]

    def mean(trace, size):
        expected = theory.lineages.expected_living_ancestors(trace.generations, size)
        return compare.means(
            trace["support"], expected, at=trace.generations, what=f"living ancestors, M = {size:,}"
        )

    return [
        mean(small, 100),
        mean(large, 5_000),
        compare.counts(last, law, at=np.arange(1, 101), what="their law at generation 12, M = 100"),
    ]


@entry(
    "wf-entropy",
    claim="The expected entropy falls, and its loss is the expected divergence of the model from "
    "the real distribution.",
    status="derived here",
    setting="six categories, M = 50, generations 0 to 150, 20,000 chains",
    oracle="E of -(c/M) ln (c/M) over the exact distribution of the counts: "
    "theory.categorical.expected_entropy, expected_reverse_kl",
    y="nats",
)
def entropy(key):
    trace = chain(
        key,
        SIX,
        50,
        150,
        20_000,
        ("entropy", "kl_model_to_real", "total_variation"),
        (0, 2, 10, 30, 70, 150),
    )
    at = trace.generations
    expected = {
        "entropy": theory.categorical.expected_entropy,
        "kl_model_to_real": theory.categorical.expected_reverse_kl,
        "total_variation": theory.categorical.expected_total_variation,
    }
    names = {
        "entropy": "entropy",
        "kl_model_to_real": "KL(model || real)",
        "total_variation": "total variation",
    }
    return [
        compare.means(trace[name], exact(at, 50, SIX), at=at, what=names[name])
        for name, exact in expected.items()
    ]


@entry(
    "wf-smoothing",
    claim="Adding kappa to every count ends the collapse: heterozygosity settles above 0, but "
    "the real distribution is forgotten.",
    status="derived here",
    setting="six categories, M = 20, kappa = 0.05 and 0.5, generations 0 to 150, 40,000 chains",
    oracle="linear recursion with a fixed point (Wright-Fisher with mutation): "
    "theory.categorical.smoothed_heterozygosity",
    y="heterozygosity",
)
def smoothing(key):
    def checked(kappa):
        trace = chain(
            key, SIX, 20, 150, 40_000, ("heterozygosity",), (0, 3, 8, 30, 150), smoothing=kappa
        )
        exact = theory.categorical.smoothed_heterozygosity(trace.generations, 20, SIX, kappa)
        limit = theory.categorical.smoothed_heterozygosity_limit(20, 6, kappa)
        return [
            compare.means(
                trace["heterozygosity"], exact, at=trace.generations, what=f"H, kappa = {kappa}"
            ),
            compare.means(
                trace["heterozygosity"][:, -1],
                limit,
                at=[150],
                what=f"its fixed point, kappa = {kappa}",
            ),
        ]

    return checked(0.05) + checked(0.5)


@entry(
    "wf-beta",
    claim="With a little fresh real data a share does not settle at a number but at a "
    "distribution, Beta(2 M gamma p, 2 M gamma (1 - p)): with two new points per "
    "generation it is spread over nearly the whole range.",
    status="published formula",
    setting="Bernoulli, p = 0.3, M = 50, mix with gamma = 0.02, generation 200, 20,000 chains",
    oracle="exact: theory.interventions.mapped_count_distribution; "
    "theory.urns.beta_of_immigration, within 0.02 of it",
    x="ones among 50",
    y="share of chains",
)
def immigration(key):
    size, gamma, p, last = 50, 0.02, 0.3, 200
    family = cj.estimators.bernoulli()
    source = cj.sources.population(family, cj.estimators.bernoulli_params(p))
    flow = cj.workflows.mix(1 - gamma, 0.0, gamma)
    process = cj.generational_process(family, source, flow, sample_size=size)
    trace = cj.simulate(
        process, key, generations=last, chains=20_000, metrics=("mean",), record=[last]
    )
    ones, counts = np.rint(trace["mean"][:, -1] * size).astype(int), np.arange(size + 1)
    law = theory.interventions.mapped_count_distribution(
        last, size, p, lambda share: (1 - gamma) * share + gamma * p
    )
    beta = stats.beta(*theory.urns.beta_of_immigration(p, size, gamma))
    return [
        compare.counts(
            np.bincount(ones, minlength=size + 1), law, at=counts, what="law of the count"
        ),
        compare.equal(
            np.cumsum(law)[:-1],
            beta.cdf((counts[:-1] + 0.5) / size),
            0.02,
            "M is finite",
            at=counts[:-1],
            what="distribution function",
        ),
    ]


@entry(
    "wf-harmonic",
    claim="Sets of changing sizes lose diversity like sets of their harmonic mean: alternating "
    "sets of 10 and 1,000 are as bad as sets of 20.",
    status="published formula",
    setting="six categories, M = 10 and 1,000 in turns, replace, generations 0, 1, 9 and 29, "
    "20,000 chains",
    oracle="theory.ancestry.retention with a schedule of sizes; the harmonic mean, 19.8, is Wright "
    "1938, to first order in 1/M",
    y="heterozygosity",
)
def harmonic(key):
    at = np.array([0, 1, 9, 29])
    process = cj.generational_process(
        cj.estimators.categorical(6),
        cj.sources.categorical(SIX),
        cj.workflows.replace(),
        sample_size=lambda generation: jnp.where(generation % 2 == 0, 10, 1_000),
        largest_sample_size=1_000,
    )
    trace = cj.simulate(
        process, key, generations=29, chains=20_000, metrics=("heterozygosity",), record=at
    )
    sizes = np.where(np.arange(30) % 2 == 0, 10, 1_000)
    exact = (1 - np.sum(SIX**2)) * theory.ancestry.retention(at, sizes)
    effective = 1 / (1 - theory.ancestry.retention(29, sizes) ** (1 / 30))
    return [
        compare.means(trace["heterozygosity"], exact, at=at, what="heterozygosity"),
        compare.equal(
            effective,
            2 / (1 / 10 + 1 / 1_000),
            0.6,
            "to first order in 1/10",
            at=["effective size"],
            what="effective size",
        ),
    ]
