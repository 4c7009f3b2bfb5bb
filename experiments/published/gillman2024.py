"""Gillman et al. 2024: synthetic data corrected towards the real distribution.

p -> (p + gamma p_real)/(1 + gamma).
"""

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2402.07087",
    "Gillman et al. 2024",
    "Self-Correcting Self-Consuming Loops for Generative Model Training",
)


def corrected(gamma, workflow):
    """Each point of the model is replaced by one of N(0, 1) with probability gamma/(1 + gamma).

    N(0, 1) is the population here.
    """

    def of_model(estimator):
        def sample(key, params, n):
            model_key, real_key, choice_key = jax.random.split(key, 3)
            real = jax.random.normal(real_key, (n, 1))
            keep = jax.random.uniform(choice_key, (n, 1)) < 1 / (1 + gamma)
            return jnp.where(keep, estimator.sample(model_key, params, n), real)

        return estimator._replace(sample=sample, draw=None)

    name, filters = f"corrected({gamma:g})({workflow.name})", (*workflow.filters, of_model)
    return workflow._replace(name=name, filters=filters)


@entry(
    "gillman-rate",
    claim="A correction of strength gamma divides the rate at which a Gaussian's mean keeps its "
    "error, the share s of synthetic data, by 1 + gamma.",
    status="derived here",
    setting="1-D Gaussian of known variance, M = 40, s = 0.9, gamma = 0.5: rate 0.6, generations 0 "
    "to 8, 60,000 chains",
    oracle="E[mu_0 mu_g] = (s/(1 + gamma))^g/M: theory.interventions.mean_contraction; "
    "E[mu_g^2]: theory.known_variance with that rate; the idealised correction: section 3 "
    "of the paper",
    y="M E[mu_0 mu_g]",
)
def rate(key):
    at, family = np.array([0, 1, 2, 4, 8]), cj.estimators.gaussian_mean([[1.0]])
    real = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0]))
    process = cj.generational_process(
        family, real, corrected(0.5, cj.workflows.mix(0.9, 0.0, 0.1)), sample_size=40
    )
    trace = cj.simulate(
        process, key, generations=8, chains=60_000, metrics=("mean",), record=at.tolist()
    )
    mean, kept = (
        trace["mean"].astype(np.float64),
        float(theory.interventions.mean_contraction(9.0, correction=0.5)),
    )
    error = theory.known_variance.expected_squared_mean_error(
        at, 40, workflow="mix", alpha=kept, beta=0.0, gamma=1 - kept
    )
    return [
        compare.means(40 * mean * mean[:, :1], kept**at, at=at, what="memory of the first mean"),
        compare.means(40 * mean**2, 40 * error, at=at, what="squared mean"),
    ]
