"""`cj.RunFolder`: the run folder, once the settings of every command are known."""

from collapse_jax.app import config  # noqa: F401 (it lists the settings that config.json may hold)
from collapse_jax.runs.folder import RunFolder

__all__ = ["RunFolder"]
