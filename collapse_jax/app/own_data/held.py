"""A family for a file of real data: its estimator, its source, and held-out scores."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from collapse_jax.app.config.ecosystem import OF_MODEL
from collapse_jax.app.config.simulate import FIELDS_OF_FAMILIES, SimulateConfig
from collapse_jax.app.laws import given_options
from collapse_jax.app.own_data.points import in_words_of_the_file
from collapse_jax.app.own_data.reading import DataKey, OwnData, own_data
from collapse_jax.core.ecosystems import pool_metrics
from collapse_jax.core.tables.table import TRUTH_VALUES
from collapse_jax.core.types import Estimator, Process, Source
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.gaussian_copula import copula_log_density
from collapse_jax.estimators.registry import family
from collapse_jax.metrics import quality
from collapse_jax.metrics.held_out import as_held, held_out

# Metrics of the number of a category.
_OF_NUMBERS = ("mean", "variance", "log_variance", "wasserstein2", "squared_wasserstein2")
_OF_HELD_OUT = ("held_out_log_prob", "held_out_squared_error", "held_out_copula_log_density")
# Of a Gram matrix with a unit diagonal: below this a feature is explained by the others.
_SMALLEST = 1e-10


class Held(NamedTuple):
    """A family for this data.

    estimator: the estimator with all options.
    source: draws from the training rows.
    scores: name -> metric of the parameters, evaluated on the held-out rows.
    """

    estimator: Estimator
    source: Source
    scores: Mapping[str, Any]


def held(settings: SimulateConfig, traced: Mapping | None = None) -> Held:
    """Returns the family with its options, and its data.

    Args:
        settings: of one simulation, filled by `own_data.filled`.
        traced: options of the family that replace those in the settings.

    Raises:
        InputError: If the family does not accept the options or the rows.
    """
    if traced:
        return _held(settings, traced)
    own = {
        name: getattr(settings, name)
        for name, owner in FIELDS_OF_FAMILIES.items()
        if owner == settings.family
    }
    return _held_once(DataKey.of(settings), settings.family, settings.options, tuple(own.items()))


def with_metrics_of_data(process: Process, settings: SimulateConfig) -> Process:
    """Returns the process without metrics that are meaningless here, and with held-out scores.

    The models of an ecosystem have their scores from the family (`with_score_metrics`); the scores
    of the pool are added.
    """
    without = withheld(settings)
    scores = dict(held(settings).scores)
    if settings.has_ecosystem():
        scores = _of_pool(process.metrics, scores)
    metrics = {
        name: None if base_of(name, settings) in without else metric
        for name, metric in process.metrics.items()
    }
    return process._replace(metrics=metrics | scores)


def with_score_metrics(estimator: Estimator, settings: SimulateConfig) -> Estimator:
    """The family with held-out scores among its metrics, as models of an ecosystem have them."""
    metrics = {**estimator.metrics, **held(settings).scores}
    return estimator._replace(metrics=metrics)


def base_of(name: str, settings: SimulateConfig) -> str:
    """The metric of one model that a metric of an ecosystem is made of; else the metric itself."""
    return pool_metrics.base_of(name.partition(OF_MODEL)[0]) if settings.has_ecosystem() else name


def withheld(settings: SimulateConfig) -> dict[str, str]:
    """Returns name -> reason, for each metric that is meaningless for this data."""
    data, reasons = own_data(settings), {}
    labels = data.points.labels
    if labels and labels != tuple(map(str, range(len(labels)))):
        named = ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")
        why = f"it uses the numbers of the categories, which are only labels ({named})"
        reasons |= dict.fromkeys((*_OF_NUMBERS, *quality.NAMES), why)
    mixed = data.points.more.get("categories", ())
    if any(one not in (None, TRUTH_VALUES) for one in mixed):
        reasons["mean"] = (
            "some columns contain words, whose codes have no numerical meaning (mean_NAME is the "
            "mean of one column)"
        )
        why = "it uses distances between rows, but some columns contain words, whose codes mean "
        reasons |= dict.fromkeys(quality.NAMES, f"{why}nothing")
    if data.points.features:
        why = f"it is defined for features N(0, I), but those of {settings.data} are different"
        reasons["excess_log_loss"] = why
        if not second_moments(data)[1]:
            reasons["test_error"] = "some features are linear combinations of others"
    return reasons


def check_metrics(config: SimulateConfig) -> None:
    """Raises `InputError` for requested metrics that are meaningless for this data."""
    reasons = withheld(config) if config.data else {}
    for name in config.metrics:
        base = base_of(name, config)
        if base in reasons:
            raise InputError(f"metric {name!r} is meaningless for this data: {reasons[base]}")
        if config.data and not config.held_out and base in _OF_HELD_OUT:
            raise InputError(
                f"metric {name!r} is measured on held-out rows, but there are none; give "
                "--held-out 0.2"
            )
    compares = any(name in quality.NAMES for name in config.metrics)
    if config.data and config.held_out and not compares and not held(config.points()[0]).scores:
        raise InputError(
            f"held_out is {config.held_out:g}, but {config.family} has no probabilities with which "
            "to score held-out rows; leave it out, or compare drawn points with them, as "
            "--metrics precision recall sliced_wasserstein"
        )


def second_moments(data: OwnData) -> tuple[np.ndarray, bool]:
    """Returns (X'X / N [dim, dim] of the training features, whether they determine all weights)."""
    features = data.points.x[data.train, :-1]
    moments = features.T @ features / len(features)
    unit = np.sqrt(np.maximum(np.diag(moments), np.finfo(float).tiny))
    extents = np.linalg.eigvalsh(moments / unit[:, None] / unit)
    return moments, bool(extents[0] > _SMALLEST and np.linalg.eigvalsh(moments)[0] > 0)


def wants_covariance(settings: SimulateConfig) -> bool:
    """Whether the family knows a covariance, and the options do not say which."""
    parameters = inspect.signature(family(settings.family).factory).parameters
    given = {**given_options(settings), **settings.option_axes()}
    return "covariance" in parameters and "covariance" not in given


def covariance_of(settings: SimulateConfig) -> np.ndarray:
    """That of the training rows [d, d], unbiased.

    Raises:
        InputError: where it is none of a normal law, as of a constant column.
    """
    data = own_data(settings)
    x = data.points.x[data.train].reshape(len(data.train), -1)
    centred = x - x.mean(0)
    found = centred.T @ centred / max(len(x) - 1, 1)
    unit = np.sqrt(np.diag(found))
    constant = [name for name, one in zip(data.points.columns, unit, strict=True) if not one > 0]
    if constant or np.linalg.eigvalsh(found / unit[:, None] / unit)[0] < _SMALLEST:
        what = f"column {constant[0]!r} is constant" if constant else "one column follows from the "
        what += "" if constant else "others"
        raise InputError(
            f"{settings.data}: {what} in the {len(x):,} training rows, and {settings.family} knows "
            "a covariance, which must be positive definite; leave the column out, or give "
            "--options covariance=NUMBER of one column, or [[...], [...]] of several"
        )
    return found


@functools.lru_cache(64)
def _held_once(data: DataKey, name: str, options: tuple, own: tuple) -> Held:
    return _held(data.settings(family=name, options=options, **dict(own)), None)


def _held(settings, traced):
    factory, data = family(settings.family).factory, own_data(settings)
    options = given_options(settings) | dict(data.points.more) | _of_features(data, factory)
    if wants_covariance(settings):
        options["covariance"] = covariance_of(settings)
    estimator = _called(settings, factory, options | dict(traced or {}))
    _check(estimator, settings, data)
    train = data.points.x[data.train]
    if traced:
        return Held(estimator, sources.dataset(train), {})
    source = sources.dataset(train, family=_reference(settings, factory, options))
    if source.params is not None:  # whose law may have other options than what is fitted
        source = Source(
            source.sample,
            statistics=estimator.statistics.kind,
            size=source.size,
            params=source.params,
            family=source.family,
        )
    return Held(estimator, source, _scores(factory, estimator, data))


def _reference(settings, factory, options):
    """The family whose fit to all rows is the reference of distances; None without one."""
    parameters = inspect.signature(factory).parameters
    if "num_categories" in parameters:  # without smoothing it is the law of the rows
        options = {name: value for name, value in options.items() if name != "smoothing"}
    if "estimate" in parameters:  # and not drawn from a posterior
        options |= {"estimate": "maximum_likelihood"}
    estimator = _called(settings, factory, options)
    # A network takes as long as a generation, and its distances are to the first model's.
    trained = estimator.statistics.lazy or "training" in parameters
    known = estimator.distances and estimator.traceable and not trained
    return estimator if known else None


def _called(settings, factory, options):
    try:
        return factory(**options)
    except InputError as error:
        raise InputError(f"{settings.data} with family {settings.family}: {error}") from None
    except Exception as error:  # a factory of somebody else's
        parameters = ", ".join(inspect.signature(factory).parameters)
        raise InputError(
            f"options {' '.join(settings.options)}: {settings.family} does not accept these "
            f"options ({type(error).__name__}: {error}); its options are "
            f"{parameters or 'no options'}"
        ) from None


def _check(estimator, settings, data):
    """Checks all rows against the family; a message about x[3, 1] is changed to row and column."""
    if estimator.check is None:
        return
    try:
        estimator.check(data.points.x)
    except ValueError as error:
        text = in_words_of_the_file(str(error), data.points)
        raise InputError(f"{settings.data}: {text}") from None


def _of_features(data, factory):
    """Options of a regression: features are drawn from the training rows in every generation."""
    if not data.points.features:
        return {}
    options: dict[str, Any] = {"design": data.points.x[data.train, :-1], "resampled": True}
    moments, is_definite = second_moments(data)
    if "feature_covariance" in inspect.signature(factory).parameters and is_definite:
        options["feature_covariance"] = moments
    return options


def _scores(factory, estimator, data):
    """Returns held-out metrics of the parameters, by name."""
    if not len(data.test):
        return {}
    x, scores = as_held(estimator, data.points.x[data.test]), []
    if estimator.log_prob is not None:
        scores.append(held_out(estimator.log_prob, x, "held_out_log_prob"))
    numbers = [place for place, one in enumerate(data.points.more.get("categories", ())) if not one]
    if estimator.log_prob is None and len(numbers) > 1:

        def of_copula(params, x):
            return copula_log_density(params, x, numbers)

        scores.append(held_out(of_copula, x, "held_out_copula_log_density"))
    if data.points.features and "noise" in inspect.signature(factory).parameters:
        scores.append(held_out(_squared_error, x, "held_out_squared_error"))
    return {score.name: score.of_params for score in scores}


def _of_pool(offered, scores):
    """Scores of the pool, in which every model has the same share, and their means over models."""
    found = {}
    for name, of_params in scores.items():
        of_models = offered[name]
        found[f"within_{name}"] = pool_metrics.Mean(of_models)
        if name == "held_out_log_prob":
            one = of_params.__self__  # `HeldOut` of one model
            score = pool_metrics.LogMeanProbability(one.score, of_models)
            found[f"pooled_{name}"] = dataclasses.replace(one, score=score).of_params
    return found


def _squared_error(params, x):
    fitted = jnp.matmul(x[:, :-1], params.weights, precision="highest")
    return (x[:, -1] - fitted) ** 2
