"""Models drawn from their posterior, compared with posterior means and maximum likelihood.

    python experiments/bayesian.py [--out runs/bayesian] [--chains 10000]

Run time: 73 CPU-seconds, compilation included (measured; 8 minutes of wall time on 2 shared cores).

Left: expected heterozygosity of 10 equally probable categories at M = 100, for maximum likelihood
and for Dirichlet priors of 0, 0.1 and 1 per category, drawn from the posterior or its mean.
Right: log variance of a Gaussian at M = 20, median and 5 to 95% of chains, for maximum likelihood,
for draws from the posterior of the reference prior 1 / variance, and for a proper prior (mean 0,
strength 1, shape 3, scale 2), whose mean variance is the real one, 1.
Expected (theory.bayesian): drawn models with a proper prior end in that prior. Without one,
heterozygosity falls by (M - 1) / (M + 1), twice as fast as by maximum likelihood, and the median of
the variance does not change.
"""

import pathlib

import numpy as np

from collapse_jax.app.script import run_script

CATEGORIES, SIZE, LAST = 10, 100, 1000
POINTS, LAST_GAUSSIAN = 20, 200
PRIOR = {"mean": 0.0, "strength": 1.0, "shape": 3.0, "scale": 2.0}
# Label, prior a category (None: maximum likelihood), what of the posterior, colour.
CATEGORICALS = (
    ("maximum likelihood", None, "maximum_likelihood", "#222222"),
    ("prior 0, drawn", 0.0, "sample", "#d1495b"),
    ("prior 0.1, its mean", 0.1, "mean", "#8ab6d6"),
    ("prior 0.1, drawn", 0.1, "sample", "#3a6ea5"),
    ("prior 1, drawn", 1.0, "sample", "#2a9d8f"),
)
GAUSSIANS = (
    ("maximum likelihood", {}, "maximum_likelihood", "#222222"),
    ("reference prior, drawn", {}, "sample", "#d1495b"),
    ("proper prior, its mean", PRIOR, "mean", "#8ab6d6"),
    ("proper prior, drawn", PRIOR, "sample", "#3a6ea5"),
)


def simulated(cj, family, source, size, last, chains, metrics, number):
    """The trace of chains that start from a source, recorded about 20 times a decade."""
    import jax

    process = cj.generational_process(family, source, cj.workflows.replace(), sample_size=size)
    key = jax.random.fold_in(jax.random.key(0), number)
    return cj.simulate(process, key, generations=last, chains=chains, metrics=metrics, record="log")


def categories_panel(axis, cj, chains):
    """Draws heterozygosity beside theory; yields rows of the table."""
    from collapse_jax.theory import bayesian as theory

    q = np.full(CATEGORIES, 1 / CATEGORIES)
    for number, (label, prior, estimate, colour) in enumerate(CATEGORICALS):
        family = cj.estimators.dirichlet_multinomial(CATEGORIES, prior, estimate)
        source, names = cj.sources.categorical(q), ("heterozygosity", "support")
        trace = simulated(cj, family, source, SIZE, LAST, chains, names, number)
        at, values = np.asarray(trace.generations), np.asarray(trace["heterozygosity"], float)
        ours, error = values.mean(0), values.std(0) / np.sqrt(chains)
        is_drawn = estimate == "sample"
        exact = theory.expected_heterozygosity(at, SIZE, q, prior or 0, sampled=is_drawn)
        axis.plot(at + 1, exact, color=colour, lw=1.2, label=label)
        axis.plot(at[::4] + 1, ours[::4], color=colour, ls="", marker="o", ms=3)
        z = np.abs(ours - exact)[error > 0] / error[error > 0]
        limit = 0.0
        if prior:
            every = np.full(CATEGORIES, prior)
            limit = theory.stationary_heterozygosity(SIZE, every, sampled=is_drawn)
        support = np.asarray(trace["support"], float)[:, -1].mean()
        picked = [int(np.argmin(np.abs(at - one))) for one in (0, 20, 100, 1000)]
        cells = [f"{ours[place]:.4f} ({exact[place]:.4f})" for place in picked]
        yield [label, *cells, f"{limit:.4f}", f"{support:.2f}", f"{z.max():.1f}"]


def gaussians_panel(axis, cj, chains):
    """Draws the log variance's median and band; yields rows of the table."""
    from scipy import stats

    from collapse_jax.theory import bayesian as theory

    for number, (label, prior, estimate, colour) in enumerate(GAUSSIANS):
        family = cj.estimators.normal_inverse_gamma(1, estimate=estimate, **prior)
        names = ("log_variance", "mean")
        source = cj.sources.normal(0.0, 1.0)
        trace = simulated(cj, family, source, POINTS, LAST_GAUSSIAN, chains, names, 100 + number)
        at, values = np.asarray(trace.generations), np.asarray(trace["log_variance"], float)
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95], axis=0)
        axis.fill_between(at + 1, low, high, color=colour, alpha=0.15, lw=0)
        axis.plot(at + 1, middle, color=colour, lw=1.3, label=label)
        variance, _ = theory.gaussian_moments(at, POINTS, estimate=estimate, **prior)
        picked = [int(np.argmin(np.abs(at - one))) for one in (0, 20, 200)]
        cells = [
            f"{np.exp(middle[i]):.3g} ({np.exp(low[i]):.2g} to {np.exp(high[i]):.2g})"
            for i in picked
        ]
        early, place = np.exp(values[:, picked[1]]), np.abs(np.asarray(trace["mean"], float))
        error = early.std() / np.sqrt(chains)
        ends = [f"{early.mean():.4g} +- {error:.2g} ({variance[picked[1]]:.4g})"]
        ends += [f"{np.median(place[:, -1]):.3g}"]
        fit = ""
        if prior and estimate == "sample":
            law = stats.invgamma(PRIOR["shape"], scale=PRIOR["scale"])
            fit = f"{stats.kstest(np.exp(values[:, -1]), law.cdf).pvalue:.2f}"
        yield [label, *cells, *ends, fit]


def table(heads, rows):
    """Prints rows as Markdown."""
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main(out: str = "runs/bayesian", chains: int = 10_000) -> pathlib.Path:
    """The simulations, the figure, and two tables; the path of the figure.

    Args:
        out: Folder of the figure.
        chains: Of each setting.
    """
    import collapse_jax as cj
    from collapse_jax.app.plots import style

    fig, ((left, right),) = style.figure(1, 2, width=5.0, height=3.8)
    generations = [f"generation {one}" for one in (0, 20, 100, 1000)]
    heads = ["heterozygosity (exact)", *generations, "limit", "categories left", "largest z"]
    table(heads, categories_panel(left, cj, chains))
    heads = ["variance, median (5 to 95%)", *(f"generation {one}" for one in (0, 20, 200))]
    heads += ["mean at 20 (exact)", "median size of the mean at 200", "KS of the prior, p"]
    table(heads, gaussians_panel(right, cj, chains))
    left.set_title(f"{CATEGORIES} categories, M = {SIZE}", fontsize=9)
    left.set_ylabel("expected heterozygosity (lines: exact)", fontsize=8)
    right.set_title(f"Gaussian, M = {POINTS}", fontsize=9)
    right.set_ylabel("log variance, median and 5 to 95%", fontsize=8)
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_xlabel("samplings (generation + 1)", fontsize=8)
        axis.legend(fontsize=6.5, frameon=False, loc="lower left")
    path = style.save(fig, cj.RunFolder(pathlib.Path(out)), "bayesian")
    print(f"Figure: {path}")
    return path


if __name__ == "__main__":
    run_script(main, __doc__)
