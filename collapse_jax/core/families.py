"""A family of models: how it is fitted, sampled and measured, and how a driver may run it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax

from collapse_jax.core import protocols
from collapse_jax.core.closed_forms import ClosedForms
from collapse_jax.core.protocols import Data, Params
from collapse_jax.core.recipes.made import Made, made_words, replaced
from collapse_jax.metrics import OfDraws

if TYPE_CHECKING:
    from collapse_jax.core.types import Dataset


class Relative(NamedTuple):
    """How a family holds the points of earlier training sets relative to its newest model.

    Points that a collapsing model has made differ by ever fewer roundings of their size. Their
    places relative to the model that was fitted to them do not.

    sample: (key, n) -> z [n, ...] in places relative to the model that they are drawn from.
    placed: (params, x [n, ...]) -> z, points relative to a model.
    summarise: (params, z, weight) -> the statistics of the points themselves.
    moved: (fitted, data) -> data relative to the model that is fitted to `fitted`, both `Dataset`
        of points relative to one model, or as they are.
    """

    sample: Callable[[jax.Array, int], jax.Array]
    placed: Callable[[Params, jax.Array], jax.Array]
    summarise: Callable[[Params, jax.Array, jax.Array], Data]
    moved: "Callable[[Dataset, Dataset], Dataset]"


class Statistics(NamedTuple):
    """What a training set is to a family, and how such sets are pooled, drawn and thinned.

    kind: the type of the data: `Dataset`, or a NamedTuple of sufficient statistics.
    summarise: (x, weight) -> data.
    merge: (a, b) -> data of the pooled sample.
    draw: (key, params, n) -> data of n fresh samples; None: summarise what `sample` gives.
    subsample: (key, data, n) -> data of n of the points; None: only the points can tell.
    lazy: whether `draw` gives a recipe (the generating model) instead of points, and `fit` draws
        fresh points from it as it goes. Such data cannot be pooled or subsampled.
    check: (x [N, ...]) -> the same points in the shape and type that the family holds, or None for
        as they are; raises `ValueError` for points that it does not take. It is asked once, before
        any work, about real points, a NumPy array in the type that they were given in. Without one,
        shape, type, finiteness and the digits that the type holds are looked at.
    relative: how points that a workflow keeps are held relative to the newest model; None: as they
        are.
    spanned: (data, points) -> the same data, all of whose points lie where so many do: on the line
        of two, in the plane of three. What rounding has added beside it is dropped. None where a
        family knows no directions. Where n points from any model span n - 1 of them, `merge` and
        `summarise` may have an argument `general`: it is True where no two points are known to be
        related, so that nothing that is found beside a plane is rounding.
    weighed: (data, w) -> the data of points that each count w times as much; None: only weighted
        points can tell; a text: why the family's points cannot be weighed.
    """

    kind: type
    summarise: protocols.Summarise
    merge: protocols.Merge
    draw: protocols.Draw | None = None
    subsample: protocols.Subsample | None = None
    lazy: bool = False
    check: protocols.Check | None = None
    relative: Relative | None = None
    spanned: Callable[[Data, int], Data] | None = None
    weighed: protocols.Weigh | str | None = None


class Measures(NamedTuple):
    """What is measured of a fitted model, by name.

    metrics: name -> function of the parameters.
    distances: name -> function of the parameters and of a reference model's parameters.
    """

    metrics: Mapping[str, protocols.Metric] = {}
    distances: Mapping[str, protocols.Distance] = {}


class Model(NamedTuple):
    """What else a fitted model can do; None where the family cannot.

    log_prob: (params, x [n, ...]) -> [n] in nats.
    tempered: (params, temperature) -> the model with probabilities proportional to
        p^(1 / temperature).
    nucleus: (params, p) -> the model cut down to its most probable part of total probability p.
    continued: (key, params, x [n, ...]) -> x [n, ...], one new point that follows from each given
        one (a language model continues a text).
    copied: (key, params, data, n) -> int [n], the slots of the training set `data`, a `Dataset`, of
        which the n points of `sample(key, params, n)` are copies; or [n, parts], places among all
        parts of all slots, where a point has parts that are copied one by one.
    mixtures: (params [K, ...] of K models, weights [G, K]) -> params [G, ...] of the G models whose
        laws are these mixtures. None where a mixture of the family's models is no model of it.
    """

    log_prob: protocols.LogProb | None = None
    tempered: protocols.Reshape | None = None
    nucleus: protocols.Reshape | None = None
    continued: protocols.Continue | None = None
    copied: protocols.Copied | None = None
    mixtures: Callable[[Params, jax.Array], Params] | None = None


class Compaction(NamedTuple):
    """How a model sheds parts that have died out (a categorical's lost categories).

    num_in_use: params -> how many parts have weight.
    to_size: (params, size) -> the same model with space for `size` parts.
    """

    num_in_use: Callable[[Params], jax.Array]
    to_size: Callable[[Params, int], Params]


class Beyond(NamedTuple):
    """Where the finite numbers of a fitted model are no longer those of its family's law.

    models: (params of NumPy arrays with further axes) -> bool of these axes, which models are.
    right: names of metrics that are right there too.
    why: what such a model has, for the warning.
    """

    models: Callable[[Params], Any]
    right: tuple[str, ...]
    why: str


class Runtime(NamedTuple):
    """How a driver may run a family or a process.

    traceable: False where `fit` or `sample` is a host loop, which runs under `run` only.
    chain_axis: where `simulate` puts the chains in the arrays of a state: 0, or -1 for families
        whose kernels are written for it.
    compaction: None where dead parts must stay.
    models: how many models a chain has, which are computed as if they were so many chains.
    reads: how many sets the models draw from each other before they are merged, all together.
    beyond: what drivers warn of; None where a family's numbers have no such end.
    """

    traceable: bool = True
    chain_axis: Literal[0, -1] = 0
    compaction: Compaction | None = None
    models: int = 1
    reads: int = 0
    beyond: Beyond | None = None


class _EstimatorFields(NamedTuple):
    name: str
    fit: protocols.Fit
    sample: protocols.Sample
    init: protocols.Init
    statistics: Statistics
    measures: Measures = Measures()
    model: Model = Model()
    runtime: Runtime = Runtime()


class Estimator(Made, _EstimatorFields):
    """A family: how it is fitted and sampled. `cj.estimator(fit, sample)` makes one.

    Options of `cj.estimator` are held in groups and read flat: `estimator.draw` is
    `estimator.statistics.draw`. `_replace` takes both. What depends on a replaced part is dropped
    with it: a family with another `sample` has no `draw` unless one is given in the same call.

    name: the family with its options, for `repr` and error messages.
    fit: (key, params, data) -> (params, `FitInfo`).
    sample: (key, params, n) -> x [n, ...].
    init: (key, data) -> params before any fit.
    statistics: what a training set is.
    measures: metrics and distances.
    model: what else a fitted model can do.
    runtime: how a driver may run it.
    """

    metrics = property(lambda self: self.measures.metrics)
    distances = property(lambda self: self.measures.distances)
    summarise = property(lambda self: self.statistics.summarise)
    merge = property(lambda self: self.statistics.merge)
    draw = property(lambda self: self.statistics.draw)
    subsample = property(lambda self: self.statistics.subsample)
    check = property(lambda self: self.statistics.check)
    log_prob = property(lambda self: self.model.log_prob)
    tempered = property(lambda self: self.model.tempered)
    nucleus = property(lambda self: self.model.nucleus)
    continued = property(lambda self: self.model.continued)
    copied = property(lambda self: self.model.copied)
    mixtures = property(lambda self: self.model.mixtures)
    traceable = property(lambda self: self.runtime.traceable)
    chain_axis = property(lambda self: self.runtime.chain_axis)
    compaction = property(lambda self: self.runtime.compaction)

    def _replace(self, **parts) -> "Estimator":
        flat = _flat(self, parts)
        dropped = {name for part in flat for name in _DEPENDENTS.get(part, ())} - flat.keys()
        flat |= dict.fromkeys(dropped)
        if "sample" in parts and "metrics" not in flat:
            flat["metrics"] = {
                name: OfDraws(parts["sample"], metric.moment)
                if isinstance(metric, OfDraws)
                else metric
                for name, metric in self.metrics.items()
            }
        groups = {
            group: getattr(self, group)._replace(
                **{name: flat.pop(name) for name in kind._fields if name in flat}
            )
            for group, kind in _GROUPS.items()
        }
        return replaced(self, super()._replace(**groups, **flat), parts)

    __replace__ = _replace

    def __repr__(self) -> str:
        return made_words(self) or self.name

    def __str__(self) -> str:
        abilities = [name for name, value in self.model._asdict().items() if value is not None]
        return "\n".join(
            [
                self.name,
                f"  data: {self.statistics.kind.__name__}, "
                + ("drawn by its law" if self.draw else "summarised from points"),
                f"  metrics: {listed([*self.metrics, *self.distances])}",
                *([f"  also: {', '.join(abilities)}"] if abilities else []),
                *([] if self.traceable else ["  runs on the host (`cj.run`)"]),
            ]
        )


_GROUPS = {"statistics": Statistics, "measures": Measures, "model": Model, "runtime": Runtime}
# Part -> what depends on it, and is dropped with it unless it is given in the same call.
_DEPENDENTS = {
    "kind": ("draw", "subsample", "check", "relative", "spanned", "weighed", "compaction"),
    "fit": ("relative", "compaction", "beyond"),
    "init": ("compaction",),
    "sample": (
        *("draw", "log_prob", "tempered", "nucleus", "continued", "copied", "mixtures"),
        *("relative", "compaction"),
    ),
    "summarise": ("draw", "subsample", "check", "relative", "spanned", "weighed", "compaction"),
    "merge": ("spanned", "weighed", "compaction"),
    "draw": ("compaction",),
}


def listed(names, most=6):
    """Names with commas, the first of many."""
    rest = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *rest]) or "none"


def _flat(estimator, parts):
    """The replaced parts by their flat names; of a group, those that are other than before."""
    flat = {}
    for group in _GROUPS.keys() & parts.keys():
        before = getattr(estimator, group)
        for name, value in parts[group]._asdict().items():
            if value is not getattr(before, name):
                flat[name] = value
    return flat | {name: value for name, value in parts.items() if name not in _GROUPS}


class Family(NamedTuple):
    """A registered family, with all that tables and figures need to know of it.

    factory: (**options) -> `Estimator`. Its docstring says in its first line what the family is,
        and where it comes from.
    example: () -> (`Estimator`, params): a small model, which stands for the real distribution
        where nothing else is given.
    label: what a figure calls the family; "" for its registered name.
    metrics: names of the metrics that are recorded and drawn by default; () for all scalars.
    laws: closed forms that the chains are drawn against; None where there are none.
    """

    factory: Callable[..., Estimator]
    example: Callable[[], tuple[Estimator, Params]] | None = None
    label: str = ""
    metrics: tuple[str, ...] = ()
    laws: ClosedForms | None = None

    def __repr__(self) -> str:
        has = [name for name in ("example", "laws") if getattr(self, name) is not None]
        named = f" {self.label!r}" if self.label else ""
        name = getattr(self.factory, "__name__", type(self.factory).__name__)
        return f"family{named} of {name}, with {listed([*has, *self.metrics])}"
