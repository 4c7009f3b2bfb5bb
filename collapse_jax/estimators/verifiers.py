"""Verifiers and detectors that are refitted during a run (`cj.verifiers`)."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core import curation
from collapse_jax.core.flows.refitted import Wrapper, refitted, trained
from collapse_jax.core.functions import check_arguments
from collapse_jax.core.recipes.made import recorded
from collapse_jax.core.types import Dataset
from collapse_jax.errors import InputError, numbers, one_of, real, whole
from collapse_jax.estimators.logistic_regression import newton

__all__ = ["centred", "logistic", "refitted", "trained"]

_STEPS, _TOLERANCE = 30, 1e-8


@recorded
def centred(
    width: "float | jax.Array",
    *,
    centre: Any = None,
    scaled: bool = False,
    refresh: "float | jax.Array" = 1.0,
    every: int = 1,
    cap: int = 100,
) -> Wrapper:
    """Returns a filter that accepts points near a centre, which is refitted during the run.

    A point x is accepted with probability exp(-|x - c|^2 / (2 s^2)). After each generation c
    becomes (1 - refresh) * c + refresh * (mean of the training set). A rejected point is drawn
    again, as in `cj.curation.verified`. An unbiased verifier has the population's mean as its
    centre.

    Args:
        width: s, above 0, in the units of the points; a number or a traced scalar.
        centre: c of generation 1, a number or [d]; by default the mean of the real training set of
            generation 0.
        scaled: True: s is `width` times the standard deviation (ddof = 1, the square root of the
            mean variance) of a training set. It is refitted together with c, and starts with the
            training set of generation 0.
        refresh: the share of c (and of the standard deviation) that a refit replaces, in [0, 1]; a
            number or a traced scalar. With 0 the verifier never changes.
        every: the verifier is refitted after each generation whose number is a multiple of this.
        cap: the largest number of draws per point; then the last candidate is accepted.

    Raises:
        InputError: if the width is not above 0, the centre is neither a number nor [d], or as in
            `refitted`.

    References:
        Derived: `theory.drifting_verifier`. With refresh 0 it is the limit of many candidates in
        Ferbach et al. 2024 (arXiv 2407.09499) with the reward -|x - c|^2 / (2 s^2).
    """
    whole("cap", cap, 1)
    one_of("scaled", scaled, (True, False))
    width = _width(width)
    given = None if centre is None else numbers("centre", centre)
    if given is not None and (given.ndim > 1 or not np.isfinite(given).all()):
        raise InputError(f"centre is {centre!r:.100}; it must be a finite number or [d] of them")

    rule = _Centred(width, given, scaled, cap)
    return refitted(rule.verifier, rule.fit, start=rule.start, refresh=refresh, every=every)


class _Centred(NamedTuple):
    """What depends on the options of `centred`; a state is its centre and a unit of the width."""

    width: Any
    given: np.ndarray | None
    scaled: bool
    cap: int

    def fit(self, key, state, data):
        return self._fitted(data)

    def start(self, data):
        state = self._fitted(data)
        if self.given is None:
            return state
        shape = state["centre"].shape
        if self.given.ndim and self.given.shape != shape:
            raise InputError(f"centre has {self.given.size} numbers, and points have {shape[0]}")
        here = jnp.asarray(self.given, state["centre"].dtype)
        return state | {"centre": jnp.broadcast_to(here, shape)}

    def verifier(self, state):
        def accept(x):
            apart = (_rows(x) - state["centre"]) / (self.width * state["deviation"])
            return jnp.exp(-jnp.sum(apart**2, axis=1) / 2)

        return curation.verified(accept, cap=self.cap)

    def _fitted(self, data):
        mean, deviation = _moments(data)
        unit = deviation if self.scaled else jnp.ones_like(deviation)
        return {"centre": mean, "deviation": unit}


@recorded
def logistic(
    features: Callable[[jax.Array], jax.Array] | None = None,
    *,
    threshold: float | None = None,
    penalty: float = 1e-3,
    against: Literal["fresh", "first", "pool"] = "fresh",
    examples: int | None = None,
    refresh: "float | jax.Array" = 1.0,
    every: int = 1,
    cap: int = 100,
) -> Wrapper:
    """Returns a filter that accepts points which a logistic regression classifies as real.

    The regression is trained to distinguish real points from synthetic ones. A point is accepted
    with probability P(real | x) = 1 / (1 + exp(-w features(x))), or, with a threshold, if that
    probability exceeds the threshold. A rejected point is drawn again, as in
    `cj.curation.verified`. The regression starts with weights 0, which accept all points with equal
    probability.

    Args:
        features: x [n, ...] -> [n, k]; a column of ones is added. By default the numbers of the
            points themselves. To distinguish two Gaussians, add their squares.
        threshold: in (0, 1); None accepts at random with probability P(real | x).
        penalty: above 0: the loss is the mean log-loss plus penalty / 2 |w|^2, which keeps the
            weights finite if the two kinds of points can be separated.
        against, examples, refresh, every: as in `trained`.
        cap: the largest number of draws per point; then the last candidate is accepted.

    Raises:
        InputError: if an argument is out of its range, if features is not a function of the points
            or does not return [n, k], or as in `trained`.

    References:
        Derived; the density ratio by classification: Sugiyama et al. 2012, "Density ratio
        estimation in machine learning".
    """
    whole("cap", cap, 1)
    penalty = real("penalty", penalty, above=0)
    if threshold is not None:
        threshold = real("threshold", threshold, above=0, below=1)
    if features is not None:
        check_arguments("features", features, ("x",))

    rule = _Logistic(features, threshold, penalty, cap)
    return trained(
        rule.detector,
        rule.fit,
        start=rule.start,
        against=against,
        examples=examples,
        refresh=refresh,
        every=every,
    )


class _Logistic(NamedTuple):
    """What depends on the options of `logistic`; a state is the weights [1 + k]."""

    features: Callable | None
    threshold: float | None
    penalty: float
    cap: int

    def start(self, data):
        return jnp.zeros(self._of(data.x).shape[1])

    def fit(self, key, weights, known, made):
        x = jnp.concatenate([self._of(known.x), self._of(made.x)])
        label = jnp.repeat(jnp.array([1.0, 0.0]), np.array([len(known.x), len(made.x)]))
        weight = jnp.concatenate([known.weight, made.weight]).astype(x.dtype)
        return newton(x, label.astype(x.dtype), weight, _STEPS, _TOLERANCE, self.penalty)[0]

    def detector(self, weights):
        def accept(x):
            share = jax.nn.sigmoid(jnp.matmul(self._of(x), weights, precision="highest"))
            return share if self.threshold is None else share > self.threshold

        return curation.verified(accept, cap=self.cap)

    def _of(self, x):
        """Features [n, 1 + k] of points, the first of them 1."""
        values = _rows(x) if self.features is None else self.features(x)
        if jnp.ndim(values) != 2 or values.shape[0] != x.shape[0]:
            raise InputError(
                f"features returned shape {list(jnp.shape(values))} for {x.shape[0]} points; it "
                "must return [n, k], one row per point"
            )
        values = jnp.asarray(values, jnp.result_type(float))
        return jnp.concatenate([jnp.ones((len(values), 1), values.dtype), values], axis=1)


def _width(width):
    if isinstance(width, Tracer):
        return jnp.where(width > 0, width, jnp.nan)
    return real("width", width, above=0)


def _rows(x):
    """Points [n, ...] as rows [n, k] of floats."""
    return jnp.asarray(x, jnp.result_type(float)).reshape(x.shape[0], -1)


def _moments(data: Dataset):
    """(mean [k], square root [] of the mean variance with ddof = 1) of weighted points."""
    x, weight = _rows(data.x), data.weight.astype(jnp.result_type(float))
    total = jnp.sum(weight)
    filled = (weight > 0)[:, None]
    mean = jnp.sum(jnp.where(filled, weight[:, None] * x, 0), axis=0) / total
    square = jnp.where(filled, weight[:, None] * (x - mean) ** 2, 0)
    return mean, jnp.sqrt(jnp.sum(square) / x.shape[1] / jnp.maximum(total - 1, 1))
