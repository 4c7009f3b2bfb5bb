"""`collapse-jax compare`: compares several runs of lm in one figure and one table."""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from collapse_jax.app.commands.lm_table import BELOW_0
from collapse_jax.app.config.lm import PERPLEXITY_WORDS, LMConfig, perplexities_shown
from collapse_jax.app.out_folder import refuse_taken
from collapse_jax.app.written import markdown_cell
from collapse_jax.errors import InputError
from collapse_jax.metrics.text import gain_lost
from collapse_jax.runs import made_of
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

GAIN_LOST = "gain_lost"
# The longest label made of settings; beyond it the folder's name says more.
_LONGEST_LABEL = 60
# Which seeds and generations there are, the table shows.
_NOT_COMPARED = ("generations", "seeds", "checkpoints", "seed", "examples", "decode_batch")
_FILES = ("compare.csv", "compare.md", "figures")


class ComparedRun(NamedTuple):
    """A run in a comparison.

    name: as the user gave it.
    config: its settings, resolved.
    rows: its records.
    label: the settings, or the folder, that distinguish it from the others.
    tests: the hash of the tokens that it is tested on, "" if it stores none.
    """

    name: str
    config: LMConfig
    rows: list[dict[str, Any]]
    label: str
    tests: str

    def generations(self) -> list[int]:
        """The generations that at least one seed has recorded, ascending."""
        return sorted({row["generation"] for row in self.rows})

    def values(self, name: str) -> np.ndarray:
        """A column [seeds, generations], nan where no value is recorded."""
        seeds = sorted({row["chain"] for row in self.rows})
        generations = self.generations()
        found = np.full((len(seeds), len(generations)), np.nan)
        for row in self.rows:
            value = row.get(name)
            if value is not None:
                found[seeds.index(row["chain"]), generations.index(row["generation"])] = value
        return found

    def before(self, name: str) -> float:
        """A measure of the model before any fit; nan where it was not recorded."""
        values = self.values(f"pretrained_{name}")
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    def gain_lost(self) -> np.ndarray:
        """The share [seeds, generations] of the first fit's gain that is lost, nan if unknown.

        This is the recorded column. For rows of versions without that column, the losses are the
        logarithms of `test_perplexity`, and the gain is that of generation 0 over the model before
        any fit.
        """
        recorded, computed = self.values(GAIN_LOST), self._gain_lost_by_perplexities()
        return np.where(np.isfinite(recorded), recorded, computed)

    def _gain_lost_by_perplexities(self):
        loss = np.log(self.values("test_perplexity"))
        first = loss[:, :1] if self.generations()[:1] == [0] else np.nan
        return gain_lost(loss, first, np.log(self.before("test_perplexity")))


def compare_command(console: "Console", runs: tuple[str, ...], out: str = "runs/compare") -> None:
    """Prints the table of several runs, and writes it and a figure.

    Args:
        console: Where the table is printed.
        runs: Two or more run folders of lm.
        out: The folder of the figure and the table, created if needed; those of an earlier call are
            overwritten.

    Raises:
        InputError: If there is only one run, a folder is not a run of lm or has no records, or
            `out` contains other files.
    """
    from collapse_jax.app.plots.compare import draw

    folder = RunFolder(out)
    refuse_taken(folder, _FILES, "comparison")
    compared = read_runs(runs)
    name = shown_perplexity(compared)
    for line in remarks(compared):
        console.print(line, highlight=False)
    console.print(_table(compared, name))
    if any(run.label != run.name for run in compared):
        console.print(_settings_table(compared))
    try:
        _write_rows(folder.path / "compare.csv", compared)
        with atomic(folder.path / "compare.md") as temporary:
            temporary.write_text(_markdown(compared, name), encoding="utf-8")
        figure = draw(folder, compared, name)
    except OSError as error:
        raise InputError(f"out is '{out}', which cannot be written ({error.strerror})") from None
    for path in (folder.path / "compare.csv", folder.path / "compare.md", figure):
        console.print(str(path), highlight=False)


def read_runs(names: Sequence[str]) -> list[ComparedRun]:
    """Reads the runs in these folders, labelled by the settings in which they differ.

    Raises:
        InputError: If there is only one run, a folder is given twice, is not a run of lm, or has no
            records.
    """
    if len(names) < 2:
        given = f"only {names[0]} is given" if names else "none is given"
        raise InputError(f"give two or more run folders; {given}")
    if len({RunFolder(name).path.resolve() for name in names}) < len(names):
        raise InputError(
            f"runs is {' '.join(names)}, which names a folder twice; give each folder once"
        )
    found = [run_of(RunFolder(name), name) for name in names]
    labels = _labels(found)
    return [run._replace(label=label) for run, label in zip(found, labels, strict=True)]


def run_of(folder: RunFolder, name: str = "") -> ComparedRun:
    """Reads the run in a folder, without a label.

    Args:
        name: As the user gave it.

    Raises:
        InputError: If it is not a run of lm, or has no records.
    """
    name = name or str(folder.path)
    config = folder.config()
    if not isinstance(config, LMConfig):
        raise InputError(
            f"{name} contains a run of {config.command}; compare takes runs of lm (for several "
            "settings of simulate in one figure, use simulate --sample-size 10,100)"
        )
    rows = folder.rows("chain", "generation", "test_perplexity")
    if not rows:
        raise InputError(
            f"{name} has no finished generation yet; wait until the run has finished one"
        )
    return ComparedRun(name, config.resolved(), rows, "", _test_hash(folder))


def _test_hash(folder):
    entry = (made_of.read(folder.path) or {}).get("tokens", {})
    return entry.get("contents", {}).get("test", "") if isinstance(entry, dict) else ""


def differing_settings(runs: Sequence[ComparedRun]) -> list[str]:
    """Names of the settings that are not the same in all runs."""
    fields = [field.name for field in dataclasses.fields(LMConfig)]
    return [
        name
        for name in fields
        if name not in _NOT_COMPARED and len({str(getattr(run.config, name)) for run in runs}) > 1
    ]


def _labels(runs):
    """The label of each run: the settings that differ if they are few, else its folder."""
    differing = differing_settings(runs)
    labels = [
        ", ".join(_setting(name, getattr(run.config, name)) for name in differing) for run in runs
    ]
    too_long = max(map(len, labels)) > _LONGEST_LABEL
    if too_long or len(set(labels)) < len(runs):
        return [run.name for run in runs]
    return labels


def _setting(name, value):
    """A setting in a label; a run without a control is the one of interest."""
    if (name, value) == ("control", "none"):
        return "generated text"
    return f"{name} {_value(value)}"


def _value(value):
    """A setting as a short text: of a path, the last part."""
    if isinstance(value, str) and "/" in value:
        return pathlib.PurePath(value).name or value
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown_perplexity(runs: Sequence[ComparedRun]) -> str:
    """Returns the perplexity that all runs have; of two, that of the first run's protocol.

    Raises:
        InputError: If the runs have none in common.
    """
    common = set.intersection(*(set(row) for run in runs for row in run.rows))
    return perplexities_shown(runs[0].config.protocol, common)[0]


def remarks(runs: Sequence[ComparedRun]) -> list[str]:
    """Lines that explain which numbers of these runs are not comparable."""
    lines = []
    if len({run.config.protocol for run in runs}) > 1:
        lines.append(
            "the runs follow different protocols; the perplexity shown for all of them is "
            f"{PERPLEXITY_WORDS[shown_perplexity(runs)]}"
        )
    tests = {run.tests for run in runs} - {""}
    if len(tests) > 1:
        lines.append(
            "the runs are tested on different tokens (another text, tokenizer or block length): "
            "their perplexities are not comparable, but the share of the gain lost is"
        )
    with np.errstate(invalid="ignore"):
        if any((run.gain_lost() < 0).any() for run in runs):
            lines.append(f"gain lost {BELOW_0}")
    return lines


def table_rows(runs: Sequence[ComparedRun]) -> Iterator[dict[str, Any]]:
    """One row for each run and generation: means over seeds, and their standard deviations."""
    for run in runs:
        columns = {name: run.values(name) for name in PERPLEXITY_WORDS}
        columns[GAIN_LOST] = run.gain_lost()
        for place, generation in enumerate(run.generations()):
            row = {"run": run.name, "label": run.label, "generation": generation}
            row["seeds"] = int(np.isfinite(columns["test_perplexity"][:, place]).sum())
            for name, values in columns.items():
                there = values[np.isfinite(values[:, place]), place]
                row[name] = float(there.mean()) if there.size else None
                row[f"{name}_sd"] = float(there.std(ddof=1)) if there.size > 1 else None
            yield row


def _write_rows(path, runs):
    rows = list(table_rows(runs))
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _cells(runs, name) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table: by generation, the measures of each run."""
    by_place = {(row["run"], row["generation"]): row for row in table_rows(runs)}
    measures = {name: (".2f", 1.0)}
    if any(row[GAIN_LOST] is not None for row in by_place.values()):
        measures[GAIN_LOST] = (".0f", 100.0)
    headers = [run.label + ("" if measure == name else ": gain lost, %") for run in runs
               for measure in measures]  # fmt: skip
    first = ["before"]
    for value in (run.before(name) for run in runs):
        first += [f"{value:.2f}" if np.isfinite(value) else "", *[""] * (len(measures) - 1)]
    body = [first]
    for generation in sorted({generation for _, generation in by_place}):
        cells = [str(generation)]
        for row in (by_place.get((run.name, generation), {}) for run in runs):
            for measure, (form, factor) in measures.items():
                cells.append(_cell(row.get(measure), row.get(f"{measure}_sd"), form, factor))
        body.append(cells)
    return ["generation", *headers], body


def _cell(mean, deviation, form, factor):
    if mean is None:
        return ""
    more = "" if deviation is None else f" ± {factor * deviation:{form}}"
    return f"{factor * mean:{form}}{more}"


def _title(name):
    return (
        f"test perplexity, {PERPLEXITY_WORDS[name]}, by generation; mean over seeds ± standard "
        "deviation"
    )


def _table(runs, name) -> Any:
    from rich.table import Column, Table

    headers, body = _cells(runs, name)
    # No word is cut, whatever the terminal's width.
    columns = (
        Column(header, overflow="fold", min_width=max(8, *map(len, header.split())))
        for header in headers
    )
    table = Table(
        *columns, title=_title(name), title_justify="left", show_edge=False, pad_edge=False
    )
    for cells in body:
        table.add_row(*cells)
    return table


def _settings_table(runs) -> Any:
    """A table of the settings that differ between the runs."""
    from rich.table import Table

    table = Table(
        "setting", *(run.name for run in runs), title="what differs", title_justify="left",
        show_edge=False, pad_edge=False,
    )  # fmt: skip
    for name in differing_settings(runs):
        table.add_row(name, *(_value(getattr(run.config, name)) for run in runs))
    return table


def _markdown(runs, name) -> str:
    headers, body = _cells(runs, name)
    lines = [f"{_title(name)}.", "", *(f"{line}.\n" for line in remarks(runs))]
    lines += [_row(headers), "|" + "---|" * len(headers), *map(_row, body), ""]
    differing = differing_settings(runs)
    if differing:
        lines += [_row(["setting", *(run.name for run in runs)]), "|" + "---|" * (len(runs) + 1)]
        for setting in differing:
            values = (_value(getattr(run.config, setting)) for run in runs)
            lines.append(_row([setting, *values]))
    return "\n".join(lines) + "\n"


def _row(cells):
    return "| " + " | ".join(map(markdown_cell, cells)) + " |"
