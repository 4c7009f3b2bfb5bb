"""Settings of a simulation that follow from its data, and the lines printed about the data."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from collapse_jax.app.config.simulate import FIELDS_OF_FAMILIES, SimulateConfig
from collapse_jax.app.laws import given_options
from collapse_jax.app.own_data.held import covariance_of, held, wants_covariance, withheld
from collapse_jax.app.own_data.reading import OwnData, own_data
from collapse_jax.app.own_data.reference import reference_in_words, reference_line
from collapse_jax.core.data_checks import DIGITS, half_spacing
from collapse_jax.core.tables import labels as table_labels
from collapse_jax.errors import InputError, visible
from collapse_jax.estimators.registry import family
from collapse_jax.metrics import quality

if TYPE_CHECKING:
    import xarray

# Of a regression, what the data gives in the place of options.
_OF_DATA = ("design", "feature_covariance", "resampled")
_MOST_NAMED = 8


def with_data(config: SimulateConfig) -> SimulateConfig:
    """Returns the settings, filled in from the data: dimensions, categories, noise.

    Raises:
        InputError: For options that contradict the data, and whatever `own_data` raises.
    """
    if not config.data:
        return config
    data, options, fields = own_data(config), list(config.options), {}
    given, axes = given_options(config), config.option_axes()
    for name, value in data.points.options.items():
        if name in axes:
            raise InputError(f"grid has {name}, which follows from {config.data}; leave it out")
        if FIELDS_OF_FAMILIES.get(name) == config.family:
            _refuse_other(config, name, getattr(config, name), value)
            fields[name] = value
        elif name in given:
            _refuse_other(config, name, given[name], value)
        else:
            options.append(f"{name}={value}")
    for name in data.points.more:
        if name in given:
            raise InputError(f"options give {name}, which follows from {config.data}; leave it out")
    if data.points.features:
        _refuse_options_of_data(config, {**given, **axes})
        factory = family(config.family).factory
        is_needed = "noise" in inspect.signature(factory).parameters
        if is_needed and "noise" not in given and "noise" not in axes:
            options.append(f"noise={noise_of(data):.6g}")
        filled = dataclasses.replace(config, options=tuple(options))
        _refuse_lost_digits(config, data, given_options(filled).get("noise"))
    return dataclasses.replace(config, options=tuple(options), **fields)


def with_scores(given: SimulateConfig, config: SimulateConfig) -> SimulateConfig:
    """Returns the settings with held-out scores added, unless the user has chosen the metrics.

    An ecosystem has these scores among its default metrics.
    """
    if not config.data or given.metrics or config.has_ecosystem():
        return config
    left = set(withheld(config))
    kept = [name for name in config.metrics if name not in left]
    names = [name for name in held(config.points()[0]).scores if name not in kept]
    return dataclasses.replace(config, metrics=(*kept, *names))


def noise_of(data: OwnData) -> float:
    """Returns the residual standard deviation of least squares on the training rows (unbiased)."""
    x, label = data.points.x[data.train, :-1], data.points.x[data.train, -1]
    weights, _, rank, _ = np.linalg.lstsq(x, label)
    left = len(x) - int(rank)
    return float(np.sqrt(np.sum((label - x @ weights) ** 2) / left)) if left > 0 else 0.0


def in_words(config: SimulateConfig) -> Iterator[str]:
    """Yields lines on the data that was read, and on the meaning of its numbers."""
    data, points = own_data(config), own_data(config).points
    names = _listed(points.columns)
    if points.features:
        target = visible(points.columns[-1])
        names = f"features {_listed(points.columns[:-1])}, target {target}"
    is_stream = points.labels and points.x.ndim == 2 and len(points.columns) == 1
    unit = "blocks" if is_stream else "rows"
    text = f"{config.data}: {len(data.train):,} {unit} to draw from"
    if len(data.test):
        text += f", {len(data.test):,} held out (split seed {config.split_seed})"
    if data.dropped:
        text += f", {data.dropped:,} of {data.rows:,} rows with a missing value left out"
    if points.left_out:
        text += f", {points.left_out:,} rows at the end left out, which do not fill a block"
    yield f"{text}; {names}"
    if points.labels:
        yield f"{len(points.labels):,} categories: {_listed(points.labels)}"
    if wants_covariance(config):
        known = covariance_of(config)
        value = f" ({known[0, 0]:.6g})" if len(known) == 1 else ""
        yield (
            f"{config.family} knows the covariance: that of the {len(data.train):,} training "
            f"{unit}{value}; --options covariance=... says another"
        )
    source = held(config.points()[0]).source
    if source.params is not None and not (points.labels or config.family == "empirical"):
        yield (
            f"distances to the real distribution are measured to the {config.family} fitted to all "
            f"{source.size:,} rows, not to the rows themselves"
        )
    compared = reference_line(config)
    if compared:
        yield compared


def labelled(results: "xarray.Dataset", config: SimulateConfig) -> "xarray.Dataset":
    """Returns results whose vectors have the names of categories and columns as coordinates.

    The attribute `reference` of metrics that compare drawn points with real points names these.
    """
    reference = reference_in_words(config)
    for name, values in results.data_vars.items() if reference else ():
        if any(str(name) == of or str(name).startswith(f"{of}_") for of in quality.NAMES):
            values.attrs["reference"] = reference
    if not config.data:
        return results
    data, points = own_data(config), own_data(config).points
    features = points.columns[:-1] if points.features else ()
    mixed = points.more.get("categories", ())
    of_columns = {
        column: labels
        for column, labels in zip(points.columns, mixed, strict=False)
        if labels is not None
    }
    results = table_labels.labelled(results, points.columns, features, points.labels, of_columns)
    facts: dict[str, Any] = {
        "data": config.data,
        "data_sha256": data.checksum,
        "data_columns": ", ".join(points.columns),
        "data_rows": data.rows,
        "data_rows_held_out": len(data.test),
    }
    return results.assign_attrs(facts)


def _refuse_other(config, name, value, wanted):
    is_default = value == getattr(SimulateConfig, name, wanted)
    if value != wanted and not (FIELDS_OF_FAMILIES.get(name) == config.family and is_default):
        raise InputError(
            f"{name} is {value}, but {config.data} has {wanted}; leave {name} out, since it "
            "follows from the data"
        )


def _refuse_lost_digits(config, data, noise):
    """Raises `InputError` if the target's rounding error is too large for its noise."""
    if not isinstance(noise, int | float) or noise <= 0:
        return
    label, dtype = data.points.x[:, -1], np.dtype(jnp.result_type(float))
    step = float(half_spacing(np.abs(label).max(keepdims=True), dtype)[0])
    if step > DIGITS * noise:
        raise InputError(
            f"{config.data}: column {data.points.columns[-1]!r} goes up to "
            f"{np.abs(label).max():.6g} with noise {noise:.3g}, but {dtype.name} numbers of that "
            f"size are {2 * step:.3g} apart, so that fewer than three digits of the noise would "
            "remain; subtract a constant, give --options noise=0 if there is no noise, or "
            "jax.config.update('jax_enable_x64', True)"
        )


def _refuse_options_of_data(config, given):
    for name in _OF_DATA:
        if name in given:
            raise InputError(
                f"options give {name}, but the features are those of {config.data}; leave it out"
            )


def _listed(names):
    rest = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return visible(", ".join(names[:_MOST_NAMED]) + rest)
