"""Several processes as one job, on `jax.distributed`.

All run the same program on the same files, and process 0 alone writes. Everything here but `start`
works in a single process too, where it costs nothing.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np

from collapse_jax.errors import InputError, first_line

# A process that is silent for so long counts as dead, and the job ends (JAX's default is 100).
_HEARTBEAT_SECONDS = 20
# Process 0 goes last: JAX ends whoever loses it, and they may have something to say first.
_LINGER_SECONDS = 3
_LONGEST_MESSAGE = 4096
# What errors say whose cause is another process that went away.
_LOST = (
    "gloo",
    "coordination service",
    "nccl",
    "connection closed",
    "connection reset",
    "deadline_exceeded",
    "barrier",
)

T = TypeVar("T")


class Job(Protocol):
    """What `start` must be told; `app.config.Devices` says what its fields mean."""

    @property
    def devices(self) -> int | None: ...
    @property
    def distributed(self) -> bool: ...
    @property
    def coordinator(self) -> str | None: ...
    @property
    def num_processes(self) -> int | None: ...
    @property
    def process_id(self) -> int | None: ...

    def check(self) -> None: ...


def start(job: Job) -> tuple:
    """Joins a job, if there is one, before anything else uses JAX.

    Returns:
        The devices to use, of all processes.

    Raises:
        InputError: If no cluster tells what was not given, the job does not come together, or a
            process has fewer devices than asked for.
    """
    import jax

    job.check()
    if job.distributed or job.coordinator:
        # JAX's own watch for preemption would swallow SIGTERM; `stopping.Stop` notes it.
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(
                job.coordinator,
                job.num_processes,
                job.process_id,
                heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            )
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"distributed is set, but this process could join no job ({first_line(error)}); "
                "start it under Slurm, Open MPI, Kubernetes or on a TPU pod, or give --coordinator "
                "HOST:PORT --num-processes P --process-id I"
            ) from None
    present = len(jax.local_devices())
    wanted = present if job.devices is None else job.devices
    if wanted > present:
        raise InputError(f"devices is {wanted}; there are {present} here, so give at most that")
    return tuple(
        device
        for process in range(jax.process_count())
        for device in jax.local_devices(process)[:wanted]
    )


def processes() -> int:
    """How many processes the job has."""
    jax = sys.modules.get("jax")
    return jax.process_count() if jax and jax.distributed.is_initialized() else 1


def process() -> int:
    """The number of this process."""
    return sys.modules["jax"].process_index() if processes() > 1 else 0


def is_first() -> bool:
    """Whether this process writes the files."""
    return process() == 0


def share(count: int) -> tuple[int, int]:
    """(first, last + 1) of `count` chains, in order, that this process computes.

    Raises:
        InputError: If there are fewer chains than processes.
    """
    if count < processes():
        raise InputError(
            f"there are {count} chains for {processes()} processes; start at most {count}, "
            "or ask for more chains"
        )
    return count * process() // processes(), count * (process() + 1) // processes()


def barrier() -> None:
    """Returns once every process is here."""
    largest(0)


def largest(number: int) -> int:
    """The largest of the numbers (below 2^31) that the processes pass."""
    return int(_gather(np.int32(number)).max()) if processes() > 1 else number


def together(array: np.ndarray) -> np.ndarray:
    """[process, ...]: the arrays of all processes, of one shape and type, bit for bit."""
    if processes() == 1:
        return array[None]
    array = np.ascontiguousarray(array)
    # As bytes, for JAX would narrow 64 bits.
    return _gather(array.view(np.uint8).reshape(-1)).view(array.dtype).reshape(-1, *array.shape)


def concatenated(array: np.ndarray) -> np.ndarray:
    """The arrays of all processes, one after another along axis 0, on each process.

    The other axes are filled up with zeros to the longest.
    """
    if processes() == 1:
        return array
    shapes = _gather(np.asarray(array.shape, np.int32))  # [process, axis]
    pads = [(0, longest - here) for longest, here in zip(shapes.max(0), array.shape, strict=True)]
    gathered = _gather(np.pad(array, pads))
    return np.concatenate([part[: shape[0]] for part, shape in zip(gathered, shapes, strict=True)])


def to_host(array: Any) -> np.ndarray:
    """An array as NumPy, whatever devices its parts lie on."""
    if (
        processes() == 1
        or not hasattr(array, "sharding")
        or array.is_fully_addressable
        or array.is_fully_replicated
    ):
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array, tiled=True)


def on_first(function: Callable[[], object]) -> None:
    """Calls a function on process 0 alone, while the others wait.

    Raises:
        InputError: On all processes, if the function raises it.
        OSError: On all processes, if the function raises it.
    """
    if processes() == 1:
        function()
        return
    failure = b""
    if is_first():
        try:
            function()
        except (InputError, OSError) as error:
            text = str(error)[: _LONGEST_MESSAGE // 8]
            failure = json.dumps([isinstance(error, InputError), text]).encode()
    buffer = np.zeros(_LONGEST_MESSAGE, np.uint8)
    buffer[: len(failure)] = np.frombuffer(failure, np.uint8)
    failure = _gather(buffer)[0].tobytes().rstrip(b"\0")
    if failure:
        is_input, text = json.loads(failure)
        raise (InputError if is_input else OSError)(text)


def of_first(function: Callable[[], Any]) -> Any:
    """What a function gives on process 0, which alone calls it, on all: JSON values."""
    if processes() == 1:
        return function()
    given: list[Any] = []
    on_first(lambda: given.append(function()))
    text = json.dumps(given).encode()
    buffer = np.zeros(largest(len(text)), np.uint8)
    buffer[: len(text)] = np.frombuffer(text, np.uint8)
    return json.loads(_gather(buffer)[0].tobytes().rstrip(b"\0"))[0]


def first_then_others(function: Callable[[], T]) -> T:
    """What a function returns that writes what all read: process 0 calls it before the others."""
    returned = []
    on_first(lambda: returned.append(function()))
    return returned[0] if returned else function()


def lost_another(error: Exception) -> bool:
    """Whether an error says that another process of the job went away."""
    return processes() > 1 and any(word in str(error).lower() for word in _LOST)


def leave(code: int) -> NoReturn:
    """Ends this process.

    In a job it does so without the wait for others at the end of Python, so that they notice.
    """
    if processes() > 1:
        if is_first():
            time.sleep(_LINGER_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _gather(array):
    """[process, ...] of arrays of one shape."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))
