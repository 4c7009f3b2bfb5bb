"""Arguments of commands that are not settings: no run folder holds them."""

import dataclasses
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class RunArguments:
    """Where a run lies, and where its settings may come from."""

    out: str = ""
    """The run folder; a run that was begun there goes on."""
    settings_file: Annotated[str, tyro.conf.arg(name="config", metavar="FILE")] = ""
    """A config.json: its settings are the defaults of all others. It names no code; only the
    command line does."""


@dataclasses.dataclass(frozen=True)
class PlotArguments:
    """What `collapse-jax plot` draws."""

    run: Annotated[str, tyro.conf.arg(metavar="RUN"), tyro.conf.Positional]
    """A run folder."""


@dataclasses.dataclass(frozen=True)
class ReproduceArguments:
    """Which entries `collapse-jax reproduce` checks."""

    ids: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Entries to check; all by default."""
    paper: str = ""
    """Only those of papers whose arXiv number or name contains this."""
    cost: str = ""
    """cpu, gpu or weights: only entries of this cost."""
    show: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Name the entries and check nothing."""
