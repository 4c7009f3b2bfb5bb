"""What a trace came from, so that a simulation goes on from it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from collapse_jax.core.types import Process, State
from collapse_jax.drivers.chunks import Chunk
from collapse_jax.drivers.made_of import described, differences
from collapse_jax.drivers.plan import Plan, Simulation
from collapse_jax.errors import InputError
from collapse_jax.metrics import resolve_metrics
from collapse_jax.runs import distributed
from collapse_jax.runs.environment import check_numbers, numbers

# States of so many bytes are kept, and larger ones if the records are as large.
_KEPT = 2**26


class Origin(NamedTuple):
    """What a trace of `cj.simulate` came from.

    process, key, plan: as they were given.
    made_with: the options of JAX and the versions that it was made with.
    copy_state: () -> the state of all chains [chain, ...] after the last generation, on the host;
        None where it was too large to be kept. Then the chains go on from generation 0.
    """

    process: Process
    key: jax.Array
    plan: Plan
    made_with: dict
    copy_state: Callable[[], State] | None

    def check(self, process: Process, key: jax.Array, plan: Plan, what: str = "trace") -> None:
        """Raises `InputError` where another simulation is asked for; one line says what differs.

        Args:
            process: the process that is to go on.
            key: its key.
            plan: what it records.
            what: is to go on: "trace" or "summary".
        """
        check_numbers(self.made_with, f"the {what} of after=")
        there, here = (
            resolve_metrics(made.process.metrics, made.plan.metrics)
            for made in (self, self._replace(process=process, plan=plan))
        )
        if there.keys() != here.keys():
            others = " (cj.measure adds others to a trace)" if what == "trace" else ""
            raise InputError(
                f"metrics are {', '.join(there)} in the {what} of after=, and {', '.join(here)} "
                f"here; give the same{others}"
            )
        if process is self.process and _same_key(key, self.key):
            measured = {name: here[name] for name in here if here[name] != there[name]}
            if not measured:
                return
        last = plan.generations
        old = described(self.process, self.key, last, there)
        found = differences(old, described(process, key, last, here))
        if found:
            raise InputError(
                f"the {what} of after= is of another simulation ({'; '.join(found)}); give the "
                "process, key and metrics that made it"
            )


def origin_of(simulation: Simulation, last: Chunk | None, records: int) -> Origin:
    """The origin of a trace.

    Args:
        simulation: what was simulated.
        last: its last chunk; None where a call was interrupted, and no state is whole.
        records: bytes of the records.
    """
    process, key, plan, *_ = simulation
    copy_state = None
    if last is not None and last.state_bytes() <= max(_KEPT, records):
        copy_state = last.copy_state
        if jax.default_backend() != "cpu" and distributed.processes() == 1:
            copy_state = _held(copy_state())  # and not in the memory of an accelerator
    return Origin(process, key, plan._replace(after=None), numbers(), copy_state)


def _held(state):
    return lambda: state


def _same_key(one, other):
    return one.dtype == other.dtype and np.array_equal(
        jax.random.key_data(one), jax.random.key_data(other)
    )
