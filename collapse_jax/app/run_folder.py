"""`cj.RunFolder`: the run folder, with the settings of every command registered."""

from collapse_jax.app import commands  # noqa: F401 (its table names all settings of config.json)
from collapse_jax.runs.folder import RunFolder

__all__ = ["RunFolder"]
