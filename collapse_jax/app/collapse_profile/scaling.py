"""The scaling law: the exponent of the loss in the sample size, generation by generation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from collapse_jax.app.collapse_profile.findings import CANNOT_TELL, MET, NOT_MET, Finding
from collapse_jax.app.collapse_profile.series import LEVEL, Band

FEWEST_SIZES = 3


class Law(NamedTuple):
    """loss = a size^-exponent, fitted at each generation.

    exponent, error: [generation] and its standard error; nan where a loss has no error, as a mean
        that few chains carry.
    prefactor: [generation] of log loss at the middle of the log sizes.
    """

    exponent: np.ndarray
    error: np.ndarray
    prefactor: np.ndarray


def fitted(sizes: Sequence[float], bands: Sequence[Band]) -> Law:
    """Weighted least squares of log loss on log size; errors from the bands of the losses.

    Where the points lie further from the line than these errors say (chi square beyond its degrees
    of freedom), the errors are larger by that factor: the law is then no power law.

    Args:
        sizes: [size] at least 3 of them.
        bands: [size] of the loss over the same generations.
    """
    z = stats.norm.ppf((1 + LEVEL) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.log(np.stack([band.number for band in bands]))
        error = np.stack([(np.log(b.high) - np.log(np.maximum(b.low, 1e-300))) / 2 / z
                          for b in bands])  # fmt: skip
        known = np.isfinite(error).all(0) & (error > 0).all(0) & np.isfinite(loss).all(0)
        weight = np.where(known, 1 / error**2, 1.0)
        x = np.log(np.asarray(sizes, float))[:, None]
        total = weight.sum(0)
        middle = (weight * x).sum(0) / total
        level = (weight * loss).sum(0) / total
        spread = (weight * (x - middle) ** 2).sum(0)
        slope = (weight * (x - middle) * (loss - level)).sum(0) / spread
        beyond = (weight * (loss - level - slope * (x - middle)) ** 2).sum(0) / (len(sizes) - 2)
        inflation = np.where(known, np.sqrt(np.maximum(beyond, 1.0)), np.nan)
        at_middle = level + slope * (x.mean() - middle)
    return Law(-slope, inflation / np.sqrt(spread), at_middle)


def change(
    statistic: str,
    sizes: Sequence[float],
    bands: Sequence[Band],
    threshold: float,
    generations: np.ndarray,
) -> Finding:
    """How far the exponent has moved since the first generation, and whether beyond the threshold.

    Met where the interval of the change lies beyond it on one side, not met where it lies within.
    """
    law = fitted(sizes, bands)
    number = law.exponent - law.exponent[0]
    width = stats.norm.ppf((1 + LEVEL) / 2) * np.hypot(law.error, law.error[0])
    width[0] = 0.0
    low, high = number - width, number + width
    met, within = (low > threshold) | (high < -threshold), (low >= -threshold) & (high <= threshold)
    states = np.where(met, 1, np.where(within, 0, -1))
    if not np.isfinite(number[-1]):
        note = "the loss is not positive and finite at every size"
    elif not np.isfinite(width[-1]):
        note = "at some size few chains carry the mean, which then tells no exponent"
    else:
        note = (
            f"exponent {law.exponent[0]:.3g} at generation {generations[0]} and "
            f"{law.exponent[-1]:.3g} at {generations[-1]}, over sizes {min(sizes):g} to "
            f"{max(sizes):g}; the loss at their middle is "
            f"{np.exp(law.prefactor[-1] - law.prefactor[0]):.3g} times the first"
        )
    begin = len(states) - 1
    while begin > 0 and states[-1] == 1 and states[begin - 1] == 1:
        begin -= 1
    verdict = {1: MET, 0: NOT_MET}.get(int(states[-1]), CANNOT_TELL)
    return Finding(
        statistic, verdict, float(number[-1]), float(low[-1]), float(high[-1]), LEVEL,
        int(generations[-1]), int(generations[begin]) if verdict == MET else None, None,
        number, low, high, states, note,
    )  # fmt: skip
