"""With explicit points, collapse stops when sigma reaches the rounding error of the mean.

The exact process continues to collapse.

    python experiments/rounding_stops_collapse.py [--out FILE.png]  about 20 seconds on 2 CPU cores

A Gaussian is refitted to M = 10 of its own points (ddof = 1), 2,000 generations, 500 chains. It is
computed in four ways: with explicit samples in float32 and in float64, as in every published
script; and with this library, by the exact distribution and by points (both in float32, with scales
as logarithms, and points relative to the mean and scale of their model). The float32 and the
float64 script have the same draws; so have the two of this library. So each pair differs only by
rounding or by the way of drawing. Expected: log sigma falls by -(digamma(9/2) - log(9/2))/2 =
0.0577 per generation (theory.gaussian.expected_log_variance), to -115 at the end. Measured: the
chains of explicit samples leave this line near -15 (generation 250) and -35 (generation 600),
hardly move for about 600 generations, and then reach a sigma of exactly 0, which the exact process
never does.
"""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax.app.plots import style
from collapse_jax.app.script import run_script
from collapse_jax.theory import gaussian as theory

SIZE, GENERATIONS, CHAINS = 10, 2_000, 500


def absolute_chain(dtype):
    """Median log sigma [generation] of chains that draw x = mean + sigma z and fit x."""
    rng = np.random.default_rng(0)
    mean, sigma = np.zeros((CHAINS, 1), dtype), np.ones((CHAINS, 1), dtype)
    medians = []
    for _ in range(GENERATIONS + 1):
        x = mean + sigma * rng.standard_normal((CHAINS, SIZE)).astype(dtype)
        mean, sigma = (
            x.mean(1, keepdims=True, dtype=dtype),
            x.std(1, ddof=1, keepdims=True, dtype=dtype),
        )
        with np.errstate(divide="ignore"):
            medians.append(np.median(np.log(sigma)))
    return np.array(medians)


def our_chain(by):
    """log sigma [generation] (median over chains) of the library's chains."""
    process = cj.generational_process(
        cj.estimators.gaussian(1, by=by),
        cj.sources.normal([0.0], [[1.0]]),
        cj.workflows.replace(),
        sample_size=SIZE,
    )
    trace = cj.simulate(
        process,
        jax.random.key(0),
        generations=GENERATIONS,
        chains=CHAINS,
        metrics=("log_variance",),
    )
    return np.median(trace["log_variance"], axis=0) / 2


def main(out: str = "rounding_stops_collapse.png") -> None:
    """The chains, their table, and the figure."""
    generation = np.arange(GENERATIONS + 1)
    curves = {
        "absolute samples, float32": (absolute_chain(np.float32), "#7a7a7a", "-"),
        "absolute samples, float64": (absolute_chain(np.float64), style.INK, "-"),
        "collapse_jax by points, float32": (our_chain("points"), "#2a9d8f", "-"),
        "collapse_jax by law, float32": (our_chain("law"), style.BAND, "-"),
        "exact mean": (
            theory.expected_log_variance(generation, SIZE, ddof=1) / 2,
            style.THEORY,
            "--",
        ),
    }
    made, axes = style.figure(1, 1, width=6.4, height=4)
    for name, (values, colour, line) in curves.items():
        axes[0, 0].plot(
            generation,
            np.where(np.isfinite(values), values, np.nan),
            color=colour,
            ls=line,
            lw=1.4,
            label=name,
        )
        print(
            f"{name:34s} log sigma at generation 300, 1,000, 2,000: {values[300]:8.2f} "
            f"{values[1000]:8.2f} {values[2000]:8.2f}"
        )
    axes[0, 0].set_xlabel("generation (0: fitted to real data)", fontsize=8)
    axes[0, 0].set_ylabel("median log sigma", fontsize=8)
    axes[0, 0].set_title(f"Gaussian, replace, M = {SIZE}, {CHAINS} chains", fontsize=9)
    axes[0, 0].legend(fontsize=7, frameon=False)
    made.savefig(out, dpi=160)
    print(out)


if __name__ == "__main__":
    run_script(main, __doc__)
