"""Curves of a million points, thinned before they are drawn: what a reader sees stays."""

import itertools

import numpy as np

# Stretches that a long curve is cut into: about as many as a panel is pixels wide.
_STRETCHES = 600
# Curves of no more points are drawn whole.
_MOST = 5_000
# A curve without noise needs no more.
_MOST_SMOOTH = 400


def kept(*curves: np.ndarray) -> np.ndarray | slice:
    """The places that are drawn of curves over the same points; of short ones all.

    A long curve is cut into stretches of equally many points. The first and the last point stay,
    and in each stretch the highest and the lowest of every curve: no peak is lost, whatever its
    width.

    Args:
        curves: Each [points], or [points, several]; nan and infinity are left out of account.

    Returns:
        A slice of everything, or places, ascending.
    """
    points = len(curves[0])
    if points <= _MOST:
        return slice(None)
    edges = np.linspace(0, points, _STRETCHES + 1).astype(int)
    places = [[0, points - 1]]
    columns = (column for curve in curves for column in np.reshape(curve, (points, -1)).T)
    for column in columns:
        for extreme, worst in ((np.argmax, -np.inf), (np.argmin, np.inf)):
            known = np.where(np.isfinite(column), column, worst)
            parts = itertools.pairwise(edges)
            places.append([first + extreme(known[first:end]) for first, end in parts])
    return np.unique(np.concatenate(places))


def smooth(points: int) -> np.ndarray | slice:
    """The places at which a smooth curve over so many points is computed, a millisecond each."""
    if points <= _MOST_SMOOTH:
        return slice(None)
    return np.linspace(0, points - 1, _MOST_SMOOTH).round().astype(int)


def caption(drawn: int, points: int) -> str:
    """Returns a caption if fewer points are drawn than exist; "" if all are drawn."""
    if drawn == points:
        return ""
    return (
        f"\nthinned: {drawn:,} of {points:,} recorded generations are drawn, including the highest "
        f"and the lowest of each {points // _STRETCHES:,}"
    )
