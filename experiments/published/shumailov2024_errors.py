"""Shumailov et al. 2024, "What is model collapse?": the three sources of error one at a time.

And the limited precision of computers. `cj.infinite_sample` fits a family to densities themselves,
so that no sampling error is left.
"""

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
# Weights, means and deviations of the truth, and where a poor optimiser begins in every generation.
PAIR = ([0.6, 0.4], [-1.5, 2.0], [1.0, 0.7])
BEGIN = ([0.5, 0.5], [-0.5, 0.5], [2.0, 2.0])
ROUNDED = "float32 and the trapezoid rule"


def mixture(weights, means, deviations):
    """A mixture of Gaussians in one dimension as parameters of `cj.estimators.gmm`."""
    return cj.estimators.gmm_params(weights, np.reshape(means, (-1, 1)), np.square(deviations))


def without_sampling(key, family, truth, generations, model):
    """Weights, means, deviations [3, generation, K] of a family fitted to densities themselves."""
    family, source = cj.infinite_sample(
        family, cj.estimators.gmm(len(truth[0]), 1), mixture(*truth), low=-15.0, high=15.0
    )
    process = cj.generational_process(family, source, cj.workflows.replace(), sample_size=100)
    trace = cj.simulate(process, key, generations=generations, metrics=(model,))
    return np.moveaxis(trace[model.__name__][0].astype(float), 1, 0)


def of_gaussian(state):
    """Of a Gaussian as a mixture of one: [3, 1]."""
    return jnp.stack(
        [jnp.ones(1), jnp.stack(state.params.mean), jnp.exp(jnp.stack(state.params.log_scale))]
    )


def of_mixture(state):
    """Of a mixture with spherical components: [3, K]."""
    return jnp.stack([state.params.weights, state.params.means[:, 0], state.params.factors])


@entry(
    "shum-err-statistical",
    claim="Sampling error alone grows from generation to generation, more slowly for larger "
    "samples, and is zero for infinite ones.",
    status="published formula",
    setting="N(0, 1) fitted by a Gaussian (ddof = 0), M = 20, 100 and 1,000, generations 0 to 4, "
    "20,000 chains; and M infinite",
    oracle="'disappears as the number of samples tends to infinity': "
    "theory.gaussian_divergence.expected_forward_kl, 0 without sampling",
    y="KL(truth || model), nats",
    log="y",
)
def statistical(key):
    at, found = np.array([0, 1, 2, 4]), []
    for size in (20, 100, 1000):
        family, truth = cj.estimators.gaussian(1, ddof=0), cj.sources.normal([0.0], [[1.0]])
        process = cj.generational_process(family, truth, cj.workflows.replace(), sample_size=size)
        own = jax.random.fold_in(key, size)
        lost = cj.simulate(
            process, own, generations=4, chains=20_000, metrics=("kl_real_to_model",), record=at
        )["kl_real_to_model"]
        found.append(
            compare.means(
                lost,
                theory.gaussian_divergence.expected_forward_kl(at, size, ddof=0),
                at=at,
                what=f"KL, M = {size}",
            )
        )
    same = ([1.0], [0.5], [2.0])
    model = without_sampling(key, cj.estimators.gaussian(1, ddof=0), same, 4, of_gaussian)
    found.append(
        compare.equal(
            theory.mixture_projection.kl(same, tuple(model))[at],
            0.0,
            1e-6,
            ROUNDED,
            at=at,
            what="KL, M infinite",
        )
    )
    return [
        *found,
        compare.equal(model[2, at, 0], 2.0, 1e-5, ROUNDED, at=at, what="deviation, M infinite"),
    ]


@entry(
    "shum-err-expressivity",
    claim="A single Gaussian fitted to a mixture of two, with infinite samples: all the error "
    "arises in the first generation, none after.",
    status="published formula",
    setting="mixture .6 N(-1.5, 1) + .4 N(2, .49), M infinite, ddof = 0, generations 0 to 50",
    oracle="'can only occur at the first generation': KL of the real distribution to its "
    "projection, theory.mixture_projection.kl_to_gaussian",
    y="KL(truth || model), nats",
)
def expressivity(key):
    model = without_sampling(key, cj.estimators.gaussian(1, ddof=0), PAIR, 50, of_gaussian)
    mean, variance = theory.mixture_projection.moments(PAIR)
    lost = theory.mixture_projection.kl(PAIR, tuple(model))
    projection, _ = theory.mixture_projection.kl_to_gaussian(PAIR, mean, variance)
    at = np.array([0, 1, 10, 50])
    return (
        compare.equal(lost[at], projection, 1e-6, ROUNDED, at=at, what="KL to the truth"),
        compare.equal(
            lost[at] - lost[0],
            0.0,
            1e-6,
            ROUNDED,
            at=at,
            what="KL that was added since the first generation",
        ),
        compare.equal(model[1, at, 0], mean, 1e-5, ROUNDED, at=at, what="mean"),
        compare.equal(model[2, at, 0], np.sqrt(variance), 1e-5, ROUNDED, at=at, what="deviation"),
    )


@entry(
    "shum-err-approximation",
    claim="An optimiser that stops too early adds an error in every generation, even with "
    "infinite samples and the right family.",
    status="derived here",
    setting="the same mixture, fitted by 26 steps of EM from one poor start in each generation, M "
    "infinite, generations 0 to 10",
    oracle="'infinite data and perfect expressivity at each generation': EM on densities, "
    "theory.mixture_projection.population_em",
    y="KL(truth || model), nats",
)
def approximation(key):
    steps, generations = 26, 10
    family = cj.estimators.gmm(2, 1, "spherical", start="previous", steps=steps, tolerance=0.0)
    begin, fit = mixture(*BEGIN), family.fit
    family = family._replace(
        init=lambda key, data: begin, fit=lambda key, params, data: fit(key, begin, data)
    )
    model = without_sampling(key, family, PAIR, generations, of_mixture)
    law, path = PAIR, []
    for _ in range(generations + 1):
        law = theory.mixture_projection.population_em(law, BEGIN, steps)
        path.append(law)
    path = np.moveaxis(np.array(path), 1, 0)
    ours, exact = (theory.mixture_projection.kl(PAIR, tuple(one)) for one in (model, path))
    return (
        compare.equal(ours, exact, 1e-5, ROUNDED, what="KL to the truth"),
        compare.equal(
            model[1, -1],
            path[1, -1],
            1e-4,
            ROUNDED,
            at=["first", "second"],
            what="means of the components, generation 10",
        ),
    )


@entry(
    "shum-float-delta",
    claim="In floats the Gaussian chain ends in a point, as the text says. The distribution of "
    "the theorem only approaches one.",
    status="published formula",
    setting="d = 1, ddof = 1, M = 8, 3,000 generations; 500 chains of explicit float32 samples, "
    "20,000 of the exact process",
    oracle="absorbed in a delta function with probability 1, floats being discrete (discrete "
    "section): all chains; the exact process: theory.gaussian.log_variance_quantile",
    x="generation",
    y="log variance",
)
def precision(key):
    def fit(key, params, data):
        mean = jnp.average(data.x)
        return (
            mean,
            jnp.sqrt(jnp.sum((data.x - mean) ** 2) / (data.x.size - 1)),
        ), cj.FitInfo.exact()

    def sample(key, params, n):
        return params[0] + params[1] * jax.random.normal(key, (n,))

    def is_point(state):
        return state.params[1] == 0

    at, keys = np.array([50, 500, 3000]), jax.random.split(key)
    floats = cj.estimator(fit, sample, init=lambda key, data: (jnp.asarray(0.0), jnp.asarray(1.0)))
    process = cj.generational_process(
        floats,
        cj.Source(lambda key, n: jax.random.normal(key, (n,))),
        cj.workflows.replace(),
        sample_size=8,
    )
    ended = cj.simulate(
        process, keys[0], generations=3000, chains=500, metrics=(is_point,), record=at
    )["is_point"][:, 1:]
    process = cj.generational_process(
        cj.estimators.gaussian(1),
        cj.sources.normal([0.0], [[1.0]]),
        cj.workflows.replace(),
        sample_size=8,
    )
    logs = cj.simulate(
        process, keys[1], generations=3000, chains=20_000, metrics=("log_variance",), record=at
    )["log_variance"][:, 1:]
    exact = [theory.gaussian.log_variance_quantile(0.5, generation, 8, ddof=1) for generation in at]
    return (
        compare.equal(
            ended[:, -1].mean(), 1.0, 0.0, "", at=3000, what="share of float chains with variance 0"
        ),
        compare.medians(logs, np.array(exact), at=at, what="log variance of the law"),
        compare.equal(
            np.isneginf(logs).mean(0),
            0.0,
            0.0,
            "",
            at=at,
            what="share of chains of the law with variance 0",
        ),
    )
