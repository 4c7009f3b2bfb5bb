"""What a long computation is given from outside; none of it changes a number."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from collapse_jax.runs.placement import Placement
from collapse_jax.runs.scratch import Scratch


class Progress(Protocol):
    """Called as a stage goes on."""

    def __call__(self, stage: str, done: int, total: int | None, /) -> None:
        """Takes a stage ("fit", "generate", ...) and its tokens; total is None if unknown."""


def silent(stage: str, done: int, total: int | None, /) -> None:
    """A `Progress` that reports nothing."""


class Session(NamedTuple):
    """Devices, unfinished work and reports of one call; by default all devices and nothing else.

    placement: the devices that share each batch, and whether they cut the parameters.
    scratch: keeps unfinished work, from which the same call with the same key goes on after a kill.
        The key must not be used for anything else.
    progress: called with a stage and its tokens, done and in all.
    stage: stage(name) is a context around each stage, in which its memory can be measured.
    """

    placement: Placement = Placement()
    scratch: Scratch = Scratch()
    progress: Progress = silent
    stage: Callable[[str], AbstractContextManager[Any]] = contextlib.nullcontext

    def devices_only(self) -> "Session":
        """The same devices; a part of the work that neither reports nor keeps anything."""
        return Session(self.placement)
