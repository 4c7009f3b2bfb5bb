"""The type `Estimator`: how a family is fitted, sampled and measured, and how a driver runs it."""

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
    """How a family stores the points of earlier training sets relative to its newest model.

    The points of a collapsing model come so close together that rounding merges them. Their
    coordinates relative to the model that was fitted to them keep their precision.

    sample: (key, n) -> z [n, ...], coordinates relative to the model from which they are drawn.
    placed: (params, x [n, ...]) -> z, the coordinates of points relative to a model.
    summarise: (params, z, weight) -> the statistics of the points themselves.
    moved: (fitted, data) -> data relative to the model that is fitted to `fitted`. Both are
        `Dataset`, with points relative to one model, or in their own coordinates.
    """

    sample: Callable[[jax.Array, int], jax.Array]
    placed: Callable[[Params, jax.Array], jax.Array]
    summarise: Callable[[Params, jax.Array, jax.Array], Data]
    moved: "Callable[[Dataset, Dataset], Dataset]"


class Statistics(NamedTuple):
    """The form of a family's training sets, and how they are pooled, drawn and subsampled.

    kind: the type of the data: `Dataset`, or a NamedTuple of sufficient statistics.
    summarise: (x, weight) -> data.
    merge: (a, b) -> data of the pooled sample.
    draw: (key, params, n) -> data of n fresh samples; None: `summarise` of the points of `sample`.
    subsample: (key, data, n) -> data of n of the points; None: possible only with stored points.
    lazy: whether `draw` returns a recipe (the generating model) instead of points, from which `fit`
        draws fresh points while it trains. Such data cannot be pooled or subsampled.
    check: (x [N, ...]) -> the same points in the shape and type that the family stores, or None to
        leave them unchanged; raises `ValueError` for points that the family does not accept. It is
        called once, before any work, with the real points as a NumPy array of the type that the
        user gave. Without it, shape, type, finiteness and loss of digits are checked.
    relative: how points that a workflow stores are stored relative to the newest model; None: in
        their own coordinates.
    spanned: (data, points) -> the same data, restricted to the subspace that this number of points
        spans: the line of two, the plane of three. Components outside it are rounding and are
        dropped. None for a family without directions. If n points from any model span n - 1
        directions, `merge` and `summarise` may have an argument `general`: True if no two points
        are known to be copies, so that no component outside a plane is rounding.
    weighed: (data, w) -> the data with each point counted w times; None: possible only with stored,
        weighted points; a string: the reason why the family's points cannot be weighted.
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
    """The measures of a fitted model, by name.

    metrics: name -> function of the parameters.
    distances: name -> function of the parameters and of a reference model's parameters.
    """

    metrics: Mapping[str, protocols.Metric] = {}
    distances: Mapping[str, protocols.Distance] = {}


class Model(NamedTuple):
    """Further abilities of a fitted model; None for those that the family does not have.

    log_prob: (params, x [n, ...]) -> [n] in nats.
    tempered: (params, temperature) -> the model with probabilities proportional to
        p^(1 / temperature).
    nucleus: (params, p) -> the model restricted to its most probable outcomes, of total probability
        p.
    continued: (key, params, x [n, ...]) -> x [n, ...], one new point that continues each given one
        (a language model continues a text).
    copied: (key, params, data, n) -> int [n]: the slots of the training set `data`, a `Dataset`, of
        which the n points of `sample(key, params, n)` are copies. If a point has parts that are
        copied one by one, int [n, parts]: indices among all parts of all slots.
    mixtures: (params [K, ...] of K models, weights [G, K]) -> params [G, ...] of the G models that
        are these mixtures. None if a mixture of models is not a model of the family.
    """

    log_prob: protocols.LogProb | None = None
    tempered: protocols.Reshape | None = None
    nucleus: protocols.Reshape | None = None
    continued: protocols.Continue | None = None
    copied: protocols.Copied | None = None
    mixtures: Callable[[Params, jax.Array], Params] | None = None


class Compaction(NamedTuple):
    """How a model drops parts that have died out (a categorical's lost categories).

    num_in_use: params -> the number of parts with positive weight.
    to_size: (params, size) -> the same model with space for `size` parts.
    """

    num_in_use: Callable[[Params], jax.Array]
    to_size: Callable[[Params, int], Params]


class OutOfRange(NamedTuple):
    """The range in which a fitted model's numbers are finite but no longer accurate.

    models: (params of NumPy arrays with further axes) -> bool of these axes: which models are in
        that range.
    right: names of the metrics that are accurate there too.
    why: the property of such a model that the warning names.
    """

    models: Callable[[Params], Any]
    right: tuple[str, ...]
    why: str


class Runtime(NamedTuple):
    """How a driver may run a family or a process.

    traceable: False if `fit` or `sample` is a host loop, which runs under `cj.run` only.
    chain_axis: the axis of the chains in the arrays of a state under `cj.simulate`: 0, or -1 for
        families whose kernels are written for it.
    compaction: how dead parts are dropped; None if they must stay.
    models: number of models per chain; they are computed as if they were as many chains.
    reads: total number of training sets that the models draw from each other before merging.
    out_of_range: the range of which drivers warn; None if the family's numbers are always accurate.
    """

    traceable: bool = True
    chain_axis: Literal[0, -1] = 0
    compaction: Compaction | None = None
    models: int = 1
    reads: int = 0
    out_of_range: OutOfRange | None = None


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
    """A family of models: how it is fitted and sampled. `cj.estimator(fit, sample)` makes one.

    The options of `cj.estimator` are stored in groups, and can be read without naming the group:
    `estimator.draw` is `estimator.statistics.draw`. `_replace` accepts options and groups. It drops
    the parts that depend on a replaced part: an estimator with another `sample` has no `draw`,
    unless `draw` is given in the same call.

    name: the family with its options, for `repr` and error messages.
    fit: (key, params, data) -> (params, `FitInfo`).
    sample: (key, params, n) -> x [n, ...].
    init: (key, data) -> params before any fit.
    statistics: the form of a training set.
    measures: metrics and distances.
    model: further abilities of a fitted model.
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
                + ("drawn directly" if self.draw else "computed from points"),
                f"  metrics: {listed([*self.metrics, *self.distances])}",
                *([f"  also: {', '.join(abilities)}"] if abilities else []),
                *([] if self.traceable else ["  runs on the host (`cj.run`)"]),
            ]
        )


_GROUPS = {"statistics": Statistics, "measures": Measures, "model": Model, "runtime": Runtime}
# Part -> what depends on it, and is dropped with it unless it is given in the same call.
_DEPENDENTS = {
    "kind": ("draw", "subsample", "check", "relative", "spanned", "weighed", "compaction"),
    "fit": ("relative", "compaction", "out_of_range"),
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
    """The replaced parts by their flat names; of a group, those that have changed."""
    flat = {}
    for group in _GROUPS.keys() & parts.keys():
        before = getattr(estimator, group)
        for name, value in parts[group]._asdict().items():
            if value is not getattr(before, name):
                flat[name] = value
    return flat | {name: value for name, value in parts.items() if name not in _GROUPS}


class Family(NamedTuple):
    """A registered family, with the information that tables and figures need.

    factory: (**options) -> `Estimator`. The first line of its docstring describes the family; the
        section References names its source.
    example: () -> (`Estimator`, params): a small model, which is the real distribution if no other
        is given.
    label: the family's name in figures; "" for its registered name.
    metrics: names of the metrics that are recorded and drawn by default; () for all scalars.
    laws: closed forms that figures draw next to the chains; None if there are none.
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
