"""The devices that a command runs on.

The results do not depend on them, so they are not among the settings of a run folder.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from collapse_jax.app.config.checks import at_least
from collapse_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices and processes of this call; a later call on the same run folder may use others."""

    devices: int | None = None
    """Use the first N devices of each process; by default all devices."""
    distributed: bool = False
    """Run as one process of several, which are found through Slurm, Open MPI, Kubernetes or a TPU
    pod, or given by the next three options."""
    coordinator: str | None = None
    """HOST:PORT at which process 0 listens; all processes must be able to reach it."""
    num_processes: int | None = None
    """Total number of processes."""
    process_id: int | None = None
    """The number of this process, from 0 to num_processes - 1; process 0 writes the run folder."""

    def check(self) -> None:
        """Raises `InputError` for the first invalid field."""
        if self.devices is not None:
            at_least(self, 1, "devices")
        names = ("coordinator", "num_processes", "process_id")
        missing = [name for name in names if getattr(self, name) is None]
        if missing and len(missing) < len(names):
            given = next(name for name in names if name not in missing)
            raise InputError(
                f"{given} is {getattr(self, given)}, but {', '.join(missing)} is not given; give "
                "all three, or --distributed alone"
            )
        if self.coordinator is None or self.num_processes is None or self.process_id is None:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise InputError(f"coordinator is {self.coordinator!r}; it must be HOST:PORT")
        at_least(self, 1, "num_processes")
        if not 0 <= self.process_id < self.num_processes:
            raise InputError(
                f"process_id is {self.process_id}; it must be 0 to {self.num_processes - 1}, one "
                "of num_processes"
            )

    def check_for(self, settings: Any) -> None:
        """Checks the fields, and that they are compatible with the command's settings."""
        self.check()

    def given(self, settings: Any, devices: Sequence) -> tuple:
        """Returns the arguments of the command's function: here the devices of this process.

        Args:
            settings: The command's settings.
            devices: The devices to use, of all processes.
        """
        from collapse_jax.runs import distributed

        here = distributed.process()
        return ([device for device in devices if device.process_index == here],)


@dataclasses.dataclass(frozen=True)
class PointDevices(Devices):
    """Devices and processes of this call; several calls may share the points of a grid."""

    points: str = ""
    """I/N: simulate only every N-th point of the grid, from point I on, for I from 1 to N. Other
    calls may simulate the other points in the same folder at the same time. Once they are done, a
    call without this option collects all points and simulates those that are missing."""

    def part(self) -> tuple[int, int] | None:
        """(I, N), or None for all points.

        Raises:
            InputError: if `points` is not I/N.
        """
        if not self.points:
            return None
        first, _, count = self.points.partition("/")
        if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
            raise InputError(f"points is {self.points!r}; it must be I/N, with I from 1 to N")
        return int(first), int(count)

    def check_for(self, settings: Any) -> None:
        """Checks the fields, and that the settings have a point for every part.

        Args:
            settings: The settings of the command; their `axes` span the grid.
        """
        self.check()
        part, axes = self.part(), settings.axes()
        if part is None:
            return
        count = math.prod(map(len, axes.values())) if axes else 1
        if not axes:
            raise InputError(
                f"points is {self.points!r}, but the settings describe a single point; give "
                "several values of a setting, such as --gamma 0:1:11"
            )
        if part[1] > count:
            raise InputError(f"points is {self.points!r}, but the grid has {count} points")

    def given(self, settings: Any, devices: Sequence) -> tuple:
        """Returns the function's arguments: the devices of this process and the part."""
        return *super().given(settings, devices), self.part()


@dataclasses.dataclass(frozen=True)
class ModelDevices(Devices):
    """Devices and processes of a call that trains a model."""

    shard_parameters: bool = False
    """Shard every parameter and both its Adam moments over the devices, for models that do not fit
    on one device; by default every device has a full copy."""

    def given(self, settings: Any, devices: Sequence) -> tuple:
        """Returns the arguments of the command's function: a `Placement`."""
        from collapse_jax.runs.placement import Placement

        return (Placement(tuple(devices), self.shard_parameters),)


@dataclasses.dataclass(frozen=True)
class SeedDevices(ModelDevices):
    """Devices and processes of this call; the seeds of a run may be divided among several calls."""

    only_seeds: int | tuple[int, ...] = ()
    """Run only these seeds; other calls may run the other seeds in the same folder at the same
    time. Once they are done, a call without this option writes the results and figures of all
    seeds."""

    def check_for(self, settings: Any) -> None:
        """Checks the fields, and that `only_seeds` are different seeds of the run.

        Args:
            settings: The settings of the command; `seeds` is the number of all seeds.
        """
        self.check()
        for seed in self._only():
            if not 0 <= seed < settings.seeds or self._only().count(seed) > 1:
                raise InputError(
                    f"only_seeds is {','.join(map(str, self._only()))}; it must be different "
                    f"integers from 0 to {settings.seeds - 1}"
                )

    def given(self, settings: Any, devices: Sequence) -> tuple:
        """Returns the arguments of the command's function: a `Placement` and the seeds; () is
        all."""
        return *super().given(settings, devices), tuple(sorted(self._only()))

    def _only(self):
        return self.only_seeds if isinstance(self.only_seeds, tuple) else (self.only_seeds,)
