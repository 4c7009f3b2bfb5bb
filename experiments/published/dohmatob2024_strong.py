"""Dohmatob et al. 2024: with any share of synthetic data a larger training set stops helping."""

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry
from collapse_jax.random.bits import split

PAPER = Paper("2410.04840", "Dohmatob et al. 2024", "Strong Model Collapse")
DIM = 5


def squared_error(state):
    """Squared distance [] of the weights to the true ones, which are 0."""
    return jnp.sum(state.params.weights**2)


def labelled_by_two(family, share, offset):
    """A source of rows of which a share is labelled by weights that are so far off."""
    params = (np.zeros(DIM), np.full(DIM, offset / np.sqrt(DIM)))
    both = [
        cj.sources.population(family, cj.estimators.regression_params(weights))
        for weights in params
    ]

    def sample(key, n):
        wrong, *keys = jax.random.split(key, 3)
        rows = [source.sample(one, n) for source, one in zip(both, keys, strict=True)]
        return jnp.where(jax.random.uniform(wrong, (n, 1)) < share, rows[1], rows[0])

    return cj.Source(sample)


@entry(
    "dohm-strong",
    claim="One per cent of labels from another model is enough: the test error of least squares "
    "stops falling at p^2 |delta|^2, for any number of rows.",
    status="derived here",
    setting="d = 5, noise 1, |delta| = 30 with p = 1%, and 3 with 10%; M = 50, 200 and 800 rows, a "
    "fresh fit each, 300 chains",
    oracle="theory.wrong_labels.expected_test_error, exact for every M; floor 0.09 (clean "
    "labels: 0.006 at M = 800); that 1% is enough: abstract of the paper",
    x="rows",
    y="squared distance of the weights",
    log="xy",
)
def strong(key):
    sizes, out = np.array([50, 200, 800]), []
    family = cj.estimators.linear_regression(DIM)
    for own, (share, offset) in zip(split(key), ((0.01, 30.0), (0.1, 3.0)), strict=True):
        process = cj.generational_process(
            family,
            labelled_by_two(family, share, offset),
            cj.workflows.mix(0.0, 0.0, 1.0),
            sample_size=lambda generation: jnp.array(sizes)[generation],
            largest_sample_size=int(sizes[-1]),
        )
        trace = cj.simulate(process, own, generations=2, chains=300, metrics=(squared_error,))
        errors = trace["squared_error"].astype(float)
        exact = theory.wrong_labels.expected_test_error(sizes, DIM, share, offset)
        what = f"error, p = {share:g}"
        out.append(compare.means(errors, exact, at=sizes, what=what))
        floor = theory.wrong_labels.floor(share, offset)
        largest = errors[:, -1]
        out.append(compare.at_least(largest, floor, at=["floor"], what=f"floor, p = {share:g}"))
    return out
