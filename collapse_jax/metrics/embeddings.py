"""Diversity of texts as embedded points, and their similarity to real text."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.errors import InputError


def embedding_diversity(points: ArrayLike) -> float:
    """Mean pairwise cosine distance 1 - cos(x_i, x_j) of points [N, width], over pairs i < j.

    Derived: with unit vectors u_i it is 1 - (|sum u_i|^2 - N) / (N (N - 1)), which needs no pairs.

    Raises:
        InputError: If there are fewer than 2 points, or one is 0 or not finite.
    """
    found = _checked("points", points)
    units = found / np.linalg.norm(found, axis=1, keepdims=True)
    total, count = units.sum(0), len(units)
    return float(1 - (total @ total - count) / (count * (count - 1)))


def mauve_score(points: ArrayLike, real_points: ArrayLike, *, seed: int = 0) -> float:
    """MAUVE in (0, 1]; it is 1 if the histograms of both sets of points are equal.

    By the package mauve-text with its defaults: k-means of both sets together into N / 10 clusters,
    after PCA to 90% of the variance; scaling factor 5.

    Args:
        points: [N, width], the points of the text.
        real_points: [M, width], the points of the real text.
        seed: Seed of k-means.

    Raises:
        InputError: If either set has fewer than 2 points, or a point is 0 or not finite.
        ImportError: If mauve-text is not installed.

    References:
        Pillutla et al. 2021, "MAUVE: measuring the gap between neural text and human text".
    """
    from mauve import compute_mauve  # pyright: ignore[reportMissingImports]

    made, real = _checked("points", points), _checked("real_points", real_points)
    with _no_native_errors():  # faiss warns of few points a cluster, which N / 10 always are
        found = compute_mauve(p_features=real, q_features=made, seed=seed, verbose=False)
    return float(found.mauve)


def has_mauve() -> bool:
    """Whether mauve-text, which MAUVE needs, is installed."""
    return importlib.util.find_spec("mauve") is not None


def _checked(name, points) -> np.ndarray:
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or len(points) < 2:
        raise InputError(
            f"{name} have shape {points.shape}; they must be [N, width] with at least 2 of them"
        )
    lengths = np.linalg.norm(points, axis=1)
    is_odd = ~(np.isfinite(lengths) & (lengths > 0))
    if is_odd.any():
        odd = int(is_odd.argmax())
        raise InputError(
            f"{name}: number {odd} has length {lengths[odd]}, so that its direction is undefined"
        )
    return points


@contextlib.contextmanager
def _no_native_errors() -> Iterator[None]:
    """Within this context, output of native code to file descriptor 2 is discarded."""
    try:
        before = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
