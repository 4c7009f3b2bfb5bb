"""Single distributions against `jax.random` and NumPy: nanoseconds per variate, on one device.

There is no compilation cache.

    python experiments/benchmarks/samplers.py        about a minute on 2 CPU cores
    python experiments/benchmarks/samplers.py few    few chains of many categories against NumPy's
    multinomial, in CPU time, which depends less on other load; about 2 minutes

The last rows show when drawing one by one ("individuals") is faster than category by category
("binomials"): the rule of `collapse_jax.random.multinomial` is n < K / 2.
"""

import os
import pathlib
import platform
import re
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.random.binomial import binomial
from collapse_jax.random.chi_square import chi_square, gamma
from collapse_jax.random.multinomial import multinomial, multinomial_of_categories
from collapse_jax.random.normal import normal_array

COUNT = 1 << 20
# Categories and draws of the table of few chains.
FEW = [(1_000, 1_000), (1_000, 100_000), (50_000, 100_000), (10**6, 1_000), (10**6, 10**6)]
# As the simulations compile: wide vectors, and no threads of XLA's own.
CPU_OPTIONS = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_multi_thread_eigen": False}


def best(function, repeats=5):
    """The shortest of some runs after one that compiles, in seconds."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - began)
    return min(times)


def row(name, ours, jaxs, numpys, count=COUNT, given=()):
    key = jax.random.key(0)
    times = [best(lambda f=jax.jit(f): f(key, *given)) / count * 1e9 for f in (ours, jaxs)] + [
        best(numpys) / count * 1e9
    ]
    print(
        f"| {name} | {times[0]:.1f} | {times[1]:.1f} | {times[1] / times[0]:.1f} | {times[2]:.1f} "
        f"| {times[2] / times[0]:.1f} |",
        flush=True,
    )


def main():
    """Prints all tables."""
    rng = np.random.default_rng(0)
    print(
        "| law | ours, ns | jax.random, ns | ratio | NumPy, ns | ratio |\n|---|---|---|---|---|---|"
    )
    shape = (COUNT,)
    row(
        "normal",
        lambda key: normal_array(key, shape),
        lambda key: jax.random.normal(key, shape),
        lambda: rng.standard_normal(shape),
    )
    for freedom in (3, 99, 9_999):
        row(
            f"chi-square, {freedom:,} degrees",
            lambda key, freedom=freedom: chi_square(key, freedom, shape),
            lambda key, freedom=freedom: jax.random.chisquare(key, float(freedom), shape),
            lambda freedom=freedom: rng.chisquare(freedom, shape),
        )
    row(
        "gamma, shape 2.5",
        lambda key: gamma(key, 2.5, shape),
        lambda key: jax.random.gamma(key, 2.5, shape),
        lambda: rng.gamma(2.5, 1, shape),
    )
    for n, p in ((10, 0.1), (100, 0.3), (100_000, 0.3)):
        row(
            f"binomial, n={n:,}, p={p}",
            lambda key, n=n, p=p: binomial(key, n, p, shape),
            lambda key, n=n, p=p: jax.random.binomial(key, n, p, shape),
            lambda n=n, p=p: rng.binomial(n, p, shape),
        )
    multinomials(rng)
    methods()


def multinomials(rng):
    """Rows of the multinomial, a category."""
    for categories, n in ((10, 100), (100, 1_000), (1_000, 1_000)):
        chains = 200_000 // categories
        shares = np.random.default_rng(1).dirichlet(np.ones(categories), chains)
        given = jnp.asarray(shares, jnp.float32)
        row(
            f"multinomial a category, K={categories:,}, n={n:,}",
            lambda key, given, n=n: jax.vmap(lambda k, p: multinomial(k, n, p))(
                jax.random.split(key, len(given)), given
            ),
            lambda key, given, n=n: jax.vmap(lambda k, p: jax.random.multinomial(k, n, p))(
                jax.random.split(key, len(given)), given
            ),
            lambda n=n, shares=shares: rng.multinomial(n, shares),
            chains * categories,
            (given,),
        )


def methods():
    """A table of the two ways to draw a multinomial."""
    print("\n| K = 1,000, draws | binomials, us | individuals, us |\n|---|---|---|")
    given = jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(1_000), 512), jnp.float32)
    for n in (100, 250, 500, 1_000, 2_000):
        times = []
        for method in ("binomials", "individuals"):

            @jax.jit
            def draw(key, given, n=n, method=method):
                return jax.vmap(lambda k, p: multinomial(k, n, p, method=method))(
                    jax.random.split(key, len(given)), given
                )

            times.append(
                best(lambda draw=draw, given=given: draw(jax.random.key(0), given))
                / len(given)
                * 1e6
            )
        print(f"| {n:,} | {times[0]:.1f} | {times[1]:.1f} |", flush=True)


def machine():
    """The processor, and the instruction set that XLA compiles for."""
    text = pathlib.Path("/proc/cpuinfo")
    text = text.read_text() if text.exists() else ""
    name = re.search(r"model name\s*: (.*)", text)
    limit = re.search(r"--xla_cpu_max_isa=(\w+)", os.environ.get("XLA_FLAGS", ""))
    has_wide = re.search(r"\bavx512f\b", text)
    known = "AVX-512" if has_wide else "AVX2" if re.search(r"\bavx2\b", text) else "no AVX2"
    return f"{name[1] if name else platform.processor()}, {limit[1] if limit else known}"


def of_generation(categories, n, chains):
    """(counts [K, chains] that a generation leaves, compiled function of keys and counts)."""
    rng = np.random.default_rng(2)
    counts = rng.multinomial(n, np.full(categories, 1 / categories), chains)
    listed = jnp.arange(categories, dtype=jnp.int32)

    def draw(keys, weights):
        def of_one(key, weights):
            return multinomial_of_categories(key, n, weights, listed)

        return jax.vmap(of_one, (0, -1), -1)(keys, weights)

    weights = jnp.asarray(counts.T, jnp.int32)
    keys = jax.random.split(jax.random.key(0), chains)
    program = jax.jit(draw, compiler_options=CPU_OPTIONS).lower(keys, weights).compile()
    return counts, lambda: program(keys, weights).block_until_ready()


def few_chains():
    """A table of the next generation of few chains beside NumPy's multinomial."""
    print(
        f"{machine()}\n\n| categories | draws | chains | ours, ns a category | NumPy, ns | ratio |"
        "\n|---|---|---|---|---|---|"
    )
    rng = np.random.default_rng(3)
    for categories, n in FEW:
        for chains in (1, 4, 16, 64):
            if categories * chains > 16 * 10**6:
                continue
            counts, ours = of_generation(categories, n, chains)
            shares, each = counts / n, categories * chains
            ours()
            rounds, times = max(3, 400_000 // each), ([], [])
            for _ in range(rounds):
                for function, seconds in zip(
                    (ours, lambda shares=shares, n=n: rng.multinomial(n, shares)),
                    times,
                    strict=True,
                ):
                    began = time.process_time()
                    function()
                    seconds.append(time.process_time() - began)
            mine, numpys = (np.median(seconds) / each * 1e9 for seconds in times)
            print(
                f"| {categories:,} | {n:,} | {chains} | {mine:.1f} | {numpys:.1f} "
                f"| {numpys / mine:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    few_chains() if sys.argv[1:] == ["few"] else main()
