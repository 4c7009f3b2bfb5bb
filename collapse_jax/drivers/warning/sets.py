"""Sets of chains that are watched together, which may disagree."""

from collections.abc import Mapping

import numpy as np

from collapse_jax.errors import InputError

DISAGREEMENT = "disagreement on "


def disagreement(values: np.ndarray) -> np.ndarray:
    """By how much the chains of a set disagree: [generation].

    Half of the mean squared distance of two chains, under a root: the standard deviation (ddof = 1)
    over the set, and of vectors that of all their entries together. It is a property of the set;
    nan where a chain has no finite number.

    Args:
        values: [chain, generation, ...] of two chains or more.
    """
    values = np.asarray(values, np.float64)
    flat = values.reshape(*values.shape[:2], -1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.sum(np.var(flat, axis=0, ddof=1), axis=-1))


def in_sets(metrics: Mapping[str, np.ndarray], size: int, name: str) -> dict[str, np.ndarray]:
    """Metrics of sets of `size` chains each [set, generation], and their disagreements.

    A set's metric is the mean over its chains. Chains that are left over at the end are not used.

    Args:
        metrics: name -> [chain, generation, ...].
        size: chains of a set, two or more.
        name: whose metrics they are, for the error text.

    Raises:
        InputError: if there are fewer chains than a set has.
    """
    chains = len(next(iter(metrics.values())))
    if chains < size:
        raise InputError(f"set_size is {size}; {name} has {chains} chains, too few for a set")
    count = chains // size
    found = {}
    for key, values in metrics.items():
        of_sets = values[: count * size].reshape(count, size, *values.shape[1:])
        if values.ndim == 2:
            with np.errstate(invalid="ignore"):
                found[key] = of_sets.mean(1)
        found[DISAGREEMENT + key] = np.stack([disagreement(one) for one in of_sets])
    return found
