"""What the functions that people write give, held against what `protocols` says of them.

Seen from shapes and types while it is traced, which costs nothing at run time.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from collapse_jax.core.functions import (
    METRIC,
    NOT_TRACEABLE,
    SOURCE,
    FunctionError,
    call,
    check_arguments,
    described,
    wrong,
)
from collapse_jax.core.protocols import Data, Params
from collapse_jax.core.types import Dataset, Estimator, FitInfo, State, Workflow
from collapse_jax.errors import defined_at, whole


def count(name: str, n: Any) -> Any:
    """A number of points that a supply is asked for: an int, or a traced integer.

    Args:
        name: what asks, for the error text.
        n: the number.

    Raises:
        InputError: if it is no whole number, or known to be below 0.
    """
    if isinstance(n, int | np.integer) and not isinstance(n, bool):
        whole(name, n, 0)
        return n
    dtype = getattr(n, "dtype", None)
    if dtype is None or np.shape(n) != () or not jnp.issubdtype(dtype, jnp.integer):
        raise FunctionError(
            f"{name} is {described(n)}; it must be a whole number of at least 0, as an int or an "
            "integer array []"
        )
    return n


def fitted(estimator: Estimator, key: jax.Array, params: Params, data: Data) -> tuple[Params, Any]:
    """(params, `FitInfo`) of an estimator's fit.

    Raises:
        InputError: if the fit gives anything else.
    """
    fit = estimator.fit
    result = call("fit", fit, key, params, data) if estimator.traceable else fit(key, params, data)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], FitInfo)):
        raise wrong("fit", fit, result, "(params, cj.FitInfo), as cj.FitInfo.exact() is one")
    params, info = result
    for name in ("converged", "iterations", "loss"):
        value = getattr(info, name)
        if np.shape(value) != () or not _is_number(value):
            raise wrong(f"FitInfo.{name} of fit", fit, value, "one number []")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if estimator.traceable and not _is_number(leaf):
            place = f"params{jax.tree_util.keystr(path)} of fit"
            raise wrong(place, fit, leaf, "an array of numbers, or a number")
    return params, info


def points(name: str, given: Callable, arguments: tuple, n: Any) -> Any:
    """The points [n, ...] that a function gives.

    Args:
        name: what the function is to us, such as "sample".
        given: the function.
        arguments: what it is called with; its key first.
        n: how many points it must give.

    Raises:
        InputError: if it gives anything else, or under tracing an array that is the same for
            every key.
    """
    x, is_traced = call(name, given, *arguments), isinstance(arguments[0], Tracer)
    # On the host points may be texts.
    if not isinstance(x, jax.Array | np.ndarray) or (is_traced and not _is_number(x)):
        raise wrong(name, given, x, f"an array of points [{n}, ...]")
    if x.ndim < 1 or x.shape[0] != n:
        raise wrong(name, given, x, f"points [{n}, ...], one row a point")
    if isinstance(x, np.ndarray) and is_traced and name != SOURCE:
        raise FunctionError(
            f"{name}, {defined_at(given)}, gave a NumPy array while JAX traces it, which would be "
            "the same numbers for every key; draw with jax.random and the key that it is given"
        )
    return x


def measured(name: str, metric: Callable, state: Any) -> Any:
    """What a metric gives of a state.

    Raises:
        InputError: if that is no number or array of numbers, or the metric cannot be traced.
    """
    inner = getattr(metric, "function", metric)
    check_arguments(f"metric {name!r}", inner, METRIC if inner is not metric else ("state",))
    value = call(f"metric {name!r}", inner, state.params if inner is not metric else state)
    if not _is_number(value):
        raise wrong(f"metric {name!r}", inner, value, "a number, or an array of numbers")
    return value


def numbers_of_points(name: str, given: Callable, x: jax.Array) -> jax.Array:
    """What a reward, criterion or label gives of points x [n, ...]: booleans or numbers [n].

    Args:
        name: what the function is to us, such as "reward of best_of(2)".
        given: the function.
        x: the points.

    Raises:
        InputError: if it gives anything else, or cannot be traced.
    """
    values, n = call(name, given, x), x.shape[0]
    if isinstance(values, list | tuple):  # a host's reward may be made number by number
        with contextlib.suppress(TypeError, ValueError, *NOT_TRACEABLE):
            values = np.asarray(values)
    if not _is_number(values) or jnp.iscomplexobj(values) or np.shape(values) != (n,):
        hint = ""
        if _is_number(values) and np.size(values) == n and np.ndim(values) != 1:
            hint = " (.reshape(-1) makes it so)"
        raise wrong(name, given, values, f"one number or bool for each of {n} points, [{n}]{hint}")
    return jnp.asarray(values)


def summarised(estimator: Estimator, x: jax.Array, weight: jax.Array) -> Data:
    """The data of points, by the estimator's `summarise`.

    Raises:
        InputError: if `summarise` gives nothing, or asks for the value of a traced array.
    """
    data = call("summarise", estimator.summarise, x, weight)
    if data is None:
        raise wrong("summarise", estimator.summarise, data, "data, as fit takes it")
    return data


def training_set(workflow: Workflow, data: Data) -> Data:
    """The next training set of a workflow, which must have one weight for each point.

    Raises:
        InputError: if it has not, or no slot at all.
    """
    if not isinstance(data, Dataset):
        return data
    x, weight = np.shape(data.x), np.shape(data.weight)
    if len(weight) != 1 or x[:1] != weight or not weight[0]:
        name, result = f"next of {workflow.name}", f"x {list(x)} with weight {list(weight)}"
        raise FunctionError(
            f"{name}, {defined_at(workflow.next)}, gave {result}; it must give x [slots, ...] with "
            "weight [slots], and one slot at least"
        )
    return data


def check_abilities(estimator: Estimator, key: jax.Array, params: Params, n: int) -> None:
    """Raises `InputError` where what a family can do beside its fit has the wrong shape.

    Args:
        estimator: the estimator; it is traced.
        key: a key.
        params: a model.
        n: a number of points.
    """
    x = points("sample", estimator.sample, (key, params, n), n)
    if estimator.log_prob is not None:
        value = call("log_prob", estimator.log_prob, params, x)
        if np.shape(value) != (n,) or not _is_number(value):
            raise wrong("log_prob", estimator.log_prob, value, f"numbers [{n}] for {n} points")
    for name in ("tempered", "nucleus"):
        reshape = getattr(estimator, name)
        if reshape is not None:
            _check_like(name, reshape, call(name, reshape, params, 0.5), params, "a model")
    if estimator.statistics.lazy:
        return
    data = summarised(estimator, x, jnp.ones(n))
    pooled = call("merge", estimator.merge, data, data)
    if type(pooled) is not type(data):
        raise wrong("merge", estimator.merge, pooled, f"{type(data).__name__}, as it is given")
    if estimator.draw is not None:
        drawn = call("draw", estimator.draw, key, params, n)
        _check_like("draw", estimator.draw, drawn, data, "the data of n points")
    if estimator.subsample is not None and not isinstance(data, Dataset):
        some = call("subsample", estimator.subsample, key, data, n)
        _check_like("subsample", estimator.subsample, some, data, "data")


def _check_like(name, given, result, wanted, what):
    """Raises unless a result has the structure and shapes of another."""
    shapes = [
        (jax.tree.structure(tree), list(map(np.shape, jax.tree.leaves(tree))))
        for tree in (result, wanted)
    ]
    # n points may be held in any number of weighted slots.
    first = 1 if isinstance(wanted, Dataset) else 0
    alike = [(structure, [shape[first:] for shape in sizes]) for structure, sizes in shapes]
    slots = {shape[:first] for shape in shapes[0][1]}
    if alike[0] != alike[1] or len(slots) > 1:
        raise FunctionError(
            f"{name}, {defined_at(given)}, gave {type(result).__name__} with arrays of shapes "
            f"{shapes[0][1]}; it must give {what}, {type(wanted).__name__} of {shapes[1][1]}"
        )


def same_structure(before: State, after: State) -> None:
    """Raises `InputError` unless a later state has the structure, shapes and types of an earlier.

    Args:
        before: the state of a generation.
        after: that of the next.
    """
    _same_structure("fit: the model", before.params, after.params)
    _same_structure("the workflow: the carry", before.carry, after.carry)


def _same_structure(what, before, after):
    shapes = [
        (jax.tree.structure(tree), [_shape_of(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (before, after)
    ]
    if shapes[0] == shapes[1]:
        return
    first, then = (f"[{', '.join(of)}]" for _, of in shapes)
    raise FunctionError(
        f"{what} has the arrays {first:.300} in one generation and {then:.300} in the next; it "
        "must keep its structure, shapes and types (for sets that grow there are supply.reserve "
        "and supply.append)"
    )


def _is_number(value):
    """Whether a value is a number or an array of numbers, of any kind but text and objects."""
    if isinstance(value, bool | int | float | complex):
        return True
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return False
    return jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)


def _shape_of(leaf):
    return f"{jnp.result_type(leaf).name}{list(jnp.shape(leaf))}"
