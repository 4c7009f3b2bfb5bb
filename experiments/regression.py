"""Test error by generation of regressions whose labels the previous fit made.

Least squares with theory on it, and logistic.

    python experiments/regression.py [--out runs/regression] [--chains 400] [--generations 10]

Run time: 51 CPU-seconds, compilation included (measured; 133 seconds by the clock on 2 cores that
seven other programs shared).

Least squares: T = 50 points of d = 10 features N(0, I), noise 1 (the setting of Gerstgrasser et al.
2024's check). Replace, mix with
10% fresh real data, and accumulate with fresh features and with one design; accumulate and
subsample has no closed form.
Logistic: T = 300 points of d = 5 features, weights 0.5 each, the excess log-loss under the real
law.
Published: replace n sigma^2 d / (T - d - 1) after n fits (Dohmatob et al. 2024; 0.256 n here);
accumulate with one design at most
pi^2/6 times the first fit (Gerstgrasser et al. 2024; 0.422), also the limit for the logistic (Dey
and Donoho 2024, n -> infinity). Generation 0 is the fit to real data: the papers' n is generation n
- 1.
"""

import pathlib

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


def main(out: str = "runs/regression", chains: int = 400, generations: int = 10) -> pathlib.Path:
    """The simulations, the figure, and a table; the path of the figure.

    Args:
        out: Folder of the figure.
        chains: Of least squares; a quarter of them of the logistic.
        generations: The last generation.
    """
    import jax
    import numpy as np

    import collapse_jax as cj
    from collapse_jax.app.plots import style
    from collapse_jax.theory import regression as theory

    size, dim = 50, 10
    design = np.random.default_rng(0).normal(size=(size, dim))
    linear, key = cj.estimators.linear_regression(dim), jax.random.key(0)
    fixed = cj.estimators.linear_regression(dim, design=design)
    logistic, logistic_size = cj.estimators.logistic_regression(5), 300

    def trace(family, real, flow, points, metric, number):
        process = cj.generational_process(
            family, cj.sources.population(family, real), flow, sample_size=points
        )
        return cj.simulate(process, key, generations=generations, chains=number, metrics=metric)[
            metric
        ].astype(np.float64)

    zero, half = (
        cj.estimators.regression_params(np.zeros(dim)),
        cj.estimators.logistic_params(np.full(5, 0.5)),
    )
    made, axes = style.figure(1, 2, width=5.6, height=3.9)
    left, right = axes[0]
    generation = np.arange(generations + 1)
    rows = []

    def show(axis, values, colour, label, exact=None):
        """Median and quartiles; if the mean is known, it (dashed) and that of the chains (dots)."""
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        axis.fill_between(generation, low, high, color=colour, alpha=0.2, lw=0)
        axis.plot(generation, middle, color=colour, lw=1.4, label=label)
        if exact is not None:
            first = not any(line.get_label() == "exact mean" for line in axis.lines)
            axis.plot(
                generation,
                exact,
                color=colour,
                lw=0.9,
                ls="--",
                label="exact mean" if first else None,
            )
            axis.plot(
                generation,
                values.mean(0),
                color=colour,
                ls="",
                marker=".",
                ms=4,
                label="mean of chains" if first else None,
            )
        return middle

    for name, (flow, colour, law) in flows(cj).items():
        errors = trace(linear, zero, flow, size, "test_error", chains)
        mean, deviation = errors.mean(0), errors.std(0) / np.sqrt(chains)
        expected = None if law is None else theory.expected_test_error(generation, size, dim, **law)
        show(left, errors, colour, name, expected)
        rows.append((f"least squares, {name}", mean, expected, deviation))
        losses = trace(logistic, half, flow, logistic_size, "excess_log_loss", max(chains // 4, 2))
        rows.append((f"logistic, {name} (median)", show(right, losses, colour, name), None, None))
    errors = trace(fixed, zero, cj.workflows.accumulate(), size, "test_error", chains)
    expected = theory.design_test_error(generation, design, np.zeros(dim), workflow="accumulate")
    # The design's own tr (X'X)^-1 in the place of its mean d / (T - d - 1), so that one limit
    # serves all curves.
    unit = dim / (size - dim - 1) / np.trace(np.linalg.inv(design.T @ design))
    deviation = errors.std(0) / np.sqrt(chains)
    rows.append(
        (
            "least squares, accumulate, one design",
            errors.mean(0) * unit,
            expected * unit,
            deviation * unit,
        )
    )
    show(left, errors * unit, "#2a9d8f", "accumulate, one design", expected * unit)
    limit = theory.limiting_test_error(size, dim, design="same")
    left.axhline(limit, color="#2a9d8f", lw=0.8, ls=":", label="published limit of the mean: π²/6")
    first = rows[-2][1][0]
    right.axhline(
        first * np.pi**2 / 6,
        color="#3a6ea5",
        lw=0.8,
        ls=":",
        label="published limit for T → ∞, π²/6 of generation 0",
    )
    labels = (
        (
            left,
            f"least squares, T = {size}, d = {dim}, {chains:,} chains\nmedian and 25 to 75%",
            "test error (excess risk / noise²)",
        ),
        (
            right,
            f"logistic, T = {logistic_size}, d = 5, {max(chains // 4, 2):,} chains\nmedian and 25 "
            "to 75%",
            "excess log-loss (nats a label)",
        ),
    )
    for axis, title, label in labels:
        axis.set_yscale("log")
        axis.set_title(title, fontsize=9)
        axis.set_ylabel(label, fontsize=8)
        axis.set_xlabel("generation (0: fitted to real labels)", fontsize=8)
        axis.legend(fontsize=6.5, frameon=False)
    style.plain_ticks(left.yaxis)
    style.plain_ticks(right.yaxis)
    path = style.save(made, cj.RunFolder(pathlib.Path(out)), "regression")

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
    print(
        f"In brackets: closed form. Limit of accumulate with one design (published): {limit:.4f}. "
        f"Figure: {path}"
    )
    return path


if __name__ == "__main__":
    run_script(main, __doc__)
