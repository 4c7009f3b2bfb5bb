"""Mixtures whose shares and sizes change from generation to generation; recovery; contamination.

Exact for the mean of families whose variance is a quadratic function of it (`QUADRATICS` of
`exponential_families`), and for diversity. A switch from one workflow to another is a schedule too:
gamma = 0 up to a generation and 0.1 from there on.

Derived. Let P = E[x^2] of a training point and C = E[x y] of two distinct ones of a set of M, about
the population's mean. The fit has the squared error e = (P + (M - 1) C)/M, and its draws have the
expected variance W = V + v2 e. With shares alpha, beta, gamma, of which kappa = c gamma was made by
the model of generation g + 1 - lag (squared error e_old, covariance X with the newest), the next
set has

    P' = alpha (e + W) + beta P + kappa (e_old + W_old) + (gamma - kappa) V
    C' = (alpha^2 + 2 alpha beta) e + beta^2 C + 2 alpha kappa X + kappa^2 e_old

for random counts. For rounded ones the squares and products are those of pairs without replacement.

Without beta this is e' = A e + B: `relaxation_factor` is A, and whatever happened before a switch,
the distance to the new plateau falls by A in each generation.

Schedules are numbers, or arrays whose entry g is used for the training set of generation g (entry 0
is real data, and not used; of sizes it is).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .ancestry import as_generation, as_sample_size, fixed_mix_counts, mix_pair_shares
from .categorical import as_unit_interval


def expected_squared_mean_error(
    generation: ArrayLike,
    sample_size: ArrayLike,
    mean: float,
    quadratic: tuple[float, float, float],
    *,
    beta: ArrayLike = 0.0,
    gamma: ArrayLike = 0.0,
    contamination: ArrayLike = 0.0,
    lag: int = 1,
    random_counts: bool = True,
) -> np.ndarray:
    """Var[mean of the generation-g model] about the population's `mean`, under 'mix'.

    alpha is what beta and gamma leave.

    Args:
        sample_size: one number, or one for each generation; with beta > 0 it must not grow.
        quadratic: (v0, v1, v2), see `exponential_families.QUADRATICS`.
        beta, gamma: shares, as in `ancestry.retention`, or schedules of them.
        contamination: share c of what is called real; only with beta = 0.
        lag: it was made by the model of generation g - lag; before there is one, real data is real.
        random_counts: False: numbers of points are the shares, rounded.
    """
    generation = as_generation(generation)
    rounds = int(np.max(generation, initial=0)) + 1
    sizes = as_sample_size(sample_size, generation).astype(np.float64)
    sizes = np.broadcast_to(sizes, rounds) if sizes.ndim == 0 else sizes[:rounds]
    beta, gamma, share = (_by_round(one, rounds) for one in (beta, gamma, contamination))
    _check(sizes, beta, gamma, share, lag)
    spread, v2 = quadratic[0] + quadratic[1] * mean + quadratic[2] * mean**2, quadratic[2]
    # Covariances of the means of all generations.
    of_means = np.zeros((rounds, rounds))
    point, pair = spread, 0.0
    for g in range(rounds):
        of_means[g, g] = error = (point + (sizes[g] - 1) * pair) / sizes[g]
        if g + 1 == rounds:
            break
        old = g + 1 - lag
        made = share[g + 1] if old >= 0 else 0.0
        now = _shares(sizes[g + 1], beta[g + 1], gamma[g + 1], made, random_counts)
        alpha, kept, kappa, pairs = now
        of_old = of_means[old, old] if old >= 0 else 0.0
        cross = of_means[g, old] if old >= 0 else 0.0
        point = (
            alpha * (spread + (1 + v2) * error)
            + kept * point
            + kappa * (spread + (1 + v2) * of_old)
            + (1 - alpha - kept - kappa) * spread
        )
        pair = pairs @ [error, pair, cross, of_old]
        if lag > 1 and kept == 0:
            row = alpha * of_means[g, : g + 1]
            row = row + (kappa * of_means[old, : g + 1] if old >= 0 else 0.0)
            of_means[g + 1, : g + 1] = of_means[: g + 1, g + 1] = row
    return np.diagonal(of_means)[generation]


def retention(generation: ArrayLike, sample_size: ArrayLike, **mixture: Any) -> np.ndarray:
    """Expected diversity of the generation-g model over that of the population.

    That of counted categories and of a Gaussian with ddof=0. Arguments as in
    `expected_squared_mean_error`.
    """
    quadratic = (1.0, 0.0, -1.0)
    return 1 - expected_squared_mean_error(generation, sample_size, 0.0, quadratic, **mixture)


def relaxation_factor(
    sample_size: int,
    gamma: float,
    *,
    beta: float = 0.0,
    v2: float = -1.0,
    random_counts: bool = True,
) -> float:
    """By what the distance of the squared error to its plateau falls in each generation: a float.

    Without beta it is alpha^2 (1 - 1/M) + alpha (1 + v2)/M for random counts, and k (k + v2)/M^2
    for k points of the model. Diversity, with v2 = -1, has the same. With beta, the larger
    eigenvalue of the recursion in (P, C).

    Args:
        sample_size: one M.
        gamma: share of fresh real data.
        beta: share of the previous training set.
        v2: of the family's variance; -1 for categories and a Gaussian with ddof=0.
        random_counts: as above.
    """
    size = float(as_sample_size(sample_size))
    alpha, kept, _, pairs = _shares(size, beta, gamma, 0.0, random_counts)
    of_error = np.array([1.0, size - 1]) / size  # e from (P, C)
    step = np.array(
        [
            alpha * (1 + v2) * of_error + [kept, 0.0],
            pairs[0] * of_error + [0.0, pairs[1]],
        ]
    )
    return float(np.max(np.abs(np.linalg.eigvals(step))))


def half_life(sample_size: int, gamma: float, **mixture: Any) -> float:
    """Generations in which half of what is missing comes back: log 2/(-log A), about .35/gamma.

    Neither the time since the collapse nor its depth matters. Arguments as in `relaxation_factor`.
    """
    factor = relaxation_factor(sample_size, gamma, **mixture)
    with np.errstate(divide="ignore"):
        return float(np.log(2) / -np.log(factor)) if factor > 0 else 0.0


def plateau(sample_size: int, gamma: float, *, v2: float = -1.0, beta: float = 0.0) -> float:
    """The squared error for generation -> infinity, over the population's variance: a float.

    Random counts. 1 minus it is the diversity that is kept. Derived: the fixed point of the
    recursion.

    Args:
        sample_size: one M.
        gamma: share of fresh real data, above 0.
        v2: as in `relaxation_factor`.
        beta: share of the previous training set.
    """
    size = float(as_sample_size(sample_size))
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma must be in (0, 1], got {gamma!r}")
    alpha, kept, _, pairs = _shares(size, beta, gamma, 0.0, True)
    of_error = np.array([1.0, size - 1]) / size
    step = np.array(
        [alpha * (1 + v2) * of_error + [kept, 0.0], pairs[0] * of_error + [0.0, pairs[1]]]
    )
    fixed = np.linalg.solve(np.eye(2) - step, [1 - kept, 0.0])
    return float(of_error @ fixed)


def _by_round(value, rounds):
    value = as_unit_interval(value)
    if value.ndim > 1 or (value.ndim == 1 and len(value) < rounds):
        raise ValueError(f"a schedule must have an entry for each of {rounds} generations")
    return np.broadcast_to(value, rounds) if value.ndim == 0 else value[:rounds]


def _check(sizes, beta, gamma, share, lag):
    if not np.all(beta[1:] + gamma[1:] <= 1 + 1e-9):
        raise ValueError("beta + gamma must be at most 1")
    if np.any(beta[1:] > 0) and np.any(np.diff(sizes) > 0):
        raise ValueError("with beta > 0 sample_size must not grow")
    if np.any(beta[1:] > 0) and np.any(share[1:] > 0):
        raise ValueError("contamination is known for beta = 0 only")
    if int(lag) != lag or lag < 1:
        raise ValueError(f"lag must be a whole number >= 1, got {lag!r}")


def _shares(size, beta, gamma, made, random_counts):
    """(alpha, beta, kappa, weights of (e, C, X, e_old) in C')."""
    size, alpha = int(size), max(1 - beta - gamma, 0.0)
    if random_counts:
        kappa = made * gamma
        with_model, previous = mix_pair_shares(size, alpha, beta, gamma)
        return alpha, beta, kappa, np.array([with_model, previous, 2 * alpha * kappa, kappa**2])
    model, kept, real = fixed_mix_counts(size, alpha, beta, gamma)
    old = round(made * real)
    with_model, previous = mix_pair_shares(size, alpha, beta, gamma, False)
    pairs = max(size * (size - 1), 1)
    crossed = np.array([with_model, previous, 2 * model * old / pairs, old * (old - 1) / pairs])
    return model / size, kept / size, old / size, crossed
