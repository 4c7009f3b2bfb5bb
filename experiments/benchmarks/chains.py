"""Chains compared with what a user would write instead, in the same run, and their cost by size.

    python experiments/benchmarks/chains.py            both tables, about 10 minutes on 2 CPU cores
    python experiments/benchmarks/chains.py peers      chain-generations against NumPy, a loop as in
    the papers, a plain jax.vmap, numba and torch; with and without AVX-512, if there is AVX-512; 5
    minutes
    python experiments/benchmarks/chains.py cost       by chains, sample size, categories,
    dimensions and generations
    python experiments/benchmarks/chains.py large      a million Gaussian chains, and a phase
    diagram of 10^5 points
    python experiments/benchmarks/chains.py recorded   by what is recorded, and statistics on the
    devices against NumPy's of all chains

Nothing is read from a compilation cache, and every generation is recorded. The peers of a row run
in turn, several rounds, and the best of each counts; CPU time is given with wall time for shared
machines. Every row of the other tables runs in a separate process, and its times are the best of
three. Results: docs/speed.md and docs/cost.md.
"""

import concurrent.futures
import multiprocessing
import os
import resource
import subprocess
import sys
import time

import numpy as np
from peers import CATEGORICAL, GAUSSIAN, has_avx512, installed, machine, variables

GAUSSIANS = [
    (1, 100),
    (1, 1000),
    (1, 10_000),
    (2, 100),
    (2, 1000),
    (2, 10_000),
    (10, 1000),
    (10, 10_000),
    (64, 1000),
    (64, 10_000),
]
CATEGORICALS = [
    (10, 100, 100),
    (100, 1000, 100),
    (1000, 1000, 10),
    (1000, 1000, 1000),
    (1000, 100_000, 20),
    (50_000, 100_000, 10),
    (50_000, 100_000, 10, 16),
    (50_000, 100_000, 10, 1),
]
# Of each row: how often all run, and after how many seconds no further round begins.
ROUNDS, MOST_SECONDS = 3, 5


def best(function, repeats=3):
    """The shortest of some runs, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def ours(process, chains, generations, metrics, **options):
    """(seconds a chain-generation, seconds of compilation) of a simulation."""
    import jax

    import collapse_jax as cj

    def go():
        cj.simulate(
            process,
            jax.random.key(0),
            generations=generations,
            chains=chains,
            metrics=metrics,
            chunk=50,
            **options,
        )

    began = time.perf_counter()
    go()
    first = time.perf_counter() - began
    warm = best(go)
    return warm / (chains * generations), first - warm


def gaussian_process(dim, size, ddof=1):
    import collapse_jax as cj

    source = cj.sources.normal(np.zeros(dim), np.eye(dim))
    return cj.generational_process(
        cj.estimators.gaussian(dim, ddof), source, cj.workflows.replace(), sample_size=size
    )


def categorical_process(categories, size):
    import collapse_jax as cj

    source = cj.sources.categorical(np.full(categories, 1 / categories))
    return cj.generational_process(
        cj.estimators.categorical(categories), source, cj.workflows.replace(), sample_size=size
    )


def own(process, chains, generations, metrics):
    """What `peers` has of others: (go, chain-generations of a call) of ours."""
    import jax

    import collapse_jax as cj

    options = {"generations": generations, "chains": chains, "metrics": metrics, "chunk": 50}
    return lambda: cj.simulate(process, jax.random.key(0), **options), chains * generations


def side_by_side(contenders, rounds=ROUNDS):
    """Name -> (seconds, CPU seconds) a chain-generation, and seconds of the first call.

    The least of several rounds, in each of which all run once: what else the machine does then
    hits all of them, and seldom the best of each. The rounds end when they have taken so long that
    the rest can tell no more.

    Args:
        contenders: name -> (go, chain-generations of a call).
    """
    first, best, began = {}, {}, time.perf_counter()
    for number in range(rounds + 1):
        for name, (go, work) in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            go()
            taken = time.perf_counter() - wall, time.process_time() - cpu
            if number == 0:
                first[name] = taken[0]
                continue
            each = tuple(seconds / work for seconds in taken)
            best[name] = tuple(map(min, each, best.get(name, each)))
        if number > 1 and time.perf_counter() - began > MOST_SECONDS:
            break
    return best, first


def row_of(name, mine, peers, *shape):
    """A row: the name, ours, every peer or None where it is not installed, and compilation."""
    contenders = {"ours": mine}
    for peer, make in peers.items():
        needs = make.__name__.partition("_")[0]
        if needs not in ("numba", "torch") or installed(needs):
            contenders[peer] = make(*shape)
    best, first = side_by_side(contenders)
    compiled = first["ours"] - best["ours"][0] * mine[1]
    return name, best["ours"], [best.get(peer) for peer in peers], compiled


def gaussian_row(dim, size):
    chains = {1: 200_000, 2: 100_000, 10: 16_384, 64: 1_024}[dim]
    mine = own(
        gaussian_process(dim, size), chains, 100 if dim < 10 else 20, ("mean", "log_variance")
    )
    return row_of(f"Gaussian d={dim}, M={size:,}", mine, GAUSSIAN, dim, size)


def categorical_row(categories, size, generations, few=None):
    several = {10: 100_000, 100: 16_384, 1000: 4_096, 50_000: 256}[categories]
    if generations > 100:
        several //= 4
    mine = own(
        categorical_process(categories, size), few or several, generations, ("heterozygosity",)
    )
    name = f"categorical K={categories:,}, M={size:,}, {generations:,} generations"
    if few:
        name += f", {few} chain{'s' * (few > 1)}"
    return row_of(name, mine, CATEGORICAL, categories, size, generations, few)


def cost_row(kind, chains, generations, *shape):
    process = gaussian_process(*shape) if kind == "gaussian" else categorical_process(*shape)
    metric = "log_variance" if kind == "gaussian" else "heterozygosity"
    mine, compiled = ours(process, chains, generations, (metric,), record=max(generations // 10, 1))
    return [kind, shape, chains, generations, mine, mine * chains * generations, compiled]


def large_row(what):
    """A million Gaussian chains of 10,000 generations; a phase diagram of 10^5 points of 10 chains,
    50 generations.
    """
    import jax

    import collapse_jax as cj
    from collapse_jax.app.commands.grid import programs
    from collapse_jax.app.config import SimulateConfig
    from collapse_jax.drivers.plan import Plan
    from collapse_jax.drivers.simulate import simulate_chunks
    from collapse_jax.drivers.summary import summarise_chunks

    if what == "chains":

        def go():
            cj.simulate(
                gaussian_process_once,
                jax.random.key(0),
                generations=10_000,
                chains=10**6,
                metrics=("log_variance",),
                record=10_000,
            )

        gaussian_process_once = gaussian_process(1, 100)
    else:
        sizes = tuple(int(size) for size in np.unique(np.geomspace(4, 10**5, 400).round()))
        gammas = tuple(float(gamma) for gamma in np.linspace(0, 0.5, -(-(10**5) // len(sizes))))
        config = SimulateConfig(sample_size=sizes, gamma=gammas, chains=10, generations=50, ddof=0)
        grid = list(programs(config.points()))

        def go():
            for batch in grid:
                at_points = {"settings": batch.settings, "names": batch.names}
                plan = Plan(50, 10, ("log_variance",), record=50, **at_points)
                summarise_chunks(simulate_chunks(batch.process, jax.random.key(0), plan), 10)

    began = time.perf_counter()
    go()
    first = time.perf_counter() - began
    warm = best(go, 1)
    return [what, warm, first - warm]


def recorded_row(chains, generations, record, how):
    """how: "chains" keeps them all, "statistics" reduces them where they are, "NumPy" keeps them
    and takes the statistics at the end.
    """
    import jax

    import collapse_jax as cj
    from collapse_jax.drivers.summary import QUANTILES

    process, options = (
        gaussian_process(1, 100),
        {"generations": generations, "chains": chains, "record": record, "chunk": 50},
    )

    def go():
        if how == "statistics":
            return cj.simulate_summary(
                process, jax.random.key(0), **options, metrics=("log_variance",)
            )
        values = cj.simulate(process, jax.random.key(0), **options, metrics=("log_variance",))[
            "log_variance"
        ]
        if how == "NumPy":
            rows = np.moveaxis(values, 0, -1)
            return (
                rows.mean(-1, dtype=np.float64),
                rows.std(-1, ddof=1, dtype=np.float64),
                np.quantile(rows, QUANTILES, axis=-1),
            )

    began = time.perf_counter()
    go()
    first = time.perf_counter() - began
    warm = best(go, 1)
    return [warm, first - warm]


def with_memory(function, *arguments):
    """A row, and the peak memory of its process in MiB."""
    return [*function(*arguments), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]


def alone(function, *arguments):
    """The row, from a process of its own."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(with_memory, function, *arguments).result()


def amount(seconds):
    return (
        f"{seconds * 1e9:,.1f} ns"
        if seconds < 1e-6
        else f"{seconds * 1e6:,.2f} us"
        if seconds < 1e-3
        else f"{seconds * 1e3:,.2f} ms"
    )


def _header(others):
    columns = ["chain-generations", "ours", *others, "first call"]
    return "\n" + "\n".join(
        "| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns))
    )


def _beside(other, mine):
    """A peer's time, and how often ours it is: by the clock, and by CPU time."""
    if other is None:
        return "not installed"
    by_clock, by_cpu = (theirs / ours for theirs, ours in zip(other, mine, strict=True))
    digits = 0 if by_clock >= 100 else 1
    return f"{amount(other[0])}: {by_clock:,.{digits}f} ({by_cpu:,.{digits}f})"


def table_of_peers():
    """Both tables, with the instructions that this process may use."""
    print(f"\n{machine()}. Times by the clock (in brackets CPU time), and how often ours.")
    tables = (GAUSSIAN, GAUSSIANS, gaussian_row), (CATEGORICAL, CATEGORICALS, categorical_row)
    for peers_, shapes, row in tables:
        print(_header(peers_), flush=True)
        for shape in shapes:
            name, mine, others, compiled = row(*shape)
            times = " | ".join(_beside(other, mine) for other in others)
            own_times = f"{amount(mine[0])} ({amount(mine[1])})"
            print(f"| {name} | {own_times} | {times} | {compiled:.1f} s |", flush=True)


def peers():
    """The tables with all that the processor has, and with AVX2 alone if that is less."""
    for switches in ({}, variables())[: 1 + has_avx512()]:
        quiet = {"OMP_WAIT_POLICY": "PASSIVE", "JAX_ENABLE_COMPILATION_CACHE": "0"}
        command = [sys.executable, __file__, "table_of_peers"]
        subprocess.run(command, env=os.environ | quiet | switches, check=True)


def cost():
    print(
        "\n| family | shape | chains | generations | a chain-generation | all | compile | "
        "peak memory |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows = [("gaussian", 10**power, 100, 1, 100) for power in range(3, 8)]
    rows += [("gaussian", 100_000, 100, 1, size) for size in (2, 10, 10**4, 10**6, 10**9)]
    rows += [("gaussian", 4_096, 20, dim, 1000) for dim in (2, 3, 5, 10, 12, 13, 32, 64)]
    rows += [("gaussian", 10_000, generations, 1, 100) for generations in (10, 1000, 10**4, 10**5)]
    rows += [
        ("categorical", 4_096, 20, categories, 1000) for categories in (2, 10, 100, 1000, 10_000)
    ]
    rows += [("categorical", 4_096, 20, 100, size) for size in (10, 100, 10**4, 10**6, 10**8)]
    rows += [("categorical", 4_096, generations, 100, 1000) for generations in (100, 1000, 10_000)]
    for row in rows:
        kind, shape, chains, generations, mine, whole, compiled, memory = alone(cost_row, *row)
        text = (
            f"d={shape[0]}, M={shape[1]:,}"
            if kind == "gaussian"
            else f"K={shape[0]:,}, M={shape[1]:,}"
        )
        times = f"{amount(mine)} | {whole:.2f} s | {compiled:.1f} s | {memory:.0f} MiB"
        print(f"| {kind} | {text} | {chains:,} | {generations:,} | {times} |", flush=True)


def large():
    print("\n| what | seconds | compile | peak memory |")
    print("|---|---|---|---|")
    names = {
        "chains": "10^6 Gaussian chains, 10^4 generations",
        "grid": "phase diagram of 10^5 points, 10 chains each, 50 generations",
    }
    for what, name in names.items():
        _, seconds, compiled, memory = alone(large_row, what)
        print(f"| {name} | {seconds:.2f} | {compiled:.1f} | {memory:.0f} MiB |", flush=True)


def recorded():
    print("\n| chains | generations | recorded | kept | seconds | compile | peak memory |")
    print("|---|---|---|---|---|---|---|")
    rows = [(10**5, 1000, record, "chains") for record in (1000, "log", 100, 10, 1)]
    rows += [
        (chains, 1000, record, how)
        for chains, record in ((10**5, 10), (10**6, "log"))
        for how in ("chains", "NumPy", "statistics")
    ]
    for chains, generations, record, how in dict.fromkeys(rows):
        seconds, compiled, memory = alone(recorded_row, chains, generations, record, how)
        said = {"log": "log", 1: "all", generations: "the last"}.get(record, f"every {record}th")
        kept = {
            "chains": "chains",
            "NumPy": "chains, then statistics by NumPy",
            "statistics": "statistics",
        }[how]
        print(
            f"| {chains:,} | {generations:,} | {said} | {kept} | {seconds:.2f} | "
            f"{compiled:.1f} | {memory:.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    tables = {"peers": peers, "cost": cost, "large": large, "recorded": recorded}
    tables["table_of_peers"] = table_of_peers
    for table in sys.argv[1:] or ["peers", "cost"]:
        tables[table]()
