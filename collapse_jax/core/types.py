"""The vocabulary: a generational process fits a model to data, lets the model make the next data,
and repeats.

Everything here is a NamedTuple of pure functions or of arrays. Keys are typed (`jax.random.key`)
and never stored in a state.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Params = Any
Data = Any


class Dataset(NamedTuple):
    """Weighted points: the data of every family without sufficient statistics.

    x: [slots, ...] the points. weight: [slots], 0 where the slot is empty.
    """

    x: jax.Array
    weight: jax.Array


class FitInfo(NamedTuple):
    """How a fit went; never carried into the next generation.

    converged: bool []. iterations: int []. loss: float [], what was minimised at the end, nan where
    nothing was.
    detail: named arrays of this family's own (a language model's losses by epoch).
    """

    converged: jax.Array
    iterations: jax.Array
    loss: jax.Array
    detail: Mapping[str, Any] = {}

    @classmethod
    def exact(cls) -> "FitInfo":
        """The info of a fit in closed form."""
        return cls(jnp.asarray(True), jnp.asarray(0), jnp.asarray(jnp.nan))


class Estimator(NamedTuple):
    """How a family is fitted and sampled. `cj.estimator(fit, sample)` fills in what a newcomer
    leaves out.

    fit(key, params, data) -> (params, FitInfo): params are the previous generation's, for warm
    starts.
    sample(key, params, n) -> x [n, ...].
    init(key, data) -> params before any fit, or None where `fit` ignores them.
    summarise(x, weight) -> data of weighted points (weight 0: an empty slot).
    draw(key, params, n) -> data of n fresh samples, from its exact law; n may be traced. None:
    summarise what `sample` gives.
    merge(a, b) -> data of the pooled sample.
    subsample(key, data, n) -> data of n of its points, without replacement; None where only the
    points can tell.
    log_prob(params, x [n, ...]) -> [n] log-densities or log-probabilities in nats; None where they
    cannot be had.
    tempered(params, temperature) -> the model with probabilities proportional to p^(1 /
        temperature), and nucleus(params, p) -> the model cut down to its most probable part of
        total probability p; None where the family does not hold such a model.
    continued(key, params, x [n, ...]) -> x [n, ...]: one new point that follows from each given
        one, for models that go on from what they are given (a language model continues a text);
        None for families whose samples follow from nothing.
    metrics: name -> function of params. distances: name -> function(params, reference params): how
    far the first model is from another. statistics: the type of the data; sources draw this type
    directly where they know its law.
    traceable: False when `fit` or `sample` is a host loop: such a family runs under `run` only.
    living(params) -> how many parts of the model are alive, and relist(params, size) -> the same
        model with room for `size` parts: for families whose dead parts change nothing (a
        categorical's); None where there is no such thing.
    streams: whether `draw` gives places that are filled with fresh points while `fit` goes on: such
    data holds a model and no points,
        so that workflows that reach back to points or models of earlier sets, and sizes that are
        traced, are refused.
    chain_axis: where `simulate` puts the chains in the arrays of a state: 0, or -1 for families
    written for it (`random.chains_last`).
    """

    fit: Callable[[jax.Array, Params, Data], tuple[Params, FitInfo]]
    sample: Callable[[jax.Array, Params, int], jax.Array]
    init: Callable[[jax.Array, Data], Params]
    summarise: Callable[[jax.Array, jax.Array], Data]
    draw: Callable[[jax.Array, Params, Any], Data] | None
    merge: Callable[[Data, Data], Data]
    subsample: Callable[[jax.Array, Data, Any], Data] | None
    metrics: Mapping[str, Callable[[Params], jax.Array]]
    distances: Mapping[str, Callable[[Params, Params], jax.Array]] = {}
    statistics: type = Dataset
    traceable: bool = True
    living: Callable[[Params], jax.Array] | None = None
    relist: Callable[[Params, int], Params] | None = None
    chain_axis: int = 0
    continued: Callable[[jax.Array, Params, jax.Array], jax.Array] | None = None
    log_prob: Callable[[Params, jax.Array], jax.Array] | None = None
    tempered: Callable[[Params, Any], Params] | None = None
    nucleus: Callable[[Params, Any], Params] | None = None
    streams: bool = False


class Family(NamedTuple):
    """A registered family.

    factory(**options) -> Estimator; its docstring says in its first line what it is, and after
    "Source:" where it comes from.
    example() -> (Estimator, params): a small model of the family, which stands for the real
    distribution where nothing else is given.
    """

    factory: Callable[..., Estimator]
    example: Callable[[], tuple[Estimator, Params]] | None = None


class Source(NamedTuple):
    """Where real data comes from.

    sample(key, n) -> x [n, ...] in random order, so that its first m rows are a sample of m.
    draw(key, n) -> data of n real draws from its exact law, or None. statistics: the type that
    `draw` gives.
    size: how many real points there are; None for a population. params: the population's, in the
    form of its family; None for a data set.
    """

    sample: Callable[[jax.Array, int], jax.Array]
    draw: Callable[[jax.Array, Any], Data] | None = None
    statistics: type = Dataset
    size: int | None = None
    params: Params = None


class Supply(NamedTuple):
    """What a workflow may ask for while it makes one training set.

    model(key, n), real(key, n) -> data of n fresh draws from the newest model, or of real data.
    real_and_continued(key, n, m) -> data of n real points, and of what the newest model makes of m
    others; n and m are ints.
    merge(a, b) -> the pooled data. subsample(key, data, n) -> n of its points without replacement.
    reserve(data) -> the same with room for what later generations append. append(pool, data) -> the
    fuller pool.
    compact(data) -> the same in as many slots as one training set has. previous_size: points of the
    previous training set.
    """

    model: Callable[[jax.Array, Any], Data]
    real: Callable[[jax.Array, Any], Data]
    merge: Callable[[Data, Data], Data]
    subsample: Callable[[jax.Array, Data, Any], Data]
    reserve: Callable[[Data], Data]
    append: Callable[[Data, Data], Data]
    compact: Callable[[Data], Data]
    previous_size: Any
    real_and_continued: Callable[[jax.Array, int, int], tuple[Data, Data]] | None = None


class Workflow(NamedTuple):
    """What the next training set is made of.

    init(supply, data) -> carry, from the first (real) training set.
    next(key, carry, supply, n) -> (carry, data of the next training set of size n).
    takes_points_back: whether it uses single points of earlier sets again, and so needs
    `subsample`.
    grows: whether its carry holds the data of every generation.
    closed: whether nothing but the newest model enters the next training set, and the carry is
    empty.
    random_counts: whether it draws how many points come from where, so that these numbers are
    traced.
    continues: whether it asks for `real_and_continued`, and so needs an estimator that has
    `continued`, and sizes known before the run. generator(estimator) -> the estimator that the
    newest model is sampled by, in place of the one that is fitted: what stands between sampling and
    fitting (`curation`).
    reweighted(model, real) -> the same workflow where points of the model pass with probability
        `model` and real ones with `real`, and the sets are filled up with what passes; None where
        nothing real enters after generation 0.
    """

    name: str
    init: Callable[[Supply, Data], Any]
    next: Callable[[jax.Array, Any, Supply, Any], tuple[Any, Data]]
    takes_points_back: bool = False
    grows: bool = False
    closed: bool = False
    continues: bool = False
    generator: Callable[["Estimator"], "Estimator"] = lambda estimator: estimator
    reweighted: Callable[[Any, Any], "Workflow"] | None = None
    random_counts: bool = False


class State(NamedTuple):
    """generation: int []; params: the model of this generation; carry: the workflow's. No key
    inside.

    first: the parameters of generation 0 where the process remembers them, else ().
    """

    generation: jax.Array
    params: Params
    carry: Any
    first: Any = ()


class StepInfo(NamedTuple):
    """fit: how it went. data: the training set that this generation's model was fitted to."""

    fit: FitInfo
    data: Data


class Process(NamedTuple):
    """A generational process. Generation 0 is the model fitted to real data.

    init(key, last_generation=None) -> (state, info) of generation 0. last_generation sizes the
    buffers of workflows that keep
        points, and changes no number; others need none.
    step(key, state) -> (state, info) of the next generation.
    template(key, last_generation=None) -> a state with the structure of every later one, without
    fitting anything.
    resize(state, last_generation) -> the state with buffers for a longer run.
    living, relist: the estimator's, where the workflow brings nothing dead back; else None.
    chain_axis: see `Estimator`.
    metrics: name -> function of params: the estimator's, and its distances to the real
    distribution; None for a distance where the
        real distribution is not known as a model of the same family. Processes that remember their
        first model offer each distance
        to it as well: NAME_to_first, a `metrics.OfFirst`, which is a function of the state.
    """

    init: Callable[..., tuple[State, StepInfo]]
    step: Callable[[jax.Array, State], tuple[State, StepInfo]]
    template: Callable[..., State]
    resize: Callable[[State, int], State]
    estimator: Estimator
    workflow: Workflow
    living: Callable[[Params], jax.Array] | None = None
    relist: Callable[[Params, int], Params] | None = None
    chain_axis: int = 0
    metrics: Mapping[str, Callable[[Params], jax.Array] | None] = {}
