"""How much memory each stage of a run takes at its peak."""

import contextlib
import ctypes
import functools
import pathlib
import sys
import threading
from collections.abc import Iterator
from typing import Self

import jax

STAGES = ("fit", "generate", "score")
# What `PeakMemory.take` may return for them.
PEAKS = tuple(f"{stage}_{kind}_mib" for stage in STAGES for kind in ("peak", "device_peak"))
_STATUS, _RESET = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")
_POLL_SECONDS = 0.02


class PeakMemory:
    """Peaks of named stages in MiB, until they are taken.

    Host: resident memory of this process. Linux tells the peak of the stage, other systems the
    highest of the process so far; it is left out where nothing tells it.

    Accelerators: memory in use on the fullest device. It is the exact peak where the stage is the
    highest so far, else the most seen every 20 ms, since JAX cannot reset its counter.
    """

    def __init__(self):
        """Holds no peaks yet."""
        self._peaks = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A context whose memory belongs to a stage; entered again, it keeps the higher peak."""
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
        """STAGE_peak_mib, and on accelerators STAGE_device_peak_mib, since the last call."""
        peaks, self._peaks = self._peaks, {}
        return peaks


def give_back() -> None:
    """Returns to the system what this process has freed, where the C library keeps it (glibc).

    Arrays of a few megabytes come from heaps that grow and never shrink by themselves: what a fit
    has freed would stay resident beside what the next stage needs.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim():
    with contextlib.suppress(OSError, AttributeError, TypeError):
        return ctypes.CDLL(None).malloc_trim
    return None


def _reset_host():
    with contextlib.suppress(OSError):
        _RESET.write_text("5")


def _host_peak():
    """Bytes, or None if nothing tells them."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, Linux in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _DevicePeak:
    """A context that watches devices; `peak` is then bytes, or None if none counts its memory."""

    def __init__(self):
        self._devices = [device for device in jax.local_devices() if device.memory_stats()]
        self._seen, self._stop, self.peak = 0, threading.Event(), None

    def __enter__(self) -> Self:
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
