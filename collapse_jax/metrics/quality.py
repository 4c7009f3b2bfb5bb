"""Metrics for any family that compare points drawn from a model with real points."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from collapse_jax.errors import InputError, function, one_of, whole
from collapse_jax.metrics.manifolds import (
    check_neighbours,
    checked_pair,
    compared,
    finite,
    radii,
    unit_of,
)
from collapse_jax.metrics.sliced import sliced_wasserstein

BY_DEFAULT = ("precision", "recall", "density", "coverage", "sliced_wasserstein")
NAMES = (*BY_DEFAULT, "tail_share")
# The tail of the real points: the share of them that is farther from their mean than all others.
TAIL = 0.1


def against(
    real: Array,
    sample: Callable[[Array, Any, int], Array],
    names: Iterable[str] = BY_DEFAULT,
    *,
    draws: int = 1000,
    k: int = 3,
) -> "tuple[OfQuality | OfTail, ...]":
    """Returns metrics of the state that compare the model's points with real points.

    They are precision, recall, density and coverage (`manifolds.precision_recall`),
    sliced_wasserstein of order 2 (`sliced.sliced_wasserstein`), and tail_share: the share of the
    model's points that are farther from the mean of the real points than 90% of these; 0.1 for the
    real distribution itself. Every model is sampled with the same fixed key, so that differences
    between generations come from the models. The error of the draws therefore remains in an average
    over chains.

        trace = cj.simulate(..., metrics=(*cj.metrics.against(x, family.sample), "variance"))

    Args:
        real: Points [m, ...]; they should be held out from training if the model could copy them.
        sample: (key, params, n) -> points [n, ...]; `sample` of an estimator.
        names: Names of the metrics to return; by default all but tail_share.
        draws: n, number of points drawn from each model, more than k.
        k: Number of neighbours, less than m.

    Raises:
        InputError: If a name is unknown, `real` has at most k points or non-finite numbers, or an
            argument is out of range.

    References:
        Kynkaanniemi et al. 2019, arXiv 1904.06991; Naeem et al. 2020, arXiv 2002.09797.
    """
    function("sample", sample)
    draws = whole("draws", draws, 2)
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        one_of("names", name, NAMES)
    given, real = real, finite("real points", real)
    if not real.ndim:
        raise InputError(f"real is {given!r:.200}; it must be points [m, ...]")
    check_neighbours(k, draws, len(real))
    reach = radii(real.reshape(len(real), -1) / unit_of(real), k)
    return tuple(
        OfTail(name, sample, real, draws)
        if name == "tail_share"
        else OfQuality(name, sample, real, draws, reach, k)
        for name in chosen
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _OfPoints:
    """One of `NAMES` as a function of the state, computed from points of the model."""

    name: str
    sample: Callable
    real: Array
    draws: int

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, state: Any) -> Array:
        return self.of_params(state.params)

    def of_params(self, params: Any) -> Array:
        """Returns the metric [] of a model, given its parameters."""
        return self._of(jnp.asarray(self.sample(jax.random.key(0), params, self.draws), float))

    def _of(self, drawn):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class OfQuality(_OfPoints):
    """Every metric of `NAMES` but `tail_share`.

    reach: `radii` of the real points, in units of their `unit_of`.
    """

    reach: Array
    k: int

    def _of(self, drawn):
        if self.name == "sliced_wasserstein":
            return sliced_wasserstein(drawn, self.real)
        points, real = checked_pair(drawn, self.real)
        of = unit_of(points, real)
        points, reach = points / of, self.reach * (unit_of(real) / of) ** 2
        found = compared(points, real / of, radii(points, self.k), reach, self.k)
        return getattr(found, self.name)


@dataclasses.dataclass(frozen=True, eq=False)
class OfTail(_OfPoints):
    """`tail_share` as a function of the state."""

    def _of(self, drawn):
        points, real = checked_pair(drawn, self.real)
        of = unit_of(points, real)
        centre = jnp.mean(real / of, axis=0)
        apart, its = (jnp.linalg.norm(x / of - centre, axis=1) for x in (points, real))
        # In the middle between the last real point inside and the first outside.
        inside = min(max(round((1 - TAIL) * len(its)), 1), len(its) - 1)
        radius = jnp.mean(jnp.sort(its)[inside - 1 : inside + 1])
        share = jnp.mean((apart > radius).astype(float))
        return jnp.where(jnp.isfinite(points).all(), share, jnp.nan)
