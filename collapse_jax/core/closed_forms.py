"""What is known exactly of a family's chains, in a form that tables and figures can ask for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Setting(NamedTuple):
    """What chains were simulated with; their real distribution is `ClosedForms.real`'s.

    options: the factory's arguments by name, defaults included.
    sample_size: points of each training set.
    workflow: the keywords by which `cj.theory` knows a workflow: {"workflow": NAME}, and with "mix"
        the shares alpha, beta and gamma too. real_share is among them where new batches hold real
        data; others' families are not asked then.
    """

    options: Mapping[str, Any]
    sample_size: int
    workflow: Mapping[str, Any]


ByMetric = Mapping[str, np.ndarray]


def nothing_known(*_) -> dict[str, np.ndarray]:
    """No metric has a closed form."""
    return {}


class ClosedForms(NamedTuple):
    """The closed forms of a family.

    means: (setting, generation) -> metric -> its exact mean over chains [generations].
    quantiles: (setting, generation, probabilities) -> metric -> [probabilities, generations].
    chains_for_means: (setting, generation, relative_error) -> metric -> [generations], inf beyond
        a float. A figure draws the chains' own mean only as far as they suffice.
    real: (options) -> (`Estimator`, params): the real distribution that the forms start from; None
        for the family's example.
    """

    means: Callable[[Setting, ArrayLike], ByMetric]
    quantiles: Callable[[Setting, ArrayLike, Sequence[float]], ByMetric] = nothing_known
    chains_for_means: Callable[[Setting, ArrayLike, float], ByMetric] = nothing_known
    real: Callable[[Mapping[str, Any]], tuple[Any, Any]] | None = None
