"""`collapse-jax profile`: reports which definitions of model collapse a run meets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from collapse_jax.app.collapse_profile.definitions import KEYS, ROLES
from collapse_jax.app.collapse_profile.profile import profile
from collapse_jax.app.out_folder import refuse_taken
from collapse_jax.errors import InputError
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

_FILES = ("profile.json", "profile.txt", "figures")


def profile_command(
    console: "Console",
    runs: Sequence[str],
    json: bool = False,
    out: str = "",
    metrics: Sequence[str] = (),
    truth: Sequence[str] = (),
    at: Sequence[str] = (),
    catastrophic: float | None = None,
    increase: float | None = None,
    divergence: float | None = None,
    diversity: float | None = None,
    scaling: float | None = None,
    modes: float | None = None,
    tails: float | None = None,
    hallucination: float | None = None,
) -> None:
    """Prints the profile of a run as a table or JSON, and writes both and a figure if asked.

    Args:
        console: Where the profile is printed.
        runs: A run folder, or several that differ in their sample size. They are not changed.
        json: Whether to print JSON instead of the table.
        out: The folder of profile.json, profile.txt and the figure; those of an earlier call are
            overwritten.
        metrics: ROLE=METRIC or ROLE=METRIC:SCALE each.
        truth: METRIC=NUMBER each.
        at: AXIS=VALUE each, of a grid.
        catastrophic, increase, divergence, diversity, scaling, modes, tails, hallucination:
            Thresholds of the definitions; by default those of the table.

    Raises:
        InputError: As `cj.profile`, for entries in another form, and if `out` contains other files.
    """
    given = (catastrophic, increase, divergence, diversity, scaling, modes, tails, hallucination)
    thresholds = dict(zip(KEYS, given, strict=True))
    folder = RunFolder(out) if out else None
    if folder is not None:
        refuse_taken(folder, _FILES, "profile")
    if not runs:
        raise InputError("no run is given; give a run folder")
    own = {}
    for role, named in _pairs("metrics", metrics, f"ROLE=METRIC with one of {', '.join(ROLES)}"):
        name, has_scale, scale = named.partition(":")
        own[role] = (name, scale) if has_scale else name
    found = profile(
        runs[0] if len(runs) == 1 else list(runs),
        thresholds={name: value for name, value in thresholds.items() if value is not None},
        metrics=own,
        truth={name: _number("truth", name, text) for name, text in _pairs("truth", truth)},
        at={name: _value(text) for name, text in _pairs("at", at, "AXIS=VALUE")},
    )
    text = found.to_json() if json else str(found)
    for line in text.splitlines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if folder is not None:
        _write(folder, out, found, console, json)


def _write(folder, out, found, console, json):
    from collapse_jax.app.plots.profile import draw

    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        for name, text in (("profile.json", found.to_json()), ("profile.txt", str(found))):
            with atomic(folder.path / name) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        folder.figures.mkdir(exist_ok=True)
        figure = draw(folder, found)
    except OSError as error:
        raise InputError(f"out is '{out}', which cannot be written ({error.strerror})") from None
    if not json:
        for path in (folder.path / "profile.json", folder.path / "profile.txt", figure):
            console.print(str(path), highlight=False, soft_wrap=True)


def _pairs(option, entries, must_be="METRIC=NUMBER"):
    """NAME=VALUE entries as pairs; each name may occur once."""
    pairs = [entry.partition("=") for entry in entries]
    for entry, (name, given, value) in zip(entries, pairs, strict=True):
        if not (name and given and value):
            raise InputError(f"--{option} has {entry!r}; it must be {must_be}")
        if [other[0] for other in pairs].count(name) > 1:
            raise InputError(f"--{option} gives {name} more than once; give it once")
    return [(name, value) for name, _, value in pairs]


def _number(option, name, text):
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--{option} has {name}={text}; it must be METRIC=NUMBER") from None


def _value(text):
    """The value of a grid axis, as a number if it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
