"""Test error of least squares and logistic regression on labels of the previous fit.

    python experiments/regression.py [--out runs/regression] [--chains 400] [--generations 10]

Run time: 51 CPU-seconds, compilation included (measured; 133 seconds of wall time on 2 cores shared
with seven other programs).

Least squares, with theory: T = 50 points of d = 10 features N(0, I), noise 1 (the setting of the
check of Gerstgrasser et al. 2024). Workflows: replace, mix with 10% fresh real data, and accumulate
with fresh features and with one design; accumulate_subsample has no closed form.
Every curve has the same key: chain c has the same first data under every workflow, so errors of
curves are not independent.
Logistic: T = 300 points of d = 5 features, weights 0.5 each. The error is the excess log-loss under
the real distribution.
Published: replace n sigma^2 d / (T - d - 1) after n fits (Dohmatob et al. 2024; 0.256 n here);
accumulate with one design at most pi^2/6 times the first fit (Gerstgrasser et al. 2024; 0.422),
also the limit for the logistic (Dey and Donoho 2024, n -> infinity). Generation 0 is the fit to
real data: the papers' n is generation n - 1.
"""

import pathlib
from typing import NamedTuple

import numpy as np

from collapse_jax.app.script import run_script


def flows(cj):
    """Name -> (workflow, colour, arguments of the closed form or None)."""
    mix = cj.workflows.mix(0.9, 0.0, 0.1)
    return {
        "replace": (cj.workflows.replace(), "#d1495b", {"workflow": "replace"}),
        "mix, 10% fresh real": (mix, "#e08e2b", {"workflow": "mix", "gamma": 0.1}),
        "accumulate_subsample": (cj.workflows.accumulate_subsample(), "#6a4c93", None),
        "accumulate": (cj.workflows.accumulate(), "#3a6ea5", {"workflow": "accumulate"}),
    }


SIZE, DIM, LOGISTIC_SIZE, LOGISTIC_DIM = 50, 10, 300, 5


class Row(NamedTuple):
    """A row of the table: values [generations], and what theory says of their mean, if it does."""

    name: str
    values: np.ndarray
    expected: np.ndarray | None = None
    deviation: np.ndarray | None = None


def trace(family, real, flow, size, metric, generations, chains):
    """A metric [chains, generation] of chains that start from the model `real`."""
    import jax

    import collapse_jax as cj

    process = cj.generational_process(
        family, cj.sources.population(family, real), flow, sample_size=size
    )
    chains_of = cj.simulate(
        process, jax.random.key(0), generations=generations, chains=chains, metrics=metric
    )
    return chains_of[metric].astype(np.float64)


def show(axis, values, colour, label, exact=None):
    """Median and quartiles; if the mean is known, it (dashed) and that of the chains (dots)."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    generation = np.arange(len(middle))
    axis.fill_between(generation, low, high, color=colour, alpha=0.2, lw=0)
    axis.plot(generation, middle, color=colour, lw=1.4, label=label)
    if exact is not None:
        first = not any(line.get_label() == "exact mean" for line in axis.lines)
        labels = ("exact mean", "mean of chains") if first else (None, None)
        axis.plot(generation, exact, color=colour, lw=0.9, ls="--", label=labels[0])
        axis.plot(
            generation, values.mean(0), color=colour, ls="", marker=".", ms=4, label=labels[1]
        )
    return middle


def least_squares(axis, generations, chains):
    """Draws least squares under every workflow; the rows of the table."""
    import collapse_jax as cj
    from collapse_jax.theory import regression as theory

    generation = np.arange(generations + 1)
    zero = cj.estimators.regression_params(np.zeros(DIM))
    family = cj.estimators.linear_regression(DIM)
    for name, (flow, colour, law) in flows(cj).items():
        errors = trace(family, zero, flow, SIZE, "test_error", generations, chains)
        mean, deviation = errors.mean(0), errors.std(0) / np.sqrt(chains)
        expected = None if law is None else theory.expected_test_error(generation, SIZE, DIM, **law)
        show(axis, errors, colour, name, expected)
        yield Row(f"least squares, {name}", mean, expected, deviation)


def one_design(axis, generations, chains):
    """Draws least squares with one design for all generations; the row of the table."""
    import collapse_jax as cj
    from collapse_jax.theory import regression as theory

    design = np.random.default_rng(0).normal(size=(SIZE, DIM))
    family = cj.estimators.linear_regression(DIM, design=design)
    zero, flow = cj.estimators.regression_params(np.zeros(DIM)), cj.workflows.accumulate()
    errors = trace(family, zero, flow, SIZE, "test_error", generations, chains)
    generation = np.arange(generations + 1)
    expected = theory.design_test_error(generation, design, np.zeros(DIM), workflow="accumulate")
    # The design's own tr (X'X)^-1 in the place of its mean d / (T - d - 1), so that one limit
    # serves all curves.
    unit = DIM / (SIZE - DIM - 1) / np.trace(np.linalg.inv(design.T @ design))
    deviation = errors.std(0) / np.sqrt(chains)
    show(axis, errors * unit, "#2a9d8f", "accumulate, one design", expected * unit)
    return Row(
        "least squares, accumulate, one design",
        errors.mean(0) * unit,
        expected * unit,
        deviation * unit,
    )


def logistic(axis, generations, chains):
    """Draws logistic regression under every workflow; the rows of the table."""
    import collapse_jax as cj

    family = cj.estimators.logistic_regression(LOGISTIC_DIM)
    half = cj.estimators.logistic_params(np.full(LOGISTIC_DIM, 0.5))
    for name, (flow, colour, _) in flows(cj).items():
        losses = trace(family, half, flow, LOGISTIC_SIZE, "excess_log_loss", generations, chains)
        yield Row(f"logistic, {name} (median)", show(axis, losses, colour, name))


def dress(axis, title, label):
    from collapse_jax.app.plots import style

    axis.set_yscale("log")
    axis.set_title(title, fontsize=9)
    axis.set_ylabel(label, fontsize=8)
    axis.set_xlabel("generation (0: fitted to real labels)", fontsize=8)
    axis.legend(fontsize=6.5, frameon=False)
    style.plain_ticks(axis.yaxis)


def print_table(rows, generations):
    """Test errors at some generations, theory in brackets."""
    marks = [mark for mark in (0, 1, 4, 9, 19) if mark <= generations]
    print(
        f"| test error at generation | {' | '.join(str(mark) for mark in marks)} | largest |z| "
        "from theory |"
    )
    print("| --- " * (len(marks) + 2) + "|")
    for name, values, expected, deviation in rows:
        z = "" if expected is None else f"{np.max(np.abs(values - expected) / deviation):.1f}"
        cells = [
            f"{values[mark]:.4f}" + ("" if expected is None else f" ({expected[mark]:.4f})")
            for mark in marks
        ]
        print(f"| {name} | {' | '.join(cells)} | {z} |")


def main(out: str = "runs/regression", chains: int = 400, generations: int = 10) -> pathlib.Path:
    """The simulations, the figure, and a table; the path of the figure.

    Args:
        out: Folder of the figure.
        chains: Of least squares; a quarter of them of the logistic.
        generations: The last generation.
    """
    import collapse_jax as cj
    from collapse_jax.app.plots import style
    from collapse_jax.theory import regression as theory

    fig, ((left, right),) = style.figure(1, 2, width=5.6, height=3.9)
    fewer = max(chains // 4, 2)
    linear = list(least_squares(left, generations, chains))
    others = list(logistic(right, generations, fewer))
    rows = [row for pair in zip(linear, others, strict=True) for row in pair]
    rows.append(one_design(left, generations, chains))
    limit = theory.limiting_test_error(SIZE, DIM, design="same")
    left.axhline(limit, color="#2a9d8f", lw=0.8, ls=":", label="published limit of the mean: π²/6")
    label = "published limit for T → ∞, π²/6 of generation 0"
    first = others[-1].values[0]
    right.axhline(first * np.pi**2 / 6, color="#3a6ea5", lw=0.8, ls=":", label=label)
    quartiles = "median and 25 to 75%; the same random numbers for every curve"
    title = f"least squares, T = {SIZE}, d = {DIM}, {chains:,} chains\n{quartiles}"
    dress(left, title, "test error (excess risk / noise²)")
    title = f"logistic, T = {LOGISTIC_SIZE}, d = {LOGISTIC_DIM}, {fewer:,} chains\n{quartiles}"
    dress(right, title, "excess log-loss (nats a label)")
    path = style.save(fig, cj.RunFolder(pathlib.Path(out)), "regression")
    print_table(rows, generations)
    print(
        f"In brackets: closed form. Limit of accumulate with one design (published): {limit:.4f}. "
        f"Figure: {path}"
    )
    return path


if __name__ == "__main__":
    run_script(main, __doc__)
