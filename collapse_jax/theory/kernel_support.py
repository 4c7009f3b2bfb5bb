"""Mass that kernel estimates put where the population, uniform on [0, 1], has none."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from .ancestry import as_generation

WORKFLOWS = ("replace", "accumulate")


def blurs_distribution(generation: int, *, workflow: str = "replace") -> np.ndarray:
    """Distribution of the number of kernels in a draw of the generation-g model: float64 [g + 2].

    Derived: a draw is a training point and a kernel. Under 'replace' the point is a draw of the
        previous model, so that there are g + 1 kernels. Under 'accumulate' it is a real point or a
        draw of one of the g previous models, each with probability 1 / (g + 1).
    """
    last = int(as_generation(generation))
    if workflow not in WORKFLOWS:
        raise ValueError(f"workflow must be one of {WORKFLOWS}, got {workflow!r}")
    if workflow == "replace":
        return np.eye(last + 2)[last + 1]
    laws = np.zeros((last + 1, last + 2))
    for g in range(last + 1):
        of_points = np.eye(last + 2)[0] + laws[:g].sum(0)
        laws[g, 1:] = of_points[:-1] / (g + 1)
    return laws[last]


def mass_outside(deviation: ArrayLike) -> np.ndarray:
    """P(U + s Z is outside [0, 1]), U uniform on it, Z standard normal: of `deviation`'s shape.

    Derived: twice the integral of Phi(-u / s) over [0, 1].
    """
    deviation = np.asarray(deviation, dtype=np.float64)
    far = 1 / np.where(deviation > 0, deviation, 1)
    inside = stats.norm.pdf(0) - stats.norm.pdf(far) + far * stats.norm.cdf(-far)
    return np.where(deviation > 0, 2 * deviation * inside, 0.0)


def expected_mass_outside(
    generation: ArrayLike, bandwidth: float, *, workflow: str = "replace"
) -> np.ndarray:
    """Expected mass of the generation-g model outside [0, 1], for any number of points.

    Derived: a draw is a real point and `blurs_distribution` independent kernels of width h,
    whichever points are resampled.
    """
    generation = as_generation(generation)
    values = np.empty(generation.shape)
    for place, last in np.ndenumerate(generation):
        law = blurs_distribution(int(last), workflow=workflow)
        values[place] = law @ mass_outside(bandwidth * np.sqrt(np.arange(len(law))))
    return values
