"""More generations, more chains and more metrics of a simulation whose trace is in memory."""

from collections.abc import Callable, Iterable

import jax
import numpy as np

from collapse_jax.core.types import Process
from collapse_jax.drivers.all_chains import joined_states
from collapse_jax.drivers.chunks import Records, join_records
from collapse_jax.drivers.origin import Origin
from collapse_jax.drivers.plan import DEFAULT_METRICS, Plan, recorded_generations
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import InputError, made_by, whole
from collapse_jax.metrics import resolve_metrics

# (process, key, plan) -> its trace.
Run = Callable[[Process, jax.Array, Plan], Trace]


def go_on(process: Process, key: jax.Array, plan: Plan, after: Trace, run: Run) -> Trace:
    """The trace of a plan, with what an earlier trace holds of it taken from there.

    Args:
        process, key: those of `after`.
        plan: what is asked for; at least as many generations and chains as are there. One chain,
            the default of the drivers, stands for those that are there.
        after: from `cj.simulate`.
        run: the driver.

    Raises:
        InputError: if the trace is of another simulation, lacks generations that are asked for, or
            has more generations or chains.
    """
    origin = known_origin(after)
    if plan.metrics is DEFAULT_METRICS:
        plan = plan._replace(metrics=origin.plan.metrics)
    origin.check(process, key, plan)
    there = origin.plan.chains
    if 1 < whole("chains", plan.chains, 1) < there:
        raise InputError(
            f"chains is {plan.chains}, but the trace of after= has {there}; give at least that, or "
            "leave chains out"
        )
    plan = plan._replace(chains=max(plan.chains, there))
    recorded, kept = recorded_after(plan, after.generations)
    old = _longer(process, key, plan._replace(chains=there), after, recorded, kept, run)
    if plan.chains == there:
        return old
    rest = plan._replace(chains=plan.chains - there, first_chain=there, record=recorded.tolist())
    return _beside(old, run(process, key, rest), plan)


def measure_trace(trace: Trace, metrics: Iterable, run: Run) -> Trace:
    """A trace with more metrics of the same chains, which are made again from their seed.

    Args:
        trace: from `cj.simulate`.
        metrics: names that its process offers, or functions of the state; those that are there
            stay as they are.
        run: the driver.

    Raises:
        InputError: for unknown metrics, and for a trace that does not know its process.
    """
    origin = known_origin(trace)
    process, key, plan, *_ = origin
    wanted = resolve_metrics(process.metrics, metrics)
    given = [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics)
    new = [one for name, one in zip(wanted, given, strict=True) if name not in trace]
    if not new:
        return trace
    last = int(trace.generations[-1]) if len(trace.generations) else 0
    again = plan._replace(metrics=new, record=trace.generations.tolist(), generations=last)
    arrays = dict(sorted([*trace.items(), *run(process, key, again).items()]))
    of_plan = plan.metrics
    before = [of_plan] if isinstance(of_plan, str) or callable(of_plan) else list(of_plan)
    after = origin._replace(plan=plan._replace(metrics=[*before, *new]))
    return Trace(arrays, trace.generations, after)


def known_origin(trace: Trace) -> Origin:
    """What a trace came from.

    Raises:
        InputError: where it does not know that.
    """
    trace = made_by("after", trace, Trace, "cj.simulate")
    if trace.origin is None:
        raise InputError(
            "the trace has no process: it was pickled, or does not come from cj.simulate; "
            "simulate again with the same key, which gives the same numbers"
        )
    return trace.origin


def recorded_after(
    plan: Plan, there: np.ndarray, what: str = "trace"
) -> tuple[np.ndarray, np.ndarray]:
    """(the generations of all together, the places of those among them that are there).

    Args:
        plan: what is asked for.
        there: [recorded] generations of what goes on.
        what: that is, "trace" or "summary".

    Raises:
        InputError: for fewer generations than are there, and where one is asked for that lacks.
    """
    recorded = recorded_generations(plan.generations, plan.record)
    last = int(there[-1]) if len(there) else -1
    if plan.generations < last:
        raise InputError(
            f"generations is {plan.generations}, but the {what} of after= goes to {last}; give at "
            "least that"
        )
    if isinstance(plan.record, str):  # its numbers depend on the last one
        recorded = np.concatenate([there, recorded[recorded > last]])
    missing = np.setdiff1d(recorded[recorded <= last], there)
    if len(missing):
        raise InputError(
            f"record asks for generation {missing[0]}, which the {what} of after= did not "
            "record; give the same record= as there"
        )
    return recorded, np.flatnonzero(np.isin(there, recorded))


def _longer(process, key, plan, after, recorded, kept, run):
    """The chains of `after`, with the generations that it has not."""
    origin, there = after.origin, after.generations
    last = int(there[-1]) if len(there) else -1
    arrays = {name: values[:, kept] for name, values in after.items()}
    if plan.generations == last:
        return Trace(arrays, recorded, origin._replace(plan=plan._replace(record=recorded)))
    new = recorded[recorded > last]
    going = plan._replace(record=new.tolist())
    if origin.copy_state is not None:
        going = going._replace(after=(last, origin.copy_state()))
    later = run(process, key, going)
    # Made from generation 0 on it has that one too.
    places = np.flatnonzero(later.generations > last)
    more = Records(new, {name: values[:, places] for name, values in later.items()})
    joined = join_records([Records(there[kept], arrays), more] if arrays else [more], 1)
    return Trace(joined.arrays, joined.generations, later.origin._replace(plan=plan))


def _beside(old, new, plan):
    """The trace of some chains and of others after them."""
    arrays = {name: np.concatenate([old[name], new[name]]) for name in old}
    states = [trace.origin.copy_state for trace in (old, new)]
    joined = None if None in states else lambda: joined_states(*(copy() for copy in states))
    origin = new.origin._replace(plan=plan._replace(first_chain=0), copy_state=joined)
    return Trace(arrays, old.generations, origin)
