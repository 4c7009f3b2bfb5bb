"""Chains beside what a user would write instead, in the same run, and what they cost by size.

    python experiments/benchmarks/chains.py            both tables, about 12 minutes on 2 CPU cores
    python experiments/benchmarks/chains.py peers      chain-generations beside NumPy and a
    paper-style loop
    python experiments/benchmarks/chains.py cost       by chains, sample size, categories,
    dimensions and generations
    python experiments/benchmarks/chains.py large      a million Gaussian chains, and a phase
    diagram of 10^5 points
    python experiments/benchmarks/chains.py recorded   by what is recorded, and statistics on the
    devices beside NumPy's of all chains

Every row runs in a process of its own, without a compilation cache; times are the best of three,
the trajectory recorded every generation. Peers keep the same numbers. Published numbers: see
README, measured on 2 cores of an AMD EPYC.
"""

import concurrent.futures
import multiprocessing
import resource
import sys
import time

import numpy as np

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
]


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


def numpy_points(dim, size):
    """Vectorised NumPy through the sample, as most people write it: seconds a chain-generation."""
    chains, generations = max(2, 2_000_000 // (dim * size)), 3
    rng = np.random.default_rng(0)

    def go():
        mean, root = np.zeros((chains, dim)), np.broadcast_to(np.eye(dim), (chains, dim, dim))
        for _ in range(generations):
            if dim == 1:
                x = mean + root[:, 0] * rng.standard_normal((chains, size))
                mean, root = x.mean(1, keepdims=True), x.std(1, ddof=1)[:, None, None]
            else:
                x = mean[:, None] + rng.standard_normal((chains, size, dim)) @ root.swapaxes(1, 2)
                mean = x.mean(1)
                centred = x - mean[:, None]
                root = np.linalg.cholesky(centred.swapaxes(1, 2) @ centred / (size - 1))

    return best(go) / (chains * generations)


def numpy_law(dim, size):
    """NumPy with the same shortcut: the mean and the Bartlett factor drawn from their law,
    vectorised.
    """
    chains, generations = 200_000 // dim**2 + 2, 5
    rng = np.random.default_rng(0)
    rows, columns = np.tril_indices(dim, -1)
    freedom = size - 1 - np.arange(dim)

    def go():
        mean, root = (
            np.zeros((chains, dim)),
            np.broadcast_to(np.eye(dim), (chains, dim, dim)).copy(),
        )
        for _ in range(generations):
            mean = mean + (root @ rng.standard_normal((chains, dim, 1)))[..., 0] / np.sqrt(size)
            factor = np.zeros((chains, dim, dim))
            factor[:, range(dim), range(dim)] = np.sqrt(rng.chisquare(freedom, (chains, dim)))
            factor[:, rows, columns] = rng.standard_normal((chains, len(rows)))
            root = root @ factor / np.sqrt(size - 1)

    return best(go) / (chains * generations)


def loop_points(dim, size):
    """One chain at a time in a Python loop, as the papers' scripts do."""
    rng, generations = np.random.default_rng(0), 20

    def go():
        mean, covariance = np.zeros(dim), np.eye(dim)
        for _ in range(generations):
            x = (
                rng.multivariate_normal(mean, covariance, size)
                if dim > 1
                else rng.normal(mean, np.sqrt(covariance[0, 0]), (size, 1))
            )
            mean, covariance = x.mean(0), np.atleast_2d(np.cov(x.T))

    return best(go) / generations


def numpy_multinomial(categories, size, generations):
    chains = max(2, 400_000 // categories)
    rng = np.random.default_rng(0)

    def go():
        counts = rng.multinomial(size, np.full(categories, 1 / categories), chains)
        for _ in range(generations):
            counts = rng.multinomial(size, counts / size)
            ((counts / size) ** 2).sum(1)

    return best(go, 1 if generations > 100 else 3) / (chains * generations)


def numpy_individuals(categories, size, generations):
    """x[randint]: NumPy on individuals, without counting them."""
    chains, generations = max(2, 1_000_000 // size), min(generations, 20)
    rng = np.random.default_rng(0)

    def go():
        x = rng.integers(0, categories, (chains, size))
        for _ in range(generations):
            x = np.take_along_axis(x, rng.integers(0, size, (chains, size)), 1)

    return best(go) / (chains * generations)


def jax_multinomial(categories, size, generations):
    """jax.random.multinomial under vmap, jitted."""
    import jax
    import jax.numpy as jnp

    chains, generations = max(2, 20_000 // categories), 3

    @jax.jit
    def step(keys, counts):
        draw = jax.vmap(lambda key, one: jax.random.multinomial(key, size, one / size))
        return draw(keys, counts)

    keys = jax.random.split(jax.random.key(0), (generations, chains))
    start = jnp.full((chains, categories), size / categories, jnp.float32)

    def go():
        counts = start
        for one in keys:
            counts = step(one, counts)
        counts.block_until_ready()

    go()
    return best(go) / (chains * generations)


def gaussian_row(dim, size):
    chains = {1: 200_000, 2: 100_000, 10: 16_384, 64: 1_024}[dim]
    mine, compiled = ours(
        gaussian_process(dim, size), chains, 100 if dim < 10 else 20, ("mean", "log_variance")
    )
    return [
        f"Gaussian d={dim}, M={size:,}",
        mine,
        numpy_points(dim, size),
        numpy_law(dim, size),
        loop_points(dim, size),
        compiled,
    ]


def categorical_row(categories, size, generations):
    chains = {10: 100_000, 100: 16_384, 1000: 4_096, 50_000: 256}[categories]
    mine, compiled = ours(
        categorical_process(categories, size), chains, generations, ("heterozygosity",)
    )
    peers = [
        peer(categories, size, generations)
        for peer in (numpy_multinomial, numpy_individuals, jax_multinomial)
    ]
    return [
        f"categorical K={categories:,}, M={size:,}, {generations:,} generations",
        mine,
        *peers,
        compiled,
    ]


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


def _header(*others):
    columns = [
        "chain-generations",
        "ours",
        *(column for other in others for column in (other, "ratio")),
        "compile",
        "peak memory",
    ]
    return "\n" + "\n".join(
        "| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns))
    )


def peers():
    print(_header("NumPy, points", "NumPy, same law", "loop of one chain"))
    for shape in GAUSSIANS:
        name, mine, points, law, loop, compiled, memory = alone(gaussian_row, *shape)
        others = " | ".join(
            f"{amount(other)} | {other / mine:,.0f}" for other in (points, law, loop)
        )
        print(
            f"| {name} | {amount(mine)} | {others} | {compiled:.1f} s | {memory:.0f} MiB |",
            flush=True,
        )
    print(_header("NumPy multinomial", "NumPy x[randint]", "jax.random.multinomial"))
    for shape in CATEGORICALS:
        name, mine, multinomial, individuals, jaxs, compiled, memory = alone(
            categorical_row, *shape
        )
        others = " | ".join(
            f"{amount(other)} | {other / mine:,.1f}" for other in (multinomial, individuals, jaxs)
        )
        print(
            f"| {name} | {amount(mine)} | {others} | {compiled:.1f} s | {memory:.0f} MiB |",
            flush=True,
        )


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
    for table in sys.argv[1:] or ["peers", "cost"]:
        tables[table]()
