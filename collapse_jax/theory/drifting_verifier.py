"""A verifier that is refitted to the training sets it accepts: exact for known variance.

The model is Normal(m, v0) with known variance v0 = 1 (`known_variance`), the population has mean 0.
A verifier of centre c and width s accepts a point x with probability exp(-(x - c)^2 / (2 s^2));
rejected points are drawn again. Accepted points are Normal(a m + (1 - a) c, a), where a is s^2 / (1
+ s^2). After each generation the centre becomes (1 - rho) c + rho times the mean of the training
set, which is the model's new m.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from .ancestry import as_generation, as_sample_size


def centre_moments(
    generation: ArrayLike,
    sample_size: ArrayLike,
    width: float,
    refresh: float,
    *,
    bias: float | None = 0.0,
    gamma: float = 0.0,
    every: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Exact first and second moments of the model's mean m and the verifier's centre c.

    Generation 0 is fitted to M real draws. Each point of a later set is real with probability gamma
    ('mix' with beta = 0), otherwise an accepted point of the newest model. Both moments close: with
    u = a m + (1 - a) c the new mean has expectation (1 - gamma) u and variance [(1 - gamma) a +
    gamma + gamma (1 - gamma) u^2] / M given the past. Derived.

    Args:
        width: s > 0; inf for no verifier.
        refresh: rho in [0, 1]; 0 is a verifier that does not change.
        bias: c in generation 1; None: the mean of generation 0's real data.
        gamma: Share of real data, in [0, 1].
        every: The centre moves after every generation that is a multiple of this number.

    Returns:
        (mean, square): float64 [..., 2] and [..., 2, 2] after generation's shape, the expectations
        of (m, c) and of its outer product. c is the centre after that generation's set.
    """
    generation = as_generation(generation)
    size = int(as_sample_size(sample_size))
    a = _kept(width)
    for name, value in (("refresh", refresh), ("gamma", gamma)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {value!r}")
    first = np.array([[1.0, 1.0], [1.0, 1.0]]) / size
    start = np.zeros(2)
    if bias is not None:
        start, first = np.array([0.0, bias]), np.array([[1 / size, 0.0], [0.0, bias**2]])
    means, squares = [start], [first]
    to_points = np.array([a, 1 - a])
    for step in range(1, int(np.max(generation, initial=0)) + 1):
        rate = refresh if step % every == 0 else 0.0
        mean, square = means[-1], squares[-1]
        spread = to_points @ square @ to_points
        noise = ((1 - gamma) * a + gamma + gamma * (1 - gamma) * spread) / size
        model = (1 - gamma) * to_points
        matrix = np.stack([model, rate * model + (1 - rate) * np.array([0.0, 1.0])])
        along = np.array([1.0, rate])
        means.append(matrix @ mean)
        squares.append(matrix @ square @ matrix.T + noise * np.outer(along, along))
    return np.array(means)[generation], np.array(squares)[generation]


def expected_squared_error(
    generation: ArrayLike,
    sample_size: ArrayLike,
    width: float,
    refresh: float,
    *,
    bias: float | None = 0.0,
    gamma: float = 0.0,
    every: int = 1,
) -> np.ndarray:
    """E m^2, the squared error of the model's mean, of generation's shape; see `centre_moments`.

    Without a verifier (width = inf) and real data it is (g + 1) / M.
    """
    return centre_moments(
        generation, sample_size, width, refresh, bias=bias, gamma=gamma, every=every
    )[1][..., 0, 0]


def diffusion_rate(sample_size: ArrayLike, width: float, refresh: float) -> float:
    """Long-run growth of E m^2 per generation, without real data: a float.

    Derived: rows of the linear map of (m, c) sum to 1, so that m and c move together along the left
    vector (rho a, 1 - a), by a random walk of variance a (rho / (rho a + 1 - a))^2 / M. It is 0 for
    a verifier that does not change, a / M for one that is fully refitted, and 1 / M without a
    verifier. With every rho above 0 the error grows without bound.
    """
    size, a = int(as_sample_size(sample_size)), _kept(width)
    if a == 1:
        return 1 / size
    return a * (refresh / (refresh * a + 1 - a)) ** 2 / size


def settled_bias(width: float, refresh: float, bias: float) -> float:
    """Long-run E m for a verifier whose centre starts `bias` away from the real mean: a float.

    Derived, as `diffusion_rate`: bias (1 - a) / (rho a + 1 - a), which is larger the less the
    verifier is refitted, since generation 0 is unbiased and the verifier is not.
    """
    a = _kept(width)
    return 0.0 if a == 1 else bias * (1 - a) / (refresh * a + 1 - a)


def last_helpful_generation(
    sample_size: ArrayLike,
    width: float,
    refresh: float,
    *,
    bias: float = 0.0,
    most: int = 100_000,
) -> tuple[int, int]:
    """(first, last) generation >= 1 with a smaller E m^2 than without a verifier; (0, 0) for none.

    If the last generation is `most`, the verifier helps in the whole range examined.
    """
    generation = np.arange(1, most + 1)
    error = expected_squared_error(generation, sample_size, width, refresh, bias=bias)
    helps = generation[error < (generation + 1) / int(as_sample_size(sample_size))]
    return (int(helps[0]), int(helps[-1])) if helps.size else (0, 0)


def refitted_width_log_variance(
    generation: ArrayLike, sample_size: ArrayLike, width: float
) -> np.ndarray:
    """E[log variance] of a Gaussian (ddof = 1) whose verifier is refitted in centre and width.

    The verifier is centred at the mean of the training set, with a width of `width` standard
    deviations of the set (refresh 1). Accepted points have w^2 / (1 + w^2) of the model's variance
    in every generation, so the variance falls geometrically even for M -> infinity. Derived: a
    verifier of a fixed width s adds 1 / s^2 to the precision instead, see
    `interventions.curated_expected_precision`.

    Args:
        sample_size: M >= 2.
        width: w > 0, in standard deviations; inf for no verifier.
    """
    generation = as_generation(generation)
    size = int(as_sample_size(sample_size))
    if size < 2:
        raise ValueError(f"sample_size must be at least 2, got {sample_size!r}")
    freedom = size - 1
    drift = special.digamma(freedom / 2) - np.log(freedom / 2)
    return generation * np.log(_kept(width)) + (generation + 1) * drift


def detected_count_distribution(
    generation: int,
    sample_size: ArrayLike,
    probability: float,
    *,
    cap: int = 100,
    real: float | None = None,
) -> np.ndarray:
    """Exact distribution of the number of ones among M points that a saturated detector accepts.

    The model is Bernoulli, fitted by counting. In every generation the detector sees M fresh real
    points and M points of the newest model. Its P(real | x) is the share of real points among those
    equal to x (one half if there are none). Derived: the transition of the count is an average over
    both binomial counts.

    Args:
        probability: Of a one among the real points.
        cap: Largest number of draws per point; then the last candidate is accepted.
        real: The same for the points that the detector is given as real; None: `probability`.

    Returns:
        float64 [M + 1].
    """
    size = int(as_sample_size(sample_size))
    counts = np.arange(size + 1)
    seen_real = stats.binom.pmf(counts, size, probability if real is None else real)
    transition = np.zeros((size + 1, size + 1))
    for ones in counts:
        share = ones / size
        seen_made = stats.binom.pmf(counts, size, share)
        passes_one = _ratio(counts[:, None], counts[None, :])
        passes_zero = _ratio(size - counts[:, None], size - counts[None, :])
        law = _accepted(share, passes_one, passes_zero, cap)
        next_counts = stats.binom.pmf(counts, size, law[..., None])
        transition[ones] = np.einsum("r,m,rmk->k", seen_real, seen_made, next_counts)
    law = stats.binom.pmf(counts, size, probability)
    return law @ np.linalg.matrix_power(transition, int(as_generation(generation)))


def _accepted(share, one, zero, cap):
    """P(one) of a point that is drawn up to `cap` times until it is accepted."""
    passing = share * one + (1 - share) * zero
    within = np.where(passing > 0, share * one / np.where(passing > 0, passing, 1), 0)
    left = (1 - passing) ** cap
    failing = np.where(passing < 1, share * (1 - one) / np.where(passing < 1, 1 - passing, 1), 0)
    return np.clip((1 - left) * within + left * failing, 0, 1)


def _ratio(real, made):
    total = real + made
    return np.where(total > 0, real / np.where(total > 0, total, 1), 0.5)


def _kept(width):
    """a = s^2 / (1 + s^2), the factor of the model's mean and variance under the verifier."""
    if not width > 0:
        raise ValueError(f"width must be above 0, got {width!r}")
    return 1 / (1 + 1 / width**2)
