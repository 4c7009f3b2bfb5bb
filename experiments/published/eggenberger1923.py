"""Eggenberger and Polya 1923: an urn to which a copy of each drawn ball is added.

A pool that keeps all data and grows by one point of its own model is that urn.
"""

import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Eggenberger and Polya 1923", "Ueber die Statistik verketteter Vorgaenge")


@entry(
    "polya-urn",
    claim="Kept data is not forgotten: a pool of N real outcomes that grows by its own draws, "
    "one by one, settles at a random share with a Beta distribution.",
    status="published formula",
    setting="Bernoulli, p = 0.3, N = 10, then 90 generations of one point, accumulate, 20,000 "
    "chains",
    oracle="theory.urns.polya_distribution; variance of the limit p (1 - p) 2/(N + 1) beside the "
    "first fit's p (1 - p)/N",
    x="ones among 100",
    y="share of chains",
)
def urn(key):
    first, last, p = 10, 90, 0.3
    family = cj.estimators.bernoulli()
    process = cj.generational_process(
        family,
        cj.sources.population(family, cj.estimators.bernoulli_params(p)),
        cj.workflows.accumulate(),
        sample_size=lambda generation: jnp.where(generation == 0, first, 1),
        largest_sample_size=first,
    )
    trace = cj.simulate(
        process, key, generations=last, chains=20_000, metrics=("mean",), record=[0, last]
    )
    shares = trace["mean"].astype(float)
    ones = np.rint(shares[:, -1] * (first + last)).astype(int)
    law = theory.urns.polya_distribution(last, first, p)
    places = np.arange(len(law))
    share = law @ places / places[-1]
    spread = law @ (places / places[-1] - share) ** 2
    limit = p * (1 - p) * 2 / (first + 1)
    return [
        compare.counts(
            np.bincount(ones, minlength=len(law)), law, at=places, what="law of the ones"
        ),
        compare.means(
            (shares - p) ** 2, [p * (1 - p) / first, spread], at=[0, last], what="squared error"
        ),
        compare.equal(
            spread, limit, 0.1 * limit, "90 generations are not all", at=["limit"], what="limit"
        ),
    ]
