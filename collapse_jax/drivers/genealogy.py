"""Whose data is still there: every point carries the real draw that it descends from."""

import functools
from collections.abc import Callable, Iterable, Sequence

import jax

from collapse_jax.core import compatible
from collapse_jax.core.ancestry.ancestor import METRICS, Labels, ancestor, labelled
from collapse_jax.core.ancestry.labelled_process import slots_of, with_labels
from collapse_jax.core.needs import SIZE_TO_WATCH, needs_of
from collapse_jax.core.process import generational_process
from collapse_jax.core.recipes.made import recorded
from collapse_jax.core.types import Process, Workflow
from collapse_jax.drivers.progress import Progress
from collapse_jax.drivers.simulate import simulate
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import InputError, did_you_mean, made_by, one_key, whole

COMMON = "common_ancestor_age"


def genealogy(
    workflow: Workflow,
    key: jax.Array,
    *,
    sample_size: int | Callable,
    generations: int,
    chains: int = 1,
    metrics: Iterable[str] | None = None,
    data_set: int | None = None,
    largest_sample_size: int | None = None,
    record: int | str | Iterable[int] = 1,
    memory_limit: int | None = None,
    progress: Progress = None,
    devices: Sequence | None = None,
) -> Trace:
    """Follows every point of each training set back to the real draw that it descends from.

    A fresh point of a model is taken as a copy of one of the points that the model was fitted to,
    chosen uniformly: the law of the model itself for categories that are counted, and for the mean
    and variance of a Gaussian (`theory.ancestry`). What a model continues (`keep_or_continue`) is a
    copy too. `core.ancestry.ancestor.METRICS` says what is recorded.

    Args:
        workflow: one of `cj.workflows`, or your own; a curation of points needs `genealogy_of`.
        key: one typed key; chain c uses `fold_in(key, c)`, as in `simulate`.
        sample_size: points of each training set, as of `cj.generational_process`.
        generations, chains: the last generation, and how many chains.
        metrics: names of `METRICS`; by default all, but common_ancestor_age (which takes
            generations + 1 integers a point) not under workflows that keep every generation.
        data_set: rows of the fixed data set that real points are drawn from, without replacement;
            each is one real draw whenever it is taken. None: no two real points are the same.
        largest_sample_size: needed where `sample_size` is a function.
        record, memory_limit, progress, devices: as of `simulate`.

    Returns:
        `trace[name]`, a NumPy array [chain, recorded, ...].

    Raises:
        InputError: for a number out of its range, an unknown metric, and where `simulate` does.
    """
    one_key("key", key)
    process = genealogy_process(
        workflow,
        sample_size=sample_size,
        generations=generations,
        metrics=metrics,
        data_set=data_set,
        largest_sample_size=largest_sample_size,
    )
    return simulate(
        process,
        key,
        generations=generations,
        chains=chains,
        metrics=(*process.metrics,),
        record=record,
        memory_limit=memory_limit,
        progress=progress,
        devices=devices,
    )


@recorded
def genealogy_process(
    workflow: Workflow,
    *,
    sample_size: int | Callable,
    generations: int,
    metrics: Iterable[str] | None = None,
    data_set: int | None = None,
    largest_sample_size: int | None = None,
) -> Process:
    """The process that `genealogy` simulates, for `simulate_summary`, `run` and loops of your own.

    Args:
        workflow, sample_size, generations, metrics, data_set, largest_sample_size: as of
            `genealogy`. No run of it goes beyond `generations`.

    Returns:
        A process that offers the metrics asked for, each as a function of the labels.

    Raises:
        InputError: as `genealogy`.
    """
    made_by("workflow", workflow, Workflow, "one of cj.workflows, as cj.workflows.replace(),")
    whole("generations", generations, 0, 2**31 - 2)
    if data_set is not None:
        whole("data_set", data_set, 1, 2**31 - 1)
    names = _names(workflow, metrics)
    labels = Labels(generations, COMMON in names, data_set)
    largest = sample_size if largest_sample_size is None else largest_sample_size
    if isinstance(largest, int) and largest > labels.most:
        raise InputError(
            f"sample_size is {largest}; with {generations} generations a genealogy tells at most "
            f"{labels.most} points of each apart"
        )
    _refuse_larger_sets(workflow)
    family = ancestor(labels)
    source = labels.source(family)
    compatible.check_size(source, largest if isinstance(largest, int) else None)
    family = family._replace(metrics={name: family.metrics[name] for name in names})
    return generational_process(
        family,
        source,
        labelled(workflow, labels),
        sample_size=sample_size,
        largest_sample_size=largest_sample_size,
    )


def genealogy_of(
    process: Process,
    key: jax.Array,
    *,
    generations: int,
    chains: int = 1,
    metrics: Iterable = ("living_ancestors", "largest_family", "identity", "diversity", "real_age"),
    record: int | str | Iterable[int] = 1,
    memory_limit: int | None = None,
    progress: Progress = None,
    devices: Sequence | None = None,
) -> Trace:
    """A genealogy along with the model: labels travel beside the points of a process.

    The model is the one that `simulate` gives with the same key: its choices bit for bit, its
    numbers up to the rounding of another program. Families have to say of which points their draws
    are copies (`copied`): categorical and ngram without smoothing, and kde. Tokens of an ngram are
    copied one by one; each carries the real block that it comes from, and shares are of tokens.
    Rewards and verdicts of curations do not see the labels.

    Args:
        process: from `cj.generational_process`.
        key: one typed key.
        generations, chains: the last generation, and how many chains.
        metrics: names of `genealogy` (common_ancestor_age takes generations + 1 integers a point),
            names that the process offers, or functions of the state.
        record, memory_limit, progress, devices: as of `simulate`.

    Returns:
        `trace[name]`, a NumPy array [chain, recorded, ...].

    Raises:
        InputError: for a family whose points are no copies, an unknown metric, and where `simulate`
            does.
    """
    made_by("process", process, Process, "cj.generational_process")
    one_key("key", key)
    whole("generations", generations, 0, 2**31 - 2)
    if getattr(process.workflow.next, "outermost", False):
        raise InputError(
            f"genealogy_of takes no {process.workflow.name}: its verifier is fitted to points, "
            "which have labels here; take a curation that stays, as cj.curation.verified"
        )
    asked = [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics)
    labelled = _labelled(process, generations, COMMON in asked)
    return simulate(
        labelled,
        key,
        generations=generations,
        chains=chains,
        metrics=[_of_model(one) if callable(one) else one for one in asked],
        record=record,
        memory_limit=memory_limit,
        progress=progress,
        devices=devices,
    )


def _refuse_larger_sets(workflow):
    """A model that is its points has as many slots in every generation."""
    try:
        needs = needs_of(workflow, SIZE_TO_WATCH)
    except InputError:  # the process tells what is wrong
        return
    if needs.fitted > 1 and not needs.fits_history:
        raise InputError(
            f"{workflow.name} makes sets of more than sample_size points, of which a genealogy "
            "has no room for the rest; follow a categorical model by cj.genealogy_of"
        )


def _labelled(process, generations, ancestors):
    """The process over labelled points."""
    family, source, workflow = with_labels(process, generations, ancestors)
    size = process.parts.sample_size
    return generational_process(
        family,
        source,
        workflow,
        sample_size=size,
        largest_sample_size=slots_of(process) if callable(size) else None,
        remember_first=process.parts.remember_first,
    )


def _of_model(metric):
    """A function of a state as one of a labelled state, which it sees without labels."""

    @functools.wraps(metric)
    def of_state(state):
        first = getattr(state.first, "model", state.first)
        plain = state._replace(params=state.params.model, carry=state.carry[1], first=first)
        return metric(plain)

    return of_state


def _names(workflow, metrics):
    """What is recorded, in the order of `METRICS`."""
    if metrics is None:
        return [name for name in METRICS if name != COMMON or not _keeps_all(workflow)]
    asked = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in asked:
        if name not in METRICS:
            hint = did_you_mean(name, METRICS) if isinstance(name, str) else ""
            raise InputError(
                f"metrics has {name!r}; a genealogy records {', '.join(METRICS)}{hint}"
            )
    if not asked:
        raise InputError("metrics is empty; name one at least, or leave it out for all")
    return [name for name in METRICS if name in asked]


def _keeps_all(workflow):
    """Whether a workflow keeps the points of every generation; False where it cannot be seen."""
    try:
        return needs_of(workflow, 2).whole_history
    except InputError:
        return False
