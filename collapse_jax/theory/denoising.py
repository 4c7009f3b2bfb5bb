"""Affine denoisers: the functions that they learn from points, and the Gaussian that they sample.

Derived. At a level a noisy point is y = a x + b e, with a standard normal e and a point x of mean m
and covariance S (ddof = 0). Among all affine functions of y, least squares gives

    D(y) = m + a S (a^2 S + b^2)^-1 (y - a m)    for the point,
    E(y) = b (a^2 S + b^2)^-1 (y - a m)          for the noise,

because cov(x, y) = a S, cov(e, y) = b and var(y) = a^2 S + b^2. Training draws new noise in every
step, so that the expectation over e is exact; only m and S depend on the sample. Every step of a
sampler is affine in D, E and y, all of which share the directions of S. From a standard normal
start, mean and variance along each direction follow step by step, and the output is Gaussian.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

SAMPLERS = ("ancestral", "ancestral_large", "ddim", "probability_flow", "euler", "heun")


class Sampled(NamedTuple):
    """mean: [d]. covariance: [d, d]."""

    mean: np.ndarray
    covariance: np.ndarray


def sampled(
    mean: ArrayLike,
    covariance: ArrayLike,
    levels: int,
    *,
    sampler: str = "ancestral",
    schedule: str = "cosine",
    standardised: bool = True,
) -> Sampled:
    """The distribution that a sampler draws from, for an affine denoiser fitted to points.

    Args:
        mean: Of the points, [d].
        covariance: Of the points with ddof = 0, [d, d].
        levels: Steps of the sampler, at least 1.
        sampler: Of a diffusion "ancestral" (the variance of the posterior), "ancestral_large" (that
            of the noise added), "ddim" or "probability_flow" (Heun's method in the angle whose
            cosine is a); of flow matching "euler" or "heun" (a = t, b = 1 - t).
        schedule: Of a diffusion "cosine" (equal angles) or "linear" (rates from 0.1 to 20).
        standardised: Whether points are standardised (mean 0, standard deviation 1 in each
            coordinate) for training and sampling, and transformed back afterwards.

    References:
        Derived here. Samplers: Ho et al. 2020, arXiv 2006.11239, equation 7; Song et al. 2021,
        arXiv 2010.02502, equation 12.
    """
    mean, covariance = np.atleast_1d(np.asarray(mean, float)), np.asarray(covariance, float)
    covariance = covariance.reshape(len(mean), len(mean))
    _check(levels, sampler, schedule)
    shift, scale = np.zeros(len(mean)), np.ones(len(mean))
    if standardised:
        shift, scale = mean, np.sqrt(np.diagonal(covariance))
        scale = np.where(scale > 0, scale, 1)
    values, directions = np.linalg.eigh(covariance / np.outer(scale, scale))
    centre = directions.T @ ((mean - shift) / scale)
    at, variance = _walked(np.maximum(values, 0), centre, levels, sampler, schedule)
    columns = scale[:, None] * directions
    return Sampled(shift + columns @ at, columns * variance @ columns.T)


def kept_variance(levels: int, *, sampler: str = "ancestral", schedule: str = "cosine") -> float:
    """Variance of a sampler's output for points of variance 1; below 1 the sampler itself narrows.

    For DDIM it is the product of cos^2 of the angles between levels, about 1 - pi^2 / (4 levels).
    """
    law = sampled([0.0], [[1.0]], levels, sampler=sampler, schedule=schedule)
    return float(law.covariance[0, 0])


def expected_variance(
    generation: ArrayLike,
    sample_size: int,
    *,
    kept: float,
    variance: float = 1.0,
    fresh: float = 0.0,
) -> np.ndarray:
    """Expected variance of the model at each generation, in one dimension, standardised.

    A model has `kept` times the variance (ddof = 0) of its M training points, around their mean.
    The points are drawn from the previous model, or, each with probability `fresh`, from the real
    distribution (workflow mix). With F = E[S] the expected variance of the model and D = E[(its
    mean - the real one)^2], points have the variance V = (1 - a) F + a s^2 + a (1 - a) D, and then
    F' = kept (1 - 1/M) V and D' = (1 - a)^2 D + V / M, for a = `fresh`. Derived.

    Args:
        sample_size: M, at least 1; generation 0 is fitted to M real points.
        kept: Of `kept_variance`.
        variance: s^2, of the real distribution.
        fresh: The share of fresh real points, in [0, 1].
    """
    generation = np.asarray(generation)
    if not (np.issubdtype(generation.dtype, np.integer) and np.all(generation >= 0)):
        raise ValueError(f"generation must be whole numbers of at least 0, got {generation!r}")
    if not (sample_size >= 1 and kept >= 0 and 0 <= fresh <= 1):
        raise ValueError("sample_size must be at least 1, kept at least 0, and fresh in [0, 1]")
    model, drift = kept * (1 - 1 / sample_size) * variance, variance / sample_size
    found = [model]
    for _ in range(int(np.max(generation, initial=0))):
        pooled = (1 - fresh) * model + fresh * variance + fresh * (1 - fresh) * drift
        model = kept * (1 - 1 / sample_size) * pooled
        drift = (1 - fresh) ** 2 * drift + pooled / sample_size
        found.append(model)
    return np.array(found)[generation]


def _check(levels, sampler, schedule):
    if sampler not in SAMPLERS or schedule not in ("cosine", "linear"):
        raise ValueError(f"no closed form for sampler {sampler!r} and schedule {schedule!r}")
    if not levels >= 1:
        raise ValueError(f"levels must be at least 1, got {levels}")


def _walked(values, centre, levels, sampler, schedule):
    """Mean and variance [d] along directions in which points have `centre` and `values`."""
    if sampler in ("euler", "heun"):
        signals = np.arange(levels + 1) / levels
        noises, places = 1 - signals, signals
    else:
        signals = _signals(levels, schedule)
        noises = np.sqrt(np.maximum(1 - signals**2, 0))
        places = np.arccos(signals)
    mean, variance = np.zeros(len(values)), np.ones(len(values))
    for t in range(levels):
        now, then = ((signals[i], noises[i], places[i]) for i in (t, t + 1))
        last = t == levels - 1
        gain, offset, jitter = _step(values, centre, now, then, sampler, last)
        mean, variance = gain * mean + offset, gain**2 * variance + jitter**2
    return mean, variance


def _signals(levels, schedule):
    """The square roots [levels + 1] of Ho et al.'s products of alphas, from the last level to 1."""
    time = np.linspace(1, 0, levels + 1)
    if schedule == "cosine":
        return np.cos(np.pi / 2 * time)
    return np.exp(-(0.1 * time + (20 - 0.1) * time**2 / 2) / 2)


def _estimates(values, centre, a, b):
    """(gain, offset) of the estimates of the point and of the noise, as functions of y."""
    total = a**2 * values + b**2
    total = np.where(total > 0, total, np.inf)
    of_point, of_noise = a * values / total, b / total
    return (of_point, centre - of_point * a * centre), (of_noise, -of_noise * a * centre)


def _step(values, centre, now, then, sampler, last):
    """(gain, offset, jitter) of a step of the sampler, in which y becomes gain y + offset."""
    (a, b, place), (next_a, next_b, next_place) = now, then
    point, noise = _estimates(values, centre, a, b)
    if sampler == "ddim":
        return *(next_a * p + next_b * e for p, e in zip(point, noise, strict=True)), 0.0
    if sampler.startswith("ancestral"):
        beta = 1 - (a / next_a) ** 2
        of_point = next_a * beta / b**2
        of_y = a / next_a * next_b**2 / b**2
        spread = np.sqrt(beta if sampler == "ancestral_large" else beta * next_b**2 / b**2)
        return of_point * point[0] + of_y, of_point * point[1], 0.0 if last else spread
    slope = _velocity(point, noise, a, b, sampler)
    apart = next_place - place
    gain, offset = 1 + apart * slope[0], apart * slope[1]
    if sampler == "euler":
        return gain, offset, 0.0
    later = _velocity(*_estimates(values, centre, next_a, next_b), next_a, next_b, sampler)
    return (
        1 + apart * (slope[0] + later[0] * gain) / 2,
        apart * (slope[1] + later[0] * offset + later[1]) / 2,
        0.0,
    )


def _velocity(point, noise, a, b, sampler):
    """(gain, offset) of the derivative of the path: x - e in time, a e - b x in the angle."""
    if sampler == "probability_flow":
        return tuple(a * e - b * p for p, e in zip(point, noise, strict=True))
    return tuple(p - e for p, e in zip(point, noise, strict=True))
