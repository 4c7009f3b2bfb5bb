"""Effects and interactions of things that are switched on and off in every combination (a 2^k
design).
"""

import itertools

import numpy as np


def effects(values, names) -> dict:
    """Tuple of names -> [...]: what each factor, and each set of factors together, adds to values
    [2, ..., 2, ...].

    The first len(names) axes of `values` are the factors, off and on. (name,): the mean with it
    less the mean without. (one, other): what one adds to the effect of the other, and so on. ():
    the value where all are off. The numbers do not add up to the cells: a
    difference along each factor of the set, a mean along the others.
    Raises ValueError where an axis of a factor has not length 2.
    Source: standard (Box, Hunter and Hunter), without their factor 1/2 for interactions.
    """
    values, count = np.asarray(values, float), len(names)
    if values.ndim < count or values.shape[:count] != (2,) * count:
        raise ValueError(
            f"values have shape {values.shape}; the first {count} axes must have length 2"
        )
    found = {(): values[(0,) * count]}
    for size in range(1, count + 1):
        for chosen in itertools.combinations(range(count), size):
            value = values
            for axis in reversed(range(count)):
                value = (
                    np.diff(value, axis=axis).squeeze(axis) if axis in chosen else value.mean(axis)
                )
            found[tuple(names[axis] for axis in chosen)] = value
    return found
