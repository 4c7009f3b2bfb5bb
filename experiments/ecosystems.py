"""Models that read each other: a phase diagram over coupling, and the best number of models.

    python experiments/ecosystems.py [--out runs/ecosystems] [--chains 400]

Run time: 34 CPU-seconds, compilation included (measured).

Above: eight Gaussians (ddof = 0) of M = 30 points on a ring. Each reads a share c of its neighbour,
a share r of fresh real data, and otherwise itself; 36 couplings in one compiled program. Shown are
the variance within a model and that between models after 60 generations, relative to the real
variance, exact (theory.islands, lines) and simulated (points).
Below: K models share 240 points per generation and read 3% of the others. Shown are the variance
within a model relative to that of one model with all points, by generation; and the best K at each
generation, exact, for several shares read from others.
Expected at c = 0, .01, .1 with r = 0: within .126, .343, .640, between .764, .518, .165; with r =
.1 within .846, .856, .898. Best of the compared K at 3%: 1; from generations 284, 301, 397, 572,
946 on: 2, 4, 10, 20, 40.
Prints a table as Markdown; writes figures/ecosystems.png (and .pdf).
"""

import pathlib

from collapse_jax.app.script import run_script

MODELS, SIZE, LAST, BUDGET = 8, 30, 60, 240
SHARES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9)
REAL = (0.0, 0.01, 0.03, 0.1)
# Numbers of models that share the budget.
NUMBERS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 24, 30, 40)
OF_OTHERS = (0.001, 0.01, 0.03, 0.1)


def ring(share, real):
    """Coupling [K, K]: a share of the neighbour's points, one of real data, the rest its own."""
    import numpy as np

    own = np.eye(MODELS)
    return (1 - real) * ((1 - share) * own + share * np.roll(own, 1, axis=1))


def among_others(models, share):
    """Coupling [K, K]: a share of what each model reads is all others', the rest its own."""
    import numpy as np

    if models == 1:
        return np.ones((1, 1))
    coupling = np.full((models, models), share / (models - 1))
    np.fill_diagonal(coupling, 1 - share)
    return coupling


def simulated(couplings, chains):
    """(within, between) [coupling] mean variances after `LAST` generations."""
    import jax

    import collapse_jax as cj

    family, real = cj.estimators.gaussian(1, ddof=0), cj.sources.normal([0.0], [[1.0]])
    trace = cj.simulate_couplings(
        lambda coupling: cj.ecosystem(family, real, coupling, SIZE),
        couplings,
        jax.random.key(0),
        generations=LAST,
        chains=chains,
        metrics=("within_variance", "between_variance"),
        record=[LAST],
    )
    names = ("within_variance", "between_variance")
    return [trace[name][:, :, -1].astype(float) for name in names]


def exact(coupling):
    """(within, between) by shared ancestry."""
    from collapse_jax.theory import islands

    within = islands.retention(LAST, SIZE, coupling).mean()
    return within, islands.pooled_retention(LAST, SIZE, coupling) - within


def best_numbers(share, generations):
    """[generation] the number of models that keeps most variance within a model."""
    import numpy as np

    from collapse_jax.theory import islands

    kept = [
        islands.retention(generations, BUDGET // models, among_others(models, share))[:, 0]
        for models in NUMBERS
    ]
    return np.array(NUMBERS)[np.argmax(kept, axis=0)]


def draw_phases(axes, values):
    """Within and between models by share of the neighbour, in a colour for each real share."""
    import numpy as np

    from collapse_jax.app.plots import style

    fine = np.concatenate([[0.0], np.geomspace(1e-3, 0.95, 40)])
    places = np.maximum(SHARES, 1e-3)
    for i, (real, colour) in enumerate(zip(REAL, style.generation_colours(len(REAL)), strict=True)):
        curves = np.array([exact(ring(share, real)) for share in fine])
        for axis, curve, means in zip(axes, curves.T, values, strict=True):
            own = means.reshape(len(REAL), len(SHARES), -1)[i]
            error = own.std(1) / own.shape[1] ** 0.5
            axis.plot(np.maximum(fine, 1e-3), curve, color=colour, lw=1.4, label=f"{real:.0%} real")
            axis.errorbar(places, own.mean(1), 2 * error, color=colour, fmt="o", ms=3, lw=1)
    for axis, title in zip(axes, ("within a model", "between models"), strict=True):
        axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_xlabel("share of the neighbour's points (left end: 0)", fontsize=8)
        axis.set_ylabel(f"variance {title}, generation {LAST} (truth: 1)", fontsize=8)


def draw_budget(axes, generations):
    """Variance within a model over that of one model, and the best number of models."""
    import numpy as np

    from collapse_jax.app.plots import style
    from collapse_jax.theory import islands

    alone = islands.retention(generations, BUDGET, [[1.0]])[:, 0]
    shown = (2, 4, 8, 20, 40)
    for models, colour in zip(shown, style.generation_colours(len(shown)), strict=True):
        kept = islands.retention(generations, BUDGET // models, among_others(models, 0.03))[:, 0]
        axes[0].plot(generations, kept / alone, color=colour, lw=1.4, label=f"K = {models}")
    axes[0].axhline(1, color=style.INK, lw=0.8, ls="--", label="K = 1")
    axes[0].set_yscale("log")
    axes[0].set_ylabel("variance within a model over that of K = 1", fontsize=8)
    for share, colour in zip(OF_OTHERS, style.generation_colours(len(OF_OTHERS)), strict=True):
        best = best_numbers(share, generations)
        axes[1].step(generations, best, color=colour, lw=1.4, label=f"{share:.1%} of others")
    axes[1].set_yscale("log")
    axes[1].set_yticks([1, 2, 4, 10, 20, 40], ["1", "2", "4", "10", "20", "40"])
    axes[1].set_ylabel("best number of models", fontsize=8)
    for axis in axes:
        axis.set_xlim(0, np.max(generations))
        axis.set_xlabel("generation (0: fitted to real data)", fontsize=8)


def main(
    out: str = "runs/ecosystems", chains: int = 400, generations: int = 1_600
) -> list[pathlib.Path]:
    """The simulations, a figure, and a table; the paths of the figures.

    Args:
        out: Folder of the figures.
        chains: Of each coupling.
        generations: The last one of the comparison of numbers of models.
    """
    import numpy as np

    import collapse_jax as cj
    from collapse_jax.app.plots import style

    couplings = np.array([ring(share, real) for real in REAL for share in SHARES])
    values = simulated(couplings, chains)
    print("| neighbour | real | within, exact | simulated | between, exact | simulated |")
    print("|---|---|---|---|---|---|")
    for place, (real, share) in enumerate((r, s) for r in REAL for s in SHARES):
        cells = [f"{share:g}", f"{real:g}"]
        for of_theory, found in zip(exact(couplings[place]), values, strict=True):
            cells += [f"{of_theory:.4f}", f"{found[place].mean():.4f}"]
        print(f"| {' | '.join(cells)} |")
    every = np.arange(generations + 1)
    for share in OF_OTHERS:
        best = best_numbers(share, every)
        turns = [0, *(np.flatnonzero(np.diff(best)) + 1)]
        print(f"best K at {share:.1%}: " + ", ".join(f"{best[g]} from {g}" for g in turns))
    fig, axes = style.figure(2, 2, width=5, height=3.6)
    draw_phases(axes[0], values)
    draw_budget(axes[1], every)
    for axis in axes.flat:
        axis.legend(fontsize=6.5, frameon=False)
    path = style.save(fig, cj.RunFolder(pathlib.Path(out)), "ecosystems")
    print(path)
    return [path]


if __name__ == "__main__":
    run_script(main, __doc__)
