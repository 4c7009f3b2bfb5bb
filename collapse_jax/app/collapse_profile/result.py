"""The result of `cj.profile`: verdicts, a table, and JSON."""

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
    """The verdict on one definition for one run.

    definition: its key, such as "diversity".
    title: its name in words.
    verdict: "met", "not met" or "cannot tell".
    metric: the recorded metric by which it is judged; "" if there is none.
    unit: the unit of number and threshold.
    threshold: the definition is met beyond this; nan if there is no metric.
    up: whether larger numbers are worse.
    statistic: the statistic over chains: "mean" for test losses (a risk is an expectation),
        "median" for the shape of a model (the typical chain). For one chain both are its number.
    number, low, high: the number at `generation`, and its confidence interval of `level`.
    level: 0.95, less if there are too few chains, 0 for one chain.
    generation: the generation of the number.
    first: the first generation from which on the definition is met.
    until: the last generation at which it was met, if it is not met at the end.
    mean, median: the `Finding` of each statistic; None if there is none.
    note: missing data, or a limitation of the verdict.
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
        """The findings that exist, the leading one first."""
        both = [found for found in (self.mean, self.median) if found is not None]
        return tuple(sorted(both, key=lambda found: found.statistic != self.statistic))


class Profile(NamedTuple):
    """The definitions of model collapse that a run meets; `str` is a table.

    run: the folder, or the kind of object.
    kind: "chains", "vae" or "language model".
    chains: number of chains or seeds, 0 if unknown.
    generations: [generation], the recorded generations.
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
        """Returns the verdict on the definition with this key.

        Raises:
            KeyError: for an unknown key; the message lists all keys.
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
        """Returns a matplotlib figure: the generations at which each definition is met."""
        from collapse_jax.app.plots.profile import profile_figure

        return profile_figure(self)

    def to_json(self) -> str:
        """Returns everything as JSON; numbers that are not finite are strings ("NaN")."""
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
        notes.append(f"the number of {unit}s is not recorded: no intervals; give chains=")
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
