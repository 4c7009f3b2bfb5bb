"""Karlin 1967: the words that a sample of Zipf words misses.

And those that are left when words are drawn from drawn words again and again.
"""

import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Karlin 1967", "Central Limit Theorems for Certain Infinite Urn Schemes")
EXPONENT = 1.5


def words_left(key, ranks, size, generations, chains, record=1):
    """Trace of `missing_mass` and `distinct` of infinitely many Zipf words under replace.

    All ranks beyond `ranks` share one category: which of them are drawn adds next to nothing to the
    mass that is seen, and two draws of the same one are rare (size^2 sum of their p^2 / 2, below
    0.05 in the entries here).
    """
    beyond = float(theory.zipf.tail_mass(ranks, EXPONENT))
    real = np.append(theory.zipf.probabilities(ranks, EXPONENT) * (1 - beyond), beyond)
    mass = jnp.asarray(np.append(real[:-1], 0.0))

    def missing_mass(state):
        listed = jnp.where(state.params.weights > 0, mass[state.params.categories], 0)
        return 1 - jnp.sum(listed)

    def distinct(state):
        is_rank = state.params.categories < ranks
        return jnp.sum(jnp.where(is_rank, state.params.weights > 0, state.params.weights))

    process = cj.generational_process(
        cj.estimators.categorical(ranks + 1),
        cj.sources.categorical(real),
        cj.workflows.replace(),
        sample_size=size,
    )
    metrics = (missing_mass, distinct)
    return cj.simulate(
        process, key, generations=generations, chains=chains, metrics=metrics, record=record
    )


@entry(
    "zipf-miss",
    claim="10,000 draws of Zipf words with exponent 1.5 miss 4.37% of the mass and contain 655 "
    "words. The power laws are accurate to 0.1%.",
    status="published formula",
    setting="T = 1,000 (2,000 chains) and 10,000 (500 chains) draws from infinitely many ranks",
    oracle="sum of p (1 - p)^T and of 1 - (1 - p)^T: theory.zipf.expected_missing_mass, "
    "expected_distinct, and their asymptotes",
    x="draws",
    y="missing mass",
    log="xy",
)
def missing(key):
    sizes, exact = np.array([1_000, 10_000]), theory.zipf
    traces = [
        words_left(key, ranks, size, 0, chains)
        for ranks, size, chains in ((5_000, 1_000, 2_000), (20_000, 10_000, 500))
    ]

    def beside(name, expected, what, tolerance=0.0, why=""):
        ours = [trace[name][:, 0] for trace in traces]
        errors = [one.std() / np.sqrt(len(one)) for one in ours]
        means = [one.mean(dtype=float) for one in ours]
        return compare.estimates(
            means, errors, expected, at=sizes, what=what, tolerance=tolerance, why=why
        )

    mass = np.array([exact.expected_missing_mass(size, EXPONENT) for size in sizes])
    words = np.array([exact.expected_distinct(size, EXPONENT) for size in sizes])
    limits = (
        exact.missing_mass_asymptote(sizes, EXPONENT),
        exact.distinct_asymptote(sizes, EXPONENT),
    )
    return [
        beside("missing_mass", mass, "missing mass"),
        beside(
            "distinct",
            words,
            "distinct words",
            0.05,
            "two draws of one word among the pooled ranks",
        ),
        compare.equal(
            limits[0] / mass,
            1.0,
            0.001,
            "next order",
            at=sizes,
            what="C^(1/b) Gamma(1 - 1/b) / b T^-(1 - 1/b), over exact",
        ),
        compare.equal(
            limits[1] / words,
            1.0,
            0.005,
            "next order",
            at=sizes,
            what="C^(1/b) Gamma(1 - 1/b) T^(1/b), over exact",
        ),
    ]


@entry(
    "zipf-gen",
    claim="Words drawn from drawn words: after n samplings of T words the missing mass is that "
    "of T g_n real draws, and grows like (n / 2)^(1 - 1/b).",
    status="derived here",
    setting="b = 1.5, T = 1,000, n = 1, 2, 5, 10, 20, 40 samplings, infinitely many ranks, 2,000 "
    "chains",
    oracle="g_1 = 1, g_{k+1} = 1 - e^-g_k (Suresh et al. 2024): theory.zipf.effective_sample_size; "
    "exact: theory.lineages.loss_probability",
    x="samplings",
    y="missing mass",
    log="xy",
)
def generations(key):
    n, ranks = np.array([1, 2, 5, 10, 20, 40]), 5_000
    trace = words_left(key, ranks, 1_000, 39, 2_000, n - 1)
    beyond = float(theory.zipf.tail_mass(ranks, EXPONENT))
    real = theory.zipf.probabilities(ranks, EXPONENT) * (1 - beyond)
    exact = theory.lineages.loss_probability(n - 1, 1_000, real) @ real + beyond
    branching = np.array(
        [
            theory.zipf.expected_missing_mass(size, EXPONENT)
            for size in theory.zipf.effective_sample_size(n - 1, 1_000)
        ]
    )
    growth = np.diff(np.log(trace["missing_mass"].astype(float)), axis=1) / np.diff(np.log(n))
    return [
        compare.means(trace["missing_mass"], exact, at=n, what="missing mass"),
        compare.means(
            trace["missing_mass"],
            branching,
            at=n,
            what="of T g_n draws",
            tolerance=0.001 * branching,
            why="n << T",
        ),
        compare.at_most(
            growth, np.full(5, 1 - 1 / EXPONENT), at=n[1:], what="growth in log n, at most 1 - 1/b"
        ),
    ]
