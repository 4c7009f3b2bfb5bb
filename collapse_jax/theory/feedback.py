"""Categories sharpened by a power and renewed by uniform real data: a transition with hysteresis.

For infinite samples p' = a/K + (1 - a) p^b / sum p^b over K categories, where a is the share of
uniform real data and b the power, the reciprocal of the temperature. The uniform distribution
becomes unstable at b = 1/(1 - a). For K > 2 collapsed distributions also exist below this power
(hysteresis).

Derived. For distributions with one leading category of probability x and K - 1 equal others, let y
be the log of the ratio of x to one of the others. A fixed point has b = (logit((x - a/K)/(1 - a)) +
log(K - 1))/y with x = 1/(1 + (K - 1) exp(-y)), so that the branch is a curve b(y); it folds where b
is smallest.

References: Marchi et al. 2024, the loop. The threshold 1/(1 - a) is that of Truong and Truong 2025,
    arXiv 2512.12381 (we have read only its abstract), with their alpha for b and beta for a.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, optimize, special

from .categorical import as_unit_interval

# Beyond y = 700 exp(-y) has no digits left.
_LARGEST_LOG_RATIO = 700.0


def uniform_eigenvalue(power: ArrayLike, real_share: ArrayLike) -> np.ndarray:
    """(1 - a) b, the factor of a small deviation from the uniform distribution; unstable above 1.

    With samples of M points it is also the lag-1 autocorrelation of a category's share. The
    variance of that share is 1/(1 - ((1 - a) b)^2) times its variance in a single generation, to
    first order.

    Args:
        power: b >= 0.
        real_share: a in [0, 1].
    """
    return (1 - as_unit_interval(real_share)) * np.asarray(power, np.float64)


def threshold(real_share: ArrayLike) -> np.ndarray:
    """The power 1/(1 - a) at which the uniform distribution becomes unstable."""
    with np.errstate(divide="ignore"):
        return 1 / (1 - as_unit_interval(real_share))


def fold(real_share: float, num_categories: int) -> tuple[float, float]:
    """(power, entropy in nats) at which the collapsed distribution disappears as the power falls.

    With two categories there is no loop: the transition is continuous, at the threshold.

    Args:
        real_share: a in (0, 1).
        num_categories: K >= 2.
    """
    share, count = _checked(real_share, num_categories)
    if count == 2:
        return float(threshold(share)), float(np.log(2))
    end = _end(share, count)
    # b(y) falls from the threshold at y = 0 to the fold, and rises to infinity at the end.
    grid = np.linspace(0, end, 2002)[1:-1]
    place = int(np.argmin(_power(grid, share, count)))
    bounds = grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)]
    found = optimize.minimize_scalar(
        lambda y: float(_power(y, share, count)), bounds=bounds, method="bounded",
        options={"xatol": 1e-12},
    )  # fmt: skip
    y = float(found.x)  # pyright: ignore
    return float(_power(y, share, count)), float(_entropy(y, count))


def collapsed_entropy(power: ArrayLike, real_share: float, num_categories: int) -> np.ndarray:
    """Entropy in nats of the collapsed distribution: stable, with one leading category.

    Args:
        power: b; below the fold the entropy is nan, since there is no such distribution.
        real_share: a in (0, 1).
        num_categories: K >= 2.
    """
    share, count = _checked(real_share, num_categories)
    least, entropy = fold(share, count)
    low = _log_ratio_of_entropy(entropy, count)
    power = np.asarray(power, np.float64)
    found = np.full(power.shape, np.nan)
    for place, value in np.ndenumerate(power):
        if value >= least:
            found[place] = _entropy(_log_ratio(value, share, count, low), count)
    return found


def jump(real_share: float, num_categories: int) -> float:
    """Entropy lost in the jump at the threshold, as a share of log K; 0 for two categories.

    The limit a -> 0 is the root of x (log x + H) = x - 1/K, which `real_share=0` gives: 0.69973 at
    K = 50.
    """
    count = int(num_categories)
    if real_share == 0 and count > 2:

        def excess(y):
            x = special.expit(y - np.log(count - 1))
            return x * (np.log(x) + _entropy(y, count)) - x + 1 / count

        # Zero at y = 0 as well: the uniform law.
        y: float = optimize.brentq(excess, np.log(count), 40.0)  # pyright: ignore
        return float(1 - _entropy(y, count) / np.log(count))
    at = threshold(_checked(real_share, num_categories)[0])
    return float(1 - collapsed_entropy(at, real_share, num_categories) / np.log(count))


def loop_area(real_share: float, num_categories: int) -> float:
    """Area in nats between the entropies on the way up and down, for an infinitely slow sweep.

    With a rising power the state is uniform up to the threshold. With a falling power it is
    collapsed down to the fold. The area is the integral over b of log K minus the entropy of the
    collapsed distribution.
    """
    share, count = _checked(real_share, num_categories)
    if count == 2:
        return 0.0
    first = _log_ratio_of_entropy(fold(share, count)[1], count)
    last = _log_ratio(float(threshold(share)), share, count, first)
    missing = np.log(count)
    # By parts: the branch as b(y), since b'(y) is 0 at the fold.
    inner, _ = integrate.quad(
        lambda y: _power(y, share, count) * _entropy_slope(y, count), first, last, limit=200
    )
    ends = [(missing - _entropy(y, count)) * _power(y, share, count) for y in (last, first)]
    return float(ends[0] - ends[1] + inner)


def _power(y, share, count):
    """b(y) of the fixed point with the log ratio y > 0."""
    x, others = special.expit(y - np.log(count - 1)), special.expit(np.log(count - 1) - y)
    odds = (x - share / count) / (others - share * (count - 1) / count)
    return (np.log(odds) + np.log(count - 1)) / y


def _end(share, count):
    """The log ratio at which b is infinite: x = 1 - a + a/K."""
    x = 1 - share + share / count
    return min(float(special.logit(x) + np.log(count - 1)), _LARGEST_LOG_RATIO)


def _log_ratio(power, share, count, low):
    """y of the collapsed distribution at a power; `low` is the y of the fold."""
    end = _end(share, count)

    def excess(y):
        return float(_power(y, share, count)) - power

    high = low + (end - low) * (1 - 1e-9)
    if excess(low) >= 0:
        return low
    found: float = optimize.brentq(excess, low, high, xtol=1e-13)  # pyright: ignore
    return found


def _log_ratio_of_entropy(entropy, count):
    if entropy >= np.log(count) - 1e-12:
        return 1e-6
    found: float = optimize.brentq(lambda y: _entropy(y, count) - entropy, 1e-9, 700, xtol=1e-13)  # pyright: ignore
    return found


def _entropy(y, count):
    """Entropy of one leading category and K - 1 equal ones whose log ratio is y."""
    x = special.expit(y - np.log(count - 1))
    other = special.expit(np.log(count - 1) - y)
    return special.entr(x) + special.entr(other) + other * np.log(count - 1)


def _entropy_slope(y, count):
    """dH/dy = -y x (1 - x)."""
    x = special.expit(y - np.log(count - 1))
    return -y * x * (1 - x)


def _checked(real_share, num_categories):
    share, count = float(as_unit_interval(real_share)), int(num_categories)
    if not 0 < share < 1:
        raise ValueError(f"real_share must be in (0, 1), got {real_share!r}")
    if count < 2:
        raise ValueError(f"num_categories must be at least 2, got {num_categories!r}")
    return share, count
