"""The factory of estimators: you write `fit` and `sample`, and everything else has a default."""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Literal, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import functions, points, protocols
from collapse_jax.core.recipes.made import noted, recorded
from collapse_jax.core.types import (
    Compaction,
    Dataset,
    Estimator,
    Measures,
    Model,
    Runtime,
    Statistics,
)
from collapse_jax.errors import InputError, did_you_mean, function, made_by, one_of
from collapse_jax.metrics import OfDraws
from collapse_jax.random.derivatives import CHOICES, step_function

P = ParamSpec("P")
# What version 0.1.0 called these keywords.
_RENAMED = {"evidence": "statistics", "streams": "lazy"}


@recorded
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
    check: protocols.Check | None = None,
    metrics: Mapping[str, protocols.Metric] | None = None,
    distances: Mapping[str, protocols.Distance] | None = None,
    log_prob: protocols.LogProb | None = None,
    tempered: protocols.Reshape | None = None,
    nucleus: protocols.Reshape | None = None,
    continued: protocols.Continue | None = None,
    copied: protocols.Copied | None = None,
    traceable: bool = True,
    chain_axis: Literal[0, -1] = 0,
    compaction: Compaction | None = None,
    weighed: protocols.Weigh | str | None = None,
    **renamed,
) -> Estimator:
    """Returns an `Estimator` made from `fit` and `sample`; everything else has a default.

    By default the data is a weighted `Dataset`, and the first `fit` receives None as params. The
    metrics `mean`, `variance` and `log_variance` are estimated from 4,096 draws with a fixed key,
    which all chains share: averaging over chains keeps its error (1.6% of a standard deviation).

    Args:
        fit: (key, params, data) -> (params, `FitInfo`).
        sample: (key, params, n) -> x [n, ...] in random order: workflows may use the first rows.
        name: for `repr` and messages; by default that of the function in which `fit` is defined.
        **renamed: keywords of version 0.1.0.

    All other arguments: see `Statistics`, `Measures`, `Model` and `Runtime` in `core.types`.

    Raises:
        InputError: if a function is not callable or has the wrong arguments, if an option has the
            wrong type, or if options contradict each other.
    """
    if renamed:
        statistics, lazy = _renamed(renamed, statistics=statistics, lazy=lazy)
    _check_options(name, statistics, draw, lazy, chain_axis, compaction, check)
    _check_named(metrics=metrics, distances=distances)
    summarise, merge = summarise or points.summarise, merge or points.merge
    made = Estimator(
        name=name or _maker(fit),
        fit=function("fit", fit),
        sample=function("sample", sample),
        init=init or _no_params,
        statistics=Statistics(statistics, summarise, merge, draw, subsample, lazy, check),
        measures=Measures(_moments(sample, traceable) | dict(metrics or {}), dict(distances or {})),
        model=Model(log_prob, tempered, nucleus, continued, copied),
        runtime=Runtime(one_of("traceable", traceable, (True, False)), chain_axis, compaction),
    )
    return _with_functions_checked(_weighing(made, weighed), init)


def _own_words(recipe):
    """The name of an estimator of user functions, because a call with these would be long."""
    return recipe.arguments["name"] or _maker(recipe.arguments["fit"])


noted(estimator, words=_own_words)

# Options that families got later: a run folder that began before knows its family without them.
_LATER = ("resampled",)


def named(factory: Callable[P, Estimator]) -> Callable[P, Estimator]:
    """Decorates a family's factory, so that its estimators keep the call that made them.

    They are named after their options. Two calls with equal options give equal estimators, which
    share compiled programs, and a pickle contains the call.

    Args:
        factory: (**options) -> `Estimator`, a function at the top of a module.

    Returns:
        The factory with the same signature.
    """
    signature = inspect.signature(factory)

    @functools.wraps(factory)
    def with_name(*args: P.args, **options: P.kwargs) -> Estimator:
        made = factory(*args, **options)
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        given = {
            name: value
            for name, value in bound.arguments.items()
            if name not in _LATER or value is not signature.parameters[name].default
        }
        text = ", ".join(f"{name}={_short(value)}" for name, value in given.items())
        return made._replace(name=f"{factory.__name__}({text})")

    made = recorded(with_name)
    noted(made, exact=True)  # counts plus 1 are integers, and plus 1.0 are not
    return made


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
    """The name of the function in which `fit` was defined, or that of `fit` itself."""
    return getattr(fit, "__qualname__", type(fit).__name__).split(".")[0]


def _check_options(name, statistics, draw, lazy, chain_axis, compaction, check):
    """Raises `InputError` for options of the wrong type, or that contradict each other."""
    made_by("name", name, str, "writing text, such as 'my family',")
    made_by("statistics", statistics, type, "a class statement, such as a NamedTuple's,")
    one_of("chain_axis", chain_axis, (0, -1), must_be="0 or -1")
    if one_of("lazy", lazy, (True, False)) and draw is None:
        raise InputError("lazy is True, but draw is not given; lazy describes the result of draw")
    if check is not None:
        function("check", check)
    if compaction is not None:
        made_by("compaction", compaction, Compaction, "cj.Compaction")
        function("num_in_use of compaction", compaction.num_in_use)
        function("to_size of compaction", compaction.to_size)


def _weighing(made, weighed):
    """The estimator with this `weighed`; a string is the reason why its points have no weights."""
    if weighed is None:
        return made
    if not isinstance(weighed, str):
        functions.check_arguments("weighed", weighed, ("data", "w"))
    return made._replace(weighed=weighed)


def _check_named(**groups):
    """Raises `InputError` unless metrics and distances are dictionaries name -> function."""
    for what, given in groups.items():
        named = isinstance(given, Mapping) and all(isinstance(name, str) for name in given)
        if given is not None and not named:
            raise InputError(f"{what} is {given!r:.200}; it must be a dict name -> function")
        for name, one in (given or {}).items():
            function(f"{what.removesuffix('s')} {name!r}", one)


def _with_functions_checked(made, init):
    """The estimator, after a check that its functions have the right arguments."""
    # Those that are written in C are looked at once a process is made of them.
    functions.check_estimator_functions(made, written_in_c=False)
    if not made.traceable and init is None:
        raise InputError(
            "an estimator that is not traceable needs init: its parameters are restored from "
            "checkpoints by their structure"
        )
    return made


def _renamed(given, **values):
    """The values of options; some may be given under their names in version 0.1.0."""
    for old, value in given.items():
        if old not in _RENAMED:
            known = inspect.signature(estimator).parameters
            raise TypeError(
                f"estimator() got an unexpected keyword argument {old!r}{did_you_mean(old, known)}"
            )
        warnings.warn(f"{old} is called {_RENAMED[old]} now", DeprecationWarning, stacklevel=4)
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
