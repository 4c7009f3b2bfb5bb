"""Genealogies: the real draw that every point descends from."""

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
    """Simulates the ancestry of training points: the real draw that each one descends from.

    A fresh point of a model is treated as a copy of one of the model's training points, chosen
    uniformly. This is exact for categorical counts, and for the mean and variance of a Gaussian
    (`theory.ancestry`). A point that a model continues (`keep_or_continue`) is treated as a copy
    too. The metrics are listed in `core.ancestry.ancestor.METRICS`.

    Args:
        workflow: one of `cj.workflows`, or your own; a curation of points needs `genealogy_of`.
        key: one typed key; chain c uses `fold_in(key, c)`, as in `simulate`.
        sample_size: number of points in each training set, as in `cj.generational_process`.
        generations, chains: the last generation, and the number of chains.
        metrics: names of `METRICS`; by default all, but under workflows that store every generation
            not common_ancestor_age, which needs generations + 1 integers per point.
        data_set: number of rows of a fixed data set, from which real points are drawn without
            replacement; a row is always the same real draw. None: each real point is a new draw.
        largest_sample_size: needed if `sample_size` is a function.
        record, memory_limit, progress, devices: as in `simulate`.

    Returns:
        `trace[name]`, a NumPy array [chain, recorded, ...].

    Raises:
        InputError: for a number out of its range, an unknown metric, and as `simulate`.
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
    """Returns the process of `genealogy`, for `simulate_summary`, `run` and your own loops.

    Args:
        workflow, sample_size, generations, metrics, data_set, largest_sample_size: as in
            `genealogy`. A run of it can have at most `generations` generations.

    Returns:
        A process that offers the requested metrics, each a function of the labels.

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
            f"sample_size is {largest}; with {generations} generations a genealogy can distinguish "
            f"at most {labels.most} points of each"
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
    """Simulates a process together with the ancestry of its points, which are labelled.

    The model is the one of `simulate` with the same key: random choices are equal bit for bit,
    numbers up to the rounding of another program. The family must report of which training points
    its draws are copies (`copied`): categorical and ngram without smoothing, and kde, do. Tokens of
    an ngram are copied one by one; each is labelled with the real block that it comes from, and
    shares are shares of tokens. Rewards and verdicts of curations do not see the labels.

    Args:
        process: from `cj.generational_process`.
        key: one typed key.
        generations, chains: the last generation, and the number of chains.
        metrics: names of `genealogy` (common_ancestor_age needs generations + 1 integers per
            point), names that the process offers, or functions of the state.
        record, memory_limit, progress, devices: as in `simulate`.

    Returns:
        `trace[name]`, a NumPy array [chain, recorded, ...].

    Raises:
        InputError: for a family whose points are not copies, an unknown metric, and as `simulate`.
    """
    made_by("process", process, Process, "cj.generational_process")
    one_key("key", key)
    whole("generations", generations, 0, 2**31 - 2)
    if getattr(process.workflow.next, "outermost", False):
        raise InputError(
            f"genealogy_of does not accept {process.workflow.name}: its verifier is fitted to "
            "points, which have labels here; give a curation that is not refitted, such as "
            "cj.curation.verified"
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
    """Raises `InputError` if training sets have more than sample_size points."""
    try:
        needs = needs_of(workflow, SIZE_TO_WATCH)
    except InputError:  # the process tells what is wrong
        return
    if needs.fitted > 1 and not needs.fits_history:
        raise InputError(
            f"{workflow.name} makes training sets of more than sample_size points, for which a "
            "genealogy has no space; follow a categorical model with cj.genealogy_of"
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
            raise InputError(f"metrics has {name!r}; a genealogy offers {', '.join(METRICS)}{hint}")
    if not asked:
        raise InputError("metrics is empty; give at least one name, or leave it out for all")
    return [name for name in METRICS if name in asked]


def _keeps_all(workflow):
    """Whether a workflow stores the points of every generation; False if that is not known."""
    try:
        return needs_of(workflow, 2).whole_history
    except InputError:
        return False
