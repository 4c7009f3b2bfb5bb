"""Verifiers that are fitted to what they accept, and detectors that are trained during the run."""

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "Derived here: verifiers", "Verifiers that are fitted to what they let pass")


def centre(state):
    """The centre [] of a verifier that is the outermost curation."""
    return state.carry[1]["centre"][0]


def mean(state):
    """The mean [] of the model."""
    return state.params.mean[0]


@entry(
    "ver-drift",
    claim="A verifier that is refitted to the points it accepts follows the model: its error "
    "grows for ever, at a rate set by the refitted share. A fixed verifier keeps its bias.",
    status="derived here",
    setting="1-D Gaussian of known variance 1, M = 20, width 1, first centre 0.5 away from the "
    "real mean; none, 10% and all of the centre refitted; generations 0 to 60, 10,000 "
    "chains",
    oracle="a closed recursion for both moments of mean and centre: "
    "theory.drifting_verifier.centre_moments",
    y="mean or its square",
)
def drift(key):
    at, family = np.array([0, 1, 5, 20, 60]), cj.estimators.gaussian_mean([[1.0]])
    real = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0]))
    out = []
    for one, refresh in zip(jax.random.split(key, 3), (0.0, 0.1, 1.0), strict=True):
        verifier = cj.verifiers.centred(1.0, centre=0.5, refresh=refresh)
        process = cj.generational_process(
            family, real, verifier(cj.workflows.replace()), sample_size=20
        )
        trace = cj.simulate(
            process, one, generations=60, chains=10_000, metrics=(mean, centre), record=at.tolist()
        )
        first, second = theory.drifting_verifier.centre_moments(at, 20, 1.0, refresh, bias=0.5)
        values = trace["mean"].astype(np.float64)
        words = f"refresh {refresh}"
        out += [
            compare.means(values, first[:, 0], at=at, what=f"mean, {words}"),
            compare.means(values**2, second[:, 0, 0], at=at, what=f"squared error, {words}"),
        ]
        if refresh > 0:
            found = trace["centre"][:, 1:].astype(np.float64)
            out.append(compare.means(found, first[1:, 1], at=at[1:], what=f"centre, {words}"))
    return out


@entry(
    "ver-width",
    claim="A verifier whose width is refitted too removes the same share of the variance in "
    "every generation, so collapse is geometric for any number of points.",
    status="derived here",
    setting="1-D Gaussian, ddof = 1, M = 50, width of 2 standard deviations, fully refitted; "
    "generations 0 to 30, 10,000 chains",
    oracle="theory.drifting_verifier.refitted_width_log_variance",
    y="log variance",
)
def width(key):
    at = np.array([0, 1, 3, 10, 30])
    process = cj.generational_process(
        cj.estimators.gaussian(1, ddof=1),
        cj.sources.normal([0.0], [[1.0]]),
        cj.verifiers.centred(2.0, scaled=True)(cj.workflows.replace()),
        sample_size=50,
    )
    trace = cj.simulate(
        process, key, generations=30, chains=10_000, metrics="log_variance", record=at.tolist()
    )
    exact = theory.drifting_verifier.refitted_width_log_variance(at, 50, 2.0)
    return compare.means(trace["log_variance"].astype(np.float64), exact, at=at)


def shares(key, state, real, made):
    """P(real | x) [2] of zeros and ones: the shares of the real among the points seen."""

    def counts(data):
        return jnp.stack([jnp.sum(data.weight * (data.x == value)) for value in (0, 1)])

    known, all_seen = counts(real), counts(real) + counts(made)
    return jnp.where(all_seen > 0, known / jnp.where(all_seen > 0, all_seen, 1), 0.5)


@entry(
    "ver-detector",
    claim="A detector that is trained in each generation on M real and M synthetic points "
    "removes the rarer of two categories: its mean share falls from 0.3 to 0.08. Without a "
    "detector it stays 0.3.",
    status="derived here",
    setting="Bernoulli, p = 0.3, M = 12, fresh real points for the detector alone, generations 1, "
    "4 and 20, 20,000 chains",
    oracle="the exact chain: theory.drifting_verifier.detected_count_distribution",
    x="ones among 12",
    y="share of chains",
)
def detector(key):
    size, p, at = 12, 0.3, [1, 4, 20]
    family = cj.estimators.bernoulli()
    trained = cj.verifiers.trained(
        lambda state: cj.curation.verified(lambda x: state[x]), shares, start=jnp.full(2, 0.5)
    )
    process = cj.generational_process(
        family,
        cj.sources.population(family, cj.estimators.bernoulli_params(p)),
        trained(cj.workflows.replace()),
        sample_size=size,
    )
    trace = cj.simulate(
        process, key, generations=at[-1], chains=20_000, metrics=("mean",), record=at
    )
    ones, counts = np.rint(trace["mean"][:, 1:] * size).astype(int), np.arange(size + 1)
    laws = [theory.drifting_verifier.detected_count_distribution(g, size, p) for g in at]
    return [
        *(
            compare.counts(
                np.bincount(ones[:, i], minlength=size + 1),
                laws[i],
                at=counts,
                what=f"law of the count, generation {g}",
            )
            for i, g in enumerate(at)
        ),
        compare.exceeds(
            1 - ones[:, 2] / size, 1 - p, at=["generation 20"], what="zeros beyond the real share"
        ),
    ]
