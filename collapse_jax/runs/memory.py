"""How much memory each stage of a run takes at its peak."""

import contextlib
import pathlib
import sys
import threading

import jax

_STATUS, _RESET = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")
_POLL_SECONDS = 0.02


STAGES = ("fit", "generate", "score")
# What `PeakMemory.take` may give for them.
PEAKS = tuple(f"{stage}_{kind}_mib" for stage in STAGES for kind in ("peak", "device_peak"))


class PeakMemory:
    """Peaks of named stages in MiB, until they are taken.

    Host: resident memory of this process. Linux gives the peak of the stage itself; elsewhere it is
    the highest of the process so far, and where nothing tells it, it is left out. Accelerators:
    memory in use on the fullest device; the exact peak where the stage
    is the highest so far, else the most seen by looking every 20 ms (JAX cannot reset its counter).
    """

    def __init__(self):
        self._peaks = {}

    @contextlib.contextmanager
    def stage(self, name: str):
        """Everything inside belongs to the stage; one that is entered again keeps its highest peak."""
        _reset_host()
        with _DevicePeak() as device:
            yield
        for key, value in (
            (f"{name}_peak_mib", _host_peak()),
            (f"{name}_device_peak_mib", device.peak),
        ):
            if value is not None:
                self._peaks[key] = max(self._peaks.get(key, 0.0), round(value / 2**20, 1))

    def take(self) -> dict[str, float]:
        """`STAGE_peak_mib` and, on accelerators, `STAGE_device_peak_mib` of every stage since the
        last taking.
        """
        peaks, self._peaks = self._peaks, {}
        return peaks


def _reset_host():
    with contextlib.suppress(OSError):
        _RESET.write_text("5")


def _host_peak():
    """Bytes, or None."""
    try:
        return next(
            int(line.split()[1]) * 1024
            for line in _STATUS.read_text().splitlines()
            if line.startswith("VmHWM")
        )
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


class _DevicePeak:
    """Watches the devices that count their memory while it is open; `peak` is then bytes, or None
    where none does.
    """

    def __init__(self):
        self._devices = [device for device in jax.local_devices() if device.memory_stats()]
        self._seen, self._stop, self.peak = 0, threading.Event(), None

    def __enter__(self):
        if self._devices:
            self._before = self._largest("peak_bytes_in_use")
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error):
        if self._devices:
            self._stop.set()
            self._thread.join()
            highest = self._largest("peak_bytes_in_use")
            self.peak = highest if highest > self._before else self._seen

    def _watch(self):
        while True:
            self._seen = max(self._seen, self._largest("bytes_in_use"))
            if self._stop.wait(_POLL_SECONDS):
                return

    def _largest(self, name):
        return max(device.memory_stats().get(name, 0) for device in self._devices)
