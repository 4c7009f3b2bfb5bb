"""Generations between an alarm and a collapse, for chains with exact results under 'replace'.

A log variance is a random walk with a drift, so that a lead time is a distance divided by a speed;
the count of one of two categories is a finite Markov chain, whose first passages are linear
systems.
"""

import numpy as np
from scipy import special, stats

from .categorical import matrix_size, transition_matrix
from .gaussian import expected_log_variance, log_variance_std


def log_variance_lead(
    sample_size: int, alarm: float, threshold: float, *, ddof: int
) -> tuple[float, float]:
    """(mean, standard deviation) of the generations from variance `alarm` down to `threshold`.

    This is for a refitted Gaussian in one dimension. Its log variance falls by independent steps
    with mean -d and variance s^2, so that by Wald's identities the lead time has mean L/d and
    variance L s^2/d^3, L = log(alarm/threshold).

    This treats a passage as reaching the level exactly. In fact steps jump beyond both levels.
    After many generations the two jumps have the same distribution and cancel. The exact identity
    is E[lead] d = E[log variance at the alarm - log variance at the crossing].

    Derived: Wald's first and second identities.

    Args:
        sample_size: M >= 2 with ddof = 1.
        alarm: the variance at which the alarm is raised, above `threshold`.
        threshold: the variance at which the chain counts as collapsed, above 0.
        ddof: 0 or 1.
    """
    if not alarm > threshold > 0:
        raise ValueError(f"alarm must be above threshold > 0, got {alarm!r} and {threshold!r}")
    speed = -float(expected_log_variance(0, sample_size, ddof=ddof))
    spread = float(log_variance_std(0, sample_size))
    distance = np.log(alarm / threshold)
    return float(distance / speed), float(np.sqrt(distance * spread**2 / speed**3))


def fixation_lead(sample_size: int, probability: float, alarm: float) -> tuple[float, float]:
    """(mean, standard deviation) of the generations from an alarm to the fixation of a category.

    There are two categories. The alarm is raised in the first generation whose smaller share is at
    most `alarm`. The lead is 0 if that generation has only one category left.

    Derived: with P the transitions among counts and Q those between 1 and M - 1, the time left t =
    (I - Q)^-1 1 and its second moment (I - Q)^-1 (1 + 2 Q t) are averaged over the counts at which
    the chain enters the alarm.

    Args:
        sample_size: M, at most 2000.
        probability: the population's share of one category, in (0, 1).
        alarm: in [0, 1/2).
    """
    size = matrix_size(sample_size)
    if not 0 <= alarm < 0.5 or not 0 < probability < 1:
        raise ValueError(
            f"alarm must be in [0, 1/2) and probability in (0, 1), got {alarm!r}, {probability!r}"
        )
    matrix, counts = transition_matrix(size), np.arange(size + 1)
    rings = np.minimum(counts, size - counts) <= alarm * size + 1e-9
    first = stats.binom.pmf(counts, size, probability)
    quiet = ~rings
    waiting = np.linalg.solve(
        (np.eye(int(quiet.sum())) - matrix[np.ix_(quiet, quiet)]).T, first[quiet]
    )
    entered = np.where(rings, first, 0.0)
    entered[rings] += waiting @ matrix[np.ix_(quiet, rings)]
    inner = matrix[1:-1, 1:-1]
    left = np.linalg.solve(np.eye(size - 1) - inner, np.ones(size - 1))
    squared = np.linalg.solve(np.eye(size - 1) - inner, 1 + 2 * inner @ left)
    mean, second = entered[1:-1] @ left, entered[1:-1] @ squared
    return float(mean), float(np.sqrt(second - mean**2))


def diffusion_fixation_lead(sample_size: int, alarm: float) -> float:
    """The large-M form of `fixation_lead`'s mean: -2 M (x log x + (1 - x) log(1 - x)).

    A chain with discrete steps overshoots the alarm level by 0.5826 standard deviations of a step
    on average, so that x = alarm - .5826 sqrt(alarm (1 - alarm)/M).

    Args:
        sample_size: M.
        alarm: in (0, 1/2).

    References:
        Kimura and Ohta 1969 for the time; Siegmund 1979 for the overshoot, -zeta(1/2)/sqrt(2 pi).
    """
    if not 0 < alarm < 0.5:
        raise ValueError(f"alarm must be in (0, 1/2), got {alarm!r}")
    overshoot = -float(special.zeta(0.5)) / np.sqrt(2 * np.pi)  # of a normal step
    share = max(alarm - overshoot * np.sqrt(alarm * (1 - alarm) / sample_size), 0.0)
    return float(2 * sample_size * (special.entr(share) + special.entr(1 - share)))
