"""The types: a process fits a model to data, lets it generate the next data, and repeats.

Everything here is a NamedTuple of pure functions or of arrays. Keys are typed (`jax.random.key`)
and never stored in a state.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.core import protocols
from collapse_jax.core.families import Compaction as Compaction
from collapse_jax.core.families import Estimator as Estimator
from collapse_jax.core.families import Family as Family
from collapse_jax.core.families import Measures as Measures
from collapse_jax.core.families import Model as Model
from collapse_jax.core.families import OutOfRange as OutOfRange
from collapse_jax.core.families import Relative as Relative
from collapse_jax.core.families import Runtime as Runtime
from collapse_jax.core.families import Statistics as Statistics
from collapse_jax.core.families import listed
from collapse_jax.core.protocols import Carry, Data, Params
from collapse_jax.core.recipes.made import Made, made_words, replaced
from collapse_jax.core.recipes.words import fields_words
from collapse_jax.errors import InputError, made_by

# They are known by this name, to run folders and to what people have pickled.
for _kind in (Relative, Statistics, Measures, Model, Compaction, Runtime, Estimator, Family):
    _kind.__module__ = __name__


class Dataset(NamedTuple):
    """Weighted points: the data of every family without sufficient statistics.

    x: [slots, ...], the points.
    weight: [slots], the points' weights; 0 marks an empty slot.
    """

    x: jax.Array
    weight: jax.Array

    def __repr__(self) -> str:
        return fields_words(self)


class FitInfo(NamedTuple):
    """The outcome of a fit. It is not passed on to the next generation.

    converged: bool [].
    iterations: int [].
    loss: float [], the final value of the minimised function; nan if nothing was minimised.
    detail: name -> array, specific to the family (a language model's losses by epoch).
    """

    converged: jax.Array
    iterations: jax.Array
    loss: jax.Array
    detail: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return fields_words(self)

    @classmethod
    def exact(cls) -> "FitInfo":
        """Returns the info of a fit in closed form."""
        return cls(jnp.asarray(True), jnp.asarray(0), jnp.asarray(jnp.nan))


class _SourceFields(NamedTuple):
    sample: Callable[[jax.Array, int], jax.Array]
    draw: Callable[[jax.Array, Any], Data] | None = None
    statistics: type = Dataset
    size: int | None = None
    params: Params = None
    family: Estimator | None = None


class Source(Made, _SourceFields):
    """The source of real data.

    sample: (key, n) -> x [n, ...] in random order, so that its first m rows are a sample of m.
    draw: (key, n) -> data of n real draws, sampled directly as sufficient statistics; or None.
    statistics: the type that `draw` returns.
    size: the number of real points; None for a population.
    params: the parameters of a population, in the form of its family; None for a data set.
    family: the estimator of which the population is a model, if that is known.
    """

    # The points of a fixed data set [N, ...] as they were given; None for any other source.
    points = property(lambda self: getattr(self.sample, "points", None))

    def _replace(self, **parts) -> "Source":
        given = parts
        if "sample" in parts:
            parts = {"draw": None} | parts
        if {"sample", "draw"} & parts.keys():
            parts = {"params": None, "family": None} | parts
        return replaced(self, super()._replace(**parts), given)

    __replace__ = _replace

    def __repr__(self) -> str:
        return made_words(self) or str(self)

    def __str__(self) -> str:
        if self.size is not None:
            return f"source: a data set of {self.size:,} points"
        of = "" if self.params is None else f", {type(self.params).__name__} known"
        return f"source: a population{of}"


def _no_continuation(key, n, m):
    raise NotImplementedError("this supply cannot continue points")


def _no_past(params, key, n):
    raise NotImplementedError("this supply has no earlier models")


def _not_weighed(data, w):
    raise NotImplementedError("this supply cannot weight points")


class Supply(NamedTuple):
    """The operations that a workflow may use to put together one training set.

    model: (key, n) -> data of n fresh draws from the newest model.
    real: (key, n) -> data of n real points.
    merge: (a, b) -> the pooled data.
    subsample: (key, data, n) -> data of n of the points, drawn without replacement.
    reserve: (data) -> the same data with space for the points that later generations append.
    append: (pool, data) -> the pool with the data appended.
    compact: (data) -> the same data in the slots of one training set.
    previous_size: number of points in the previous training set.
    real_and_continued: (key, n, m) -> data of n real points, and of m points with which the newest
        model continues m other real points; n and m are ints.
    generation: number of the model that is fitted to the set: 0 in `init`, then an int32 [], which
        is traced if the process is. Use `jax.numpy` for everything that depends on it.
    params: parameters of the newest model, which a workflow may put into its carry; in `init`,
        arrays of their shapes.
    model_of: (params, key, n) -> data of n fresh draws from the model with these parameters.
    weighed: (data, w) -> the same points, with each counted w times in the fit.
    """

    model: Callable[[jax.Array, Any], Data]
    real: Callable[[jax.Array, Any], Data]
    merge: protocols.Merge
    subsample: protocols.Subsample
    reserve: Callable[[Data], Data]
    append: Callable[[Data, Data], Data]
    compact: Callable[[Data], Data]
    previous_size: Any
    real_and_continued: Callable[[jax.Array, int, int], tuple[Data, Data]] = _no_continuation
    generation: Any = 0
    params: Params = None
    model_of: Callable[[Params, jax.Array, Any], Data] = _no_past
    weighed: protocols.Weigh = _not_weighed


class _WorkflowFields(NamedTuple):
    name: str
    init: protocols.Begin
    next: protocols.Next
    filters: tuple[Callable[[Estimator], Estimator], ...] = ()
    reweighted: "Callable[[float, float], Workflow] | None" = None


class Workflow(Made, _WorkflowFields):
    """How each next training set is put together.

    You need not declare what a workflow needs (earlier points, the whole history, real points to
    continue): the package observes which operations of its `Supply` it uses.

    name: the name in tables and error messages.
    init: (supply, data) -> carry, from the first (real) training set.
    next: (key, carry, supply, n) -> (carry, data of the next training set of size n).
    filters: the filters between sampling and fitting (`curation`), the innermost first. Each takes
        an estimator and returns the estimator by which the newest model is sampled.
    reweighted: (model, real) -> the same workflow in which points of the model pass with
        probability `model` and real points with probability `real`, and each training set is filled
        with points that pass; None if no real points enter after generation 0.
    """

    def __new__(cls, name, init, next, filters=(), reweighted=None, **flags):
        for flag in flags:
            raise InputError(
                f"{flag} is not an argument any more; leave it out: the package observes what a "
                "workflow needs"
            )
        made_by("filters", filters, tuple, "a tuple of functions of an estimator")
        return super().__new__(cls, name, init, next, filters, reweighted)

    def generator(self, estimator: Estimator) -> Estimator:
        """Returns the estimator by which the newest model is sampled, after all filters."""
        for curate in self.filters:
            estimator = curate(estimator)
        return estimator

    def _replace(self, **parts) -> "Workflow":
        given = parts
        if {"init", "next"} & parts.keys():
            parts = {"reweighted": None} | parts
        return replaced(self, super()._replace(**parts), given)

    __replace__ = _replace

    def __repr__(self) -> str:
        return made_words(self) or str(self)

    def __str__(self) -> str:
        return f"workflow {self.name}"


class State(NamedTuple):
    """One generation of one chain. It contains no random key.

    generation: int [].
    params: the parameters of this generation's model.
    carry: the carry of the workflow.
    first: the parameters of generation 0 if the process remembers them, else ().
    """

    generation: jax.Array
    params: Params
    carry: Carry
    first: Any = ()

    def __repr__(self) -> str:
        return fields_words(self)


class StepInfo(NamedTuple):
    """Information about one step.

    fit: the outcome of the fit.
    data: the training set to which this generation's model was fitted.
    """

    fit: FitInfo
    data: Data

    def __repr__(self) -> str:
        return fields_words(self)


class Parts(NamedTuple):
    """The arguments from which a process was made; see `cj.generational_process`."""

    estimator: Estimator
    source: Source
    workflow: Workflow
    sample_size: "int | Callable[[Any], Any]"
    remember_first: bool = False

    def __repr__(self) -> str:
        size = "a function" if callable(self.sample_size) else f"{self.sample_size:,}"
        return (
            f"parts: {self.estimator.name}, {self.source!s}, {self.workflow!s}, sample size {size}"
        )


class Layout(NamedTuple):
    """The structure of a process's states, for drivers that save and restore them.

    template: (key, last_generation=None) -> a state with the structure of every later state; no
        model is fitted.
    resize: (state, last_generation) -> the state with buffers for a longer run.
    """

    template: Callable[..., State]
    resize: Callable[[State, int], State]

    def __repr__(self) -> str:
        return "layout of a process's states"


class _ProcessFields(NamedTuple):
    init: Callable[..., tuple[State, StepInfo]]
    step: Callable[..., tuple[State, StepInfo]]
    metrics: Mapping[str, Callable[..., jax.Array] | None]
    layout: Layout
    runtime: Runtime
    parts: Parts


class Process(Made, _ProcessFields):
    """A generational process. Generation 0 is the model fitted to real data.

    init: (key, last_generation=None) -> (state, info) of generation 0. last_generation sets the
        size of buffers in workflows that store all points, and is needed only there; it does not
        change the numbers.
    step: (key, state) -> (state, info) of the next generation.
    metrics: name -> function of params: the estimator's metrics and its distances to the real
        distribution. A distance is None if the real distribution is not known as a model of the
        same family. A process that remembers its first model also offers the distances to that
        model: NAME_to_first, a `metrics.OfFirst`, which is a function of the state.
    layout: the structure of its states.
    runtime: how a driver may run it: the estimator's runtime, as far as the workflow permits.
    parts: the arguments from which the process was made.
    """

    estimator = property(lambda self: self.parts.estimator)
    workflow = property(lambda self: self.parts.workflow)
    template = property(lambda self: self.layout.template)
    resize = property(lambda self: self.layout.resize)

    def _replace(self, **parts) -> "Process":
        if "parts" in parts:
            raise InputError(
                "parts of a process cannot be replaced; call cj.generational_process with the new "
                "ones"
            )
        given = parts
        if {"init", "step"} & parts.keys():
            parts = {"runtime": self.runtime._replace(compaction=None)} | parts
        return replaced(self, super()._replace(**parts), given)

    __replace__ = _replace

    def __repr__(self) -> str:
        return made_words(self) or str(self).partition("\n")[0]

    def __str__(self) -> str:
        estimator, source, workflow, size, _ = self.parts
        real = "a population" if source.size is None else f"a data set of {source.size:,} points"
        points = "a function of the generation" if callable(size) else f"{size:,}"
        names = listed([name for name, metric in self.metrics.items() if metric is not None])
        return (
            f"generational process: {estimator.name} under {workflow.name}\n"
            f"  real data: {real}\n  sample size: {points}\n  metrics: {names}"
        )
