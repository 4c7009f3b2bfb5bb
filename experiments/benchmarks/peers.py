"""What a user would write instead of `cj.simulate`, each as fast as possible.

Every function returns (go, chain-generations of a call of it). Nothing but NumPy is needed; without
a package its rows are left out. `machine` describes the hardware.
"""

import importlib.util
import os
import pathlib
import platform

import numpy as np

# Variables that keep every library off AVX-512: XLA, NumPy, its BLAS, numba and torch.
AVX2 = {
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL "
    "AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "NUMBA_CPU_NAME": "haswell",
    # By its name alone numba leaves the features of the machine on.
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+sse4.2,-avx512f",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def flags() -> set[str]:
    """What the processor can do, as Linux tells."""
    told = pathlib.Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    found = (line.partition(":")[2].split() for line in lines if line.startswith("flags"))
    return set(next(found, ()))


def has_avx512() -> bool:
    """Whether the processor has what compilers mean by AVX-512."""
    return {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags()


def variables() -> dict[str, str]:
    """`AVX2`, less what this NumPy would refuse because the processor has it not."""
    named = {"AVX512F": "avx512f", "AVX512CD": "avx512cd", "AVX512_SKX": "avx512bw"}
    named |= {"AVX512_CLX": "avx512_vnni", "AVX512_CNL": "avx512_vbmi"}
    named |= {"AVX512_ICL": "avx512_vpopcntdq", "AVX512_SPR": "avx512_fp16"}
    from numpy._core._multiarray_umath import __cpu_dispatch__

    able = [name for name in __cpu_dispatch__ if name.startswith(("AVX512", "X86_V4"))]
    known = [name for name in able if named.get(name, "avx512f") in flags()]
    switches = AVX2 | {"NPY_DISABLE_CPU_FEATURES": " ".join(known)}
    old = os.environ.get("XLA_FLAGS", "")
    return switches | {"XLA_FLAGS": f"{old} {AVX2['XLA_FLAGS']}".strip()}


def machine() -> str:
    """The processor, its cores for this process, and the widest instructions that are used."""
    told = pathlib.Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = next(iter(names), platform.processor() or platform.machine())
    limited = "xla_cpu_max_isa=AVX2" in os.environ.get("XLA_FLAGS", "")
    wide = "AVX-512" if has_avx512() else "AVX2" if "avx2" in flags() else "no AVX2"
    used = f"AVX2 alone ({wide} switched off)" if limited and has_avx512() else wide
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {used}"


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def numpy_points(dim, size):
    """Vectorised NumPy through the sample, as most people write it."""
    chains, generations = max(2, 1_000_000 // (dim * size)), 3
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

    return go, chains * generations


def numpy_law(dim, size):
    """NumPy with the same shortcut: the mean and the Bartlett factor drawn from their law."""
    chains, generations = 100_000 // dim**2 + 2, 5
    rng = np.random.default_rng(0)
    rows, columns = np.tril_indices(dim, -1)
    freedom = size - 1 - np.arange(dim)

    def go():
        mean = np.zeros((chains, dim))
        root = np.broadcast_to(np.eye(dim), (chains, dim, dim)).copy()
        for _ in range(generations):
            mean = mean + (root @ rng.standard_normal((chains, dim, 1)))[..., 0] / np.sqrt(size)
            factor = np.zeros((chains, dim, dim))
            factor[:, range(dim), range(dim)] = np.sqrt(rng.chisquare(freedom, (chains, dim)))
            factor[:, rows, columns] = rng.standard_normal((chains, len(rows)))
            root = root @ factor / np.sqrt(size - 1)

    return go, chains * generations


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

    return go, generations


def jax_points(dim, size):
    """`jax.vmap` of a `lax.scan` through the sample, jitted once."""
    import jax
    import jax.numpy as jnp

    chains, generations = max(2, 4_000_000 // (dim * size)), 3

    def one_chain(key):
        def generation(carry, key):
            mean, root = carry
            x = mean + jax.random.normal(key, (size, dim)) @ root.T
            covariance = jnp.atleast_2d(jnp.cov(x.T))
            root = jnp.sqrt(covariance) if dim == 1 else jnp.linalg.cholesky(covariance)
            return (x.mean(0), root), (x.mean(), jnp.log(jnp.diagonal(root)).sum())

        keys = jax.random.split(key, generations)
        return jax.lax.scan(generation, (jnp.zeros(dim), jnp.eye(dim)), keys)[1]

    program = jax.jit(jax.vmap(one_chain))
    keys = jax.random.split(jax.random.key(0), chains)
    return lambda: jax.block_until_ready(program(keys)), chains * generations


def numba_points(dim, size):
    """numba over all cores; through d <= 16 in one pass that keeps no sample."""
    import numba

    chains, generations = max(8, 4_000_000 // (dim * size)), 3

    @numba.njit(parallel=True, fastmath=True)
    def line():
        found = np.empty(chains)
        for c in numba.prange(chains):
            mean, root = 0.0, 1.0
            for _ in range(generations):
                total, squares = 0.0, 0.0
                for _ in range(size):
                    z = np.random.standard_normal()
                    total += z
                    squares += z * z
                mean += root * total / size
                root *= np.sqrt((squares - total * total / size) / (size - 1))
            found[c] = mean + np.log(root)
        return found

    @numba.njit(parallel=True, fastmath=True)
    def plane():
        found = np.empty(chains)
        for c in numba.prange(chains):
            mean, root = np.zeros(dim), np.eye(dim)
            z = np.empty(dim)
            for _ in range(generations):
                total, products = np.zeros(dim), np.zeros((dim, dim))
                for _ in range(size):
                    for i in range(dim):
                        z[i] = np.random.standard_normal()
                    for i in range(dim):
                        total[i] += z[i]
                        for j in range(i + 1):
                            products[i, j] += z[i] * z[j]
                for i in range(dim):
                    for j in range(i + 1):
                        value = (products[i, j] - total[i] * total[j] / size) / (size - 1)
                        products[i, j] = products[j, i] = value
                mean = mean + root @ total / size
                root = root @ np.linalg.cholesky(products)
            found[c] = mean[0] + root[0, 0]
        return found

    @numba.njit(parallel=True, fastmath=True)
    def space():
        found = np.empty(chains)
        for c in numba.prange(chains):
            mean, root = np.zeros(dim), np.eye(dim)
            z = np.empty((size, dim))
            for _ in range(generations):
                for k in range(size):
                    for i in range(dim):
                        z[k, i] = np.random.standard_normal()
                total = z.sum(0)
                products = (z.T @ z - np.outer(total, total) / size) / (size - 1)
                mean = mean + root @ total / size
                root = root @ np.linalg.cholesky(products)
            found[c] = mean[0] + root[0, 0]
        return found

    return (line if dim == 1 else plane if dim <= 16 else space), chains * generations


def torch_points(dim, size):
    """torch, all chains at once on all cores."""
    import torch

    chains, generations = max(2, 2_000_000 // (dim * size)), 3

    def go():
        with torch.inference_mode():
            mean, root = torch.zeros(chains, 1, dim), torch.eye(dim).expand(chains, dim, dim)
            for _ in range(generations):
                z = torch.randn(chains, size, dim)
                x = mean + (z * root if dim == 1 else z @ root.mT)
                if dim == 1:
                    variance, mean = torch.var_mean(x, 1, keepdim=True)
                    root = variance.sqrt()
                else:
                    mean = x.mean(1, keepdim=True)
                    centred = x - mean
                    root = torch.linalg.cholesky(centred.mT @ centred / (size - 1))

    return go, chains * generations


def numpy_multinomial(categories, size, generations, chains=None):
    """NumPy's `multinomial` of all chains."""
    few = chains
    chains = few or max(2, 400_000 // categories // (10 if generations > 100 else 1))
    rng = np.random.default_rng(0)

    def go():
        counts = rng.multinomial(size, np.full(categories, 1 / categories), chains)
        for _ in range(generations):
            counts = rng.multinomial(size, counts / size)
            ((counts / size) ** 2).sum(1)

    return go, chains * generations


def numpy_individuals(categories, size, generations, chains=None):
    """x[randint]: NumPy on individuals, without counting them."""
    chains, generations = chains or max(2, 1_000_000 // size), min(generations, 10)
    rng = np.random.default_rng(0)

    def go():
        x = rng.integers(0, categories, (chains, size))
        for _ in range(generations):
            x = np.take_along_axis(x, rng.integers(0, size, (chains, size)), 1)

    return go, chains * generations


def jax_multinomial(categories, size, generations, chains=None):
    """`jax.vmap` of a `lax.scan` of `jax.random.multinomial`, jitted once."""
    import jax
    import jax.numpy as jnp

    chains, generations = chains or max(2, 20_000 // categories), 2

    def one_chain(key):
        def generation(counts, key):
            counts = jax.random.multinomial(key, size, counts / size)
            return counts, 1 - ((counts / size) ** 2).sum()

        start = jnp.full(categories, size / categories, jnp.float32)
        return jax.lax.scan(generation, start, jax.random.split(key, generations))[1]

    program = jax.jit(jax.vmap(one_chain))
    keys = jax.random.split(jax.random.key(0), chains)
    return lambda: jax.block_until_ready(program(keys)), chains * generations


def numba_individuals(categories, size, generations, chains=None):
    """numba over all cores: x[randint] on individuals in the narrowest type, and their counts."""
    import numba

    chains, generations = chains or max(8, 2_000_000 // size), min(generations, 10)
    narrow = np.uint16 if categories <= 2**16 else np.uint32

    @numba.njit(parallel=True)
    def go():
        found = np.empty(chains)
        for c in numba.prange(chains):
            x, y = np.empty(size, narrow), np.empty(size, narrow)
            counts = np.zeros(categories, np.int64)
            for i in range(size):
                x[i] = int(np.random.random() * categories)
            for _ in range(generations):
                counts[:] = 0
                for i in range(size):
                    y[i] = x[int(np.random.random() * size)]
                    counts[y[i]] += 1
                x, y = y, x
                total = 0.0
                for k in range(categories):
                    total += counts[k] * counts[k]
            found[c] = total
        return found

    return go, chains * generations


def torch_multinomial(categories, size, generations, chains=None):
    """torch: `multinomial` with replacement, and the counts of what it gives."""
    import torch

    chains, generations = chains or max(2, 1_000_000 // size), min(generations, 5)
    ones = torch.ones(chains, size)

    def go():
        with torch.inference_mode():
            shares = torch.full((chains, categories), 1 / categories)
            for _ in range(generations):
                drawn = torch.multinomial(shares, size, replacement=True)
                shares = torch.zeros(chains, categories).scatter_add_(1, drawn, ones) / size
                (shares**2).sum(1)

    return go, chains * generations


def torch_individuals(categories, size, generations, chains=None):
    """torch: x[randint] on individuals, without counting them."""
    import torch

    chains, generations = chains or max(2, 1_000_000 // size), min(generations, 10)

    def go():
        with torch.inference_mode():
            x = torch.randint(0, categories, (chains, size))
            for _ in range(generations):
                x = torch.gather(x, 1, torch.randint(0, size, (chains, size)))

    return go, chains * generations


GAUSSIAN = {
    "NumPy, points": numpy_points,
    "NumPy, same law": numpy_law,
    "loop of one chain": loop_points,
    "jax.vmap, points": jax_points,
    "numba, points": numba_points,
    "torch, points": torch_points,
}
CATEGORICAL = {
    "NumPy multinomial": numpy_multinomial,
    "NumPy x[randint]": numpy_individuals,
    "jax.random.multinomial": jax_multinomial,
    "numba x[randint]": numba_individuals,
    "torch multinomial": torch_multinomial,
    "torch x[randint]": torch_individuals,
}
