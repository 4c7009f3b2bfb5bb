"""What `cj.profile` returns: verdicts, a table to read, and JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from collapse_jax.app.collapse_profile.findings import CANNOT_TELL, Finding
from collapse_jax.core.html import html_table
from collapse_jax.runs import strict_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADERS = ("definition", "verdict", "number", "interval", "threshold", "metric", "from", "other")


class Verdict(NamedTuple):
    """One definition of one run.

    definition: its key, as "diversity".
    title: in words.
    verdict: "met", "not met" or "cannot tell".
    metric: the recorded metric that stands for it, "" without one.
    unit: of number and threshold.
    threshold: beyond which it is met; nan where there is no metric.
    up: whether larger numbers are worse.
    statistic: over chains, of the numbers here: "mean" for test losses (a risk is an expectation),
        "median" for the shape of a model (the typical chain). Of one chain both are its number.
    number, low, high: at `generation`, with an interval that holds it with probability `level`.
    level: 0.95, less where there are too few chains for that, 0 of one chain.
    generation: where the number is.
    first: the first generation at which the definition is met, and is from then on.
    until: where it was met in between alone, the last such generation.
    mean, median: the `Finding` of each statistic; None where there is none.
    note: what is missing, or limits the verdict.
    """

    definition: str
    title: str
    verdict: str
    metric: str = ""
    unit: str = ""
    threshold: float = float("nan")
    up: bool = True
    statistic: str = ""
    number: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    level: float = 0.0
    generation: int | None = None
    first: int | None = None
    until: int | None = None
    mean: Finding | None = None
    median: Finding | None = None
    note: str = ""

    def findings(self) -> tuple[Finding, ...]:
        """Those that there are, the leading one first."""
        both = [found for found in (self.mean, self.median) if found is not None]
        return tuple(sorted(both, key=lambda found: found.statistic != self.statistic))


class Profile(NamedTuple):
    """Which definitions of model collapse a run meets; `str` is a table.

    run: the folder, or the kind of object.
    kind: "chains", "vae" or "language model".
    chains: chains or seeds, 0 where unknown.
    generations: [generation] those recorded.
    verdicts: one for each of the eight definitions.
    disagreements: sentences, one for each pair of definitions or statistics that disagree.
    """

    run: str
    kind: str
    chains: int
    generations: np.ndarray
    verdicts: tuple[Verdict, ...]
    disagreements: tuple[str, ...]

    def verdict(self, definition: str) -> Verdict:
        """That of a definition by its key.

        Raises:
            KeyError: for no such key; the text names all.
        """
        by_key = {verdict.definition: verdict for verdict in self.verdicts}
        if definition not in by_key:
            raise KeyError(f"{definition!r}; the definitions are {', '.join(by_key)}")
        return by_key[definition]

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def __repr__(self) -> str:
        met = [verdict.definition for verdict in self.verdicts if verdict.verdict == "met"]
        return f"Profile of {self.run}: {', '.join(met) or 'no definition'} met"

    def _repr_html_(self) -> str:
        caption, rows, notes = _parts(self)
        return html_table(_HEADERS, rows, caption, notes)

    def figure(self) -> "Figure":
        """A matplotlib figure: for each definition, at which generations it is met."""
        from collapse_jax.app.plots.profile import profile_figure

        return profile_figure(self)

    def to_json(self) -> str:
        """Everything as JSON; numbers that are not finite are the texts "NaN" and "Infinity"."""
        return strict_json.dumps(as_dict(self), indent=2)


def as_dict(profile: Profile) -> dict[str, Any]:
    """Lists, numbers and texts alone."""
    return {
        "run": profile.run,
        "kind": profile.kind,
        "chains": profile.chains,
        "generations": profile.generations.tolist(),
        "verdicts": [_plain(verdict) for verdict in profile.verdicts],
        "disagreements": list(profile.disagreements),
    }


def _plain(value):
    if isinstance(value, Verdict | Finding):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _lines(profile: Profile) -> Iterator[str]:
    caption, cells, notes = _parts(profile)
    yield caption
    rows = [_HEADERS, *cells]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADERS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield from notes


def _parts(profile: Profile) -> tuple[str, list[tuple[str, ...]], list[str]]:
    """(caption, rows, lines below) of its table."""
    unit = "seed" if profile.kind == "language model" else "chain"
    count = f"{profile.chains:,} {unit}{'s' * (profile.chains != 1)}"
    first, last = int(profile.generations[0]), int(profile.generations[-1])
    caption = (
        f"Collapse profile of {profile.run}: {count if profile.chains else f'{unit}s unknown'}, "
        f"generations {first} to {last} ({len(profile.generations)} recorded)"
    )
    notes = []
    if profile.chains == 1:
        notes.append(f"one {unit}: numbers without intervals, and verdicts on this {unit} alone")
    elif not profile.chains:
        notes.append(f"how many {unit}s is not recorded: no intervals; say chains=")
    notes += _notes(profile.verdicts)
    notes.append("Disagreements:" if profile.disagreements else "Disagreements: none")
    notes += [f"  - {sentence}" for sentence in profile.disagreements]
    return caption, [_cells(verdict) for verdict in profile.verdicts], notes


def _notes(verdicts) -> Iterator[str]:
    """Each note once, after all the definitions that it is of."""
    titles: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.note:
            titles.setdefault(verdict.note, []).append(verdict.title)
    for note, of in titles.items():
        yield f"{', '.join(of)}: {note}"


def _cells(verdict: Verdict) -> tuple[str, ...]:
    if not verdict.metric or not verdict.findings():
        return verdict.title, verdict.verdict, "", "", "", verdict.metric, "", ""
    leading, *others = verdict.findings()
    has_interval = verdict.level and not np.isnan(verdict.low)
    interval = f"{shown(verdict.low)} to {shown(verdict.high)}" if has_interval else ""
    if 0 < round(verdict.level, 2) < 0.95:
        interval += f" ({verdict.level:.0%})"
    begin = "" if verdict.first is None else str(verdict.first)
    if verdict.until is not None:
        begin += f" to {verdict.until}"
    other = "; ".join(_other(found) for found in others if verdict.level or found.level)
    return (
        verdict.title,
        verdict.verdict,
        "" if np.isnan(verdict.number) else f"{shown(verdict.number)} {verdict.unit}",
        interval,
        limit_of(verdict),
        f"{verdict.metric}, {leading.statistic}" if verdict.level else verdict.metric,
        begin,
        other,
    )


def _other(found: Finding) -> str:
    begin = f" from {found.first}" if found.first is not None else ""
    number = "" if found.verdict == CANNOT_TELL and np.isnan(found.number) else shown(found.number)
    return f"{found.statistic} {number}: {found.verdict}{begin}"


def limit_of(verdict: Verdict) -> str:
    """The threshold, with the side on which the definition is met."""
    sign = "+-" if verdict.definition == "scaling" else "> " if verdict.up else "< "
    return f"{sign}{shown(verdict.threshold)}"


def shown(value: float) -> str:
    """A number in three digits, near 1 in four."""
    return f"{value:.4g}" if 0.9 < abs(value) < 1.1 else f"{value:.3g}"
