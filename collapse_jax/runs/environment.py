"""What a reader needs to repeat a run: versions, devices, the commit, the command, the time."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys

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
        "jax_enable_x64": bool(jax.config.read("jax_enable_x64")),
        "packages": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git_commit(),
    }


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit():
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
