"""Accumulation with real data in every batch: a share a of each batch of m new points is real.

Exact for the mean of families whose variance is a quadratic function of it (`QUADRATICS` of
`exponential_families`), for diversity (`ancestry.retention`), and for the moments of a Gaussian.

Derived. Let N points be pooled, with a mean of squared error A, and let E[x^2] be summed over them
in Q, both about the population's mean. The newest model's mean has squared error e, and its draws
the expected variance W. A batch consists of s such draws and r fresh real points of variance V, m =
s + r. Then

    A' = (N^2 A + 2 N E[s] A + E[s^2] e + E[s] W + E[r] V) / (N + m)^2
    Q' = Q + E[r] V + E[s] (W + e).

Under 'accumulate' e = A. Under 'accumulate_subsample' e = A + (1 - m/N) (Q - N A) / ((N - 1) m),
the variance of the mean of m of N points. With e = A, N = n m, fixed shares and v = A/V:

    v' = ((n + 1 - a)/(n + 1))^2 v + s/(m (n + 1)^2),

where s = 1 for a family of known variance, and s = a + (1 - a)(1 - v) where W = V - A. So v falls
as n^(-2a) below a = 1/2 and as 1/n above, where n m v tends to 1/(2a - 1) (`rate`, `limit`).

Arguments: real_share a number, or an array whose entry g is the share in the batch that generation
g adds (entry 0 is not used). random_counts: r is binomial, else round(a m), with ties to even.
"""

import numpy as np
from numpy.typing import ArrayLike

from .ancestry import as_generation, as_sample_size
from .categorical import as_unit_interval

WORKFLOWS = ("accumulate", "accumulate_subsample")


def expected_squared_mean_error(
    generation: ArrayLike,
    sample_size: ArrayLike,
    mean: float,
    quadratic: tuple[float, float, float],
    *,
    real_share: ArrayLike,
    workflow: str = "accumulate",
    random_counts: bool = True,
) -> np.ndarray:
    """Var[mean of the generation-g model] about the population's `mean`.

    Args:
        sample_size: m; under 'accumulate' also an array of sizes, one per generation.
        quadratic: (v0, v1, v2), see `exponential_families.QUADRATICS`.
        real_share, random_counts: see above.
        workflow: 'accumulate' or 'accumulate_subsample'.
    """
    spread = quadratic[0] + quadratic[1] * mean + quadratic[2] * mean**2
    batches = _batches(generation, sample_size, real_share, workflow, random_counts)
    error, _ = _moments(batches, spread, lambda pool: spread + quadratic[2] * pool.error)
    return error[as_generation(generation)]


def retention(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    real_share: ArrayLike,
    workflow: str = "accumulate",
    random_counts: bool = True,
) -> np.ndarray:
    """Expected diversity of the generation-g model over that of the population.

    This is for counted categories and a Gaussian with ddof=0, as in `ancestry.retention`: the lost
    diversity equals the squared error of the mean.
    """
    return 1 - expected_squared_mean_error(
        generation,
        sample_size,
        0.0,
        (1.0, 0.0, -1.0),
        real_share=real_share,
        workflow=workflow,
        random_counts=random_counts,
    )


def gaussian_moments(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    ddof: int,
    real_share: ArrayLike,
    workflow: str = "accumulate",
    random_counts: bool = True,
    variance: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """(E[variance], E[squared error of the mean]) of the generation-g Gaussian, per coordinate.

    Exact in any dimension for the average over coordinates.
    """
    batches = _batches(generation, sample_size, real_share, workflow, random_counts)

    def of_draws(pool):
        if not pool.subsampled:
            return pool.scatter / (pool.points - ddof)
        unbiased = pool.scatter / max(pool.points - 1, 1)
        return unbiased * (pool.batch - 1) / max(pool.batch - ddof, 1)

    error, spread = _moments(batches, 1.0, of_draws)
    generation = as_generation(generation)
    return variance * spread[generation], variance * error[generation]


def rate(real_share: ArrayLike) -> np.ndarray:
    """The exponent of the decay of the squared error with the number of batches: min(1, 2 a).

    References:
        Derived here; the setting is that of arXiv 2602.16065.
    """
    return np.minimum(1.0, 2 * as_unit_interval(real_share))


def limit(real_share: ArrayLike) -> np.ndarray:
    """n m v for many batches n: 1/(2 a - 1), inf for a <= 1/2.

    This is the ratio of the squared error to that of n m real points. Derived.
    """
    share = as_unit_interval(real_share)
    with np.errstate(divide="ignore"):
        return np.where(share > 0.5, 1 / np.maximum(2 * share - 1, 0.0), np.inf)


class _Pool:
    """The moments of a pool and of the model that is fitted to it.

    points, batch: N and m. scatter: E of the sum of squared deviations from the pool's mean.
    error: of the model's mean. subsampled: whether the model is fitted to m of the points.
    """

    def __init__(self, points, batch, pool_error, squares, subsampled):
        self.points, self.batch, self.subsampled = points, batch, subsampled
        self.scatter = squares - points * pool_error
        self.error = pool_error
        if subsampled and points > 1:
            self.error = pool_error + (1 - batch / points) * self.scatter / (points - 1) / batch


def _batches(generation, sample_size, real_share, workflow, random_counts):
    """(sizes [rounds], E[s], E[s^2] of each batch, subsampled)."""
    if workflow not in WORKFLOWS:
        raise ValueError(f"workflow must be one of {WORKFLOWS}, got {workflow!r}")
    rounds = int(np.max(as_generation(generation), initial=0)) + 1
    sizes = as_sample_size(sample_size, as_generation(generation)).astype(np.float64)
    if sizes.ndim and workflow == "accumulate_subsample":
        raise ValueError("sample_size must be one number under 'accumulate_subsample'")
    sizes = np.broadcast_to(sizes, rounds) if sizes.ndim == 0 else sizes[:rounds]
    share = as_unit_interval(real_share)
    if share.ndim > 1 or (share.ndim == 1 and len(share) < rounds):
        raise ValueError(f"real_share must have an entry for each of {rounds} generations")
    share = np.broadcast_to(share, rounds) if share.ndim == 0 else share[:rounds]
    if random_counts:
        made = sizes * (1 - share)
        square = made**2 + sizes * share * (1 - share)
    else:
        made = sizes - np.round(share * sizes)
        square = made**2
    return sizes, made, square, workflow == "accumulate_subsample"


def _moments(batches, spread, variance_of_draws):
    """(squared error of the mean, expected variance of draws) of each generation's model."""
    sizes, made, square, subsampled = batches
    points, pool_error, squares = sizes[0], spread / sizes[0], sizes[0] * spread
    errors, variances = np.empty(len(sizes)), np.empty(len(sizes))
    for g in range(len(sizes)):
        pool = _Pool(points, sizes[g], pool_error, squares, subsampled)
        errors[g], variances[g] = pool.error, variance_of_draws(pool)
        if g + 1 == len(sizes):
            break
        size, s, s2 = sizes[g + 1], made[g + 1], square[g + 1]
        moved = points**2 * pool_error + 2 * points * s * pool_error + s2 * errors[g]
        moved += s * variances[g] + (size - s) * spread
        pool_error = moved / (points + size) ** 2
        squares += (size - s) * spread + s * (variances[g] + errors[g])
        points += size
    return errors, variances
