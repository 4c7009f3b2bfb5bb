"""Published results, checked by simulation: what experiments/published is written with."""

from collapse_jax.app.reproduce import compare
from collapse_jax.app.reproduce.entries import (
    Entry,
    OutOfReach,
    Paper,
    entry,
    load_entries,
    out_of_reach,
    own_folder,
)
from collapse_jax.app.reproduce.judge import FALSE_ALARM, Result, decide

__all__ = [
    "FALSE_ALARM",
    "Entry",
    "OutOfReach",
    "Paper",
    "Result",
    "compare",
    "decide",
    "entry",
    "load_entries",
    "out_of_reach",
    "own_folder",
]
