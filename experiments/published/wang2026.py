"""Wang, Niu and Li 2026: accumulation with a share of real data in every batch.

The published rate is the smaller of the model's rate and the share; for squared errors, twice that.
"""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry
from collapse_jax.core.process import process_grid
from collapse_jax.drivers.plan import Plan
from collapse_jax.drivers.simulate import simulate_chunks

PAPER = Paper(
    "2602.16065",
    "Wang et al. 2026",
    "Can Generative Artificial Intelligence Survive Data Contamination?",
)
SIZE, SHARES = 20, (0.1, 0.3, 0.5, 0.8)


def squared_errors(key, family, real, at, chains):
    """(mean - true mean)^2 [share, chain, at] in units of the variance.

    real: (params, mean, variance).
    """
    params, mean, variance = real
    source = cj.sources.population(family, params)

    def process(settings):
        flow = cj.workflows.accumulate(settings["real_share"], random_counts=False)
        return cj.generational_process(family, source, flow, sample_size=SIZE)

    shares = {"real_share": np.array(SHARES, np.float32)}
    plan = Plan(int(at[-1]), chains, ("mean",), record=at, settings=shares)
    grid = process_grid(process, {"real_share": SHARES[0]})
    parts = [chunk.arrays["mean"] for chunk in simulate_chunks(grid, key, plan)]
    found = np.concatenate(parts, axis=1).astype(np.float64)
    return (found.reshape(len(SHARES), chains, len(at)) - mean) ** 2 / variance


@entry(
    "wang-rate",
    claim="A share a of real data in every batch makes the squared error fall as n^-min(1, 2a) "
    "with the number n of batches: from one half on it has the rate of real data alone.",
    status="published formula",
    setting=f"Bernoulli (.5) and a Gaussian of known variance, batches of m = {SIZE}, a = .1, .3, "
    ".5, .8, rounded, 1 to 200 batches, 20,000 chains",
    oracle="theory.real_batches: v' = ((n + 1 - a)/(n + 1))^2 v + s/(m (n + 1)^2), exact for "
    "every n (derived here); the rate min(p, a) of errors, p = 1/2: abstract of the paper",
    y="squared error over the variance",
    log="xy",
)
def rate(key):
    at, out = np.array([0, 1, 4, 19, 49, 199]), []
    coins, means = cj.estimators.bernoulli(), cj.estimators.gaussian_mean([[1.0]])
    families = {
        "Bernoulli": (coins, (cj.estimators.bernoulli_params(0.5), 0.5, 0.25), (0.0, 1.0, -1.0)),
        "known variance": (
            means,
            (cj.estimators.gaussian_mean_params([0.0]), 0.0, 1.0),
            (1.0, 0.0, 0.0),
        ),
    }
    for number, (name, (family, real, quadratic)) in enumerate(families.items()):
        own = jax.random.fold_in(key, number)
        found = squared_errors(own, family, real, at, 20_000)
        for errors, share in zip(found, SHARES, strict=True):
            exact = theory.real_batches.expected_squared_mean_error(
                at, SIZE, real[1], quadratic, real_share=share, random_counts=False
            )
            what = f"{name}, a = {share:g}"
            out.append(compare.means(errors, exact / real[2], at=at + 1, what=what))
    ends = np.array([10_000, 20_000]) - 1
    far = [
        theory.real_batches.retention(ends, SIZE, real_share=share, random_counts=False)
        for share in (0.1, 0.9)
    ]
    slopes = [np.log2((1 - kept[0]) / (1 - kept[1])) for kept in far]
    why = "of order n^-.8 at n = 10,000 batches"
    return [
        *out,
        compare.equal(
            slopes,
            theory.real_batches.rate([0.1, 0.9]),
            1e-3,
            why,
            at=[0.1, 0.9],
            what="slope of the recursion on log axes",
        ),
    ]
