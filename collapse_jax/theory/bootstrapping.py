"""The number of points in each round of a curated loop, for a mean that moves to a goal.

A Gaussian of known variance v is sampled, a point x is accepted with probability exp(-x^2 / (2
s^2)), and the next mean is that of n accepted points. Accepted points of N(m, v) are N(r m, r v),
r = s^2 / (s^2 + v), so that the squared distance A of the mean to the goal 0 follows

    A' = r^2 A + r v / n.

Derived. The question is that of Yang et al. 2025, arXiv 2501.18962, whose formulas we could not
read. The statements of its abstract on constant and exponential budgets follow from the recursion.
"""

import numpy as np
from numpy.typing import ArrayLike


def expected_squared_error(
    sizes: ArrayLike, rate: float, *, first: float, variance: float = 1.0
) -> np.ndarray:
    """Expected squared distance of the mean to the goal, generation 0 first: float64 [T + 1].

    Args:
        sizes: n_1 .. n_T > 0, accepted points of each generation.
        rate: r in (0, 1).
        first: The squared distance of generation 0.
        variance: v.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    if not (0 < rate < 1 and np.all(sizes > 0)):
        raise ValueError(f"rate must be in (0, 1) and sizes > 0, got {rate!r} and {sizes!r}")
    errors = [float(first)]
    for size in sizes:
        errors.append(rate**2 * errors[-1] + rate * variance / size)
    return np.array(errors)


def best_sizes(budget: float, generations: int, rate: float) -> np.ndarray:
    """The sizes [T] that minimise the last error for a given budget; they grow by 1 / r.

    Derived: to minimise sum_t r^(2 (T - t)) / n_t under sum n_t = B, Lagrange's condition gives n_t
        proportional to r^(T - t). Not rounded.
    """
    shares = rate ** np.arange(generations - 1, -1.0, -1)
    return budget * shares / shares.sum()
