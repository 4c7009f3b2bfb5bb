"""Yang et al. 2025: a budget of accepted points, divided over the rounds of a curated loop."""

import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry
from collapse_jax.random.bits import split

PAPER = Paper(
    "2501.18962",
    "Yang et al. 2025",
    "Spend Wisely: Maximizing Post-Training Gains in Iterative Synthetic Data Bootstrapping",
)


@entry(
    "spend-wisely",
    claim="A verifier pulls a loop towards a goal. Sets of equal size end at a fixed distance "
    "from it; the same budget in sets that grow by a quarter per round ends three times "
    "nearer.",
    status="derived here",
    setting="Gaussian of known variance 1 that begins at 2, acceptance exp(-x^2/8), 30 rounds, "
    "3,000 accepted points, 100 in each or growing by 1/r = 1.25; 1,000 chains",
    oracle="theory.bootstrapping: A' = r^2 A + r/n, r = 0.8, best sizes n_t ~ r^(T - t); that "
    "constant sets fail and exponential ones do not: abstract of the paper",
    y="squared distance to the goal",
    log="y",
)
def budget(key):
    rate, rounds, first, out = 0.8, 30, 100, []
    family = cj.estimators.gaussian_mean([[1.0]])
    start = cj.sources.population(family, cj.estimators.gaussian_mean_params([2.0]))
    verifier = cj.curation.verified(lambda x: jnp.exp(-jnp.sum(x**2, -1) / 8))
    growing = np.maximum(1, np.round(theory.bootstrapping.best_sizes(3_000, rounds, rate)))
    at, last = np.array([0, 5, 10, 20, 30]), []
    for own, (name, sizes) in zip(
        split(key), {"equal": np.full(rounds, 100), "growing": growing}.items(), strict=True
    ):
        every = jnp.array([first, *sizes], jnp.int32)
        process = cj.generational_process(
            family,
            start,
            verifier(cj.workflows.replace()),
            sample_size=lambda generation, every=every: every[generation],
            largest_sample_size=int(every.max()),
        )
        trace = cj.simulate(
            process, own, generations=rounds, chains=1_000, metrics=("mean",), record=at
        )
        last.append(trace["mean"].astype(float) ** 2)
        exact = theory.bootstrapping.expected_squared_error(sizes, rate, first=4 + 1 / first)
        out.append(compare.means(last[-1], exact[at], at=at, what=f"{name} sets"))
    return [*out, compare.exceeds(last[0][:, -1], last[1][:, -1], at=[30], what="equal - growing")]
