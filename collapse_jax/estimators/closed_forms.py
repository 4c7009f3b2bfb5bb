"""What is known exactly of a family's chains, in a form that tables and figures can ask for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.protocols import Params
from collapse_jax.core.types import Estimator

__all__ = ["ClosedForms", "Setting"]


class Setting(NamedTuple):
    """What chains were simulated with; their real distribution is `ClosedForms.real`'s.

    options: the factory's arguments by name, defaults included.
    sample_size: points of each training set.
    workflow: the keywords by which `cj.theory` knows a workflow: {"workflow": NAME}, and with "mix"
        the shares alpha, beta and gamma too.
    """

    options: Mapping[str, Any]
    sample_size: int
    workflow: Mapping[str, Any]


class OfGenerations(Protocol):
    """Metric -> its exact value at each generation, for metrics with a closed form."""

    def __call__(self, setting: Setting, generation: ArrayLike, /) -> Mapping[str, np.ndarray]: ...


class Quantiles(Protocol):
    """Metric -> its exact quantiles [probabilities, generations], where they are known."""

    def __call__(
        self, setting: Setting, generation: ArrayLike, probabilities: Sequence[float], /
    ) -> Mapping[str, np.ndarray]: ...


class ChainsForMeans(Protocol):
    """Metric -> chains whose average has this relative standard error [generations]."""

    def __call__(
        self, setting: Setting, generation: ArrayLike, relative_error: float, /
    ) -> Mapping[str, np.ndarray]: ...


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

    means: OfGenerations
    quantiles: Quantiles = nothing_known
    chains_for_means: ChainsForMeans = nothing_known
    real: Callable[[Mapping[str, Any]], tuple[Estimator, Params]] | None = None
