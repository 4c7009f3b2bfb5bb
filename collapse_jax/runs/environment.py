"""What a reader needs to repeat a run: versions, devices, the commit, the command, the time.

And the part of it that changes numbers, which is held against what a folder was made with.
"""

import datetime
import functools
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping

from collapse_jax.errors import InputError

# Options of JAX that change random numbers, or the type in which everything is computed: the
# environment variable that sets each is its name in capitals.
_OPTIONS = (
    "jax_enable_x64",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_random_seed_offset",
    "jax_default_matmul_precision",
)
# Distributions whose versions may change the last digits of a number, or a sampler.
_VERSIONS = ("jax", "jaxlib", "numpy", "flax", "optax", "collapse-jax")
# A flag that changes no number.
_DEVICE_COUNT = "--xla_force_host_platform_device_count"
_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "datasets",
    "tokenizers",
    "numpy",
    "collapse-jax",
)


def environment() -> dict:
    """What environment.json holds: JSON values by name."""
    import jax

    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [str(device) for device in jax.devices()],
        "processes": jax.process_count(),
        **numbers(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git_commit": git_commit(),
    }


def numbers() -> dict:
    """What changes numbers here: options of JAX, flags of XLA, versions, and the kind of device.

    Returns:
        JSON values by name.
    """
    import jax

    flags = os.environ.get("XLA_FLAGS", "").split()
    return {name: getattr(jax.config, name, None) for name in _OPTIONS} | {
        "XLA_FLAGS": " ".join(flag for flag in flags if not flag.startswith(_DEVICE_COUNT)),
        "device_kind": jax.devices()[0].device_kind,
        "versions": {name: _version(name) for name in _VERSIONS},
    }


def check_numbers(made_with: object, where: str) -> list[str]:
    """Holds `numbers` of an earlier session against those of this one.

    Args:
        made_with: What was kept then; names that it lacks, as in folders of older versions, are
            not compared.
        where: The folder, for the error text.

    Returns:
        A line about what may change the last digits of what is made from here on, or nothing.

    Raises:
        InputError: If an option differs that changes random numbers or the type of all numbers.
    """
    if not isinstance(made_with, Mapping):
        return []
    here = numbers()
    for name in _OPTIONS:
        if name in made_with and made_with[name] != here[name]:
            there = made_with[name]
            wanted = f"set {name.upper()}={int(there) if isinstance(there, bool) else there}"
            wanted = f"unset {name.upper()}" if there is None else wanted
            raise InputError(
                f"{where} was made with {name} = {there!r:.200}, and here it is {here[name]!r}, "
                f"which gives other numbers; {wanted:.200} to go on, or choose another folder"
            )
    pairs = _pairs(made_with, here)
    notes = [f"{name} {old} there, {new} here" for name, (old, new) in pairs.items() if old != new]
    if not notes:
        return []
    return [
        f"{where} was made with other versions or devices ({'; '.join(notes):.600}); numbers from "
        "here on may differ in their last digits"
    ]


def _pairs(there, here):
    """Name -> (value there, value here) of versions, devices and flags that both know."""
    versions = there.get("versions") if isinstance(there.get("versions"), Mapping) else {}
    rest = {name: value for name, value in there.items() if name in ("device_kind", "XLA_FLAGS")}
    known = {name: versions[name] for name in _VERSIONS if name in versions} | rest
    now = here["versions"] | here
    return {name: (value, now[name]) for name, value in known.items()}


@functools.cache
def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def git_commit() -> str | None:
    """The commit of this package, with "-dirty" where files differ; None outside of git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=pathlib.Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
