"""What is watched of a metric: its level, and the classical signs of a critical slowing down.

Every indicator at a generation is computed of that generation and of those before it, as an alarm
must be. Values are [chain, generation], and so is every indicator, nan where it is not defined yet.

References:
    Scheffer et al. 2009, "Early-warning signals for critical transitions"; Dakos et al. 2012,
    "Methods for detecting early warnings of critical transitions in time series", whose detrending
    by a smoothing kernel sees the future and is replaced by a line through each window.
"""

from collections.abc import Callable

import numpy as np

LEVEL, CHANGE = "level", "change"
VARIANCE, AUTOCORRELATION = "variance", "autocorrelation"
INDICATORS = (LEVEL, CHANGE, VARIANCE, AUTOCORRELATION)
# Those that look back over a window of generations.
OF_WINDOWS = (VARIANCE, AUTOCORRELATION)
# A line leaves a variance of the residuals from four values on.
SMALLEST_WINDOW = 4


def indicator(name: str, values: np.ndarray, window: int) -> np.ndarray:
    """An indicator by its name.

    Args:
        name: one of `INDICATORS`; "change" is the value minus that of the chain's first generation.
        values: [chain, generation].
        window: generations that "variance" and "autocorrelation" look back on, this one included.
    """
    values = np.asarray(values, np.float64)
    if name == LEVEL:
        return values
    if name == CHANGE:
        with np.errstate(invalid="ignore"):
            return values - values[:, :1]
    return (rolling_variance if name == VARIANCE else rolling_autocorrelation)(values, window)


def rolling_variance(values: np.ndarray, window: int) -> np.ndarray:
    """Variance (ddof = 2) of what a line leaves of the last `window` generations."""
    return _of_windows(values, window, lambda left: np.sum(left**2, axis=-1) / (window - 2))


def rolling_autocorrelation(values: np.ndarray, window: int) -> np.ndarray:
    """Lag-1 autocorrelation of what a line leaves of the last `window` generations.

    It is sum r_t r_(t+1) / sum r_t^2, which short windows bring down: white noise has about
    -2/window. Compare it with that of other chains in windows of the same length.
    """

    def correlation(left):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sum(left[..., 1:] * left[..., :-1], axis=-1) / np.sum(left**2, axis=-1)

    return _of_windows(values, window, correlation)


def _of_windows(values: np.ndarray, window: int, statistic: Callable) -> np.ndarray:
    """A statistic of the residuals [..., window] of each window, at its last generation."""
    values = np.asarray(values, np.float64)
    found = np.full(values.shape, np.nan)
    if values.shape[1] < window:
        return found
    place = np.arange(window) - (window - 1) / 2
    line = place / np.sqrt(np.sum(place**2))
    for chain, row in enumerate(values):  # a chain at a time: windows are `window` times as large
        views = np.lib.stride_tricks.sliding_window_view(row, window)
        with np.errstate(invalid="ignore"):  # -inf of a collapsed chain gives nan
            left = views - views.mean(1, keepdims=True)
            left = left - (left @ line)[:, None] * line
            size = np.abs(views).max(1, keepdims=True)
        # Rounding leaves no variance where there is none.
        left = np.where(np.abs(left) <= 32 * np.finfo(np.float64).eps * size, 0, left)
        found[chain, window - 1 :] = statistic(left)
    return found


def trend(values: np.ndarray) -> np.ndarray:
    """Kendall's tau-b [chain, generation] of a series against time, up to each generation.

    Values that are nan count neither as rising nor as falling, and make no pair. nan until there
    are three values, and where all are equal.
    """
    values = np.asarray(values, np.float64)
    count = values.shape[1]
    before = np.tri(count, k=-1, dtype=bool)  # [generation, an earlier one]
    found = np.full(values.shape, np.nan)
    for chain, row in enumerate(values):
        with np.errstate(invalid="ignore"):
            signs = np.sign(row[:, None] - row)
        if np.isinf(row).any():  # inf - inf, two equal values
            same = np.isinf(row)[:, None] & (row[:, None] == row)
            signs = np.where(same, 0, signs)
        pairs = before & np.isfinite(signs)
        total = np.cumsum(np.sum(np.where(pairs, signs, 0), axis=1))
        compared = np.cumsum(np.sum(pairs, axis=1))
        untied = np.cumsum(np.sum(pairs & (signs != 0), axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            tau = total / np.sqrt(compared * untied.astype(np.float64))
        found[chain] = np.where(compared >= 3, tau, np.nan)
    return found
