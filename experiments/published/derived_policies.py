"""When real data should be used: policies by gradient, compared with simulations."""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry
from collapse_jax.random.bits import split

PAPER = Paper("", "Derived here", "When real data should be spent")
GENERATIONS, SIZE = 20, 100


def beside_theory(key, name, policies, family, real):
    """The process of each policy beside the recursion, and its gain over the best constant one."""
    found, source = [], cj.sources.population(family, real)
    for own, (what, policy) in zip(split(key, len(policies)), policies.items(), strict=True):
        check = policy.check(own, family, source, chains=20_000)
        at = np.array([1, 5, 10, 15, GENERATIONS])
        exact = theory.spending.expected_squared_error(
            policy.real,
            policy.synthetic,
            first=SIZE,
            workflow=policy.workflow,
            v2=policy.v2,
        )
        found.append(
            compare.estimates(
                check.error[at],
                check.standard_error[at],
                exact[at],
                at=at,
                what=f"{name}, {what}",
                rule="mean of 20,000",
            )
        )
    return found


@entry(
    "policy-mix",
    claim="If a model trains only on points of its own generation, real data is best used late "
    "for the last model, and every other generation for the mean of all models.",
    status="derived here",
    setting=f"{GENERATIONS} generations of {SIZE} points, 500 of 2,000 real; mean of a Gaussian of "
    "known variance; 20,000 chains",
    oracle="theory.spending.expected_squared_error; the last model errs as 100 real points do, 1 / "
    "100, and constant spending by the fixed point",
    y="squared error over the variance",
)
def mix(key):
    options = {"real": 500, "sample_size": SIZE}
    last = cj.policy(GENERATIONS, objective="final", **options)
    turns = cj.policy(GENERATIONS, objective="mean", **options)
    family = cj.estimators.gaussian_mean()
    real = cj.estimators.gaussian_mean_params(0.0)
    found = beside_theory(key, "mix", {"last": last, "in turns": turns}, family, real)
    found.append(
        compare.equal(last.value, 1 / SIZE, 1e-12, "float64", what="error at the end, last")
    )
    spent = np.flatnonzero(turns.real >= 20)
    found.append(compare.equal(np.diff(spent), 2, 0, "", what="generations from turn to turn"))
    better = turns.constant_value > 1.06 * turns.value
    found.append(compare.equal(better, True, 0, "", what="constant spending errs 6% more"))
    return found


@entry(
    "policy-accumulate",
    claim="If all data is kept, real data is best used first: with a quarter of the points real, "
    "the error of the last model is half of that under constant spending.",
    status="derived here",
    setting=f"{GENERATIONS} generations of {SIZE} points, 500 of 2,000 real; Gaussian of ddof = 0; "
    "20,000 chains",
    oracle="theory.spending.expected_squared_error",
    y="squared error over the variance",
)
def accumulate(key):
    first = cj.policy(GENERATIONS, workflow="accumulate", real=500, sample_size=SIZE, v2=-1.0)
    family = cj.estimators.gaussian(1, ddof=0)
    real = cj.estimators.gaussian_params(0.0, 1.0)
    found = beside_theory(key, "accumulate", {"first": first}, family, real)
    found.append(
        compare.equal(
            first.real,
            np.r_[np.full(5, SIZE), np.zeros(15)],
            0,
            "",
            at=np.arange(1, GENERATIONS + 1),
            what="real points",
        )
    )
    return found
