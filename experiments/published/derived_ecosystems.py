"""Models that read each other, from shared ancestry; not from a paper.

Islands with migration, linear models that label each other's rows, and how many models should share
a budget of data.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper("", "collapse_jax", "Derived here: models that read each other (theory.islands)")
REAL = np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03])
UNEVEN = np.array([[0.5, 0.3, 0.0], [0.1, 0.6, 0.2], [0.9, 0.0, 0.1]])


def ring(models, share):
    """Coupling [K, K]: a share of what each model reads is of its neighbour, the rest its own."""
    own = np.eye(models)
    return (1 - share) * own + share * np.roll(own, 1, axis=1)


def among_others(models, share):
    """Coupling [K, K]: a share of what each model reads is all others', the rest its own."""
    if models == 1:
        return np.ones((1, 1))
    coupling = np.full((models, models), share / (models - 1))
    np.fill_diagonal(coupling, 1 - share)
    return coupling


@entry(
    "eco-islands",
    claim="Models that read each other behave like islands with migration: shared ancestry gives "
    "the heterozygosity of counts and the variance of Gaussians that are left.",
    status="derived here",
    setting="three models, uneven coupling with fresh real data for one of them, M = 10, "
    "generations 0 to 20; six categories and N(0, 1) (ddof = 0), 20,000 chains each",
    oracle="F_ij = P(a draw of model i and one of model j share a real ancestor): "
    "theory.islands.identity_by_descent",
    y="diversity kept",
)
def islands(key):
    at, found = np.array([0, 1, 5, 20]), []
    own = theory.islands.retention(at, 10, UNEVEN)
    pooled = theory.islands.pooled_retention(at, 10, UNEVEN)
    cases = {
        "categories": (
            cj.estimators.categorical(6),
            cj.sources.categorical(REAL),
            "heterozygosity",
            1 - np.sum(REAL**2),
        ),
        "Gaussian": (
            cj.estimators.gaussian(1, ddof=0),
            cj.sources.normal([0.0], [[1.0]]),
            "variance",
            1.0,
        ),
    }
    for name, (family, source, metric, unit) in cases.items():
        process = cj.ecosystem(family, source, UNEVEN, 10)
        trace = cj.simulate(
            process,
            key,
            generations=20,
            chains=20_000,
            metrics=(metric, f"pooled_{metric}"),
            record=at,
        )
        found += [
            compare.means(
                trace[metric][:, :, k] / unit, own[:, k], at=at, what=f"{name}, model {k}"
            )
            for k in range(3)
        ]
        of_pool = trace[f"pooled_{metric}"] / unit
        found.append(compare.means(of_pool, pooled, at=at, what=f"{name}, pool"))
    return found


@entry(
    "eco-rounded",
    claim="With rounded counts instead of multinomial ones, the origins of two points of one set "
    "are drawn without replacement.",
    status="derived here",
    setting="eight Gaussians (ddof = 0) on a ring, each 70% its own points and 30% its "
    "neighbour's, M = 7, generations 0 to 20, 20,000 chains",
    oracle="theory.islands.identity_by_descent, random_counts=False",
    y="variance",
)
def rounded(key):
    at, coupling = np.array([0, 1, 5, 20]), ring(8, 0.3)
    process = cj.ecosystem(
        cj.estimators.gaussian(1, ddof=0),
        cj.sources.normal([0.0], [[1.0]]),
        coupling,
        7,
        random_counts=False,
    )
    names = ("within_variance", "pooled_variance")
    trace = cj.simulate(process, key, generations=20, chains=20_000, metrics=names, record=at)
    own = theory.islands.retention(at, 7, coupling, random_counts=False).mean(1)
    pooled = theory.islands.pooled_retention(at, 7, coupling, random_counts=False)
    return [
        compare.means(trace[name], exact, at=at, what=name)
        for name, exact in zip(names, (own, pooled), strict=True)
    ]


@entry(
    "eco-linear",
    claim="The errors of linear models that label each other's rows follow one linear recursion.",
    status="derived here",
    setting="three linear models of three features, M = 20 rows, uneven coupling, generations 0 "
    "to 10, 20,000 chains; the question of Vu et al. 2025, to whose recursions we had no "
    "access",
    oracle="theory.islands.linear_model_errors",
    y="test error",
)
def linear_models(key):
    at, family = np.array([0, 1, 3, 10]), cj.estimators.linear_regression(3)
    real = cj.sources.population(family, cj.estimators.regression_params([1.0, -0.5, 0.25]))
    process = cj.ecosystem(family, real, UNEVEN, 20)
    trace = cj.simulate(
        process, key, generations=10, chains=20_000, metrics="squared_distance", record=at
    )
    exact = np.diagonal(theory.islands.linear_model_errors(at, 20, 3, UNEVEN), axis1=1, axis2=2)
    return [
        compare.means(
            trace["squared_distance"][:, :, k], exact[:, k], at=at, what=f"error of model {k}"
        )
        for k in range(3)
    ]


@entry(
    "eco-best-k",
    claim="Models share one budget of points and read 3% from the others. The number of models "
    "that keeps the most diversity in each of them grows with the generations.",
    status="derived here",
    setting="K = 1, 2, 4, 10 Gaussians (ddof = 0) of 240 / K points each, 97% its own and 3% of "
    "the others, generations 0 to 800, 1,000 chains; the question of Hodel and West 2025",
    oracle="theory.islands.retention: best of these K is 1 until 200, then 4 at 300, 10 at 400",
    x="generation",
    y="variance within a model",
)
def best_number(key):
    at, found = np.array([0, 50, 200, 300, 400, 800]), []
    for models in (1, 2, 4, 10):
        coupling = among_others(models, 0.03)
        process = cj.ecosystem(
            cj.estimators.gaussian(1, ddof=0),
            cj.sources.normal([0.0], [[1.0]]),
            coupling,
            240 // models,
        )
        trace = cj.simulate(
            process, key, generations=800, chains=1_000, metrics="within_variance", record=at
        )
        exact = theory.islands.retention(at, 240 // models, coupling).mean(1)
        found.append(compare.means(trace["within_variance"], exact, at=at, what=f"K = {models}"))
    return found


@entry(
    "eco-tastes",
    claim="Two models are curated for opposite outcomes. Alone, each has only its favourite "
    "after 20 generations (97%). If they read 30% of each other, both keep both outcomes "
    "in half of the runs, but 41% of the pairs lose one (6% without reading).",
    status="derived here",
    setting="two outcomes, p = 0.5, M = 10, best of 2 with reward 1 for one outcome or for the "
    "other, 30% or nothing of the other model, generations 1, 5 and 20, 4,000 chains; the question "
    "of arXiv 2511.09002 and 2605.29267",
    oracle="the exact chain of both counts: theory.subdivision.curated_counts_distribution and "
    "theory.interventions.best_of_probabilities",
    x="ones in one model",
    y="share of chains",
)
def tastes(key):
    size, at, family = 10, [1, 5, 20], cj.estimators.bernoulli()
    source, out = cj.sources.population(family, cj.estimators.bernoulli_params(0.5)), []
    curations = [cj.curation.best_of(2, lambda x, sign=sign: sign * (1.0 * x)) for sign in (1, -1)]

    def read(sign):
        best = theory.interventions.best_of_probabilities
        return lambda p: np.array([best(2, [1 - one, one], [0, sign])[1] for one in p])

    both, gone, last, shares = [], [], np.arange(size + 1), (0.3, 0.0)
    couplings = np.array([[[1 - share, share], [share, 1 - share]] for share in shares])
    trace = cj.simulate_couplings(
        lambda coupling: cj.ecosystem(family, source, coupling, size, published=curations),
        couplings,
        key,
        generations=at[-1],
        chains=4_000,
        metrics="mean",
        record=at,
    )
    counts = np.rint(trace["mean"][:, :, 1:] * size).astype(int)
    for ones, share, coupling in zip(counts, shares, couplings, strict=True):
        for i, g in enumerate(at):
            law = theory.subdivision.curated_counts_distribution(
                g, size, 0.5, coupling, [read(1), read(-1)]
            )
            seen = np.bincount(ones[:, i, 0], minlength=size + 1)
            what = f"law of the count, {share:.0%} read, generation {g}"
            out.append(compare.counts(seen, law.sum(1), at=last, what=what))
        pair = ones[:, -1]
        both.append((np.sum(np.all((pair > 0) & (pair < size), 1)), law[1:-1, 1:-1].sum()))
        gone.append((np.sum(np.isin(pair.sum(1), (0, 2 * size))), law[0, 0] + law[-1, -1]))
    for cases, what in ((both, "both models hold both"), (gone, "an outcome is gone")):
        seen, exact = zip(*cases, strict=True)
        found = compare.proportions(seen, 4_000, exact, at=["30% read", "0% read"], what=what)
        out.append(found)
    return out
