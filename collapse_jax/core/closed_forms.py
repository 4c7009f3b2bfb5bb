"""Closed forms of a family's chains, in a form that tables and figures can use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Setting(NamedTuple):
    """The settings of simulated chains; their real distribution is that of `ClosedForms.real`.

    options: the factory's arguments by name, including defaults.
    sample_size: number of points in each training set.
    workflow: the keywords of a workflow in `cj.theory`: {"workflow": NAME}, with "mix" also the
        shares alpha, beta and gamma. It includes real_share if new batches contain real data; the
        closed forms of third-party families are not used then.
    """

    options: Mapping[str, Any]
    sample_size: int
    workflow: Mapping[str, Any]


ByMetric = Mapping[str, np.ndarray]


def nothing_known(*_) -> dict[str, np.ndarray]:
    """Returns {}: no metric has a closed form."""
    return {}


class ClosedForms(NamedTuple):
    """The closed forms of a family.

    means: (setting, generation) -> metric -> its exact mean over chains [generations].
    quantiles: (setting, generation, probabilities) -> metric -> exact quantiles over chains
        [probabilities, generations].
    chains_for_means: (setting, generation, relative_error) -> metric -> the number of chains
        [generations] whose mean has that relative standard error, inf if it overflows. A figure
        draws the mean over chains only as far as the chains suffice.
    real: (options) -> (`Estimator`, params): the real distribution that the closed forms assume;
        None for the family's example.
    """

    means: Callable[[Setting, ArrayLike], ByMetric]
    quantiles: Callable[[Setting, ArrayLike, Sequence[float]], ByMetric] = nothing_known
    chains_for_means: Callable[[Setting, ArrayLike, float], ByMetric] = nothing_known
    real: Callable[[Mapping[str, Any]], tuple[Any, Any]] | None = None
