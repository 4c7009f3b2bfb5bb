"""Kingman 1982: the ancestors of a sample, followed back in time.

Training points of a chain that replaces its data are such a sample: each is a copy of a uniformly
chosen point of the set before.
"""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Kingman 1982", "The coalescent")


@entry(
    "king-ancestor",
    claim="Under replace all M points of a training set descend from one point about 2M "
    "generations back. After M/2 generations about four of the M real draws are left.",
    status="derived here",
    setting="M = 20, generations 0 to 300, 2,000 chains",
    oracle="exact: theory.genealogy.common_ancestor_probability, "
    "theory.lineages.expected_generations_until_one_ancestor and expected_living_ancestors; the "
    "coalescent, within 7%: theory.genealogy.kingman_expected_common_ancestor_age (2M - 2)",
    y="age, ancestors or share",
)
def ancestor(key):
    size, at = 20, np.array([2, 10, 40, 300])
    trace = cj.genealogy(
        cj.workflows.replace(),
        key,
        sample_size=size,
        generations=300,
        chains=2_000,
        record=at.tolist(),
        metrics=("living_ancestors", "identity", "common_ancestor_age"),
    )
    age = trace["common_ancestor_age"][:, -1]
    ages = np.array([10, 20, 40, 80])
    exact = theory.genealogy.common_ancestor_probability(ages, size, generation=300)
    mean = theory.lineages.expected_generations_until_one_ancestor(size)
    limit = theory.genealogy.kingman_expected_common_ancestor_age(size)
    living = theory.lineages.expected_living_ancestors(at, size)
    return [
        compare.means(trace["living_ancestors"][:, 1:], living, at=at, what="living ancestors"),
        compare.means(
            trace["identity"][:, 1:],
            theory.ancestry.pair_coalescence(at, size),
            at=at,
            what="identity by descent",
        ),
        compare.means(age[:, None] <= ages, exact, at=ages, what="common ancestor by age"),
        compare.means(age, mean, at=["mean"], what="age of the common ancestor"),
        compare.means(
            age,
            limit,
            at=["Kingman"],
            what="the same by the coalescent",
            tolerance=0.07 * limit,
            why="M = 20 is finite: 3%, and the error of 2,000 chains",
        ),
    ]


@entry(
    "king-immigration",
    claim="With a share gamma of fresh real data, a share gamma (1 - gamma)^k of the newest set "
    "descends from the real data of k generations ago. This data is 1/gamma - 1 generations old on "
    "average, and almost nothing is left of generation 0.",
    status="derived here",
    setting="mix with gamma = 0.1 and alpha = 0.9, or beta = 0.3 of it, M = 20, generation 40, "
    "10,000 chains",
    oracle="gamma (1 - gamma)^k of k generations ago, whatever beta is: "
    "theory.genealogy.expected_reach; living real draws: "
    "theory.genealogy.expected_living_ancestors; theory.ancestry.pair_coalescence",
    x="generation of the real data",
    y="share of the points",
)
def immigration(key):
    size, last, gamma = 20, 40, 0.1
    shown, out = np.arange(last + 1), []
    for one, beta in zip(jax.random.split(key), (0.0, 0.3), strict=True):
        trace = cj.genealogy(
            cj.workflows.mix(1 - gamma - beta, beta, gamma),
            one,
            sample_size=size,
            generations=last,
            chains=10_000,
            record=[last],
            metrics=("living_ancestors", "identity", "reach"),
        )
        reach = theory.genealogy.expected_reach(last, workflow="mix", gamma=gamma)
        pairs = theory.ancestry.pair_coalescence(
            last, size, workflow="mix", alpha=1 - gamma - beta, beta=beta, gamma=gamma
        )
        out += [
            compare.means(trace["reach"][:, -1], reach, at=shown, what=f"reach, beta = {beta}"),
            compare.means(
                trace["identity"][:, -1], pairs, at=[last], what=f"identity, beta = {beta}"
            ),
        ]
        if beta == 0:
            living = theory.genealogy.expected_living_ancestors(last, size, gamma)
            out.append(
                compare.means(
                    trace["living_ancestors"][:, -1], living, at=[last], what="living real draws"
                )
            )
    return out
