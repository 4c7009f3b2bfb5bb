"""Chains of Gaussian mixtures by EM compared with scikit-learn, in the same run.

    python experiments/benchmarks/mixtures.py [--chains 100] [--generations 20] [--peer-chains 10]
    half a minute on 2 cores

The setting of the notebook of Shumailov et al. 2024: N = 1,000 points, two full-covariance
components in two dimensions fitted to one cluster, tolerance 1e-5, floor 1e-6, k-means start in
every generation, each generation sampled from its predecessor. Chain-generations per second of wall
time (this package uses all cores, scikit-learn one thread of one process) and per CPU second of the
process. Compilation is left out and printed separately. The number of EM steps per fit is from the
same generations on both sides.
"""

import time

import numpy as np
import tyro

SIZE = 1000


def timed(function):
    """(result, wall seconds, CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def peer(chains, generations):
    """Mean EM steps a fit of a loop over scikit-learn, chain after chain."""
    import warnings

    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    warnings.simplefilter("ignore")
    steps = []
    for chain in range(chains):
        state = np.random.RandomState(chain)
        x = state.standard_normal((SIZE, 2))
        for _ in range(generations + 1):
            model = GaussianMixture(
                2, tol=1e-5, reg_covar=1e-6, max_iter=2000, random_state=state
            ).fit(x)
            x, _ = model.sample(SIZE)
            steps.append(model.n_iter_)
    return np.mean(steps)


def process():
    """The same process, ours."""
    import collapse_jax as cj

    family = cj.estimators.gmm(2, 2, tolerance=1e-5, floor=1e-6, steps=2000)
    return cj.generational_process(
        family, cj.sources.normal([0.0, 0.0], np.eye(2)), cj.workflows.replace(), sample_size=SIZE
    )


def steps_of(made, chains, generations):
    """Mean EM steps a fit of our chains."""
    import jax

    def chain(key):
        state, info = made.init(jax.random.fold_in(key, 0))

        def step(state, generation):
            state, info = made.step(jax.random.fold_in(key, generation), state)
            return state, info.fit.iterations

        return info.fit.iterations, jax.lax.scan(step, state, 1 + np.arange(generations))[1]

    first, later = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(0), chains))
    return np.mean(np.concatenate([np.asarray(first)[:, None], np.asarray(later)], axis=1))


def main(chains: int = 100, generations: int = 20, peer_chains: int = 10) -> None:
    """Measures both sides, and prints a table."""
    import jax

    import collapse_jax as cj

    made = process()

    def ours():
        cj.simulate(
            made,
            jax.random.key(0),
            generations=generations,
            chains=chains,
            metrics=("variance",),
            chunk=generations,
        )

    _, first, _ = timed(ours)
    rounds = [timed(ours)[1:] for _ in range(3)]
    wall, cpu = np.min(rounds, axis=0) / (chains * (generations + 1))
    our_steps = steps_of(made, chains, generations)
    peer(1, 0)  # imports are no part of the time
    peer_steps, *peer_seconds = timed(lambda: peer(peer_chains, generations))
    peer_wall, peer_cpu = np.array(peer_seconds) / (peer_chains * (generations + 1))
    print(
        f"{chains} chains of {generations + 1} fits (scikit-learn: {peer_chains}), N = {SIZE:,}; "
        f"best of 3, {first:.1f} s with compilation"
    )
    print(
        "| | EM steps a fit | chain-generations a second, wall | CPU ms a chain-generation "
        "|\n|---|---|---|---|"
    )
    print(f"| ours | {our_steps:.1f} | {1 / wall:,.0f} | {cpu * 1e3:.3f} |")
    print(f"| scikit-learn | {peer_steps:.1f} | {1 / peer_wall:,.0f} | {peer_cpu * 1e3:.3f} |")
    print(f"| ratio | | {peer_wall / wall:.0f} | {peer_cpu / cpu:.0f} |")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
