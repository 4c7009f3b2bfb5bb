"""Marchi et al. 2024: sampling at a temperature tau below 1.

With a share alpha of external (uniform) data in each generation.
"""

import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2404.02325", "Marchi et al. 2024", "Heat Death of Generative Models in Closed-Loop Learning"
)
LOOP = "p' = alpha u + (1 - alpha) p^(1/tau)/Z"


def scheduled(shares):
    """mix(1 - alpha, 0, alpha) with another alpha for each of the generations 1, 2, ..."""
    shares = jnp.asarray(shares)

    def next_set(key, done, supply, n):
        return done + 1, cj.workflows.mix(1 - shares[done], 0.0, shares[done]).next(
            key, (), supply, n
        )[1]

    return cj.Workflow("scheduled mix", lambda supply, data: jnp.zeros((), int), next_set)


def family_of(categories):
    """(estimator, uniform source)."""
    if categories == 2:
        family = cj.estimators.bernoulli()
        return family, cj.sources.population(family, cj.estimators.bernoulli_params(0.5))
    return cj.estimators.categorical(categories), cj.sources.categorical(
        np.full(categories, 1 / categories)
    )


def simulated(key, categories, tau, shares, size, chains, record):
    """Laws [chain, recorded, category] of a loop that begins at the uniform one."""
    family, real = family_of(categories)
    process = cj.generational_process(
        family, real, cj.curation.tempered(tau)(scheduled(shares)), sample_size=size
    )
    metric = "mean" if categories == 2 else "probabilities"
    law = cj.simulate(
        process, key, generations=len(shares), chains=chains, metrics=(metric,), record=record
    )[metric].astype(np.float64)
    return np.stack([1 - law, law], axis=-1) if categories == 2 else law


def around_the_border(key, categories, tau, chains):
    """What is left of a perturbation after 40 generations, beside the linearised map.

    First .005 above the border, then as far below it.
    """
    border, size = float(theory.interventions.temperature_real_share_boundary(tau)), 10**6
    shares = [border + 0.005] * 40 + [border - 0.005] * 40
    off = simulated(key, categories, tau, shares, size, chains, [40, 80]) - 1 / categories
    factors = (1 - np.array(shares)) / tau
    spread, at_forty = (categories - 1) / categories**2 / size, 0.0
    for factor in [0.0, *factors[:40]]:
        at_forty = factor**2 * at_forty + spread
    products = np.stack(
        [(off[:, 0] * off[:, 1]).mean(-1) / spread, (off[:, 1] * off[:, 2]).mean(-1) / at_forty],
        axis=1,
    )
    exact = [np.prod(factors[:40]), np.prod(factors[40:])]
    what = f"what is left, tau = {tau:g}, {categories} categories"
    return compare.means(products, exact, at=["+0.005", "-0.005"], what=what)


@entry(
    "marchi-alpha-c",
    claim="Below temperature 1 the uniform distribution is stable exactly if the share of "
    "external data is above 1 - tau: to within .005, perturbations die out above and grow "
    "below.",
    status="derived here",
    setting="2 categories at tau = 0.7 (200,000 chains), 10 at tau = 0.9 (20,000), M = 10^6, 40 "
    "generations each at alpha = 1 - tau +- .005",
    oracle="((1 - alpha)/tau)^40 = 0.751 and 1.330 (tau = 0.7), the linearised "
    + LOOP
    + ": theory.interventions.temperature_real_share_boundary; that enough external data is "
    "needed: abstract of the paper",
    x="alpha - alpha_c",
    y="share of a perturbation left",
)
def border(key):
    return [around_the_border(key, 2, 0.7, 200_000), around_the_border(key, 10, 0.9, 20_000)]


@entry(
    "marchi-pitchfork",
    claim="With two categories, crossing the threshold splits the uniform distribution into two "
    "mirror images, each reached half of the time.",
    status="derived here",
    setting="tau = 0.7; alpha = 0.2 for 300 generations, then 0.4 for 100; M = 10^8, 2,000 "
    "chains; and the exact distribution for M = 40 points at alpha = 0.2, generation 50, "
    "20,000 chains",
    oracle=LOOP
    + " iterated: theory.interventions.tempered_probabilities; M = 40: mapped_count_distribution",
    x="generation",
    y="larger probability",
)
def pitchfork(key):
    tau, shares, at, size = 0.7, [0.2] * 300 + [0.4] * 100, [300, 400], 40
    large = simulated(key, 2, tau, shares, 10**8, 2_000, at)[:, 1:]
    exact = theory.interventions.tempered_probabilities([0.6, 0.4], tau, real_shares=shares)[at, 0]
    small = simulated(key, 2, tau, [0.2] * 50, size, 20_000, [50])[:, -1, 1]

    def step(p):
        return np.array(
            [
                theory.interventions.tempered_probabilities([1 - one, one], tau, real_shares=[0.2])[
                    1, 1
                ]
                for one in p
            ]
        )

    law, counts = (
        theory.interventions.mapped_count_distribution(50, size, 0.5, step),
        np.arange(size + 1),
    )
    # The last point is 1/2 but for noise of 1e-4.
    tolerance, why = np.array([0, 5e-4]), "at the uniform law the larger of two is noise"
    return [
        compare.means(
            large.max(-1),
            exact,
            at=at,
            what="larger probability, M = 10^8",
            tolerance=tolerance,
            why=why,
        ),
        compare.proportions(
            (large[:, 0, 1] > 0.5).sum(),
            len(large),
            0.5,
            at=["second"],
            what="which of the two is larger",
        ),
        compare.counts(
            np.bincount(np.rint(small * size).astype(int), minlength=size + 1),
            law,
            at=counts,
            what="law of the count, M = 40",
        ),
    ]


@entry(
    "marchi-hysteresis",
    claim="With ten categories a collapsed state stays stable above the threshold where the "
    "uniform one is stable too: at alpha = .35 the result depends on the start. At .40 it "
    "returns to the uniform one, after hundreds of generations.",
    status="derived here",
    setting="10 categories, tau = 0.7 (border .30), alpha = .35, .10, .35, .40 for 100, 200, 200, "
    "1,000 generations, M = 10^8, 200 chains",
    oracle=LOOP + " iterated: theory.interventions.tempered_probabilities",
    x="generation",
    y="heterozygosity",
)
def hysteresis(key):
    phases = ((0.35, 100), (0.10, 200), (0.35, 200), (0.40, 200), (0.40, 800))
    values, lengths = zip(*phases, strict=True)
    shares, at = np.repeat(values, lengths), np.cumsum(lengths)
    law = simulated(key, 10, 0.7, shares, 10**8, 200, at.tolist())[:, 1:]
    start = np.full(10, 0.1) + 1e-4 * (np.arange(10) - 4.5)
    exact = theory.interventions.tempered_probabilities(start, 0.7, real_shares=shares)[at]
    found, expected = (1 - np.sum(part**2, axis=-1) for part in (law, exact))
    return [
        compare.means(
            found,
            expected,
            at=at,
            what="heterozygosity",
            tolerance=1e-6,
            why="noise of M = 10^8 points, squared",
        ),
        # Both are of the same chains: their difference, chain by chain.
        compare.exceeds(
            found[:, 0] - found[:, 2],
            0.0,
            at=at[2:3],
            what="alpha = .35, from uniform above from collapsed",
        ),
    ]
