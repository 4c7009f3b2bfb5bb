"""Checks that models can read each other: their points need the same shape, type and range."""

from typing import Any

import jax
import jax.numpy as jnp

from collapse_jax.core.real_source import held_against
from collapse_jax.core.tracing import inside_a_program
from collapse_jax.core.types import Dataset, Estimator, Source
from collapse_jax.errors import InputError

# Points that a model makes for a look at their range.
_LOOKED_AT = 256


def check_families(estimators: list[Estimator]) -> None:
    """Raises `InputError` for families that cannot be models of an ecosystem."""
    for place, estimator in enumerate(estimators):
        if not estimator.traceable:
            raise InputError(
                f"estimators[{place}], {estimator.name}, fits or samples on the host; the models "
                "of an ecosystem are computed together, so each must be traceable"
            )
        if estimator.statistics.lazy and len(estimators) > 1:
            raise InputError(
                f"estimators[{place}], {estimator.name}, is lazy: it draws points during the fit, "
                "and those of several models cannot be pooled; use finite draws"
            )


def check(models: list, core_of: dict[int, Any]) -> None:
    """Raises `InputError` if a model generates points that one of its readers does not accept.

    Args:
        models: the models of the ecosystem, each with `estimator` and `row`.
        core_of: number of a model -> the core of its process.
    """
    if all(model.estimator is models[0].estimator for model in models):
        return
    seen = set()
    for reader, model in enumerate(models):
        for source in model.row.sources:
            pair = id(core_of[reader]), id(core_of[source])
            if pair not in seen and models[source].estimator is not model.estimator:
                seen.add(pair)
                _check_pair(reader, model.estimator, core_of[reader], source, core_of[source])


def has_statistics_of(core: Any, source: Any, generator: Estimator) -> bool:
    """Whether a model draws the very statistics that another family is fitted to.

    Args:
        core: of the reader.
        source: of the model that is read.
        generator: what it is sampled by.
    """
    estimator = core.parts.estimator
    if generator.draw is None or generator.statistics.kind is Dataset:
        return False
    same = generator.statistics.kind is estimator.statistics.kind
    if not same or generator.merge != estimator.merge:
        return False
    return _shapes(_drawn(core, estimator)) == _shapes(_drawn(source, generator))


def _check_pair(reader, estimator, core, source, source_core):
    """Points of the model `source`, held against the family of the model `reader`."""
    other = source_core.parts.estimator
    names = f"estimators[{source}], {other.name},", f"estimators[{reader}], {estimator.name},"
    shapes = [_sampled(one, one.parts.estimator) for one in (source_core, core)]
    if len({(leaf.shape[1:], str(leaf.dtype)) for leaf in shapes}) > 1:
        made, taken = (f"{leaf.dtype} {list(leaf.shape[1:])}" for leaf in shapes)
        raise InputError(
            f"{names[0]} generates points {made}, but {names[1]} which reads them, takes points "
            f"{taken}; all models of an ecosystem must share one data space"
        )
    if inside_a_program():
        return

    def sample(key, n):
        return jax.jit(lambda key: other.sample(key, _first(source_core, key), n))(key)

    try:
        held_against(Source(sample, None, Dataset, None, None, other), estimator, _LOOKED_AT)
    except InputError as error:
        raise InputError(
            f"{names[0]} is read by {names[1]} which does not accept its points: {error}"
        ) from None


def _first(core, key):
    """The params of generation 0."""
    return core.init(key, 1)[0].params


def _sampled(core, estimator):
    return jax.eval_shape(
        lambda key: estimator.sample(key, _first(core, key), 2), jax.random.key(0)
    )


def _drawn(core, estimator):
    return jax.eval_shape(lambda key: estimator.draw(key, _first(core, key), 2), jax.random.key(0))


def _shapes(tree):
    leaves = [(leaf.shape, jnp.dtype(leaf.dtype)) for leaf in jax.tree.leaves(tree)]
    return jax.tree.structure(tree), leaves
