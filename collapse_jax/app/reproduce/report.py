"""The table of a run as Markdown and as one self-contained HTML page, from its results alone."""

import base64
import html
import pathlib
from itertools import groupby

import numpy as np

from collapse_jax.app.reproduce.judge import (
    AGREES,
    DIFFERS,
    DISAGREES,
    FAILED,
    FALSE_ALARM,
    UNREACHABLE,
    Result,
)
from collapse_jax.runs.folder import RunFolder

COLUMNS = ("id", "claim", "published or exact", "ours", "z", "verdict", "ours on what was expected")
_COLOURS = {
    AGREES: "#2e7d32",
    DIFFERS: "#8a6d00",
    DISAGREES: "#b45309",
    UNREACHABLE: "#666",
    FAILED: "#b00020",
}
_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; color: #222 }
h2 { font-size: 1.05rem; margin: 2rem 0 .4rem } table { border-collapse: collapse; width: 100% }
td, th { padding: .4rem .6rem; vertical-align: top; text-align: left; border-top: 1px solid #ddd }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums } small { color: #666 } img { max-width: 26rem }
"""


def number(value: float) -> str:
    """Four significant digits, no more zeros than needed."""
    return "" if np.isnan(value) else f"{value:.4g}"


def cells(result: Result) -> tuple[str, str, str]:
    """(published or exact, ours with its standard error, z) of the point that decided: texts, empty
    where nothing was compared.
    """
    one = result.headline()
    if one is None:
        return "", "", ""
    worst = one.worst()
    ours, error = one.ours[worst], one.error[worst]
    z = one.z[worst]
    said = f"{number(ours)} ± {error:.2g}" if error > 0 else number(ours)
    return (
        number(one.expected[worst]),
        said,
        "" if one.p_value in (0.0, 1.0) and error == 0 else f"{z:+.1f}",
    )


def verdict_words(result: Result) -> str:
    """The verdict, with its reason where there is one."""
    return f"{result.verdict}: {result.reason}" if result.reason else result.verdict


def details(result: Result) -> str:
    """Status, setting and oracle of an entry, and the rule and tolerance by which each of its
    comparisons was judged.
    """
    entry = result.entry
    rules = "; ".join(f"{one.what}: {one.rule}" for one in result.comparisons)
    return " ".join(
        f"{text}." for text in (entry.status, entry.setting, entry.oracle, rules) if text
    )


def summary(results: list[Result]) -> str:
    """One line: how many of each verdict."""
    found = [result.verdict for result in results]
    counted = [f"{found.count(verdict)} {verdict}" for verdict in _COLOURS if verdict in found]
    return f"{len(results)} {'entry' if len(results) == 1 else 'entries'}: {', '.join(counted)}"


def preamble(results: list[Result], seed: int) -> list[str]:
    """Sentences that say how to read the table."""
    seconds = sum(result.seconds for result in results)
    return [
        f"{summary(results)}.",
        f"Made by `collapse-jax reproduce --seed {seed}` in {seconds:.0f} seconds. Each "
        "number beside an expected one is the point of an "
        "entry that is furthest off, ± its standard error, and z their distance in such "
        "errors; where a whole law was "
        "tested, z has the p-value of that test.",
        "A correct library shows any failure in the whole table with a probability of at "
        f"most {FALSE_ALARM:.0%}, whatever the seed: "
        "every entry has an equal share of that, and all comparisons within it an equal "
        "share of the entry's.",
        "Generation 0 is the model fitted to real data.",
    ]


def markdown(results: list[Result], seed: int) -> str:
    """The whole table; plots are figures/ID.png beside it."""
    lines = [
        "# Published results, reproduced",
        "",
        *(line for text in preamble(results, seed) for line in (text, "")),
    ]
    for heading, group in _by_paper(results):
        lines += [f"## {heading}", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        for result in group:
            entry, (expected, ours, z) = result.entry, cells(result)
            plot = (
                f'<img src="figures/{entry.id}.png" width="300" alt="{entry.id}">'
                if result.comparisons
                else ""
            )
            claim = f"{entry.claim}<br><sub>{details(result)}</sub>"
            row = (f"`{entry.id}`", claim, expected, ours, z, verdict_words(result), plot)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def page(results: list[Result], seed: int, figures: pathlib.Path) -> str:
    """The same as HTML, the plots within it."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Published results, "
        "reproduced</title>",
        f"<style>{_STYLE}</style>",
    ]
    parts.append("<h1>Published results, reproduced</h1>")
    parts += [f"<p>{html.escape(text).replace('`', '')}</p>" for text in preamble(results, seed)]
    for heading, group in _by_paper(results):
        parts.append(
            f"<h2>{html.escape(heading)}</h2><table><tr>{''.join(f'<th>{name}</th>' for name in COLUMNS)}</tr>"
        )
        parts += [_html_row(result, figures) for result in group]
        parts.append("</table>")
    return "\n".join(parts) + "</html>\n"


def _html_row(result, figures):
    entry = result.entry
    path = figures / f"{entry.id}.png"
    plot = ""
    if result.comparisons and path.is_file():
        data = base64.b64encode(path.read_bytes()).decode()
        plot = f"<img alt='{html.escape(entry.id)}' src='data:image/png;base64,{data}'>"
    claim = f"{html.escape(entry.claim)}<br><small>{html.escape(details(result))}</small>"
    numbers = "".join(f"<td class='number'>{html.escape(cell)}</td>" for cell in cells(result))
    colour = _COLOURS[result.verdict]
    verdict = (
        f"<td><b style='color:{colour}'>{html.escape(result.verdict)}</b> "
        f"<small>{html.escape(result.reason)}</small></td>"
    )
    name = html.escape(entry.id)
    return (
        "<tr "
        f"id='{name}'><td><code>{name}</code></td><td>{claim}</td>{numbers}{verdict}<td>{plot}</td></tr>"
    )


def write(folder: RunFolder, results: list[Result], seed: int) -> list[pathlib.Path]:
    """table.md, index.html and figures/ID.png of a folder; the paths of the first two."""
    from collapse_jax.app.plots import reproduce as plot

    for result in results:
        if result.comparisons:
            plot.draw(folder.figures / f"{result.entry.id}.png", result.entry, result.comparisons)
    folder.write_text("table.md", markdown(results, seed))
    folder.write_text("index.html", page(results, seed, folder.figures))
    return [folder.path / "table.md", folder.path / "index.html"]


def _by_paper(results):
    for paper, group in groupby(results, key=lambda result: result.entry.paper):
        number = f", arXiv:{paper.arxiv}" if paper.arxiv else ""
        yield f"{paper.name}: {paper.title}{number}", list(group)
