"""Levels of noise: what a network learns at each, and how a sampler goes from one to the next.

At a level, a point is signal x + noise e with a standard normal e, and the network predicts the
velocity along the path there. Diffusion: the level is an angle, signal = cos, noise = sin, and the
velocity is cos e - sin x. Flow matching: it is a time t from 0 to 1, signal = t, noise = 1 - t, and
the velocity is x - e. Levels are in the order in which a sampler visits them, from pure noise on.
"""

from typing import Literal, NamedTuple

import numpy as np

SAMPLERS = ("ancestral", "ancestral_large", "ddim", "probability_flow")
SOLVERS = ("heun", "euler")
SCHEDULES = ("cosine", "linear")
# Rates of noise at both ends of the linear schedule, for a path of length 1.
_LEAST_RATE, _LARGEST_RATE = 0.1, 20.0


class Levels(NamedTuple):
    """What is learned: at the levels [K], of which a sampler that corrects visits the last too.

    place: [K], the angle or the time, as the network is told.
    signal, noise: [K], what a noisy point is made of.
    of_signal, of_noise: [K], what the velocity is made of.
    """

    place: np.ndarray
    signal: np.ndarray
    noise: np.ndarray
    of_signal: np.ndarray
    of_noise: np.ndarray


class Walk(NamedTuple):
    """How a sampler goes on: x becomes keep x + push v + jitter z, with v the velocity at x.

    keep, push, jitter: [T]; jitter is 0 everywhere where nothing is drawn on the way.
    corrected: whether v is then averaged with the velocity where it leads (Heun's method).
    """

    keep: np.ndarray
    push: np.ndarray
    jitter: np.ndarray
    corrected: bool


def of_diffusion(
    levels: int,
    schedule: Literal["cosine", "linear"],
    sampler: Literal["ancestral", "ancestral_large", "ddim", "probability_flow"],
) -> tuple[Levels, Walk]:
    """What is learned, and how it is sampled, of a diffusion that keeps the variance.

    References:
        Ho et al. 2020, arXiv 2006.11239 (ancestral, with the variance of the posterior, or the
        large one, that of the noise added). Song et al. 2021, arXiv 2010.02502 (DDIM). Schedules:
        Nichol and Dhariwal 2021, arXiv 2102.09672, without their offset (cosine); Song et al. 2021,
        arXiv 2011.13456, rates from 0.1 to 20 (linear). Velocities: Salimans and Ho 2022, arXiv
        2202.00512; in the angle they are the probability flow.
    """
    angle = _angles(levels, schedule)
    now, then = angle[:-1], angle[1:]
    if sampler == "ddim":
        walk = Walk(np.cos(now - then), np.sin(then - now), np.zeros(levels), False)
    elif sampler == "probability_flow":
        walk = Walk(np.ones(levels), then - now, np.zeros(levels), True)
    else:
        walk = _ancestral(now, then, large=sampler == "ancestral_large")
    seen = angle if walk.corrected else now
    return Levels(seen, np.cos(seen), np.sin(seen), -np.sin(seen), np.cos(seen)), walk


def of_flow(levels: int, solver: Literal["euler", "heun"]) -> tuple[Levels, Walk]:
    """What is learned, and how it is sampled, of straight paths from noise to points.

    References:
        Lipman et al. 2023, arXiv 2210.02747, with their smallest deviation 0.
    """
    time, ones = np.arange(levels + 1) / levels, np.ones(levels + 1)
    seen = slice(None) if solver == "heun" else slice(levels)
    learned = (time, time, 1 - time, ones, -ones)
    walk = Walk(ones[1:], np.diff(time), np.zeros(levels), solver == "heun")
    return Levels(*(values[seen] for values in learned)), walk


def _angles(levels, schedule):
    """Angles [levels + 1] from noise to points; the last is 0."""
    time = 1 - np.arange(levels + 1) / levels
    if schedule == "cosine":
        return np.pi / 2 * time
    rate = _LEAST_RATE * time + (_LARGEST_RATE - _LEAST_RATE) * time**2 / 2
    return np.arccos(np.exp(-rate / 2))


def _ancestral(now, then, large):
    """x given the noisy point of the level before, and the point that the network makes of it."""
    signal, kept = np.cos(now), np.sin(then) ** 2
    # alpha and beta of the step, of the product of all alphas.
    alpha = (signal / np.cos(then)) ** 2
    beta, total = 1 - alpha, np.sin(now) ** 2
    of_point = np.cos(then) * beta / total
    of_noisy = np.sqrt(alpha) * kept / total
    # The point is cos x - sin v.
    jitter = np.sqrt(beta if large else beta * kept / total)
    jitter[-1] = 0  # the last step adds no noise
    return Walk(of_noisy + of_point * signal, -of_point * np.sin(now), jitter, False)
