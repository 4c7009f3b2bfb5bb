"""A family of somebody's own functions at the top of a module, which others import by name."""

import jax
import jax.numpy as jnp

import collapse_jax as cj


def fit(key, params, data):
    mean = jnp.sum(data.x * data.weight[:, None]) / jnp.sum(data.weight)
    return mean, cj.FitInfo.exact()


def sample(key, params, n):
    return params + jax.random.normal(key, (n, 1))


def reward(x):
    return x[:, 0]


def growing(generation):
    return 5 + generation


def shift(mean, real):
    return jnp.abs(mean - real)


def process():
    """A process of these functions alone, under a curation."""
    estimator = cj.estimator(fit, sample, name="shifted", distances={"shift": shift})
    return cj.generational_process(
        estimator,
        cj.sources.population(estimator, jnp.float32(0.5)),
        cj.curation.best_of(2, reward)(cj.workflows.mix(gamma=0.25)),
        sample_size=growing,
        largest_sample_size=20,
    )


@cj.named
def shifted(by: float = 0.0) -> cj.Estimator:
    """A factory that keeps its call, with functions inside that nobody could import."""

    def fit_less(key, params, data):
        mean, info = fit(key, params, data)
        return mean - by, info

    return cj.estimator(fit_less, sample)
