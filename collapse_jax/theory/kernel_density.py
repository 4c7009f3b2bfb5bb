"""Kernel density estimates that are sampled and refitted: they widen where a Gaussian shrinks."""

import numpy as np
from numpy.typing import ArrayLike


def expected_variance(
    generation: ArrayLike,
    sample_size: int,
    *,
    bandwidth: float = 0.0,
    factor: float = 0.0,
    variance: float = 1.0,
    workflow: str = "replace",
    gamma: float = 0.0,
) -> np.ndarray:
    """Expected variance of the density at each generation, per coordinate.

    It is the training points' (ddof 0) variance plus the kernel's. Derived; replace and a fixed
    bandwidth: S' = (1 - 1/M)(S + h^2); subsamples: as for a Gaussian (`gaussian`), but that the
    pool also gains the kernels' variance.

    Args:
        sample_size: M >= 2; generation 0 is fitted to M real points.
        bandwidth: Of a kernel that is the same in every generation, in the units of the data.
        factor: Of a kernel whose variance is factor^2 times the points' with ddof = 1 (Scott's and
            Silverman's rules; the kernel then has the shape of the data's covariance). Either this
            or the bandwidth is 0.
        variance: Of the population.
        workflow: "replace", "mix", "accumulate_subsample" (kernels of M points drawn from all
            points so far), or "accumulate" (fixed bandwidth only).
        gamma: Under "mix" the share of fresh real points, each of the M independently.

    References:
        Borji 2024, arXiv 2410.12954 (replace, fixed bandwidth).
    """
    generation = _checked(generation, sample_size, bandwidth, factor, workflow)
    share = gamma if workflow == "mix" else 0.0
    widening = 1 + factor**2 * sample_size / (sample_size - 1)
    if workflow == "accumulate_subsample":
        return _subsampled(
            int(np.max(generation, initial=0)) + 1,
            float(sample_size),
            widening,
            bandwidth**2,
            variance,
        )[generation]
    # Of the points: their expected variance, and the expected squared distance of their mean to the
    # real one.
    spread, drift = (1 - 1 / sample_size) * variance, variance / sample_size
    density = [widening * spread + bandwidth**2]
    for g in range(int(np.max(generation, initial=0))):
        if workflow == "accumulate":
            new = 1 / (g + 2)
            spread = spread * (1 - new**2 / sample_size) + bandwidth**2 * new * (
                1 - new / sample_size
            )
        else:
            mixture = (1 - share) * density[-1] + share * variance + share * (1 - share) * drift
            spread, drift = (
                (1 - 1 / sample_size) * mixture,
                (1 - share) ** 2 * drift + mixture / sample_size,
            )
        density.append(widening * spread + bandwidth**2)
    return np.array(density)[generation]


def widening_boundary(sample_size: int, variance: float = 1.0) -> float:
    """The bandwidth h above which the variance grows in all generations under 'replace': a float.

    Derived: the fixed point of S' = (1 - 1/M)(S + h^2) is S = (M - 1) h^2, so h^2 = variance / (M -
    1), with the variance of the density's points.
    """
    return float(np.sqrt(variance / (sample_size - 1)))


def expected_ages(generation: int, fresh: float) -> np.ndarray:
    """Probabilities [generation + 2] that a draw of the density was blurred 0, 1, 2, ... times.

    The limit of many points: p' = K * ((1 - a) p + a p_real), with the kernel K and the share a of
    fresh real points. Derived: a draw has been blurred j times with probability a (1 - a)^(j - 1),
    for j < n = generation + 1, and n times with the remaining probability (1 - a)^(n - 1).

    Args:
        generation: Of the density, at least 0; generation 0 is fitted to real points.
        fresh: a, in [0, 1].
    """
    rounds, share = int(generation) + 1, float(fresh)
    if rounds < 1 or not 0 <= share <= 1:
        raise ValueError(f"generation must be at least 0 and fresh in [0, 1], got {rounds - 1}")
    ages = np.zeros(rounds + 1)
    ages[1:] = share * (1 - share) ** np.arange(rounds)
    ages[rounds] = (1 - share) ** (rounds - 1)
    return ages


def limiting_variance(
    generation: ArrayLike, bandwidth: float, fresh: float, variance: float = 1.0
) -> np.ndarray:
    """Variance per coordinate of the density for many points, s^2 + h^2 (1 - (1 - a)^n) / a.

    n = generation + 1 is the number of kernels that the oldest draws have seen. Derived: each blur
    adds h^2, and the expected number of them is (1 - (1 - a)^n) / a, or n for a = 0.

    Args:
        generation: Of the density, an int or an array of ints of at least 0.
        bandwidth: h, the standard deviation of the kernel.
        fresh: a, the share of fresh real points.
        variance: s^2, of the real law per coordinate.

    References:
        The limit of arXiv 2606.13796 (its formula as its abstract has it; derived again here).
    """
    rounds = np.asarray(generation) + 1.0
    blurs = rounds if fresh == 0 else -np.expm1(rounds * np.log1p(-min(fresh, 1 - 1e-16))) / fresh
    return variance + bandwidth**2 * blurs


def limiting_characteristic(
    frequency: ArrayLike, real: ArrayLike, bandwidth: float, fresh: float
) -> np.ndarray:
    """Characteristic function of the density after endless generations, a p K / (1 - (1 - a) K).

    Derived: p = K ((1 - a) p + a p_real) in frequencies, where the kernel multiplies.

    Args:
        frequency: [n, d].
        real: The characteristic function of the real law there, [n], complex or real.
        bandwidth: h, the standard deviation of the kernel.
        fresh: a, in (0, 1].
    """
    kernel = np.exp(-(bandwidth**2) * np.sum(np.asarray(frequency, float) ** 2, axis=-1) / 2)
    return fresh * np.asarray(real) * kernel / (1 - (1 - fresh) * kernel)


def _checked(generation, sample_size, bandwidth, factor, workflow):
    generation = np.asarray(generation)
    if not (np.issubdtype(generation.dtype, np.integer) and np.all(generation >= 0)):
        raise ValueError(f"generation must be whole numbers of at least 0, got {generation!r}")
    if not sample_size >= 2 or bandwidth < 0 or factor < 0 or (bandwidth > 0 and factor > 0):
        raise ValueError(
            "sample_size must be at least 2, bandwidth and factor at least 0, and one of them 0"
        )
    if workflow not in ("replace", "mix", "accumulate", "accumulate_subsample") or (
        workflow == "accumulate" and factor > 0
    ):
        raise ValueError(f"no closed form for workflow {workflow!r} with factor {factor}")
    return generation


def _subsampled(rounds, size, widening, kernel, variance):
    """The density's variance when M of the t M pooled points carry the kernels."""
    density, scatter = np.empty(rounds), (size - 1) * variance
    for t in range(1, rounds + 1):
        unbiased = scatter / (t * size - 1)
        density[t - 1] = widening * unbiased * (size - 1) / size + kernel
        new_mean = density[t - 1] / size + unbiased / size * (1 - 1 / t)
        scatter += (size - 1) * density[t - 1] + t * size / (t + 1) * new_mean
    return density
