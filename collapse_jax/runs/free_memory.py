"""How much memory is free: of the machine, of the control group, and of devices."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence

_ROOT = pathlib.Path("/")


def free_memory(root: pathlib.Path = _ROOT) -> int | None:
    """Bytes that this process can still take without another's being taken from it.

    The least of what the machine has available, what each control group above the process (a
    container's or a batch job's limit) leaves, and what the limit of its address space does. What
    the system keeps of files counts as free.

    Args:
        root: where /proc and /sys are found.

    Returns:
        Bytes; all that the machine has where nothing tells what is free; None where nothing tells
        that either.
    """
    found = [available_memory(root), *_left_by_groups(root), _left_of_addresses(root)]
    known = [number for number in found if number is not None]
    return max(min(known), 0) if known else _installed()


def free_device_memory(devices: Sequence) -> int | None:
    """Bytes that JAX can still take on devices together; None where one does not tell."""
    free = 0
    for device in devices:
        held = device.memory_stats() or {}
        if "bytes_limit" not in held:
            return None
        free += max(held["bytes_limit"] - held.get("bytes_in_use", 0), 0)
    return free


def available_memory(root: pathlib.Path = _ROOT) -> int | None:
    """Bytes that the machine has left, whatever this process may take; None where it is unknown.

    Args:
        root: where /proc is found.
    """
    return _fields(root / "proc/meminfo").get("MemAvailable")


def _left_by_groups(root) -> Iterator[int]:
    """What the limit of each control group (cgroup v2 or v1) that this process is in leaves."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                top = root / "sys/fs/cgroup"
                files, kept = ("memory.max", "memory.current"), ("active_file", "inactive_file")
            elif "memory" in controllers.split(","):
                top = root / "sys/fs/cgroup/memory"
                files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
                kept = ("total_active_file", "total_inactive_file")
            else:
                continue
            # Inside a container the path may be that of the host, of which only the end is here.
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                limit, used = (_number(folder / name) for name in files)
                if limit is not None and used is not None:
                    stat = _fields(folder / "memory.stat")
                    yield limit - used + sum(stat.get(name, 0) for name in kept)
                if folder == top:
                    break


def _left_of_addresses(root):
    try:
        import resource
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _fields(root / "proc/self/status").get("VmSize")
    return None if limit == resource.RLIM_INFINITY or used is None else limit - used


def _installed():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _fields(path) -> dict[str, int]:
    """Name -> number, in bytes, of a file with a name and a number on each line."""
    found = {}
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            name, _, rest = line.replace(":", " ", 1).partition(" ")
            words = rest.split()
            if words and words[0].isdigit():
                found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def _number(path):
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None
