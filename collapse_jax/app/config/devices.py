"""Which devices a command runs on.

No number depends on it, so it is no part of the settings that a run folder holds.
"""

import dataclasses

from collapse_jax.app.config.checks import at_least
from collapse_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices and processes of one call; the next call on the same run folder may have others."""

    devices: int | None = None
    """Use the first N devices of each process; by default all."""
    distributed: bool = False
    """This is one process of several: found through Slurm, Open MPI, Kubernetes or a TPU pod, or told by the next three options."""
    coordinator: str | None = None
    """HOST:PORT where process 0 listens, reached by all."""
    num_processes: int | None = None
    process_id: int | None = None
    """0 to num_processes - 1; process 0 writes the run folder."""

    def check(self) -> None:
        """Raises `InputError` for the first setting that has no meaning."""
        if self.devices is not None:
            at_least(self, 1, "devices")
        explicit = {
            name: getattr(self, name) for name in ("coordinator", "num_processes", "process_id")
        }
        given = [name for name, value in explicit.items() if value is not None]
        if given and len(given) < len(explicit):
            missing = ", ".join(name for name in explicit if name not in given)
            raise InputError(
                f"{given[0]} is {explicit[given[0]]}, but {missing} is not given; give all "
                "three, or --distributed alone"
            )
        if not given:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise InputError(f"coordinator is {self.coordinator!r}; it must be HOST:PORT")
        at_least(self, 1, "num_processes")
        if not 0 <= self.process_id < self.num_processes:
            raise InputError(
                f"process_id is {self.process_id}; it must be 0 to "
                f"{self.num_processes - 1}, one of num_processes"
            )


@dataclasses.dataclass(frozen=True)
class ModelDevices(Devices):
    """The same for what trains a model."""

    shard_parameters: bool = False
    """Cut every parameter and both its moments into one part a device, for models that do not fit one; by default each has all."""


@dataclasses.dataclass(frozen=True)
class SeedDevices(ModelDevices):
    """The same for several seeds."""

    only_seeds: int | tuple[int, ...] = ()
    """Make these seeds alone, beside other calls that make the others in the same folder; the call without this, once they are done,
    records and draws all."""

    def seeds(self, count: int) -> tuple[int, ...]:
        """Those that this call makes, or () for all.

        Raises `InputError` for one that is not among `count`, or is there twice.
        """
        only = self.only_seeds if isinstance(self.only_seeds, tuple) else (self.only_seeds,)
        for seed in only:
            if not 0 <= seed < count or only.count(seed) > 1:
                raise InputError(
                    f"only_seeds is {','.join(map(str, only))}; it must be made of "
                    f"different numbers from 0 to {count - 1}"
                )
        return tuple(sorted(only))
