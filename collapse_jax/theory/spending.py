"""Any numbers of real and synthetic points, generation by generation: the error of the mean.

Generation g >= 1 adds n_g fresh real points and m_g points of its predecessor. Under 'mix' they are
its training set; with c = m / (n + m), in the notation of `weights`,

    A' = (1 - c)^2 / n + c^2 (A + (1 + v2 A) / m) = 1 / (n + m) + c^2 A + c v2 A / (n + m).

Under 'accumulate' they join the pool of K points, all of which the model is fitted to:

    A' = ((K + m) / (K + n + m))^2 A + (n + m (1 + v2 A)) / (K + n + m)^2.

Derived: given the pool's mean, that of the new points has the mean c (pool's mean), and both kinds
of point are drawn independently. With equal sets 'accumulate' is the recursion of Gerstgrasser et
al. 2024 for n = 0.
"""

import numpy as np
from numpy.typing import ArrayLike

from .ancestry import as_sample_size

WORKFLOWS = ("mix", "accumulate")


def expected_squared_error(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    first: int,
    workflow: str = "mix",
    v2: float = 0.0,
) -> np.ndarray:
    """Expected squared error of the fitted mean over the variance of a real point.

    Args:
        real: n_1, n_2, ... [..., T], at least 0; they need not be integers.
        synthetic: m_1, m_2, ... [..., T]; no set may be empty under 'mix'.
        first: real points of generation 0.
        workflow: 'mix' or 'accumulate'.
        v2: see `weights`.

    Returns:
        float64 [..., T + 1], generation 0 first.
    """
    real, synthetic = (np.asarray(part, dtype=np.float64) for part in (real, synthetic))
    if workflow not in WORKFLOWS:
        raise ValueError(f"workflow must be one of {WORKFLOWS}, got {workflow!r}")
    real, synthetic = np.broadcast_arrays(real, synthetic)
    empty = workflow == "mix" and not np.all(real + synthetic > 0)
    if not (np.all(real >= 0) and np.all(synthetic >= 0)) or empty:
        raise ValueError(
            f"real and synthetic must be >= 0, and no training set may be empty, got {real} and "
            f"{synthetic}"
        )
    pool = float(as_sample_size(first))
    errors = [np.full(real.shape[:-1], 1 / pool)]
    for g in range(real.shape[-1]):
        errors.append(_next(errors[-1], pool, real[..., g], synthetic[..., g], workflow, v2))
        pool = pool + real[..., g] + synthetic[..., g]
    return np.stack(errors, -1)


def _next(error, pool, real, synthetic, workflow, v2):
    new = real + synthetic
    kept, total = (0.0, new) if workflow == "mix" else (pool, pool + new)
    drawn = (new + v2 * synthetic * error) / total**2
    return ((kept + synthetic) / total) ** 2 * error + drawn


def last_generation_alone(real: int, size: int, *, error: float, v2: float = 0.0) -> float:
    """The next error, for `size` points of which `real` are real, from a model's error."""
    share = 1 - real / size
    return float(1 / size + share**2 * error + share * v2 * error / size)
