"""`cj.RunFolder`: the run folder, once the settings of every command are known."""

from collapse_jax.app import commands  # noqa: F401 (its table names all settings of config.json)
from collapse_jax.runs.folder import RunFolder

__all__ = ["RunFolder"]
