"""Shumailov et al. 2024, "learning with generational data".

The chain P_{i+1} = alpha F(P_i) + beta P_i + gamma P_0. F(P) is the model fitted to M draws of P.
As written, distributions are mixed, so that all M draws are new. "Proportions of data" can also
mean that points of the previous training set are used again, which is the workflow `mix` and gives
another process.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2305.17493",
    "Shumailov et al. 2024",
    "AI models collapse when trained on recursively generated data",
)
SIX = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
DIVERSITY = 1 - np.sum(SIX**2)
# alpha, beta, gamma, and the sampling steps after which they are looked at.
SETTINGS = (
    ((1, 0, 0), 20),
    ((0.5, 0.5, 0), 80),
    ((0.9, 0, 0.1), 50),
    ((0.98, 0, 0.02), 150),
    ((0.5, 0.48, 0.02), 150),
)


def heterozygosity(key, family, workflow, steps, chains=5_000, size=50):
    """1 - sum p^2 [chain, 2] of generation 0 and after `steps` samplings."""
    process = cj.generational_process(
        family, cj.sources.categorical(SIX), workflow, sample_size=size
    )
    trace = cj.simulate(
        process,
        key,
        generations=steps - 1,
        chains=chains,
        metrics=("heterozygosity",),
        record=[steps - 1],
    )
    return trace["heterozygosity"].astype(float)


def mixed_laws(alpha, beta, gamma):
    """Frequencies whose model of generation g is P_{g+1}: each fit moves only a part of the way."""
    family = cj.estimators.categorical(len(SIX))
    real = cj.estimators.categorical_params(SIX)

    def fit(key, params, data):
        found, info = family.fit(key, params, data)
        return real._replace(
            weights=alpha * found.probabilities + beta * params.weights + gamma * real.weights
        ), info

    # No category may be left out for good: gamma brings it back.
    return family._replace(init=lambda key, data: real, fit=fit)


class Mixture(NamedTuple):
    """P = kept N(0, 1) + sum of weight N(mean, scale^2), the newest component first.

    kept: []; the others [slots].
    """

    kept: jax.Array
    weight: jax.Array
    mean: jax.Array
    scale: jax.Array


def mixed_gaussians(alpha, beta, gamma, slots=40):
    """A Gaussian fit by maximum likelihood in the same chain: the model of generation g is P_{g+1}.

    Its oldest parts are forgotten.
    """

    def init(key, data):
        return Mixture(jnp.asarray(1.0), *jnp.zeros((2, slots)), jnp.ones(slots))

    def fit(key, params, data):
        mean = jnp.average(data.x)
        new = alpha, mean, jnp.sqrt(jnp.average((data.x - mean) ** 2))
        old = beta * params.weight, params.mean, params.scale
        parts = (
            jnp.concatenate([jnp.array([first]), rest[:-1]])
            for first, rest in zip(new, old, strict=True)
        )
        return Mixture(beta * params.kept + gamma, *parts), cj.FitInfo.exact()

    def sample(key, params, n):
        part_key, key = jax.random.split(key)
        bounds = jnp.cumsum(jnp.append(params.weight, params.kept))
        part = jnp.searchsorted(
            bounds, bounds[-1] * jax.random.uniform(part_key, (n,)), side="right"
        )
        mean, scale = jnp.append(params.mean, 0.0), jnp.append(params.scale, 1.0)
        return mean[part] + scale[part] * jax.random.normal(key, (n,))

    def mean(params):
        return params.weight @ params.mean

    def variance(params):
        return params.kept + params.weight @ (params.mean**2 + params.scale**2) - mean(params) ** 2

    return cj.estimator(fit, sample, init=init, metrics={"mean": mean, "variance": variance})


@entry(
    "shum-abg",
    claim="The chain loses diversity by alpha^2/M per step and regains some by gamma: without "
    "gamma it collapses, with it a plateau remains.",
    status="derived here",
    setting="(alpha, beta, gamma, steps): (1, 0, 0, 20), (.5, .5, 0, 80), (.9, 0, .1, 50), (.98, "
    "0, .02, 150), (.5, .48, .02, 150); six categories, M = 20, 10,000 chains",
    oracle="H' = (1-gamma)^2 H + (1-(1-gamma)^2) H_0 - alpha^2 H/M: "
    "theory.ancestry.mixture_of_distributions_heterozygosity",
    x="alpha, beta, gamma",
    y="heterozygosity",
)
def frequencies(key):
    names, ours, exact = [], [], []
    for own, ((alpha, beta, gamma), steps) in zip(
        jax.random.split(key, len(SETTINGS)), SETTINGS, strict=True
    ):
        shares = {"alpha": alpha, "beta": beta, "gamma": gamma}
        names.append(f"{alpha:g}, {beta:g}, {gamma:g}")
        ours.append(
            heterozygosity(own, mixed_laws(**shares), cj.workflows.replace(), steps, 10_000, 20)[
                :, -1
            ]
        )
        exact.append(
            DIVERSITY
            * theory.ancestry.mixture_of_distributions_heterozygosity(steps - 1, 20, **shares)
        )
    return compare.means(
        np.stack(ours, axis=1),
        np.array(exact),
        at=names,
        what="heterozygosity of P after all steps",
    )


@entry(
    "shum-abg-gauss",
    claim="In the same chain Gaussian fits (ddof = 0) keep exactly the share of the variance "
    "that frequencies keep of their diversity.",
    status="derived here",
    setting="(alpha, beta, gamma, steps): (.5, .5, 0, 20), (.9, 0, .1, 20), (.5, .48, .02, 20); d "
    "= 1, M = 10, 20,000 chains",
    oracle="theory.distribution_mixture.expected_moments(ddof=0), of P",
    x="alpha, beta, gamma",
    y="variance, squared mean",
)
def gaussians(key):
    names, found, exact = [], [], []
    settings = (((0.5, 0.5, 0), 20), ((0.9, 0, 0.1), 20), ((0.5, 0.48, 0.02), 20))
    for own, ((alpha, beta, gamma), steps) in zip(
        jax.random.split(key, len(settings)), settings, strict=True
    ):
        shares = {"alpha": alpha, "beta": beta, "gamma": gamma}
        family, truth = (
            mixed_gaussians(**shares),
            cj.Source(lambda key, n: jax.random.normal(key, (n,))),
        )
        process = cj.generational_process(family, truth, cj.workflows.replace(), sample_size=10)
        trace = cj.simulate(
            process,
            own,
            generations=steps - 1,
            chains=20_000,
            metrics=("mean", "variance"),
            record=[steps - 1],
        )
        names.append(f"{alpha:g}, {beta:g}, {gamma:g}")
        found.append(
            np.stack([trace["variance"][:, -1], trace["mean"][:, -1].astype(float) ** 2], axis=1)
        )
        exact.append(theory.distribution_mixture.expected_moments(steps - 1, 10, ddof=0, **shares))
    found, exact = np.stack(found, axis=2), np.array(exact)
    return [
        compare.means(found[:, part], exact[:, part], at=names, what=f"{name} of P after all steps")
        for part, name in enumerate(("variance", "squared mean"))
    ]


@entry(
    "shum-abg-decay",
    claim="If half of the data comes from the old source instead of the newest model, the "
    "collapse is four times slower.",
    status="derived here",
    setting="six categories, M = 20, 120 steps, 10,000 chains; alpha = beta = 1/2 of "
    "distributions or of data sets",
    oracle="rate alpha^2/M for distributions: "
    "theory.ancestry.mixture_of_distributions_heterozygosity; alpha (1 + beta)/M for data "
    "sets: theory.ancestry.retention(workflow='mix'); 1/M for alpha = 1",
    x="steps",
    y="heterozygosity",
    differs="Four is right for the paper's formula, which mixes distributions and draws all "
    "points again. Its words are about proportions of data: if half of the old points "
    "are used again, a pair that is copied together never parts, and the collapse is "
    "only 4/3 times slower.",
)
def decay(key):
    (laws_key, data_key), size, steps = jax.random.split(key), 20, np.array([1, 120])
    half = {"alpha": 0.5, "beta": 0.5, "gamma": 0.0}
    laws = heterozygosity(laws_key, mixed_laws(**half), cj.workflows.replace(), 120, 10_000, size)
    again = heterozygosity(
        data_key, cj.estimators.categorical(len(SIX)), cj.workflows.mix(**half), 120, 10_000, size
    )
    of_laws = DIVERSITY * theory.ancestry.mixture_of_distributions_heterozygosity(
        steps - 1, size, **half
    )
    of_data = DIVERSITY * theory.ancestry.retention(steps - 1, size, workflow="mix", **half)
    return (
        compare.means(laws, of_laws, at=steps, what="half and half, laws"),
        compare.means(again, of_data, at=steps, what="half and half, points used again"),
        compare.refuted(
            compare.means(
                again[:, -1],
                of_laws[-1],
                at=120,
                what="half and half, points used again, by the laws' rate",
            )
        ),
    )


@entry(
    "shum-abg-literal",
    claim="With alpha = gamma = 0, as the text sets for its theory, nothing is ever learned or "
    "lost. The results of the text are those of alpha = 1.",
    status="derived here",
    setting="six categories, M = 50, 100 steps, 2,000 chains",
    oracle="P_{i+1} = P_i for beta = 1; theory.categorical.expected_heterozygosity for alpha = 1",
    x="steps",
    y="heterozygosity",
    differs="The text takes alpha = gamma = 0, so beta = 1, and says that only data of a single "
    "step are used. By its formula P then stays P_0 (or the data set stays the first "
    "one). The collapse that it proves next is that of alpha = 1, beta = gamma = 0.",
)
def literal(key):
    laws_key, data_key = jax.random.split(key)
    laws = heterozygosity(laws_key, mixed_laws(0.0, 1.0, 0.0), cj.workflows.replace(), 100, 2_000)
    data = heterozygosity(
        data_key, cj.estimators.categorical(len(SIX)), cj.workflows.mix(0.0, 1.0, 0.0), 100, 2_000
    )
    exact = theory.categorical.expected_heterozygosity([0, 99], 50, SIX)
    return (
        compare.equal(
            [laws.min(), laws.max()],
            DIVERSITY,
            1e-6,
            "float32",
            at=["least", "most"],
            what="laws, beta = 1",
        ),
        compare.equal(
            np.abs(data[:, 1] - data[:, 0]).max(),
            0.0,
            0.0,
            "",
            at=100,
            what="change of any chain, data sets, beta = 1",
        ),
        compare.means(data, exact[0], at=[1, 100], what="data sets, beta = 1"),
        compare.refuted(
            compare.means(
                data[:, 1], exact[1], at=100, what="the collapse that is proved, beta = 1"
            )
        ),
    )
