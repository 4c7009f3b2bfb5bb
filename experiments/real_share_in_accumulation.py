"""How much real data does each batch need? Accumulation with a real share a in every batch.

    python experiments/real_share_in_accumulation.py [--out runs/real_share] [--chains 4000]

Run time: 8 CPU-seconds, compilation included (measured; 37 seconds of wall time under other load).

Every generation adds a batch of m = 20 points to the pool, round(a m) of them real, and is fitted
to the whole pool: Bernoulli models of a fair coin, 1 to 400 batches, all shares in one compiled
program. Left: the squared error of the mean relative to that of one point, with the exact recursion
v' = ((n + 1 - a)/(n + 1))^2 v + s/(m (n + 1)^2), s = a + (1 - a)(1 - v) (`theory.real_batches`).
Right: the same relative to n m real points, which shows the cost of the synthetic ones.

Published (Wang, Niu and Li 2026, arXiv 2602.16065): errors fall at the smaller of the model's rate
without synthetic data and a; squared errors of a mean as n^-min(1, 2a). Expected here: with a = 0
the error never falls; with a = .3 it falls as n^-.6; above a = 1/2 as 1/n, at n m v = 1/(2a - 1):
1.67 for a = .8.
Measured (4,000 chains, seed 0), n m v after 400 batches (exact in brackets): a = 0 616 (641), .1
235 (233), .3 33.6 (34.3), .5 6.93 (6.96), .8 1.63 (1.65). The largest |z| is 2.4.
"""

import pathlib

import numpy as np

from collapse_jax.app.script import run_script

SIZE, LAST = 20, 399
SHARES = {0.0: "#7a1f3d", 0.1: "#d1495b", 0.3: "#e08e2b", 0.5: "#6a4c93", 0.8: "#3a6ea5"}


def at_points(at, settings, metric, record, chains, key):
    """A metric [point, chain, record] of the processes at(settings), by one compiled program."""
    from collapse_jax.core.process import process_grid
    from collapse_jax.drivers.plan import Plan
    from collapse_jax.drivers.simulate import simulate_chunks

    example = {name: float(values[0]) for name, values in settings.items()}
    plan = Plan(
        int(record[-1]), chains, (metric,), record=record, chunk=len(record), settings=settings
    )
    chunks = simulate_chunks(process_grid(at, example), key, plan)
    found = np.concatenate([chunk.arrays[metric] for chunk in chunks], axis=1)
    return found.astype(np.float64).reshape(-1, chains, len(record))


def squared_errors(at, chains, seed):
    """(p - 1/2)^2 over 1/4 [share, chain, at]."""
    import jax

    import collapse_jax as cj

    family = cj.estimators.bernoulli()
    real = cj.sources.population(family, cj.estimators.bernoulli_params(0.5))

    def process(settings):
        flow = cj.workflows.accumulate(settings["real_share"], random_counts=False)
        return cj.generational_process(family, real, flow, sample_size=SIZE)

    shares = {"real_share": np.array(list(SHARES), np.float32)}
    found = at_points(process, shares, "mean", at, chains, jax.random.key(seed))
    return (found - 0.5) ** 2 * 4


def main(out: str = "runs/real_share", chains: int = 4000, seed: int = 0) -> pathlib.Path:
    """The simulations, the figure, and a table; the path of the figure.

    Args:
        out: Folder of the figure.
        chains: Of each share.
        seed: Of all random numbers.
    """
    import collapse_jax as cj
    from collapse_jax.app.plots import style
    from collapse_jax.theory import real_batches

    at = np.unique(np.geomspace(1, LAST + 1, 16).round().astype(int)) - 1
    every = np.arange(LAST + 1)
    fig, ((left, right),) = style.figure(1, 2, width=5.0, height=3.7)
    print("| real share | n m v at n = 400 | exact | limit | slope | largest |z| |")
    print("| --- | --- | --- | --- | --- | --- |")
    found = squared_errors(at, chains, seed)
    for errors, (share, colour) in zip(found, SHARES.items(), strict=True):
        exact = 1 - real_batches.retention(every, SIZE, real_share=share, random_counts=False)
        mean, deviation = errors.mean(0), errors.std(0) / np.sqrt(chains)
        for axis, factor in ((left, 1.0), (right, (every + 1.0) * SIZE)):
            axis.plot(every + 1, exact * factor, color=colour, lw=1.2, label=f"a = {share:g}")
            ours = mean * (factor if np.ndim(factor) == 0 else factor[at])
            axis.plot(at + 1, ours, color=colour, ls="", marker=".", ms=5)
        if share > 0.5:
            right.axhline(real_batches.limit(share), color=colour, lw=0.8, ls=":")
        z = np.max(np.abs(mean - exact[at]) / deviation)
        print(
            f"| {share:g} | {mean[-1] * (LAST + 1) * SIZE:.2f} | "
            f"{exact[-1] * (LAST + 1) * SIZE:.2f} | {real_batches.limit(share):.2f} | "
            f"{real_batches.rate(share):g} | {z:.1f} |"
        )
    left.plot(every + 1, 1 / SIZE / (every + 1.0), color="black", lw=0.8, ls="--", label="all real")
    left.set_ylabel("squared error over the variance, v", fontsize=8)
    right.set_ylabel("times that of as many real points, n m v", fontsize=8)
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("batches n in the pool", fontsize=8)
        axis.legend(fontsize=6.5, frameon=False)
    fig.suptitle(
        f"accumulate with a real share a in each batch of m = {SIZE}: lines exact, dots the mean "
        f"of {chains:,} chains",
        fontsize=9,
    )
    path = style.save(fig, cj.RunFolder(pathlib.Path(out)), "real_share_in_accumulation")
    print(f"Figure: {path}")
    return path


if __name__ == "__main__":
    run_script(main, __doc__)
