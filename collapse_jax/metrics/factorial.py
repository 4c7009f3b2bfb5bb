"""Effects and interactions of factors that are off or on in every combination (a 2^k design)."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def effects(values: ArrayLike, names: Sequence[str]) -> dict[tuple[str, ...], np.ndarray]:
    """Main effects of factors, and interactions of sets of factors.

    An effect is a difference along each factor of the set, averaged over the other factors. The
    effects do not add up to the cells.

    Args:
        values: [2, ..., 2, ...]; the first len(names) axes are the factors, off and on.
        names: Names of the factors.

    Returns:
        Tuple of names -> [...]. (name,): the mean with the factor minus the mean without. (one,
        other): the change of the effect of one by the other, and so on. (): the value with all
        factors off.

    Raises:
        ValueError: If the axis of a factor has another length than 2.

    References:
        Box, Hunter and Hunter, without their factor 1/2 for interactions.
    """
    values, count = np.asarray(values, float), len(names)
    if values.ndim < count or values.shape[:count] != (2,) * count:
        raise ValueError(
            f"values have shape {values.shape}; the first {count} axes must have length 2"
        )
    effects_of: dict[tuple[str, ...], np.ndarray] = {(): values[(0,) * count]}
    for size in range(1, count + 1):
        for chosen in itertools.combinations(range(count), size):
            value = values
            for axis in reversed(range(count)):
                value = (
                    np.diff(value, axis=axis).squeeze(axis) if axis in chosen else value.mean(axis)
                )
            effects_of[tuple(names[axis] for axis in chosen)] = value
    return effects_of
