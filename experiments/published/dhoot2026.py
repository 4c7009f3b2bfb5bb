"""The notes of a public repository on anchoring a loop with fresh real data.

github.com/Bhavya-Dhoot/Model_collapse, notes/theory_notes.md.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Dhoot 2026 (repository Model_collapse)", "Theory notes: the anchoring threshold")
SIZE, SHARE = 20, 0.2


def variances(key, at, chains):
    """Variance [chain, at] of a Gaussian of ddof = 0 with 4 fresh real points among 20."""
    process = cj.generational_process(
        cj.estimators.gaussian(1, ddof=0),
        cj.sources.normal([0.0], [[1.0]]),
        cj.workflows.mix(1 - SHARE, 0.0, SHARE, random_counts=False),
        sample_size=SIZE,
    )
    trace = cj.simulate(
        process, key, generations=int(at[-1]), chains=chains, metrics=("variance",), record=at
    )
    return trace["variance"].astype(float)


def kept(generation, size, real):
    return theory.ancestry.retention(
        generation,
        size,
        workflow="mix",
        alpha=1 - real / size,
        gamma=real / size,
        random_counts=False,
    )


@entry(
    "dhoot-anchor",
    claim="If a share a of n points is real and fresh, a Gaussian loses 1/D of its variance, D = "
    "1 - a + a n (2 - a): 51, 10 or 5 of 1,000 points keep 99, 95 or 90%.",
    status="published formula",
    setting="1-D Gaussian, ddof = 0, n = 20 of which 4 are real (D = 8), generations 0, 1, 3 and "
    "40, 50,000 chains; thresholds by the recursion at n = 1,000",
    oracle="theory.ancestry.retention with rounded counts; 1 - 1/D and the thresholds 5.1%, 0.96%, "
    "0.45% are the notes'",
    y="variance",
)
def anchor(key):
    at = np.array([0, 1, 3, 40])
    found = variances(key, at, 50_000)
    least = [
        next(m for m in range(1, 100) if kept(3_000, 1_000, m) >= share)
        for share in (0.99, 0.95, 0.9)
    ]
    return [
        compare.means(found, kept(at, SIZE, 4), at=at, what="variance"),
        compare.means(found[:, -1], 1 - 1 / 8, at=["1 - 1/D"], what="plateau"),
        compare.equal(
            least,
            np.ceil([50.8, 9.55, 4.51]),
            0,
            "whole points",
            at=["99%", "95%", "90%"],
            what="real points of 1,000 that keep",
        ),
    ]


@entry(
    "dhoot-rate",
    claim="The distance to that plateau falls by a factor of 1 - a per generation.",
    status="published formula",
    setting="1-D Gaussian, ddof 0, n = 20 of which 4 are real, generations 0 to 2, 100,000 chains",
    oracle="derived here: v = Var[mean] obeys v' = 1/n + (1 - a)(1 - a - 1/n) v, so the factor is "
    "0.6 at a = 0.2; 1 - a = 0.8 is the notes'",
    y="factor a generation",
    disagrees="the factor of the squared mean and of the variance is (1 - a)(1 - a - 1/n), about "
    "(1 - a)^2; 1 - a is the factor of a bias, which a loop that begins with real data "
    "does not have",
)
def rate(key):
    at, plateau = np.array([0, 1, 2]), 1 - 1 / 8
    beyond = variances(key, at, 100_000) - plateau
    ends, out = beyond.mean(0), []
    for g in (0, 1):
        apart = beyond[:, g + 1] / ends[g + 1] - beyond[:, g] / ends[g]
        ratio = ends[g + 1] / ends[g]
        error = abs(ratio) * apart.std(ddof=1) / np.sqrt(len(apart))
        out.append((ratio, error))
    ratios, errors = np.array(out).T
    own = theory.schedules.relaxation_factor(SIZE, SHARE, random_counts=False)
    rule = "ratio of two means of 100,000"
    own, theirs = (
        compare.estimates(ratios, errors, [value, value], at=[1, 2], what=what, rule=rule)
        for value, what in ((own, "(1 - a)(1 - a - 1/n)"), (1 - SHARE, "1 - a"))
    )
    return [own, compare.refuted(theirs)]
