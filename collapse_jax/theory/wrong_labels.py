"""Least squares with a share of rows labelled by another model: more rows do not help."""

import numpy as np
from numpy.typing import ArrayLike


def expected_test_error(
    sample_size: ArrayLike, dim: int, share: float, offset: float, *, noise: float = 1.0
) -> np.ndarray:
    """Expected squared distance to the true weights, of sample_size's shape; inf for M <= d + 1.

    Each of M rows of fresh standard normal features is labelled with probability p by weights at
    distance |delta|, else by the true ones, with noise. For M -> infinity p^2 |delta|^2 remains.

    Derived: the error is S^-1 (sum of x x' over the wrong rows) delta + S^-1 X' noise. Two rows are
    wrong independently, so that all pairs of rows give p^2 |delta|^2, and a row with itself adds p
    (1 - p) |delta|^2 q, with q = ((M d - 2) / (M - d - 1) + 2) / (M + 2) as in
    `islands.linear_model_errors`.

    Args:
        sample_size: M.
        dim: d.
        share: p in [0, 1].
        offset: |delta|.
        noise: Its standard deviation.

    References:
        Dohmatob et al. 2024, "Strong Model Collapse", arXiv 2410.04840 (the setting, in high
        dimension; the form here is exact for every M).
    """
    size = np.asarray(sample_size, dtype=np.float64)
    if not np.all(size >= 1):
        raise ValueError(f"sample_size must be at least 1, got {sample_size!r}")
    left = np.where(size > dim + 1, size - dim - 1, np.nan)
    same_row = ((size * dim - 2) / left + 2) / (size + 2)
    error = offset**2 * (share**2 + share * (1 - share) * same_row) + noise**2 * dim / left
    return np.where(size > dim + 1, error, np.inf)


def floor(share: float, offset: float) -> float:
    """The limit of the error for M -> infinity: p^2 |delta|^2."""
    return float(share**2 * offset**2)
