"""In which generations should real data be used? Policies by gradient, compared with simulations.

    python experiments/policies.py [--out runs/policies] [--generations 20] [--chains 5000]

Run time: 44 CPU-seconds, compilation included (measured, 5,000 chains; 3 minutes of wall time on 2
cores shared with seven other programs).

Some of the 2,000 points of generations 1 to 20 (100 per set) are real; generation 0 is fitted to
100 real points. Above: the real points of each generation. Below: the squared error of the mean by
generation, exact (lines, theory.spending) and simulated (dots); grey: constant shares. Columns: mix
for the last model, mix for the mean over all models, accumulate for the last model (for the mean it
is the same). A table then varies the number of real points, and chooses sizes too, with a budget of
1,000 where a synthetic point costs a tenth of a real one.
Expected: mix, last model: all 100 real points in the last generation, error .0100 (constant .0907);
mix, mean: every other generation, .02050 (constant .02203); accumulate, last model: the first five
generations, .002737 (constant .005251).
"""

import pathlib

import numpy as np

from collapse_jax.app.script import run_script

SIZE = 100
COLUMNS = {
    "mix, for the last model, 100 real": ("mix", "final", 100),
    "mix, for the mean of all models, 500 real": ("mix", "mean", 500),
    "accumulate, for the last model, 500 real": ("accumulate", "final", 500),
}


def draw(axes, title, policy, check):
    """A column: what is spent, and the errors."""
    from collapse_jax.app.plots import style

    above, below = axes
    generation = np.arange(1, len(policy.real) + 1)
    above.bar(generation, policy.real, color="#3a6ea5", width=0.8)
    share = policy.real.sum() / policy.sizes.sum()
    above.axhline(share * SIZE, color="#999999", lw=1, ls="--", label="constant")
    above.set_title(title, fontsize=9)
    every = np.arange(len(policy.errors))
    below.plot(every, policy.constant_errors, color="#999999", lw=1.2, ls="--", label="constant")
    below.plot(every, policy.errors, color=style.THEORY, lw=1.3, label="exact")
    below.errorbar(
        every,
        check.error,
        check.standard_error,
        color="#3a6ea5",
        ls="",
        marker=".",
        ms=4,
        label="process",
    )
    below.set_yscale("log")
    style.plain_ticks(below.yaxis)
    below.set_xlabel("generation", fontsize=8)
    for axis in axes:
        axis.xaxis.get_major_locator().set_params(integer=True)
    below.legend(fontsize=6.5, frameon=False)


def columns(cj, generations, chains):
    """(title, policy, its check) of each column."""
    import jax

    family = cj.estimators.gaussian_mean()
    source = cj.sources.population(family, cj.estimators.gaussian_mean_params(0.0))
    for place, (title, (workflow, objective, real)) in enumerate(COLUMNS.items()):
        policy = cj.policy(
            generations,
            workflow=workflow,
            objective=objective,
            real=real * generations // 20,
            sample_size=SIZE,
        )
        key = jax.random.fold_in(jax.random.key(0), place)
        yield title, policy, policy.check(key, family, source, chains=chains)


def numbers(cj, generations):
    """Rows (name, policy) of the table."""
    for workflow, objective in (("mix", "mean"), ("accumulate", "final")):
        for real in (100, 250, 1_000):
            real = real * generations // 20
            options = {"workflow": workflow, "objective": objective, "sample_size": SIZE}
            yield (
                f"{workflow}, {objective}, {real} real",
                cj.policy(generations, real=real, **options),
            )
    for workflow, objective in (("mix", "final"), ("mix", "mean"), ("accumulate", "final")):
        policy = cj.policy(
            generations,
            workflow=workflow,
            objective=objective,
            budget=50.0 * generations,
            synthetic_cost=0.1,
            first=SIZE,
        )
        yield f"{workflow}, {objective}, budget", policy


def row_of(name, policy, z=None):
    """A row of the table."""
    spent = " ".join(map(str, policy.real.tolist()))
    gain = policy.constant_value / policy.value
    shown = "" if z is None else f"{z:.1f}"
    return (
        f"| {name} | {policy.value:.5g} | {policy.constant_value:.5g} | {gain:.3f} | {shown} | "
        f"{spent} | {int(policy.synthetic.sum()):,} |"
    )


def main(out: str = "runs/policies", generations: int = 20, chains: int = 5_000) -> pathlib.Path:
    """The policies, the figure, and a table; the path of the figure.

    Args:
        out: Folder of the figure.
        generations: The last generation; real points and budgets go with it.
        chains: Of the process beside each policy.
    """
    import collapse_jax as cj
    from collapse_jax.app.plots import style

    print("| policy | error | constant | ratio | largest z | real points | synthetic |")
    print("|---|---|---|---|---|---|---|")
    fig, axes = style.figure(2, 3, width=3.6, height=2.4)
    for place, (title, policy, check) in enumerate(columns(cj, generations, chains)):
        draw((axes[0, place], axes[1, place]), title, policy, check)
        print(row_of(title, policy, np.abs(check.z).max()))
    axes[0, 0].set_ylabel(f"real points of {SIZE}", fontsize=8)
    axes[1, 0].set_ylabel("squared error over the variance", fontsize=8)
    path = style.save(fig, cj.RunFolder(pathlib.Path(out)), "policies")
    for name, policy in numbers(cj, generations):
        print(row_of(name, policy))
    print(f"Figure: {path}")
    return path


if __name__ == "__main__":
    run_script(main, __doc__)
