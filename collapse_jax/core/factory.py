"""The factory of estimators: a newcomer writes `fit` and `sample`, this fills in the rest."""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Literal, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import points, protocols
from collapse_jax.core.types import (
    Compaction,
    Dataset,
    Estimator,
    Measures,
    Model,
    Runtime,
    Statistics,
)
from collapse_jax.errors import InputError, function, one_of
from collapse_jax.metrics import OfDraws
from collapse_jax.random.derivatives import CHOICES, step_function

P = ParamSpec("P")
# What version 0.1.0 called these keywords.
_RENAMED = {"evidence": "statistics", "streams": "lazy"}


def estimator(
    fit: protocols.Fit,
    sample: protocols.Sample,
    *,
    name: str = "",
    init: protocols.Init | None = None,
    statistics: type = Dataset,
    summarise: protocols.Summarise | None = None,
    merge: protocols.Merge | None = None,
    draw: protocols.Draw | None = None,
    subsample: protocols.Subsample | None = None,
    lazy: bool = False,
    metrics: Mapping[str, protocols.Metric] | None = None,
    distances: Mapping[str, protocols.Distance] | None = None,
    log_prob: protocols.LogProb | None = None,
    tempered: protocols.Reshape | None = None,
    nucleus: protocols.Reshape | None = None,
    continued: protocols.Continue | None = None,
    traceable: bool = True,
    chain_axis: Literal[0, -1] = 0,
    compaction: Compaction | None = None,
    **renamed,
) -> Estimator:
    """An `Estimator` from `fit` and `sample`; everything else has a default.

    By default data is the weighted `Dataset` itself, `fit` gets None as the params before the first
    fit, and `mean`, `variance`, `log_variance` are estimated from 4,096 draws with a fixed key.

    Args:
        fit: (key, params, data) -> (params, `FitInfo`).
        sample: (key, params, n) -> x [n, ...].
        name: for `repr` and messages; by default that of the function that `fit` was defined in.
        **renamed: keywords of version 0.1.0.

    All other arguments: see `Statistics`, `Measures`, `Model` and `Runtime` in `core.types`.

    Raises:
        InputError: if a function is not callable, or the options contradict each other.
    """
    if renamed:
        statistics, lazy = _renamed(renamed, statistics=statistics, lazy=lazy)
    _check(fit, sample, init, dict(metrics or {}) | dict(distances or {}), chain_axis, traceable)
    return Estimator(
        name=name or _maker(fit),
        fit=fit,
        sample=sample,
        init=init or _no_params,
        statistics=Statistics(
            statistics, summarise or points.summarise, merge or points.merge, draw, subsample, lazy
        ),
        measures=Measures(_moments(sample, traceable) | dict(metrics or {}), dict(distances or {})),
        model=Model(log_prob, tempered, nucleus, continued),
        runtime=Runtime(traceable, chain_axis, compaction),
    )


def named(factory: Callable[P, Estimator]) -> Callable[P, Estimator]:
    """Decorator of a family's factory: its estimators are named after their options."""
    signature = inspect.signature(factory)

    @functools.wraps(factory)
    def with_name(*args: P.args, **options: P.kwargs) -> Estimator:
        made = factory(*args, **options)
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        text = ", ".join(f"{name}={_short(value)}" for name, value in bound.arguments.items())
        return made._replace(name=f"{factory.__name__}({text})")

    return with_name


def _short(value):
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value):
        return f"{value.dtype.name}{list(value.shape)}"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if not isinstance(value, str | int | float | tuple | None):
        return type(value).__name__  # its own repr may print a whole model
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."


def _maker(fit):
    """The name of the function that `fit` was defined in, or its own."""
    return getattr(fit, "__qualname__", type(fit).__name__).split(".")[0]


def _check(fit, sample, init, measured, chain_axis, traceable):
    """Raises `InputError` for options that contradict each other."""
    function("fit", fit)
    function("sample", sample)
    for label, metric in measured.items():
        function(f"metric {label!r}", metric)
    one_of("chain_axis", chain_axis, (0, -1), must_be="0 or -1")
    if not traceable and init is None:
        raise InputError(
            "an estimator that is not traceable needs init: its parameters are restored from "
            "checkpoints by their structure"
        )


def _renamed(given, **values):
    """The values of options, of which some may be given by the names of version 0.1.0."""
    for old, value in given.items():
        if old not in _RENAMED:
            raise TypeError(f"estimator() got an unexpected keyword argument {old!r}")
        warnings.warn(f"{old} is called {_RENAMED[old]} now", DeprecationWarning, stacklevel=3)
        values[_RENAMED[old]] = value
    return values.values()


def _moments(sample, traceable):
    """The default metrics; none where `sample` is a host loop."""
    points = _Points(sample)
    return {label: OfDraws(points, moment) for label, moment in _MOMENTS.items() if traceable}


@dataclasses.dataclass(frozen=True)
class _Points:
    """`sample`, whose points have no derivative in the parameters where they are integers."""

    sample: Callable

    def __call__(self, key, params, n):
        x = self.sample(key, params, n)
        is_float = jnp.issubdtype(jnp.result_type(x), jnp.inexact)
        return x if is_float else step_function(x, params, CHOICES)


def _no_params(key, data):
    return None


def _covariance(x):
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


_MOMENTS = {
    "mean": lambda x: x.mean(0) if x.shape[1] > 1 else x.mean(),
    "variance": lambda x: jnp.mean(jnp.var(x, axis=0, ddof=1)),
    "log_variance": lambda x: jnp.linalg.slogdet(_covariance(x))[1] / x.shape[1],
}
