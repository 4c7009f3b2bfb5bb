"""What weight should synthetic data have? Errors by the weight of a synthetic point in the fit.

    python experiments/weights_in_the_fit.py [--out runs/weights_in_the_fit] [--chains 1000]
    [--generations 200]

Run time: 57 CPU-seconds, compilation included (measured; 4 minutes of wall time on 2 cores shared
with seven other programs).

The setting of He, Xu and Cheng 2025 (arXiv 2502.18049): n = 100 real points of p = 2 dimensions or
features and m = n / k points of the newest model in each generation, 200 generations; a synthetic
point has weight w. Left: the mean of a Gaussian, for k = 1/4, 1, 4, with theory.weights and the
best w. Right: k = 1/2, generation 200, errors relative to w = 0 (real points alone): a mean of
known variance, least squares, the mean of a Gaussian of ddof = 0, the Cramer-von Mises distance of
an empirical distribution function, logistic and Poisson regression. Families that draw points stop
at generation 12, which is equivalent: a generation leaves at most .44 of an earlier error. The
first four are compared with their exact errors, the others with the limit of many points. The
points of a curve have separate random numbers; points of the same w share them between curves.
Expected: the best w is .3904, .6180, .8284 for k = 1/4, 1, 4 and .5 for k = 1/2, where the error is
.500 of that of real points alone; equal weights give .60, for m = 200.
"""

import itertools
import pathlib

import numpy as np

from collapse_jax.app.script import run_script

REAL = 100
WEIGHTS = (0.0, 0.15, 0.3, 0.5, 0.7, 1.0)
COLOURS = {0.25: "#d1495b", 1.0: "#3a6ea5", 4.0: "#2a9d8f"}


def measured(cj, family, source, metric, synthetic, weights, generations, chains):
    """A metric [weights, chains, ...] of the last generation; one program for all weights."""
    import jax

    from collapse_jax.core.process import process_grid
    from collapse_jax.drivers.chunks import join_chunks
    from collapse_jax.drivers.plan import Plan
    from collapse_jax.drivers.simulate import simulate_chunks

    size = REAL + synthetic
    flow = cj.workflows.mix(synthetic / size, 0.0, REAL / size, random_counts=False)

    def at(settings):
        return cj.generational_process(
            family,
            source,
            cj.workflows.weighted(flow, synthetic=settings["w"]),
            sample_size=size,
        )

    grid = {"w": np.array(weights)}
    plan = Plan(generations, chains, (metric,), record=[generations], settings=grid)
    chunks = simulate_chunks(process_grid(at, {"w": 0.5}), jax.random.key(0), plan)
    values = join_chunks(list(chunks))[metric][:, -1].astype(float)
    return values.reshape(len(weights), chains, *values.shape[1:])


def mean_panel(axis, cj, generations, chains):
    """Draws the error of a mean by w, and the best w; yields rows of the table."""
    from collapse_jax.theory import weights as theory

    family = cj.estimators.gaussian_mean(np.eye(2))
    source = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0, 0.0]))
    every = np.linspace(0, 1.2, 241)
    for ratio, colour in COLOURS.items():
        synthetic = round(REAL / ratio)
        best = theory.best_weight(ratio)
        exact = [theory.squared_error_limit(REAL, synthetic, w) * REAL for w in every]
        axis.plot(every, exact, color=colour, lw=1.3, label=f"k = {ratio:g}, best w {best:.3f}")
        lowest = theory.squared_error_limit(REAL, synthetic, best) * REAL
        axis.plot([best], [lowest], color=colour, marker="o", ms=6, mfc="none")
        tried = (*WEIGHTS, best)
        means = measured(cj, family, source, "mean", synthetic, tried, generations, chains)
        errors = (means**2).reshape(len(tried), chains, 2).mean(2) * REAL
        deviation = errors.std(1) / np.sqrt(chains)
        axis.errorbar(tried, errors.mean(1), deviation, color=colour, ls="", marker=".", ms=4)
        known = [
            theory.expected_squared_error(generations, REAL, synthetic, w) * REAL for w in tried
        ]
        yield f"mean, k = {ratio:g}", tried, errors.mean(1), deviation, np.array(known)


def families(cj):
    """Name -> (family, source, metric, exact error of w and generation over that of one point)."""
    import jax

    from collapse_jax.theory import regression
    from collapse_jax.theory import weights as theory

    e, population = cj.estimators, cj.sources.population
    beta = np.array([0.6, -0.3])
    norm = float(np.linalg.norm(beta))

    def of_mean(v2, times=1.0):
        return lambda g, m, w: times * theory.expected_squared_error(g, REAL, m, w, v2=v2)

    def linear(g, m, w):
        return theory.expected_test_error(g, REAL, m, 2, w)

    mean, normal = e.gaussian_mean(np.eye(2)), e.gaussian(1, ddof=0)
    least_squares, logistic, poisson = (
        factory(2) for factory in (e.linear_regression, e.logistic_regression, e.poisson_regression)
    )
    names = {
        "mean": (
            mean,
            population(mean, e.gaussian_mean_params([0.0, 0.0])),
            "squared_wasserstein2",
            of_mean(0.0, 2.0),
        ),
        "least squares": (
            least_squares,
            population(least_squares, e.regression_params(beta)),
            "test_error",
            linear,
        ),
        "mean, ddof = 0": (
            normal,
            population(normal, e.gaussian_params(0.0, 1.0)),
            "mean",
            of_mean(-1.0),
        ),
        "empirical": (
            e.empirical(jax.scipy.stats.norm.cdf),
            cj.Source(lambda key, n: jax.random.normal(key, (n,))),
            "cramer_von_mises",
            of_mean(-1.0, 1 / 6),
        ),
        "logistic (limit)": (
            logistic,
            population(logistic, e.logistic_params(beta)),
            "squared_distance",
            of_mean(0.0, regression.logistic_squared_error(norm, 2)),
        ),
        "Poisson (limit)": (
            poisson,
            population(poisson, e.poisson_regression_params(beta)),
            "squared_distance",
            of_mean(0.0, theory.poisson_squared_error(norm, 2)),
        ),
    }
    return names


def family_panel(axis, cj, generations, chains):
    """Draws the errors of families over those of real points alone; yields rows of the table."""
    from collapse_jax.app.plots import style
    from collapse_jax.theory import weights as theory

    synthetic, every = 2 * REAL, np.linspace(0, 1.05, 106)
    limit = [theory.squared_error_limit(REAL, synthetic, w) * REAL for w in every]
    axis.plot(every, limit, color=style.THEORY, lw=1.2, ls="--", label="exact, known variance")
    axis.axvline(theory.best_weight(0.5), color="#999999", lw=0.8, ls=":")
    named = families(cj)
    colours = style.generation_colours(len(named))
    for place, (name, (family, source, metric, exact)) in enumerate(named.items()):
        by_points = "limit" in name or name == "empirical"
        last = min(generations, 12) if by_points else generations
        fewer = max(chains // 5, 2) if by_points else chains
        values = measured(cj, family, source, metric, synthetic, WEIGHTS, last, fewer)
        errors = values.reshape(len(WEIGHTS), fewer)
        errors = errors**2 if name == "mean, ddof = 0" else errors
        deviation = errors.std(1) / np.sqrt(fewer)
        known = np.array([float(exact(last, synthetic, w)) for w in WEIGHTS])
        axis.errorbar(
            np.array(WEIGHTS) + 0.008 * (place - 2.5),
            errors.mean(1) / known[0],
            deviation / known[0],
            color=colours[place],
            ls="",
            marker="o",
            ms=3,
            label=name,
        )
        yield f"{name}, k = 0.5", WEIGHTS, errors.mean(1), deviation, known


def print_rows(rows):
    """Errors by weight, what they should be in brackets, and the largest |z|; as they come."""
    print("| error at w | " + " | ".join(f"{w:.3g}" for w in WEIGHTS) + " | best | largest z |")
    print("|---" * (len(WEIGHTS) + 3) + "|")
    for name, tried, ours, deviation, exact in rows:
        cells = [f"{one:.4g} ({known:.4g})" for one, known in zip(ours, exact, strict=True)]
        cells += [""] * (len(WEIGHTS) + 1 - len(cells))
        cells[-1] = f"w = {tried[-1]:.3f}: {cells[-1]}" if len(tried) > len(WEIGHTS) else ""
        z = np.abs(ours - exact) / deviation
        print(f"| {name} | {' | '.join(cells)} | {z.max():.1f} |", flush=True)


def main(
    out: str = "runs/weights_in_the_fit", chains: int = 1_000, generations: int = 200
) -> pathlib.Path:
    """The simulations, the figure, and a table; the path of the figure.

    Args:
        out: Folder of the figure.
        chains: At each weight; a fifth of them where points are drawn.
        generations: The last generation.
    """
    import collapse_jax as cj
    from collapse_jax.app.plots import style

    fig, ((left, right),) = style.figure(1, 2, width=5.4, height=3.9)
    panels = mean_panel(left, cj, generations, chains), family_panel(right, cj, generations, chains)
    print_rows(itertools.chain(*panels))
    left.set_title(
        f"mean of a Gaussian, {REAL} real points and {REAL}/k synthetic ones", fontsize=9
    )
    left.set_ylabel(f"squared error over that of {REAL} real points", fontsize=8)
    right.set_title(f"{REAL} real and {2 * REAL} synthetic points (k = 1/2)", fontsize=9)
    right.set_ylabel("error over that of w = 0, real points alone", fontsize=8)
    for axis in (left, right):
        axis.set_xlabel("w, what a synthetic point weighs (1: as a real one)", fontsize=8)
        axis.set_ylim(0, None)
    left.legend(fontsize=6.5, frameon=False)
    right.legend(fontsize=6.5, frameon=False, loc="lower right")
    path = style.save(fig, cj.RunFolder(pathlib.Path(out)), "weights_in_the_fit")
    print(f"In brackets: exact, or the limit of many points. Figure: {path}")
    return path


if __name__ == "__main__":
    run_script(main, __doc__)
