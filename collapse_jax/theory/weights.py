"""Weights in the fit: a synthetic point counts w times as much as a real one.

Each generation is fitted to n fresh real points of weight 1 and to m points of its predecessor of
weight w. The fitted mean is then (1 - c) (the real points' mean) + c (the model's points' mean),
with c = w m / (n + w m). Let A be its expected squared error over the variance of a real point, and
let a point of the model have the variance 1 + v2 A, in the same units:

    A' = (1 - c)^2 / n + c^2 (A + (1 + v2 A) / m)

v2 is 0 for a known variance and the Poisson mean, 1 for the exponential, and -1 where the variance
falls by the squared error of the mean: Bernoulli, categories, the Gaussian with ddof = 0, and the
empirical distribution function at each point. All derived; the best w at v2 = 0 is that of He, Xu
and Cheng 2025 (arXiv 2502.18049).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .ancestry import as_generation, as_sample_size, fixed_mix_counts

# Nodes in each of two directions, right to 1e-12 up to some thousand points.
_NODES = 300


def expected_squared_error(
    generation: ArrayLike,
    real: int,
    synthetic: int,
    weight: float,
    *,
    v2: float = 0.0,
    first: int | None = None,
) -> np.ndarray:
    """Expected squared error of the fitted mean, over the variance of a real point.

    For many points, this value times the trace of the inverse information of one point is the
    squared error of the weights of any smooth regression. A sixth of it with v2 = -1 is the
    expected Cramer-von Mises distance of an empirical distribution function. 1 minus it with v2 =
    -1 is the variance of a Gaussian of ddof = 0 over the population's.

    Args:
        real: n fresh real points per generation.
        synthetic: m points of the predecessor.
        weight: w >= 0. With n = 0 it has no effect.
        v2: see the module.
        first: real points of generation 0, by default n + m.
    """
    counts = np.array([_whole(real, "real")]), np.array([_whole(synthetic, "synthetic")])
    size = int(counts[0][0] + counts[1][0]) if first is None else first
    return _errors(generation, int(as_sample_size(size)), counts, np.ones(1), weight, v2)


def mixed_squared_error(
    generation: ArrayLike,
    sample_size: int,
    gamma: float,
    weight: float,
    *,
    v2: float = 0.0,
    random_counts: bool = True,
) -> np.ndarray:
    """The same under the workflow mix(1 - gamma, 0, gamma) of M points.

    Args:
        sample_size: M.
        gamma: the share of real points.
        random_counts: whether their number is binomial, or rounded (`ancestry.fixed_mix_counts`).
    """
    size = int(as_sample_size(sample_size))
    if random_counts:
        real = np.arange(size + 1)
        chances = stats.binom.pmf(real, size, gamma)
    else:
        real = np.array([fixed_mix_counts(size, 1 - gamma, 0.0, gamma)[2]])
        chances = np.ones(1)
    return _errors(generation, size, (real, size - real), chances, weight, v2)


def squared_error_limit(real: int, synthetic: int, weight: float, *, v2: float = 0.0) -> float:
    """`expected_squared_error` for generation -> infinity: a float; inf if it grows without
    bound."""
    n, m = _whole(real, "real"), _whole(synthetic, "synthetic")
    share, added = _step(np.array([n]), np.array([m]), _checked(weight))
    kept = share[0] ** 2 * (1 + v2 / max(m, 1))
    return float(added[0] / (1 - kept)) if kept < 1 else np.inf


def best_weight(real: float, synthetic: float = 1.0, *, v2: float = 0.0) -> float:
    """The w >= 0 of the smallest `squared_error_limit`: a float.

    With q = 1 + v2 / m and k = n / m the synthetic points' best share of the total weight is the
    smaller root c of q c^2 - (1 + q + k) c + 1 = 0, and w = 1 - q c. With v2 = 0 that is (sqrt(k^2
    + 4 k) - k) / 2, which is the real points' share as well, and 0.618, the reciprocal of the
    golden ratio, for k = 1. It rises from 0 to 1 with k.

    Args:
        real: n > 0; with v2 = 0 only n / m matters.
        synthetic: m > 0.
        v2: see the module.
    """
    if not (real > 0 and synthetic > 0):
        raise ValueError(f"real and synthetic must be above 0, got {real!r} and {synthetic!r}")
    q, k = 1 + v2 / synthetic, real / synthetic
    b = 1 + q + k
    # 2 / (b + root) is the smaller root, without a difference of what is nearly equal.
    root = np.sqrt(b**2 - 4 * q)
    return float(((b + root) - 2 * q) / (b + root))


def least_squares_step(real: int, synthetic: int, dim: int, weight: float) -> tuple[float, float]:
    """(kept, added): the expected test error e of weighted least squares becomes kept e + added.

    In units of noise^2, for fresh features of any normal distribution. Derived: with G and H the
    Gram matrices of the synthetic and the real rows the error moves as S^-1 (w G err + noise), S =
    H + w G. U = (G + H)^-1/2 G (G + H)^-1/2 is a matrix beta independent of T = G + H, and V = (1 -
    (1 - w) U)^-1 U has a rotation-invariant distribution; so E tr(T V T^-1 V) follows from E tr
    V^2, E (tr V)^2 and E tr T tr T^-1. Expectations over the eigenvalues of U by quadrature.

    Args:
        real: n >= dim, with w = 0 above dim + 1.
        synthetic: m >= dim.
        dim: 1 or 2; the eigenvalues are then one or two numbers.
        weight: w >= 0.
    """
    n, m, w = _whole(real, "real"), _whole(synthetic, "synthetic"), _checked(weight)
    if dim not in (1, 2):
        raise ValueError(f"dim must be 1 or 2, got {dim!r}")
    if min(n, m) < dim or n + m <= dim + 1 or (w == 0 and n <= dim + 1):
        raise ValueError(f"too few points for {dim} features: {n} real and {m} synthetic ones")
    if w == 0:
        return 0.0, dim / (n - dim - 1)
    u, chances = _beta_eigenvalues(m, n, dim)
    below = 1 - (1 - w) * u
    v = w * u / below
    squares, trace = chances @ np.sum(v**2, 1), chances @ np.sum(v, 1) ** 2
    off = 0.0 if dim == 1 else (dim * squares - trace) / (dim * (dim - 1) * (dim + 2))
    diagonal = squares / dim - (dim - 1) * off
    left = n + m - dim - 1
    kept = diagonal + off * (((n + m) * dim - 2) / left - 1)
    return float(kept), float(chances @ np.sum((1 - u + w**2 * u) / below**2, 1) / left)


def expected_test_error(
    generation: ArrayLike,
    real: int,
    synthetic: int,
    dim: int,
    weight: float,
    *,
    noise: float = 1.0,
    first: int | None = None,
) -> np.ndarray:
    """Expected test error of weighted least squares with fresh normal features.

    Arguments as in `least_squares_step` and `expected_squared_error`; first is above dim + 1.
    """
    generation = as_generation(generation)
    kept, added = least_squares_step(real, synthetic, dim, weight)
    first = real + synthetic if first is None else first
    errors = [dim / (first - dim - 1)]
    for _ in range(int(np.max(generation, initial=0))):
        errors.append(kept * errors[-1] + added)
    return noise**2 * np.array(errors)[generation]


def poisson_squared_error(norm: float, dim: int) -> float:
    """T times the expected squared error of Poisson regression's weights, T -> infinity: a float.

    The trace of the inverse information e^(|w|^2 / 2) (I + w w'), for features N(0, I), no
    intercept and no penalty. Standard.

    Args:
        norm: |w| >= 0 of the real weights.
        dim: d features.
    """
    if not (norm >= 0 and dim >= 1):
        raise ValueError(f"norm must be >= 0 and dim >= 1, got {norm!r} and {dim!r}")
    return float(np.exp(-(norm**2) / 2) * (dim - norm**2 / (1 + norm**2)))


def _errors(generation, first, counts, chances, weight, v2):
    """The recursion, averaged over the numbers of points [outcomes]."""
    generation = as_generation(generation)
    real, synthetic = counts
    share, added = _step(real, synthetic, _checked(weight))
    kept = chances @ (share**2 * (1 + v2 / np.maximum(synthetic, 1)))
    added, errors = chances @ added, [1 / first]
    for _ in range(int(np.max(generation, initial=0))):
        errors.append(kept * errors[-1] + added)
    return np.array(errors)[generation]


def _step(real, synthetic, weight):
    """(c, added) for numbers of points [outcomes]; without real points w has no effect."""
    total = real + weight * synthetic
    share = np.where(total > 0, weight * synthetic / np.where(total > 0, total, 1), 1.0)
    added = (1 - share) ** 2 / np.maximum(real, 1) + share**2 / np.maximum(synthetic, 1)
    return share, added


def _beta_eigenvalues(a, b, dim):
    """(u [nodes, dim], chances [nodes]) of a matrix beta of a and b degrees of freedom.

    With u = sin^2 phi the density is analytic: sin^(a - dim) cos^(b - dim) for each, times the
    distance of two.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    share = (nodes + 1) / 2
    angles = (share * np.pi / 2)[:, None]
    log_weights = np.log(weights)[:, None]
    if dim == 2:  # the larger one, and the smaller as a share of it
        angles = np.stack(np.broadcast_arrays(angles, angles * share), -1).reshape(-1, 2)
        log_weights = (log_weights + np.log(weights)).reshape(-1, 1) + np.log(angles[:, :1])
    u = np.sin(angles) ** 2
    log_density = np.sum((a - dim) * np.log(np.sin(angles)), 1)
    log_density += np.sum((b - dim) * np.log(np.cos(angles)), 1) + log_weights[:, 0]
    if dim == 2:
        log_density += np.log(u[:, 0] - u[:, 1])
    chances = np.exp(log_density - log_density.max())
    return u, chances / chances.sum()


def _whole(value, name):
    if isinstance(value, bool) or int(value) != value or value < 0:
        raise ValueError(f"{name} must be a whole number >= 0, got {value!r}")
    return int(value)


def _checked(weight):
    if not 0 <= weight < np.inf:
        raise ValueError(f"weight must be finite and >= 0, got {weight!r}")
    return float(weight)
