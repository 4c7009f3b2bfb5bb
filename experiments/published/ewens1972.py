"""Ewens 1972: how many kinds a sample contains when new ones come in.

Fresh real data is new; the kinds are the real draws that training points descend from.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Ewens 1972", "The sampling theory of selectively neutral alleles")


@entry(
    "ewens-kinds",
    claim="With a share gamma of fresh real data a training set of M points descends from about "
    "theta log(M / theta) real draws, theta = 2 M gamma: 14 of 100 for two new points per "
    "generation.",
    status="published formula",
    setting="mix, gamma = 0.02, M = 100, generations 20, 100 and 300, 400 chains",
    oracle="exact: theory.genealogy.expected_living_ancestors; theory.urns.ewens_number_of_kinds "
    "at theta = 4: 13.5, for large M and small gamma",
    y="real draws that are left",
)
def kinds(key):
    size, gamma, at = 100, 0.02, np.array([20, 100, 300])
    trace = cj.genealogy(
        cj.workflows.mix(1 - gamma, 0.0, gamma),
        key,
        sample_size=size,
        generations=300,
        chains=400,
        record=at.tolist(),
        metrics=("living_ancestors", "identity"),
    )
    exact = theory.genealogy.expected_living_ancestors(at, size, gamma)
    pairs = theory.ancestry.pair_coalescence(at, size, workflow="mix", alpha=1 - gamma, gamma=gamma)
    formula = theory.urns.ewens_number_of_kinds(2 * size * gamma, size)
    return [
        compare.means(trace["living_ancestors"][:, 1:], exact, at=at, what="living real draws"),
        compare.means(trace["identity"][:, 1:], pairs, at=at, what="identity by descent"),
        compare.equal(
            exact[-1],
            formula,
            0.05 * formula,
            "M and 1/gamma are finite",
            at=["Ewens"],
            what="Ewens",
        ),
        compare.equal(
            pairs[-1],
            1 / (1 + 4),
            0.02,
            "M and 1/gamma are finite",
            at=["pair"],
            what="1/(1 + theta)",
        ),
    ]
