"""A public repository on selection by likelihood in a loop with half of the data real.

github.com/muhammadalamzeb/likelihood-rank-self-consuming-diffusion: four modes, of which the
smallest is kept best if the least likely samples are taken. Its diffusion model is not run here.
"""

import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry
from collapse_jax.random.bits import split

PAPER = Paper(
    "",
    "muhammadalamzeb 2026 (repository)",
    "likelihood-rank-self-consuming-diffusion: selection by rank",
)
REAL = np.array([0.4, 0.3, 0.2, 0.1])


@entry(
    "likelihood-rank",
    claim="With half of the data real, taking the likelier of two samples reduces the mass of "
    "the smallest of four modes; taking the less likely one raises it above its real mass: "
    "bottom, random, top.",
    status="derived here",
    setting="four categories of probability .4, .3, .2, .1, half of M = 12 points real, better or "
    "worse of two by the real likelihood, generations 0, 1, 3 and 12, 5,000 chains",
    oracle="the exact chain of 455 counts: theory.selection.mapped_expected_probabilities and "
    "best_of_greatest; the order is the repository's (.572, .360, .172 for its DDPM)",
    y="mass of the smallest mode",
)
def ranks(key):
    at, size, found, out = np.array([0, 1, 3, 12]), 12, {}, []
    flow, likelihood = cj.workflows.mix(0.5, 0.0, 0.5), jnp.log(jnp.array(REAL))
    for own, (name, sign) in zip(
        split(key, 3), {"bottom": -1, "random": 0, "top": 1}.items(), strict=True
    ):
        curated, step = flow, lambda p: 0.5 * p + 0.5 * REAL
        if sign:
            best = cj.curation.best_of(
                2, lambda x, sign=sign: sign * likelihood[x], choice="greatest"
            )
            curated = best(flow)

            def step(p, sign=sign):
                return 0.5 * theory.selection.best_of_greatest(2, p, sign * REAL) + 0.5 * REAL

        process = cj.generational_process(
            cj.estimators.categorical(4), cj.sources.categorical(REAL), curated, sample_size=size
        )
        trace = cj.simulate(
            process, own, generations=12, chains=5_000, metrics="probabilities", record=at
        )
        found[name] = trace["probabilities"][:, :, 3].astype(float)
        exact = theory.selection.mapped_expected_probabilities(at, size, REAL, step)[:, 3]
        out.append(compare.means(found[name], exact, at=at, what=name))
    orders = (("bottom", "random"), ("random", "top"))
    return out + [
        compare.exceeds(found[more][:, -1], found[less][:, -1], at=[12], what=f"{more} - {less}")
        for more, less in orders
    ]
