"""Ferbach et al. 2024: one of K candidates is chosen with probability proportional to e^reward.

In every generation.
"""

import jax
import jax.numpy as jnp
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2407.09499",
    "Ferbach et al. 2024",
    "Self-Consuming Generative Models with Curated Data Provably Optimize Human Preferences",
)


@entry(
    "ferbach-linear",
    claim="With the reward a x a Gaussian's mean rises by the same step in every generation, a "
    "sigma^2 for many candidates.",
    status="derived here",
    setting="1-D Gaussian of variance 1, a = 0.5, M = 20, K = 2 and 32, generations 0 to 10, 4,000 "
    "chains",
    oracle="exact for every K and M: theory.interventions.best_of_normal; K to infinity: "
    "curated_gaussian, p_t proportional to p_0 e^(t r) (section 2 of the paper)",
    y="mean",
)
def linear(key):
    at, slope, out = np.array([0, 1, 4, 10]), 0.5, []
    family = cj.estimators.gaussian_mean([[1.0]])
    real = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0]))
    for one, k in zip(jax.random.split(key), (2, 32), strict=True):
        chosen = cj.curation.best_of(k, lambda x: slope * x[:, 0])(cj.workflows.replace())
        process = cj.generational_process(family, real, chosen, sample_size=20)
        mean = cj.simulate(
            process, one, generations=10, chains=4_000, metrics=("mean",), record=at.tolist()
        )["mean"].astype(np.float64)
        step, spread = theory.interventions.best_of_normal(k, slope)
        out += [
            compare.means(mean, at * step, at=at, what=f"mean, K = {k}"),
            compare.means(
                (mean - at * step) ** 2,
                (1 + at * spread) / 20,
                at=at,
                what=f"its variance, K = {k}",
            ),
        ]
    limit = theory.interventions.curated_gaussian(at, slope=slope)[0]
    many = compare.means(
        mean,
        limit,
        at=at,
        what="mean, as for K to infinity",
        tolerance=0.02 * at,
        why="K = 32 is not infinity: 4%",
    )
    return [*out, many]


@entry(
    "ferbach-quadratic",
    claim="With the reward -x^2/(2 s^2) and many candidates each generation adds 1/s^2 to a "
    "Gaussian's precision.",
    status="derived here",
    setting="1-D Gaussian, ddof = 1, s = 1, M = 20, generations 0 to 8, 60,000 chains; the limit "
    "of many candidates drawn by rejection",
    oracle="E[1/variance], exact for finite M: theory.interventions.curated_expected_precision; "
    "1/sigma_t^2 = 1/sigma_0^2 + t/s^2 for M to infinity: curated_gaussian",
    y="precision",
)
def quadratic(key):
    at, width = np.array([0, 1, 2, 4, 8]), 1.0
    tilted = cj.curation.verified(lambda x: jnp.exp(-(x[:, 0] ** 2) / (2 * width**2)))(
        cj.workflows.replace()
    )
    process = cj.generational_process(
        cj.estimators.gaussian(1), cj.sources.normal([0.0], [[1.0]]), tilted, sample_size=20
    )
    trace = cj.simulate(
        process, key, generations=8, chains=60_000, metrics=("variance",), record=at.tolist()
    )
    precision = 1 / trace["variance"].astype(np.float64)
    return compare.means(
        precision,
        theory.interventions.curated_expected_precision(at, 20, width),
        at=at,
        what="1/variance",
    )


@entry(
    "ferbach-finite",
    claim="With K candidates the share of the better of two outcomes follows an exactly known "
    "chain with selection, and the variance of the reward goes to 0.",
    status="derived here",
    setting="Bernoulli, p = 0.2, rewards 0 and 0.7, K = 3, M = 40, generations 1, 5 and 40, 20,000 "
    "chains",
    oracle="theory.interventions.mapped_count_distribution of best_of_probabilities",
    x="better ones among 40",
    y="share of chains",
)
def finite(key):
    rewards, size, at = np.array([0.0, 0.7]), 40, [1, 5, 40]
    family = cj.estimators.bernoulli()
    chosen = cj.curation.best_of(3, lambda x: jnp.asarray(rewards)[x])(cj.workflows.replace())
    process = cj.generational_process(
        family,
        cj.sources.population(family, cj.estimators.bernoulli_params(0.2)),
        chosen,
        sample_size=size,
    )
    trace = cj.simulate(
        process, key, generations=at[-1], chains=20_000, metrics=("mean",), record=at
    )
    ones = np.rint(trace["mean"][:, 1:] * size).astype(int)

    def step(p):
        return np.array(
            [theory.interventions.best_of_probabilities(3, [1 - one, one], rewards)[1] for one in p]
        )

    laws = [theory.interventions.mapped_count_distribution(g, size, 0.2, step) for g in at]
    share, counts = ones / size, np.arange(size + 1)
    left = rewards[1] ** 2 * share * (1 - share)
    expected = [law @ (counts / size * (1 - counts / size)) * rewards[1] ** 2 for law in laws]
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
        compare.means(left[:, :2], expected[:2], at=at[:2], what="variance of the reward"),
        compare.proportions(
            (left[:, 2] == 0).sum(),
            len(left),
            laws[2][0] + laws[2][-1],
            at=["generation 40"],
            what="no variance left",
        ),
    ]


@entry(
    "ferbach-bound",
    claim="The expected e^reward rises in every generation, by at least (K - 1)/K Var(e^r)/max "
    "e^r.",
    status="derived here",
    setting="4 categories, rewards -1 to 1.5, K = 2, M = 100, generations 0 to 12, 10,000 chains",
    oracle="proved here: E[sum w^2/sum w] - E[w] = (K - 1) E[s^2/sum w] for the candidates' "
    "weights w = e^r of sample variance s^2, and sum w is at most K max w; generation 1 exactly: "
    "theory.interventions.best_of_probabilities; the inequality is the paper's",
    y="gain of e^r less the bound",
)
def bound(key):
    rewards, law = np.array([-1.0, 0.0, 0.5, 1.5]), np.array([0.4, 0.3, 0.2, 0.1])
    chosen = cj.curation.best_of(2, lambda x: jnp.asarray(rewards)[x])(cj.workflows.replace())
    process = cj.generational_process(
        cj.estimators.categorical(4), cj.sources.categorical(law), chosen, sample_size=100
    )
    trace = cj.simulate(process, key, generations=12, chains=10_000, metrics=("probabilities",))
    shares, weights = trace["probabilities"].astype(np.float64), np.exp(rewards)
    value = shares @ weights
    promised = (shares @ weights**2 - value**2) / 2 / weights.max()
    gain = np.diff(value, axis=1)
    # Two candidates: the gain is quadratic in the law, so the M points of generation 0 cost a share
    # 1/M of it.
    first = (
        (theory.interventions.best_of_probabilities(2, law, rewards) - law)
        @ weights
        * (1 - 1 / 100)
    )
    return [
        compare.at_least(
            gain - promised[:, :-1], 0.0, at=np.arange(1, 13), what="gain less the bound"
        ),
        compare.means(gain[:, 0], first, at=[1], what="gain of e^r, generation 1"),
        compare.exceeds(
            promised[:, 0],
            promised[:, -1],
            at=[12],
            what="bound (variance) at generation 0 above 12",
        ),
    ]
