"""Single laws beside `jax.random` and NumPy: nanoseconds a variate, on one device.

There is no compilation cache.

    python experiments/benchmarks/samplers.py        about a minute on 2 CPU cores

The last rows say when drawing one by one ("individuals") beats category by category ("binomials"):
the rule of `collapse_jax.random.multinomial` is n < K / 2.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.random.binomial import binomial
from collapse_jax.random.chi_square import chi_square, gamma
from collapse_jax.random.multinomial import multinomial
from collapse_jax.random.normal import normal_array

COUNT = 1 << 20


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


if __name__ == "__main__":
    main()
