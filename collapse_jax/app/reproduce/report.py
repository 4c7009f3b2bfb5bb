"""The table of a run as Markdown and as one self-contained HTML page, from its results alone."""

import base64
import itertools
import pathlib

import numpy as np
from scipy import stats

from collapse_jax.app.config.reproduce import ReproduceConfig
from collapse_jax.app.reproduce import store
from collapse_jax.app.reproduce.judge import (
    AGREES,
    DIFFERS,
    DISAGREES,
    FAILED,
    FALSE_ALARM,
    UNREACHABLE,
    Result,
)
from collapse_jax.app.written import html_text, markdown_cell
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

COLUMNS = ("id", "claim", "published or exact", "ours", "z", "verdict", "ours against expected")
_COLOURS = {
    AGREES: "#2e7d32",
    DIFFERS: "#8a6d00",
    DISAGREES: "#b45309",
    UNREACHABLE: "#666",
    FAILED: "#b00020",
}
_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem;
  padding: 0 1rem; color: #222 }
h2 { font-size: 1.05rem; margin: 2rem 0 .4rem } table { border-collapse: collapse; width: 100% }
td, th { padding: .4rem .6rem; vertical-align: top; text-align: left; border-top: 1px solid #ddd }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums }
small { color: #666 } img { max-width: 26rem }
"""


def draw(folder: RunFolder, config: ReproduceConfig) -> list[pathlib.Path]:
    """Writes the table and all plots of a run again; returns the paths of the two tables.

    Raises:
        InputError: If there are no results yet.
    """
    results = store.load(folder)
    if not results:
        raise InputError(f"{folder.path} holds no results yet; let the run finish an entry first")
    return write(folder, results, config.seed)


def write(folder: RunFolder, results: list[Result], seed: int) -> list[pathlib.Path]:
    """Writes table.md, index.html and figures/ID.png; returns the paths of the first two.

    Args:
        folder: Where to write.
        results: All rows of the table.
        seed: That of the run.
    """
    from collapse_jax.app.plots import reproduce as plot

    for result in results:
        if result.comparisons:
            plot.draw(folder.figures / f"{result.entry.id}.png", result.entry, result.comparisons)
    folder.write_text("table.md", markdown(results, seed))
    folder.write_text("index.html", page(results, seed, folder.figures))
    return [folder.path / "table.md", folder.path / "index.html"]


def number(value: float) -> str:
    """Four significant digits, without superfluous zeros; "" for nan."""
    return "" if np.isnan(value) else f"{value:.4g}"


def cells(result: Result) -> tuple[str, str, str]:
    """(published or exact, ours ± standard error, z) of the point that decided.

    Texts, empty if nothing was compared.
    """
    decided = result.headline()
    if decided is None:
        return "", "", ""
    worst = decided.worst()
    error = decided.error[worst]
    ours = number(decided.ours[worst])
    by_chance = decided.p_value not in (0.0, 1.0) or error != 0
    return (
        number(decided.expected[worst]),
        f"{ours} ± {error:.2g}" if error > 0 else ours,
        f"{decided.z[worst]:+.1f}" if by_chance else "",
    )


def decided_by(result: Result) -> str:
    """Which of the numbers compared `cells` shows, and what would still agree; "" for none."""
    decided = result.headline()
    if decided is None:
        return ""
    worst, count = decided.worst(), sum(len(one.ours) for one in result.comparisons)
    # Where all points share one test, no point stands out.
    stands_out = len(decided.z) > 1 and len(set(np.abs(decided.z).tolist())) > 1
    place = f", at {decided.at[worst]}" if stands_out else ""
    of = f"least probable of {count} numbers compared: " if count > 1 else ""
    return f"{of}{decided.what}{place}{_allowed(decided, worst, result.level)}"


def _allowed(decided, worst, level):
    """How far off the point may be by the level of the entry."""
    if decided.refuted or (decided.p_value in (0.0, 1.0) and decided.error[worst] == 0):
        return ""
    alone = 2 * stats.norm.sf(abs(decided.z[worst]))
    for points in (1, len(decided.z)):
        # Bonferroni's rule over the points of the comparison.
        if np.isclose(decided.p_value, min(points * alone, 1.0), rtol=1e-6, atol=0):
            return f"; |z| up to {stats.norm.isf(level / 2 / points):.1f} is allowed"
    return f"; p = {decided.p_value:.2g}, and more than {level:.1g} is needed"


def verdict_words(result: Result) -> str:
    """The verdict, with its reason if it has one."""
    return f"{result.verdict}: {result.reason}" if result.reason else result.verdict


def details(result: Result) -> str:
    """Status, setting and oracle of an entry, and the rule that judged each comparison."""
    entry = result.entry
    rules = "; ".join(f"{one.what}: {one.rule}" for one in result.comparisons)
    return " ".join(
        f"{text}." for text in (entry.status, entry.setting, entry.oracle, rules) if text
    )


def summary(results: list[Result]) -> str:
    """One line: how many of each verdict."""
    verdicts = [result.verdict for result in results]
    counted = [f"{verdicts.count(one)} {one}" for one in _COLOURS if one in verdicts]
    return f"{len(results)} {'entry' if len(results) == 1 else 'entries'}: {', '.join(counted)}"


def preamble(results: list[Result], seed: int) -> list[str]:
    """Paragraphs that say how to read the table."""
    seconds = sum(result.seconds for result in results)
    return [
        f"{summary(results)}.",
        f"Made by `collapse-jax reproduce --seed {seed}` in {seconds:.0f} seconds. An entry may "
        "compare many numbers. The table shows the one with the largest deviation from its "
        "expected value, ± its standard error. z is that deviation in standard errors; if a whole "
        "distribution was tested, the column has the p-value of the test.",
        "For a correct library, the probability of any failure in the whole table is at most "
        f"{FALSE_ALARM:.0%}, at any seed. Every entry has an equal share of this probability, and "
        "all comparisons within an entry have an equal share of the entry's. Random numbers differ "
        "between entries. Comparisons within one entry may share them and so be correlated; the "
        "bound allows for that.",
        "Generation 0 is the model fitted to real data.",
    ]


def markdown(results: list[Result], seed: int) -> str:
    """The whole table; plots are figures/ID.png beside it."""
    lines = ["# Published results, reproduced", ""]
    lines += [line for text in preamble(results, seed) for line in (text, "")]
    for heading, group in _by_paper(results):
        lines += [
            f"## {markdown_cell(heading)}",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
        ]
        lines += [_markdown_row(result) for result in group]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(result):
    entry, plot = result.entry, ""
    if result.comparisons:
        plot = f'<img src="figures/{entry.id}.png" width="300" alt="{entry.id}">'
    claim = f"{markdown_cell(entry.claim)}<br><sub>{markdown_cell(details(result))}</sub>"
    verdict = markdown_cell(verdict_words(result))
    return f"| {' | '.join((f'`{entry.id}`', claim, *cells(result), verdict, plot))} |"


def page(results: list[Result], seed: int, figures: pathlib.Path) -> str:
    """The same as HTML, the plots within it.

    Args:
        figures: The folder of the plots.
    """
    title = "Published results, reproduced"
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>{title}</h1>",
    ]
    parts += [f"<p>{html_text(text).replace('`', '')}</p>" for text in preamble(results, seed)]
    names = "".join(f"<th>{name}</th>" for name in COLUMNS)
    for heading, group in _by_paper(results):
        parts.append(f"<h2>{html_text(heading)}</h2><table><tr>{names}</tr>")
        parts += [_html_row(result, figures) for result in group]
        parts.append("</table>")
    return "\n".join(parts) + "</html>\n"


def _html_row(result, figures):
    entry, plot = result.entry, ""
    path = figures / f"{entry.id}.png"
    name = html_text(entry.id)
    if result.comparisons and path.is_file():
        data = base64.b64encode(path.read_bytes()).decode()
        plot = f"<img alt='{name}' src='data:image/png;base64,{data}'>"
    numbers = "".join(f"<td class='number'>{html_text(cell)}</td>" for cell in cells(result))
    return (
        f"<tr id='{name}'><td><code>{name}</code></td>"
        f"<td>{html_text(entry.claim)}<br><small>{html_text(details(result))}</small></td>"
        f"{numbers}"
        f"<td><b style='color:{_COLOURS[result.verdict]}'>{html_text(result.verdict)}</b> "
        f"<small>{html_text(result.reason)}</small></td>"
        f"<td>{plot}</td></tr>"
    )


def _by_paper(results):
    """(heading, results) of each paper."""
    for paper, group in itertools.groupby(results, key=lambda result: result.entry.paper):
        number = f", arXiv:{paper.arxiv}" if paper.arxiv else ""
        yield f"{paper.name}: {paper.title}{number}", list(group)
