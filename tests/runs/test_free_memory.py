"""What is free: of the machine, and of the control groups of containers and batch jobs."""

import types

import jax
import pytest

from collapse_jax.runs.free_memory import free_device_memory, free_memory

GIB = 2**30


def machine(root, files):
    """A folder with these files of /proc and /sys."""
    files = {"proc/meminfo": f"MemTotal: {64 * 2**20} kB\nMemAvailable: {40 * 2**20} kB\n"} | files
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


SECOND = "sys/fs/cgroup/job/"
FIRST = "sys/fs/cgroup/memory/job/"
GROUPS = {
    "none": ({}, 40 * GIB),
    "no limit": (
        {
            "proc/self/cgroup": "0::/job\n",
            SECOND + "memory.max": "max\n",
            SECOND + "memory.current": "5",
        },
        40 * GIB,
    ),
    # What is kept of files is given back when it is asked for.
    "version 2": (
        {
            "proc/self/cgroup": "0::/job/step\n",
            SECOND + "memory.max": f"{8 * GIB}\n",
            SECOND + "memory.current": f"{3 * GIB}\n",
            SECOND + "memory.stat": f"anon 5\nactive_file {GIB // 2}\ninactive_file {GIB // 2}\n",
            SECOND + "step/memory.max": "max\n",
            SECOND + "step/memory.current": f"{GIB}\n",
        },
        6 * GIB,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "4:cpu:/job\n3:memory:/job\n0::/\n",
            FIRST + "memory.limit_in_bytes": f"{4 * GIB}\n",
            FIRST + "memory.usage_in_bytes": f"{3 * GIB}\n",
            FIRST + "memory.stat": f"total_inactive_file {GIB // 4}\ntotal_active_file 0\n",
        },
        GIB + GIB // 4,
    ),
    # In a container the path is the host's, and what is mounted is the group itself.
    "a container": (
        {
            "proc/self/cgroup": "0::/docker/abc\n",
            "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{GIB}\n",
        },
        GIB,
    ),
    "more than its limit": (
        {
            "proc/self/cgroup": "0::/job\n",
            SECOND + "memory.max": f"{GIB}\n",
            SECOND + "memory.current": f"{2 * GIB}\n",
        },
        0,
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_least_of_what_the_machine_and_its_groups_leave(name, tmp_path, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda which: (-1, -1))
    files, expected = GROUPS[name]
    assert free_memory(machine(tmp_path, files)) == expected


def test_a_limit_of_addresses(tmp_path, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda which: (3 * GIB, -1))
    root = machine(tmp_path, {"proc/self/status": f"Name: python\nVmSize: {2**20} kB\n"})
    assert free_memory(root) == 2 * GIB


def test_where_nothing_tells_it_is_what_is_installed(tmp_path):
    assert free_memory(tmp_path / "nothing") > 2**28
    assert free_memory() > 2**20


def test_devices():
    def device(**stats):
        return types.SimpleNamespace(memory_stats=lambda: stats or None)

    full = device(bytes_limit=GIB, bytes_in_use=2 * GIB)
    some = device(bytes_limit=8 * GIB, bytes_in_use=3 * GIB)
    assert free_device_memory([some, full, some]) == 10 * GIB
    assert free_device_memory([some, device()]) is None
    assert jax.default_backend() != "cpu" or free_device_memory(jax.local_devices()) is None
