"""Random numbers of the points of a grid: independent streams, or one stream for all of them.

The key of a point depends on its name, which consists of its settings and not of its place. More
points or other axes therefore do not change the numbers of a point.
"""

import collections
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from collapse_jax.errors import InputError, one_key, one_of
from collapse_jax.random.bits import fold_in

INDEPENDENT, COMMON = "independent", "common"
STREAMS = (INDEPENDENT, COMMON)
# Before every name that is hashed, so that no other text of anybody's gives the same words.
_PREFIX = "collapse_jax: point of a grid: "


def point_key(key: jax.Array, point: str | Mapping[str, Any]) -> jax.Array:
    """Returns the key [] of a point of a grid.

    `cj.simulate` with this key gives the numbers of the point in a grid with independent streams:
    chain c of the point uses `fold_in(point_key, c)`.

    Args:
        key: the key of the whole grid.
        point: the settings of the point by the names of the axes, such as {"gamma": 0.1}; or the
            name that `names_of_points` returns.

    Raises:
        InputError: if `key` is not one typed key.
    """
    one_key("key", key)
    if isinstance(point, str):
        name = point
    else:
        (name,) = names_of_points({axis: np.array([value]) for axis, value in point.items()})
    first, second = words_of([name])[0]
    return fold_in(fold_in(key, first), second)


def words_of(names: Sequence[str]) -> np.ndarray:
    """Returns the numbers uint32 [names, 2] that `point_key` folds into the key, for each name.

    They are 64 bits of the name's SHA-256: two of a million names share them with a probability of
    3e-8.
    """
    digests = [hashlib.sha256(f"{_PREFIX}{name}".encode()).digest()[:8] for name in names]
    return np.frombuffer(b"".join(digests), "<u4").astype(np.uint32).reshape(-1, 2)


def names_of_points(settings: Mapping[str, np.ndarray]) -> list[str]:
    """Returns a name for each point: its settings, sorted by name, such as "gamma=0.1 size=5".

    Floats are written exactly, and 1.0 as 1. If points have equal settings, those after the first
    get a count: "size=5 again=1".

    Args:
        settings: name -> [points].
    """
    columns = [
        [f"{name}={_written(value)}" for value in np.asarray(settings[name]).tolist()]
        for name in sorted(settings)
    ]
    seen, names = {}, []
    for parts in zip(*columns, strict=True):
        name = " ".join(parts)
        times = seen[name] = seen.get(name, -1) + 1
        names.append(f"{name} again={times}" if times else name)
    return names


def _written(value):
    return int(value) if isinstance(value, float) and value.is_integer() else repr(value)


def words_of_points(
    streams: str, settings: Mapping[str, np.ndarray] | None, names: Sequence[str] | None
) -> np.ndarray | None:
    """`words_of` the points of a plan; None without a grid and for common numbers.

    Args:
        streams: "independent" or "common".
        settings: name -> [points] of a grid.
        names: [points] what names them; by default their settings.

    Raises:
        InputError: for other streams, and where names are too many, too few or not distinct.
    """
    one_of("streams", streams, STREAMS)
    if settings is None or streams == COMMON:
        return None
    if names is None:
        return words_of(names_of_points(settings))
    points = len(next(iter(settings.values())))
    if len(names) != points:
        raise InputError(f"names are {len(names)}; they must be one for each of {points} points")
    if len(set(names)) < points:
        (twice, _), *_ = collections.Counter(names).most_common(1)
        raise InputError(f"names has {twice!r} twice; each point must have a different name")
    return words_of(names)
