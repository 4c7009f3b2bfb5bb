"""Whose data is still in the model after g generations?

    python experiments/genealogy.py [--out runs/genealogy] [--chains 2000] [--sample-size 50]

Run time: 80 CPU-seconds, compilation included (measured), 0.8 GiB of memory.

M = 50 points per generation, 200 generations, under replace, mix with 10% fresh real data,
accumulate and accumulate_subsample. Every point is labelled with the real draw that it descends
from. The chains are compared with exact values: living real draws (theory.lineages,
theory.genealogy), identity by descent (theory.ancestry.pair_coalescence), the age of the common
ancestor (also by Kingman's coalescent), and the share of each generation's real data in the newest
set (theory.genealogy.expected_reach).
Expected at generation 100 for M = 50: replace 1.39 living real draws of 50, identity .867; 10%
real data 20.4 living real draws of the 550 that entered on average, identity .079, and a share
.9^100 = .00003 of generation 0; accumulate 50 of 50 living real draws and identity .032, its
subsamples .0375. Age of the common ancestor far from the start: 97.0 generations (Kingman
2M - 2 = 98).
Prints a table as Markdown; writes figures/genealogy.png (and .pdf).
"""

import pathlib

from collapse_jax.app.script import run_script

GAMMA = 0.1


def workflows(cj):
    """Name -> (workflow, its keywords in `theory.ancestry`)."""
    w = cj.workflows
    mixed = {"workflow": "mix", "alpha": 1 - GAMMA, "gamma": GAMMA}
    return {
        "replace": (w.replace(), {}),
        f"mix, {GAMMA:.0%} fresh real": (w.mix(1 - GAMMA, 0.0, GAMMA), mixed),
        "accumulate_subsample": (w.accumulate_subsample(), {"workflow": "accumulate_subsample"}),
        "accumulate": (w.accumulate(), {"workflow": "accumulate"}),
    }


def simulated(cj, workflow, size, generations, chains):
    """Trace of a genealogy at some 30 generations."""
    import jax

    record = sorted({*range(11), *range(0, generations + 1, max(generations // 20, 1))})
    record = [number for number in record if number <= generations]
    return cj.genealogy(
        workflow,
        jax.random.key(0),
        sample_size=size,
        generations=generations,
        chains=chains,
        record=record,
    )


def draw_pairs(axis, traces, size):
    """Identity by descent of the chains, and the exact recursion."""
    import numpy as np

    from collapse_jax import theory
    from collapse_jax.app.plots import style

    for (name, (trace, options)), colour in zip(
        traces.items(), style.generation_colours(len(traces)), strict=True
    ):
        every = np.arange(trace.generations[-1] + 1)
        exact = theory.ancestry.pair_coalescence(every, size, **options)
        axis.plot(every, exact, color=colour, lw=1.4)
        mean = trace["identity"].mean(0)
        axis.plot(trace.generations, mean, color=colour, ls="", marker="o", ms=3, label=name)
    axis.set_ylabel("two points share a real draw", fontsize=8)
    axis.set_ylim(-0.02, 1.02)


def draw_living(axis, traces, size):
    """Real draws that still have descendants; exact under replace and mix."""
    import numpy as np

    from collapse_jax import theory
    from collapse_jax.app.plots import style

    for (name, (trace, options)), colour in zip(
        traces.items(), style.generation_colours(len(traces)), strict=True
    ):
        if options.get("workflow", "mix") == "mix":
            every = np.arange(trace.generations[-1] + 1)
            gamma = options.get("gamma", 0.0)
            exact = theory.genealogy.expected_living_ancestors(every, size, gamma)
            axis.plot(every, exact, color=colour, lw=1.4)
        mean = trace["living_ancestors"].mean(0)
        axis.plot(trace.generations, mean, color=colour, ls="", marker="o", ms=3, label=name)
    axis.set_yscale("log")
    style.plain_ticks(axis.yaxis)
    axis.set_ylabel(f"real draws with descendants (M = {size})", fontsize=8)


def draw_ages(axis, trace, size):
    """P(age of the common ancestor <= t) at the last generation, exact and by Kingman."""
    import numpy as np

    from collapse_jax import theory
    from collapse_jax.app.plots import style

    ages, last = trace["common_ancestor_age"][:, -1], int(trace.generations[-1])
    every = np.arange(last + 1)
    exact = theory.genealogy.common_ancestor_probability(every, size)
    some = every[:: max(last // 50, 1)]
    limit = theory.genealogy.kingman_ancestors_distribution(some, size)[:, 0]
    axis.plot(every, (ages[:, None] <= every).mean(0), color=style.BAND, lw=2.5, label="chains")
    axis.plot(every, exact, color=style.THEORY, lw=1.2, ls="--", label="exact")
    axis.plot(some, limit, color=style.INK, lw=1, ls=":", label="Kingman")
    axis.set_xlabel("generations back", fontsize=8)
    axis.set_ylabel("one common ancestor by then (replace)", fontsize=8)


def draw_reach(axis, trace):
    """Shares of the newest set by the generation of the real data that they descend from."""
    import numpy as np

    from collapse_jax import theory
    from collapse_jax.app.plots import style

    last = int(trace.generations[-1])
    shown = np.arange(min(60, last) + 1)
    mean = trace["reach"][:, -1].mean(0)[::-1]
    exact = theory.genealogy.expected_reach(last, workflow="mix", gamma=GAMMA)[::-1]
    axis.bar(shown, mean[shown], color=style.BAND, alpha=0.5, label="chains")
    axis.plot(shown, exact[shown], color=style.THEORY, lw=1.2, ls="--", label="exact")
    axis.set_xlabel("age of the real data in generations", fontsize=8)
    axis.set_ylabel(f"share of the newest set ({GAMMA:.0%} fresh real)", fontsize=8)


def table(traces, size, marks):
    """Rows of the table: what chains and theory say of a workflow and a generation."""
    import numpy as np

    from collapse_jax import theory

    for name, (trace, options) in traces.items():
        for mark in marks:
            (at,) = np.nonzero(trace.generations == mark)[0]
            living = trace["living_ancestors"][:, at].mean()
            identity = trace["identity"][:, at].mean()
            exact = theory.ancestry.pair_coalescence(mark, size, **options)
            largest = trace["largest_family"][:, at].mean()
            first = trace["reach"][:, at, 0].mean()
            yield (
                f"| {name} | {mark} | {living:.3g} | {largest:.3g} | {identity:.4f} | {exact:.4f} "
                f"| {first:.3g} |"
            )


def main(
    out: str = "runs/genealogy", chains: int = 2_000, sample_size: int = 50, generations: int = 200
) -> list[pathlib.Path]:
    """The genealogies, a figure, and a table; the paths of the figures.

    Args:
        out: Folder of the figure.
        chains: Of replace and mix; the others, which keep all points, have a tenth.
        sample_size: Points a generation, M.
        generations: The last generation of replace and mix; the others end at half of it.
    """
    import collapse_jax as cj
    from collapse_jax import theory
    from collapse_jax.app.plots import style

    traces, half = {}, generations // 2
    for name, (workflow, options) in workflows(cj).items():
        pools = name.startswith("accumulate")
        how = (half, max(chains // 10, 2)) if pools else (generations, chains)
        traces[name] = simulated(cj, workflow, sample_size, *how), options
    names = list(traces)
    fig, axes = style.figure(2, 2, width=4.6, height=3.4)
    draw_pairs(axes[0, 0], traces, sample_size)
    draw_living(axes[0, 1], traces, sample_size)
    draw_ages(axes[1, 0], traces[names[0]][0], sample_size)
    draw_reach(axes[1, 1], traces[names[1]][0])
    for axis in axes[0]:
        axis.set_xlabel("generation (0: real data)", fontsize=8)
    for axis in axes.flat:
        axis.legend(fontsize=6.5, frameon=False)
    fig.suptitle("Points: chains. Lines: exact.", fontsize=9)
    paths = [style.save(fig, cj.RunFolder(pathlib.Path(out)), "genealogy")]
    print(
        "| workflow | generation | living real draws | largest family | identity | exact | of "
        "generation 0 |"
    )
    print("|" + "---|" * 7)
    print("\n".join(table(traces, sample_size, (1, 10, half))))
    exact = theory.lineages.expected_generations_until_one_ancestor(sample_size)
    limit = theory.genealogy.kingman_expected_common_ancestor_age(sample_size)
    print(f"age of the common ancestor far from the start: {exact:.1f}; Kingman {limit:.1f}")
    print("\n".join(map(str, paths)))
    return paths


if __name__ == "__main__":
    run_script(main, __doc__)
