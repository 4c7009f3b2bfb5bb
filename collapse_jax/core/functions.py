"""The functions that people write, held against what `protocols` says of them.

What they take is seen from their signatures when a process is made, here; what they give is seen
from shapes and types, in `results`. Every fault is one line that names the function, where it was
defined, and what it gave.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from collapse_jax.core.types import Estimator, Source, Workflow
from collapse_jax.errors import InputError, defined_at, first_line, function

_ARGUMENTS = {
    "fit": ("key", "params", "data"),
    "sample": ("key", "params", "n"),
    "init": ("key", "data"),
    "summarise": ("x", "weight"),
    "merge": ("a", "b"),
    "draw": ("key", "params", "n"),
    "subsample": ("key", "data", "n"),
    "log_prob": ("params", "x"),
    "tempered": ("params", "temperature"),
    "nucleus": ("params", "p"),
    "continued": ("key", "params", "x"),
    "copied": ("key", "params", "data", "n"),
}
METRIC, _DISTANCE = ("params",), ("params", "reference")
NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


# What a source's function is called; it may give fixed points.
SOURCE = "sample of the source"


class FunctionError(InputError):
    """A function that somebody wrote takes or gives something else than it must."""


def check_arguments(name: str, given: Callable, arguments: tuple[str, ...]) -> None:
    """Raises unless something is a function that can be called with these arguments by position.

    Args:
        name: what the error text calls it.
        given: the function.
        arguments: the names of what it is called with.

    Raises:
        InputError: if it cannot.
    """
    function(name, given)
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):  # some that are written in C tell nothing
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise FunctionError(
            f"{name} is called with ({', '.join(arguments)}), but it is {defined_at(given)} with "
            f"the arguments {signature}: {first_line(error)}"
        ) from None


def check_estimator_functions(estimator: Estimator, *, written_in_c: bool = True) -> None:
    """Raises `InputError` unless every function of an estimator takes what it is called with.

    Args:
        estimator: the estimator.
        written_in_c: whether functions that are not written in Python are looked at too.
    """
    for name, arguments in _ARGUMENTS.items():
        given = getattr(estimator, name)
        if given is not None or name in ("fit", "sample", "init", "summarise", "merge"):
            _check_one(name, given, arguments, written_in_c)
    for kind, of_kind, arguments in (
        ("metric", estimator.metrics, METRIC),
        ("distance", estimator.distances, _DISTANCE),
    ):
        for name, given in of_kind.items():
            _check_one(f"{kind} {name!r}", given, arguments, written_in_c)


def _check_one(name, given, arguments, written_in_c):
    if written_in_c or not inspect.isbuiltin(given):
        check_arguments(name, given, arguments)
    else:
        function(name, given)


def check_parts(estimator: Estimator, source: Source, workflow: Workflow) -> None:
    """Raises `InputError` for a function among a process's parts that cannot be called as it is."""
    check_estimator_functions(estimator)
    check_arguments(SOURCE, source.sample, ("key", "n"))
    if source.draw is not None:
        check_arguments("draw of the source", source.draw, ("key", "n"))
    check_arguments(f"init of {workflow.name}", workflow.init, ("supply", "data"))
    check_arguments(f"next of {workflow.name}", workflow.next, ("key", "carry", "supply", "n"))
    for curate in workflow.filters:
        check_arguments(f"a filter of {workflow.name}", curate, ("estimator",))


def generator_of(workflow: Workflow, estimator: Estimator, generation: Any = None) -> Estimator:
    """The estimator that the newest model is sampled by, after all filters of a workflow.

    Args:
        workflow: whose filters.
        estimator: the family.
        generation: number of the model that points are made for, for filters that differ by it
            (their attribute `at`: generation -> filter); None: as for the first.

    Raises:
        InputError: if a filter gives anything else.
    """
    for curate in workflow.filters:
        if generation is not None and hasattr(curate, "at"):
            curate = curate.at(generation)
        given = curate(estimator)
        if not isinstance(given, Estimator):
            raise wrong(f"a filter of {workflow.name}", curate, given, "an estimator")
        estimator = given
    return estimator


def wrong(name: str, given: Callable, result: Any, must_be: str) -> InputError:
    """The error of a function that gave the wrong thing.

    Args:
        name: what the function is to us, such as "fit".
        given: the function.
        result: what it gave.
        must_be: what it must give.
    """
    return FunctionError(
        f"{name}, {defined_at(given)}, gave {described(result)}; it must give {must_be}"
    )


def described(value: Any) -> str:
    """A value by its type and shape: "float32[5, 1]", "a tuple of (float32[], int)"."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"{value.dtype.name}{list(value.shape)}"
    if isinstance(value, tuple) and not hasattr(value, "_fields") and len(value) <= 4:
        return f"a tuple of ({', '.join(map(described, value))})"
    if isinstance(value, bool | int | float | str) or value is None:
        return f"{value!r:.60}"
    return type(value).__name__


def call(name: str, given: Callable, *arguments: Any) -> Any:
    """What a function gives; where it cannot be traced, one line that says so.

    Args:
        name: what the function is to us, such as "fit".
        given: the function.
        *arguments: what it is called with.

    Raises:
        InputError: if it asks for the value of an array that is traced.
    """
    try:
        return given(*arguments)
    except NOT_TRACEABLE as error:
        raise FunctionError(
            f"{name}, {defined_at(given)}, needs the value of an array that JAX traces "
            f"({type(error).__name__}): write it with jax.numpy (jnp.where for if, & for and); "
            "what cannot be written so needs an estimator with traceable=False, and cj.run"
        ) from error


def check_by_shapes(trace: Callable[[jax.Array], Any]) -> None:
    """Traces a function of a key without computing anything, and raises what this module found.

    Whatever else goes wrong is left to the run, where its traceback is the whole one.
    """
    try:
        jax.eval_shape(trace, jax.random.key(0))
    except FunctionError:
        raise
    except Exception:
        pass


def are_ours(estimator: Estimator, source: Source, workflow: Workflow) -> bool:
    """Whether every function of a process's parts comes with this package."""
    groups = (*_ARGUMENTS, "metrics", "distances")
    of_estimator = [getattr(estimator, name) for name in groups]
    given = [*of_estimator, source.sample, source.draw, workflow.init, workflow.next]
    return not workflow.filters and all(map(is_ours, given))


def is_ours(given: Any) -> bool:
    """Whether a function, or all of a mapping's, comes with this package; None does too."""
    if isinstance(given, Mapping):
        return all(map(is_ours, given.values()))
    within = getattr(given, "within", ())  # workflows that a workflow is made of
    if not all(is_ours(function) for flow in within for function in (flow.init, flow.next)):
        return False
    given = is_ours if given is None else inspect.unwrap(getattr(given, "func", given))
    module = getattr(given, "__module__", None) or type(given).__module__
    return module.partition(".")[0] == __name__.partition(".")[0]
