"""Peak memory of stages, with stages whose memory is known."""

import json
import pathlib
import subprocess
import sys
import time

import pytest

from collapse_jax.runs import memory
from collapse_jax.runs.memory import PEAKS, STAGES, PeakMemory

MIB = 2**20


_OF_ITS_OWN = """
import json
import numpy as np
from collapse_jax.runs.memory import PeakMemory
peaks = PeakMemory()
with peaks.stage("fit"):
    held = np.ones(128 * 2**20, np.uint8)
    del held
with peaks.stage("score"):
    np.ones(2**20, np.uint8)
with peaks.stage("fit"):
    pass
print(json.dumps([peaks.take(), peaks.take()]))
"""


def test_the_peak_of_a_stage_is_its_own(root):
    """128 MiB are written in the first stage, given back, and not there in the second.

    The process has no memory of other tests.
    """
    if not pathlib.Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux, where the peak can be set back")
    done = subprocess.run(
        [sys.executable, "-c", _OF_ITS_OWN],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=root,
        check=True,
    )
    taken, again = json.loads(done.stdout)
    assert set(taken) == {"fit_peak_mib", "score_peak_mib"} and set(taken) <= set(PEAKS)
    assert 118 < taken["fit_peak_mib"] - taken["score_peak_mib"] < 140
    assert again == {}


def test_elsewhere_it_is_the_highest_so_far(monkeypatch, tmp_path):
    """As macOS and containers that hide /proc have it."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "_RESET", tmp_path)
    peaks = PeakMemory()
    with peaks.stage("fit"):
        pass
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert peaks.take()["fit_peak_mib"] == pytest.approx(highest, rel=0.01)


class Accelerator:
    """A device that counts its memory as JAX's do."""

    def __init__(self):
        self.use, self.peak = 10 * MIB, 50 * MIB

    def hold(self, mib):
        self.use = mib * MIB
        self.peak = max(self.peak, self.use)
        time.sleep(0.1)
        self.use = 10 * MIB

    def memory_stats(self):
        return {"bytes_in_use": self.use, "peak_bytes_in_use": self.peak}


def test_accelerators(monkeypatch):
    """A new peak is exact; a stage below it is watched; the fullest device counts."""
    devices = Accelerator(), Accelerator()
    monkeypatch.setattr(memory.jax, "local_devices", lambda: devices)
    peaks = PeakMemory()
    with peaks.stage("fit"):
        devices[0].peak = 80 * MIB  # shorter than anyone looks
    with peaks.stage("generate"):
        devices[1].hold(30)
    with peaks.stage("score"):
        devices[0].hold(90)
    taken = peaks.take()
    assert [taken[f"{stage}_device_peak_mib"] for stage in STAGES] == [80, 30, 90]


def test_a_stage_that_fails_passes_its_error_on():
    peaks = PeakMemory()
    with pytest.raises(ZeroDivisionError), peaks.stage("fit"):
        1 / 0  # noqa: B018


def test_freed_memory_goes_back_to_the_system():
    """Blocks of 64 KiB come from a heap, which ends at its last block, however much before it is
    free.
    """
    if memory._trim() is None or not pathlib.Path("/proc/self/statm").exists():
        pytest.skip("needs glibc on Linux")

    def resident():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / MIB

    blocks = [bytes(2**16) for _ in range(64 * 16)]  # 64 MiB
    last = bytes(2**16)
    full = resident()
    del blocks
    memory.give_back()
    assert resident() < full - 48 and len(last) == 2**16


def test_where_nothing_can_be_given_back(monkeypatch):
    monkeypatch.setattr(memory, "_trim", lambda: None)
    memory.give_back()
