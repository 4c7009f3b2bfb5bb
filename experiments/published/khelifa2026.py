"""Khelifa et al. 2026: a kernel's blur and a share of fresh data, generation after generation.

We had access to the abstract; the drifts are those of a public rerun.
"""

import jax
import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2606.13796", "Khelifa et al. 2026", "the limit law of kernels with fresh data (abstract alone)"
)
WIDTH, SHARES, DRIFTS = 0.6, (0.1, 0.5, 0.9), (108.38, 24.72, 13.77)
# n = 20 blurs: the density of generation 19.
LAST = 19


def real_law():
    """Five equal blobs of deviation 0.6 in 10 dimensions, whose variance is that of the rerun.

    The rerun does not say where its blobs lie; its drift for a = 0.1 says how far apart they are.
    """
    variance = WIDTH**2 * (1 - 0.9**20) / 0.1 / (DRIFTS[0] / 100)
    centres = np.random.default_rng(0).normal(size=(5, 10))
    centres -= centres.mean(0)
    centres *= np.sqrt((variance - WIDTH**2) / (centres**2).mean())
    params = cj.estimators.gmm_params(np.full(5, 0.2), centres, np.full(5, WIDTH**2))
    return variance, cj.sources.population(cj.estimators.gmm(5, 10, "spherical"), params)


@entry(
    "khelifa-limit",
    claim="Blurred by h and mixed with a share a of fresh data, n generations have the variance "
    "s^2 + h^2 (1 - (1 - a)^n) / a: the real distribution blurred a geometric number of "
    "times.",
    status="published number",
    setting="5 clusters in 10 dimensions, s = h = 0.6, a = 0.1, 0.5, 0.9, n = 20; kernels on M = "
    "400 points, mix, 60 chains",
    oracle="theory.kernel_density.expected_variance, and its limit of many points, "
    "limiting_variance (derived); drifts of the variance +108.38%, +24.72%, +13.77% in a public "
    "rerun of the paper",
    y="variance",
)
def limit(key):
    variance, source = real_law()
    at, found, exact = np.array([0, 1, 4, LAST]), [], []
    for place, share in enumerate(SHARES):
        process = cj.generational_process(
            cj.estimators.kde(10, WIDTH),
            source,
            cj.workflows.mix(1 - share, 0.0, share),
            sample_size=400,
        )
        trace = cj.simulate(
            process,
            jax.random.fold_in(key, place),
            generations=LAST,
            chains=60,
            metrics=("variance",),
            record=at.tolist(),
        )
        found.append(trace["variance"].astype(float))
        exact.append(
            theory.kernel_density.expected_variance(
                at, 400, bandwidth=WIDTH, variance=variance, workflow="mix", gamma=share
            )
        )
    drifts = [
        100 * (theory.kernel_density.limiting_variance(LAST, WIDTH, share, variance) / variance - 1)
        for share in SHARES
    ]
    return [
        *(
            compare.means(ours, wanted, at=at, what=f"variance, a = {share}")
            for ours, wanted, share in zip(found, exact, SHARES, strict=True)
        ),
        compare.equal(
            drifts,
            DRIFTS,
            0.1,
            "their sampling error, of one run of a number of points that is not told; the distance "
            "of the blobs, which is not told either, is from the first of the three",
            at=SHARES,
            what="drift of the variance in %, limit of many points",
        ),
    ]
