"""Vu et al. 2025: models that train on each other's text."""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry, out_of_reach
from collapse_jax.random.bits import split

PAPER = Paper(
    "2505.21677",
    "Vu et al. 2025",
    "What happens when generative AI models train recursively on each others' outputs?",
)

interaction = out_of_reach(
    "vu-interaction",
    claim="Trained on each other's text, models gain what their own data lacked, and become alike "
    "in what they share.",
    status="published number",
    setting="language models with different data; ours: each alone, mixed with real text and its "
    "previous training set, which is the nearest that one loop offers",
    oracle="only an ordering, from the abstract; no number was available to us",
    cost="weights",
    command="collapse-jax lm --preset fig1b --real-fraction 0.25 --beta 0.25 --out runs/vu",
)


@entry(
    "vu-linear",
    claim="Four linear models that all label each other's rows lose less than a third as fast as "
    "one that labels its own. With a tenth of real labels each settles.",
    status="derived here",
    setting="d = 3, M = 20 rows, K = 1 and 4, and K = 4 with 10% real labels, generations 0, 1, "
    "5 and 20, 4,000 chains; we had no access to the matrices of the paper",
    oracle="theory.islands.linear_model_errors; in the long run linear_model_growth: .1875 per "
    "generation for one model, .0580 for four",
    y="test error",
)
def linear(key):
    at, size, dim, out = np.array([0, 1, 5, 20]), 20, 3, []
    family = cj.estimators.linear_regression(dim)
    real = cj.sources.population(family, cj.estimators.regression_params([1.0, -0.5, 0.25]))
    couplings = {
        "one model": np.ones((1, 1)),
        "four models": np.full((4, 4), 0.25),
        "four with real labels": np.full((4, 4), 0.225),
    }
    late = np.array([100, 101, 400])
    for own, (name, coupling) in zip(split(key, 3), couplings.items(), strict=True):
        process = cj.ecosystem(family, real, coupling, size)
        trace = cj.simulate(
            process, own, generations=20, chains=4_000, metrics="squared_distance", record=at
        )
        found = trace["squared_distance"].astype(float).reshape(4_000, len(at), -1).mean(-1)
        errors = theory.islands.linear_model_errors(at, size, dim, coupling)
        exact = np.diagonal(errors, axis1=1, axis2=2).mean(1)
        out.append(compare.means(found, exact, at=at, what=name))
        far = theory.islands.linear_model_errors(late, size, dim, coupling)[:, 0, 0]
        alike = theory.islands.linear_model_growth(size, dim, len(coupling))
        growth = 0.0 if "real" in name else alike
        out.append(
            compare.equal(
                far[1] - far[0],
                growth,
                1e-6,
                "generation 100",
                at=["growth"],
                what=f"growth, {name}",
            )
        )
    return out
