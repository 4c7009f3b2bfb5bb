"""When does a verifier that is trained on its own pool stop helping?

    python experiments/drifting_verifiers.py [--out runs/drifting_verifiers] [--chains 400]

Run time: 50 CPU-seconds, compilation included (measured), 0.7 GiB of memory.

A Gaussian of known variance 1 is refitted to M = 20 of its own points that a verifier accepts. The
verifier is a soft window of width s around a centre that starts 0.5 from the real mean. After each
generation a share rho of the centre is replaced by the mean of the accepted points. The phase
diagram over rho (the refresh rate) and s is one compiled program with both as traced axes. It is
compared with the exact E m^2 (theory.drifting_verifier) and with no verifier, (g + 1) / M; a line
marks where the verifier does better if it is never refitted.
Expected at generation 40 (no verifier: 2.05): rho = 0, s = 1: .283 (bias for ever); rho = .1, s =
1: .275; rho = 1, s = 1: 1.075 (half of the drift without a verifier). The smallest at s = 1 is .270
at rho = .06.
The detector is a logistic regression on x and x^2. It is trained in each generation on 50 fresh
real points and 50 points of the model, a Gaussian (ddof = 1, M = 50). The median log variance at
generation 40 is -.74 without it, -.15 with it, and -.73 with a detector that treats its own pool as
real.
Prints a table as Markdown; writes figures/drifting_verifiers.png (and .pdf).
"""

import pathlib

from collapse_jax.app.script import run_script

SIZE, BIAS = 20, 0.5


def mean(state):
    """The mean [] of the model."""
    return state.params.mean[0]


def phase_diagram(cj, rates, widths, generations, chains):
    """m [points, chains, recorded] of all rates and widths."""
    import jax
    import numpy as np

    from collapse_jax.core.process import process_grid
    from collapse_jax.drivers.plan import Plan
    from collapse_jax.drivers.simulate import simulate_chunks

    family = cj.estimators.gaussian_mean([[1.0]])
    real = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0]))

    def at(settings):
        verifier = cj.verifiers.centred(settings["width"], centre=BIAS, refresh=settings["refresh"])
        return cj.generational_process(
            family, real, verifier(cj.workflows.replace()), sample_size=SIZE
        )

    grid = [axis.ravel() for axis in np.meshgrid(rates, widths, indexing="ij")]
    settings = dict(zip(("refresh", "width"), grid, strict=True))
    process = process_grid(at, {"refresh": 0.5, "width": 1.0})
    plan = Plan(generations, chains, (mean,), max(generations // 4, 1), settings=settings)
    chunks = simulate_chunks(process, jax.random.key(0), plan)
    values = np.concatenate([np.asarray(one.arrays["mean"], float) for one in chunks], axis=1)
    return values.reshape(len(grid[0]), chains, -1)


def detectors(cj, generations, chains):
    """Name -> log variance [chains, generation] of a Gaussian behind detectors."""
    import jax
    import jax.numpy as jnp

    def features(x):
        return jnp.concatenate([x, x**2], axis=1)

    family = cj.estimators.gaussian(1, ddof=1)
    real, replaced = cj.sources.normal([0.0], [[1.0]]), cj.workflows.replace()
    kinds = {
        "no detector": replaced,
        "trained against fresh real points": cj.verifiers.logistic(features)(replaced),
        "against its own pool": cj.verifiers.logistic(features, against="pool")(replaced),
    }
    found = {}
    for name, workflow in kinds.items():
        process = cj.generational_process(family, real, workflow, sample_size=50)
        found[name] = cj.simulate(
            process,
            jax.random.key(1),
            generations=generations,
            chains=chains,
            metrics="log_variance",
        )["log_variance"]
    return found


def draw_rates(axis, rates, generations):
    """Exact E m^2 by generation for some rates, and without a verifier."""
    import numpy as np

    from collapse_jax.app.plots import style
    from collapse_jax.theory import drifting_verifier

    at = np.unique(np.geomspace(1, 40 * generations, 120).round().astype(int))
    for rate, colour in zip(rates, style.generation_colours(len(rates)), strict=True):
        error = drifting_verifier.expected_squared_error(at, SIZE, 1.0, rate, bias=BIAS)
        axis.plot(at, error, color=colour, lw=1.5, label=f"refresh {rate:g}")
    axis.plot(at, (at + 1) / SIZE, color=style.THEORY, lw=1.2, ls="--", label="no verifier")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("generation", fontsize=8)
    axis.set_ylabel("E m²: squared error of the mean (exact)", fontsize=8)


def draw_phases(fig, axis, rates, widths, error, exact, none):
    """log10 of E m^2 over that without a verifier.

    The line is exact: beyond it the same verifier does better if it is left as it is.
    """
    import numpy as np

    from collapse_jax.app.plots import style

    ratio = np.log10(error.reshape(len(rates), len(widths)) / none)
    most = np.abs(ratio).max()
    mesh = axis.pcolormesh(rates, widths, ratio.T, cmap="RdBu_r", vmin=-most, vmax=most)
    exact = exact.reshape(ratio.shape)
    worse = (exact / exact[:1])[1:]
    axis.contour(rates[1:], widths, worse.T, levels=[1], colors="k", linewidths=1.2)
    axis.set_yscale("log")
    style.plain_ticks(axis.yaxis)
    axis.set_xlabel("refresh rate of the centre", fontsize=8)
    axis.set_ylabel("width of the verifier", fontsize=8)
    bar = fig.colorbar(mesh, ax=axis)
    bar.set_label("log10 of E m² over that without a verifier", fontsize=7)
    bar.ax.tick_params(labelsize=7)


def draw_detectors(axis, found):
    """Medians of log variance."""
    import numpy as np

    from collapse_jax.app.plots import style

    for (name, values), colour in zip(
        found.items(), (style.REAL, style.BAND, style.THEORY), strict=True
    ):
        axis.plot(np.median(values, axis=0), color=colour, lw=1.5, label=name)
    axis.set_xlabel("generation", fontsize=8)
    axis.set_ylabel("log variance (median of chains)", fontsize=8)


def main(
    out: str = "runs/drifting_verifiers", chains: int = 400, generations: int = 40, steps: int = 13
) -> list[pathlib.Path]:
    """The phase diagram, the detectors, a figure, and a table; the paths of the figures.

    Args:
        out: Folder of the figure.
        chains: Of each point of the diagram.
        generations: The last generation.
        steps: Values of the refresh rate, and of the width.
    """
    import numpy as np

    import collapse_jax as cj
    from collapse_jax.app.plots import style
    from collapse_jax.theory import drifting_verifier

    rates, widths = np.linspace(0, 1, steps), np.geomspace(0.5, 4, steps)
    values = phase_diagram(cj, rates, widths, generations, chains)
    squared = values[:, :, -1] ** 2
    exact = np.array(
        [
            drifting_verifier.expected_squared_error(generations, SIZE, width, rate, bias=BIAS)
            for rate in rates
            for width in widths
        ]
    )
    z = (squared.mean(1) - exact) / (squared.std(1, ddof=1) / np.sqrt(chains))
    none = (generations + 1) / SIZE
    found = detectors(cj, generations, chains)
    fig, axes = style.figure(1, 3, width=4.4, height=3.5)
    draw_rates(axes[0, 0], (0.0, 0.02, 0.1, 0.3, 1.0), generations)
    draw_phases(fig, axes[0, 1], rates, widths, squared.mean(1), exact, none)
    draw_detectors(axes[0, 2], found)
    for axis in (axes[0, 0], axes[0, 2]):
        axis.legend(fontsize=6.5, frameon=False)
    fig.suptitle(
        f"Verifiers that are fitted to what they let pass (M = {SIZE}, first centre {BIAS} off, "
        f"generation {generations})",
        fontsize=9,
    )
    paths = [style.save(fig, cj.RunFolder(pathlib.Path(out)), "drifting_verifiers")]
    print("| refresh | width | E m^2, chains | exact | z | no verifier |")
    print("|" + "---|" * 6)
    order = [(i, j) for i in (0, steps // 2, steps - 1) for j in (0, steps // 2, steps - 1)]
    for i, j in order:
        at = i * len(widths) + j
        print(
            f"| {rates[i]:.2f} | {widths[j]:.2f} | {squared[at].mean():.4f} | {exact[at]:.4f} "
            f"| {z[at]:+.2f} | {none:.2f} |"
        )
    fixed = np.tile(exact[:steps], steps)
    helped = (exact[steps:] < fixed[steps:]).mean()
    print(
        f"{len(z)} points: largest |z| {np.abs(z).max():.2f}, rms {np.sqrt((z**2).mean()):.2f}; a "
        f"share {helped:.2f} of the refitted verifiers does better than the same one left as it is"
    )
    for name, log_variance in found.items():
        median = np.median(log_variance[:, [1, generations // 2, generations]], axis=0)
        print(f"log variance, {name}: {', '.join(f'{one:.2f}' for one in median)}")
    print("\n".join(map(str, paths)))
    return paths


if __name__ == "__main__":
    run_script(main, __doc__)
