"""Where real data comes from (`cj.sources`)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import finite_bounds
from collapse_jax.core.reading import read
from collapse_jax.core.real_source import held_against
from collapse_jax.core.recipes.made import noted, recorded, with_recipe
from collapse_jax.core.rows import Rows
from collapse_jax.core.types import Estimator, Params, Source
from collapse_jax.errors import InputError, first_line, made_by, numbers, one_key
from collapse_jax.estimators.categorical import categorical as categorical_family
from collapse_jax.estimators.categorical import categorical_params
from collapse_jax.estimators.gaussian import gaussian, gaussian_params

# Numbers of points that a family is asked for on trial: some take only multiples of something.
_SIZES = (2, 1000, 1024)


@recorded
def population(estimator: Estimator, params: Params) -> Source:
    """Returns a source that draws fresh real data from a model, which is the real distribution.

    Args:
        estimator: one of `cj.estimators`, or your own.
        params: its parameters; distances to the real distribution compare with this model.

    Raises:
        InputError: if the estimator is something else, or cannot be sampled with these parameters.
    """
    made_by("estimator", estimator, Estimator, "one of cj.estimators")
    _check_params(estimator, params)
    return _population(estimator, params)


def _population(estimator, params):
    def sample(key, n):
        return estimator.sample(key, params, n)

    def draw(key, n):
        return estimator.draw(key, params, n)

    has_law = estimator.draw is not None
    return Source(
        sample,
        draw if has_law else None,
        estimator.statistics.kind,
        params=params,
        family=estimator,
    )


def _check_params(estimator, params):
    """Raises `InputError` for objects that are not a family's parameters, or that contain nan."""
    for place, leaf in jax.tree_util.tree_leaves_with_path(params):
        if isinstance(leaf, np.ndarray | jax.Array | float) and not isinstance(leaf, Tracer):
            dtype = jnp.result_type(leaf)
            if jnp.issubdtype(dtype, jnp.inexact) and bool(np.isnan(np.asarray(leaf)).any()):
                where = jax.tree_util.keystr(place)
                raise InputError(f"params{where} of {estimator.name} is nan; it must be a number")
    if not estimator.traceable:
        return
    failures = [_failure(estimator, params, n) for n in _SIZES[:1]]
    if failures[0] is not None and not isinstance(failures[0], AttributeError):
        failures += [_failure(estimator, params, n) for n in _SIZES[1:]]
    if None in failures or any("design has" in str(error) for error in failures):
        return
    error = failures[0]
    assert isinstance(error, Exception)
    if isinstance(error, InputError):
        raise InputError(f"population of {estimator.name}: {error}")
    raise InputError(
        f"params is {params!r:.200}; {estimator.name} cannot be sampled with it "
        f"({type(error).__name__}: {first_line(error, 100)})"
    ) from error


def _failure(estimator, params, n):
    """The exception that sampling n points raises, or None."""
    try:
        jax.eval_shape(lambda key: estimator.sample(key, params, n), jax.random.key(0))
    except Exception as error:
        return error
    return None


@recorded
def normal(mean: ArrayLike = 0.0, covariance: ArrayLike = 1.0) -> Source:
    """Returns a source that draws from Normal(mean, covariance).

    Args:
        mean: [d], or a number for d = 1; 0 by default.
        covariance: [d, d], or a variance for d = 1; 1 by default.

    Raises:
        InputError: if the shapes do not fit, or the covariance is not symmetric and positive
            semi-definite.
    """
    params = gaussian_params(mean, covariance)
    return _population(gaussian(len(params.mean)), params)


noted(normal, shown=("mean", "covariance"))


@recorded
def categorical(probabilities: ArrayLike) -> Source:
    """Returns a source that draws categories 0 .. K - 1 with probabilities [K].

    Raises:
        InputError: unless the probabilities are non-negative and sum to 1.
    """
    values = numbers("probabilities", probabilities)
    if (
        values.ndim != 1
        or not len(values)
        or not np.isfinite(values).all()
        or values.min() < 0
        or abs(values.sum() - 1) > 1e-6
    ):
        raise InputError(f"probabilities {values.tolist()} must be [K], non-negative, and sum to 1")
    return _population(categorical_family(len(values)), categorical_params(values / values.sum()))


def dataset(x: ArrayLike, *, family: Estimator | None = None) -> Source:
    """Returns a source that draws rows of a fixed real data set x [N, ...] without replacement.

    A request for n points returns n rows in random order; n = N returns all of them. Memory is O(n)
    if n is small (see `core.rows`).

    Args:
        x: an array, a data frame, or nested sequences of numbers, without masked or missing values.
            `generational_process` converts and checks it for the family before any work: [N] is
            accepted as one dimension, integers as real numbers, and floats without a fraction as
            labels.
        family: the estimator that is fitted. If it is given, distances to the real distribution are
            offered; they compare with the family's model of all N rows. For a categorical, n-gram
            or empirical family without smoothing that model is the empirical distribution, for
            other families it is the nearest model.

    Raises:
        InputError: if x is empty, ragged, not finite or not numeric; from `generational_process`,
            if more than N points are asked for, if the family does not accept the points, or if
            they have digits that float32 would lose.
    """
    try:
        points = read(x)
    except InputError as error:
        raise InputError(f"the real data set: {error}") from None
    source = _dataset(points, family)
    # As they are held, and not as they were given: nobody writes to these.
    held = points if source.points is None else source.points
    return with_recipe(source, dataset, (held,), {} if family is None else {"family": family})


def _dataset(points, family):
    if points.ndim < 1 or points.shape[0] < 1:
        raise InputError(
            f"the real data set has shape {points.shape}; it must contain at least one point"
        )
    if family is not None:
        made_by("family", family, Estimator, "one of cj.estimators")
        return _with_model(_dataset(points, None), family)
    if not isinstance(points, np.ndarray):
        return _traced(points)
    try:
        finite_bounds(points)
    except InputError as error:
        raise InputError(f"the real data set: {error}") from None
    if points.dtype == jax.dtypes.canonicalize_dtype(points.dtype):
        with jax.ensure_compile_time_eval():
            device = jnp.asarray(points)
        return Source(Rows(np.asarray(device), device=device), size=len(points))
    points = np.array(points)  # a copy, which nobody writes to
    points.flags.writeable = False
    return Source(Rows(points), size=len(points))


def _with_model(source, family):
    """The data set with the family's model of all its rows."""
    if not isinstance(source.sample, Rows) or not family.traceable:
        raise InputError(
            f"{family.name} cannot be fitted to all rows before a run; leave family out"
        )
    x = held_against(source, family, source.size).sample.held
    with jax.ensure_compile_time_eval():  # also where the process is made inside a program
        data = family.summarise(x, jnp.ones(len(x), jnp.result_type(float)))
        fit_key, init_key = jax.random.split(jax.random.key(0))
        params, _ = family.fit(fit_key, family.init(init_key, data), data)
    return Source(
        source.sample,
        statistics=family.statistics.kind,
        size=source.size,
        params=params,
        family=family,
    )


def _traced(points):
    """A data set of traced points, which cannot be checked before the run."""
    size = points.shape[0]

    def sample(key, n):
        one_key("key", key)
        if n > size:
            raise InputError(f"{n} real points are asked for, but the data set has {size} points")
        return points[jax.random.permutation(key, size)[:n]]

    return Source(sample, size=size)
