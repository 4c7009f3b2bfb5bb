"""`collapse-jax warning`: measures lead times and false alarms of every metric of a run."""

import csv
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from collapse_jax.app.commands.arguments import WarningArguments
from collapse_jax.app.out_folder import refuse_taken
from collapse_jax.app.written import markdown_cell
from collapse_jax.errors import InputError
from collapse_jax.runs import strict_json
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from collapse_jax.drivers.warning.alarms import Alarm
    from collapse_jax.drivers.warning.early_warning import EarlyWarning

_FILES = ("warning.json", "warning.csv", "warning.md", "figures")
_HEADERS = ("alarm", "false alarms, %", "detected, %", "median lead", "AUC", "tau (steady)")


def warning_command(console: "Console", **given: Any) -> None:
    """Prints the table of all alarms, and writes the table, a figure and warning.json.

    Args:
        console: Where the table is printed.
        **given: The fields of `WarningArguments`.

    Raises:
        InputError: If an option is incompatible with the runs, or `out` contains other files.
    """
    from collapse_jax.app.plots.warning import draw

    asked = WarningArguments(**given)
    folder = RunFolder(asked.out)
    refuse_taken(folder, _FILES, "warning")
    found = _found(asked)
    for line in summary_lines(found):
        console.print(line, highlight=False)
    console.print(_table(found))
    kept = {name: getattr(asked, name) for name in ("run", "steady", "lead", "set_size")}
    try:
        _write(folder, found, kept)
        figure = draw(folder, found)
    except OSError as error:
        raise InputError(
            f"out is '{asked.out}', which cannot be written ({error.strerror})"
        ) from None
    for path in (folder.path / "warning.csv", folder.path / "warning.json", figure):
        console.print(str(path), highlight=False)


def _found(asked: WarningArguments) -> "EarlyWarning":
    """The result of `early_warning` for the options of the command line."""
    from collapse_jax.drivers.warning.early_warning import early_warning

    limits = {name: _number(name, value) for name, value in _pairs("limits", _words(asked.limits))}
    return early_warning(
        asked.run,
        asked.steady or None,
        loss=asked.loss,
        threshold=asked.threshold,
        relative=asked.relative,
        metrics=_words(asked.metrics) or None,
        indicators=_words(asked.indicators) or None,
        false_alarm_rate=asked.false_alarm_rate,
        limits=limits or None,
        change=asked.change,
        directions=_directions(_words(asked.directions)),
        by_generation=asked.by_generation,
        lead=asked.lead,
        window=asked.window,
        set_size=asked.set_size,
    )


def _words(given: str | Sequence[str]) -> tuple[str, ...]:
    """The words given with commas, or one by one."""
    words = (given,) if isinstance(given, str) else given
    return tuple(part.strip() for word in words for part in word.split(",") if part.strip())


def _pairs(what, words):
    for word in words:
        name, is_pair, value = word.rpartition("=")
        if not is_pair or not name:
            raise InputError(f"{what} is {word!r}; it must be METRIC=VALUE, such as entropy=2.5")
        yield name, value


def _number(name, text):
    try:
        return float(text)
    except ValueError:
        raise InputError(f"limits of {name} is {text!r}; it must be a number") from None


def _directions(words):
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    return dict(_pairs("directions", words)) or None


def summary_lines(found: "EarlyWarning") -> list[str]:
    """A few lines on the chains that were watched."""
    crossed = found.crossings[~_is_nan(found.crossings)]
    unit = " times its first value" if found.relative else ""
    way = "rises to" if found.rises else "falls to"
    middle = sorted(crossed)[len(crossed) // 2]
    lines = [
        f"{found.loss} {way} {found.threshold:g}{unit} in {len(crossed)} of "
        f"{len(found.crossings)} chains, in the median at generation {middle:g}; "
        f"{found.steady} steady chains"
    ]
    if found.dropped:
        lines.append(
            f"{found.dropped} chains that were given as steady crossed the threshold and are left "
            "out"
        )
    if len(crossed) == 1:
        lines.append("only one chain crossed: each lead time is a single value without an error")
    return [*lines, *found.notes()]


def _is_nan(values):
    return values != values


def _cells(alarm: "Alarm", intervals: bool = True) -> list[str]:
    """The row of one alarm.

    Args:
        intervals: Whether the intervals of rates are shown too.
    """
    trend = alarm.trend.value
    what = "" if alarm.indicator == "level" else f"{alarm.indicator} of "
    does = "leaves" if alarm.direction == "either" else alarm.direction
    return [
        f"{what}{alarm.metric} {does}",
        _percent(alarm.false_alarms, intervals),
        _percent(alarm.detected, intervals),
        _lead(alarm.lead),
        _with_error(alarm.curve.area),
        "" if math.isnan(trend) else f"{trend:.2f} ({alarm.steady_trend.value:.2f})",
    ]


def _percent(rate, intervals):
    if not rate.chains:
        return ""
    ends = f" ({100 * rate.low:.1f} to {100 * rate.high:.1f})" if intervals else ""
    return f"{100 * rate.share:.1f}{ends}"


def _lead(lead):
    if math.isnan(lead.value):
        return "not recorded in time"
    middle = "no alarm" if lead.value == -math.inf else f"{lead.value:g}"
    if lead.low == lead.high or math.isinf(lead.high):
        return middle
    low = "none" if lead.low == -math.inf else f"{lead.low:g}"
    return f"{middle} ({low} to {lead.high:g})"


def _with_error(estimate):
    if math.isnan(estimate.value):
        return ""
    error = "" if math.isnan(estimate.error) else f" ± {estimate.error:.3f}"
    return f"{estimate.value:.3f}{error}"


def _table(found: "EarlyWarning") -> Any:
    from rich.table import Column, Table

    rows = [_cells(alarm, intervals=False) for alarm in found.earliest()]
    # Without steady chains there are no rates and no areas.
    shown = [at for at in range(len(_HEADERS)) if any(row[at] for row in rows)]
    columns = (
        Column(_HEADERS[at], overflow="fold", min_width=max(map(len, _HEADERS[at].split())))
        for at in shown
    )
    table = Table(*columns, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*(row[at] for at in shown))
    return table


def _write(folder, found, options):
    """Writes the table as warning.csv and warning.md, and all results as warning.json."""
    rows = list(found.rows())
    flat = [{key: value for key, value in row.items() if key != "auc_by_lead"} for row in rows]
    with atomic(folder.path / "warning.csv") as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(flat[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(flat)
    lines = [*(f"{markdown_cell(line)}.\n" for line in summary_lines(found)), _line(_HEADERS)]
    lines.append("|" + "---|" * len(_HEADERS))
    lines += [_line(_cells(alarm)) for alarm in found.earliest()]
    folder.write_text("warning.md", "\n".join(lines) + "\n")
    values = {
        **options,
        "loss": found.loss,
        "threshold": found.threshold,
        "relative": found.relative,
        "rises": found.rises,
        "window": found.window,
        "generations": found.generations.tolist(),
        "crossings": found.crossings.tolist(),
        "steady_chains": found.steady,
        "steady_chains_that_crossed": found.dropped,
        "not_watched": dict(found.left_out),
        "alarms": [
            {**row, "leads": alarm.leads.tolist()}
            for row, alarm in zip(rows, found.alarms, strict=True)
        ],
    }
    folder.write_text("warning.json", strict_json.dumps(values, indent=1) + "\n")


def _line(cells):
    return "| " + " | ".join(map(markdown_cell, cells)) + " |"
