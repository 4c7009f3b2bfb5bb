"""The page of `collapse-jax reproduce` in the site: a table to sort and filter, and the code.

Verdicts and numbers are those of docs/reproduced/README.md; what an entry is comes from its file in
experiments/published. Nothing of either is written down here again.
"""

import html
import pathlib
import re
import shutil
from typing import NamedTuple

from pages import write_page
from sphinx.util import logging

from collapse_jax.app.reproduce import Entry, load_entries, own_folder
from collapse_jax.app.written import markdown_cell

logger = logging.getLogger(__name__)
PAGE = "reproduced/README"
CODE = "reference/published"
HEAD = ("entry", "expected", "ours", "z", "verdict", "cost")
_CELL = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\([\\|*_`<>\[\]~$&])")


class Row(NamedTuple):
    """A row of the committed table. details: setting, oracle and rules, as it prints them."""

    id: str
    claim: str
    details: str
    expected: str
    ours: str
    z: str
    verdict: str
    reason: str
    has_plot: bool


def table(text: str) -> tuple[list[str], list[Row]]:
    """(paragraphs before the first paper, rows) of docs/reproduced/README.md."""
    before, _, rest = text.partition("\n## ")
    rows = [
        _row(line) for line in rest.splitlines() if line.startswith("| `") and line.endswith("|")
    ]
    return [part for part in before.split("\n\n")[1:] if part.strip()], rows


def _row(line):
    cells = [one.strip() for one in _CELL.split(line)[1:-1]]
    id, claim, expected, ours, z, verdict, plot = cells
    claim, _, details = claim.removesuffix("</sub>").partition("<br><sub>")
    verdict, _, reason = _plain(verdict).partition(": ")
    parts = (_plain(claim), _plain(details), expected, ours, z, verdict, reason)
    return Row(id.strip("`"), *parts, bool(plot))


def _plain(cell):
    return _ESCAPED.sub(r"\1", cell)


def page(text: str, entries: list[Entry]) -> str:
    """The page in Markdown, its table one block of HTML."""
    known = {one.id: one for one in entries}
    paragraphs, rows = table(text)
    parts = ["---\nhide-toc: true\n---", "# Published results, reproduced", *paragraphs]
    for row in rows:
        if row.id not in known:
            logger.warning("experiments/published lacks %s of docs/reproduced/README.md", row.id)
    rows = [row for row in rows if row.id in known]
    parts.append(_form(rows, known))
    lines = ['<div class="results-scroll"><table id="results"><thead><tr>']
    lines += [f'<th scope="col"><button type="button">{name}</button></th>' for name in HEAD]
    lines.append("</tr></thead>")
    lines += [_html_row(row, known[row.id]) for row in rows]
    lines.append("</table></div>")
    parts.append("\n".join(lines))
    parts.append('<script src="../_static/results.js"></script>')
    return "\n\n".join(parts) + "\n"


def _form(rows, known):
    papers = sorted({known[row.id].paper.name for row in rows})
    choices = {
        "verdict": list(dict.fromkeys(row.verdict for row in rows)),
        "paper": papers,
        "cost": sorted({known[row.id].cost for row in rows}),
    }
    lines = ['<form id="results-filter" hidden>']
    lines.append('<label>text <input type="search" name="text" placeholder="Gaussian"></label>')
    for name, values in choices.items():
        options = "".join(f"<option>{html.escape(value)}</option>" for value in values)
        lines.append(f'<label>{name} <select name="{name}"><option value="">all</option>{options}')
        lines.append("</select></label>")
    lines.append('<output id="results-count"></output>')
    return "\n".join([*lines, "</form>"])


def _html_row(row, entry):
    safe = html.escape
    size = re.sub(r"[^0-9.e+-]", "", row.z)
    paper = f"{entry.paper.name}: {entry.paper.title}"
    paper += f", arXiv:{entry.paper.arxiv}" if entry.paper.arxiv else ""
    command = entry.command or f"collapse-jax reproduce {row.id}"
    inside = []
    if row.has_plot:
        picture = f'src="figures/{row.id}.png" alt="{row.id}: ours against expected"'
        inside.append(f'<img {picture} loading="lazy">')
    terms = {
        "paper": paper,
        "status": entry.status,
        "setting": entry.setting,
        "oracle": entry.oracle,
        "judged by": row.details.partition(f"{entry.oracle}.")[2].strip(),
        "reason": row.reason,
    }
    listed = "".join(
        f"<dt>{key}</dt><dd>{safe(value)}</dd>" for key, value in terms.items() if value
    )
    inside.append(f"<dl>{listed}</dl>")
    inside += [f"<pre>{safe(one.strip())}</pre>" for one in command.split(";")]
    target = f"../{CODE}/{entry.file.stem}.html#{anchor(row.id)}"
    inside.append(f'<p><a href="{target}">code of this entry</a></p>')
    data = {"verdict": row.verdict, "paper": entry.paper.name, "cost": entry.cost}
    told = "".join(f' data-{key}="{safe(value, quote=True)}"' for key, value in data.items())
    kind = "-".join(row.verdict.split())
    cells = [
        f"<td><code>{row.id}</code><br><small>{safe(entry.paper.name)}</small></td>",
        *(f'<td class="number">{safe(value)}</td>' for value in (row.expected, row.ours)),
        f'<td class="number" data-value="{size.lstrip("+-")}">{safe(row.z)}</td>',
        f'<td><span class="verdict {kind}">{safe(row.verdict)}</span></td>',
        f"<td>{safe(entry.cost)}</td>",
    ]
    more = f"<details><summary>plot, oracle, command, code</summary>{''.join(inside)}</details>"
    if not row.has_plot:
        more = more.replace("plot, ", "", 1)
    return (
        f'<tbody id="{row.id}"{told}><tr>{"".join(cells)}</tr>'
        f'<tr class="more"><td colspan="{len(HEAD)}"><p class="claim">{safe(row.claim)}</p>{more}'
        "</td></tr></tbody>"
    )


def anchor(id: str) -> str:
    """The anchor of an entry's heading, as Sphinx makes it of the id."""
    return re.sub(r"[^a-z0-9]+", "-", id.lower()).strip("-")


def code_pages(entries: list[Entry]) -> dict[str, str]:
    """Name -> Markdown of a page for each file of entries: the code, claim by claim."""
    files: dict[pathlib.Path, list[Entry]] = {}
    for one in entries:
        files.setdefault(one.file, []).append(one)
    pages = {}
    for file, own in files.items():
        paper = own[0].paper
        parts = ["---\norphan: true\n---", f"# {paper.name}: {paper.title}"]
        parts.append(
            f"`experiments/published/{file.name}`. Back to [all entries](../../{PAGE}.md)."
        )
        source = file.read_text(encoding="utf-8")
        places = sorted((source.index(f'"{one.id}"'), one) for one in own)
        starts = [_line_before(source, place) for place, _ in places]
        parts += ["## Code shared by the entries", _fenced(source[: starts[0]])]
        for (_, one), start, end in zip(places, starts, [*starts[1:], len(source)], strict=True):
            parts += [f"## {one.id}", markdown_cell(one.claim), _fenced(source[start:end])]
        pages[file.stem] = "\n\n".join(parts) + "\n"
    return pages


def _line_before(source, place):
    """Where the statement begins that holds an id: the line of the call's name."""
    before = source.rfind("\n", 0, source.rfind("(", 0, place)) + 1
    return before


def _fenced(code):
    return f"```python\n{code.strip()}\n```"


def write(app) -> None:
    """Writes the pages of code whose text changed."""
    for name, text in code_pages(load_entries(own_folder())).items():
        write_page(app, f"published/{name}", text)


def read(app, docname, source) -> None:
    """The committed table, as GitHub shows it, becomes the page of the site."""
    if docname == PAGE:
        source[0] = page(source[0], load_entries(own_folder()))


def copy_figures(app, exception) -> None:
    """The plots, which the block of HTML names, go beside the page."""
    if exception is None and app.builder.format == "html":
        here = pathlib.Path(app.srcdir) / "reproduced" / "figures"
        shutil.copytree(here, pathlib.Path(app.outdir) / "reproduced/figures", dirs_exist_ok=True)


def setup(app) -> dict:
    """Registers the page, its code and its figures with Sphinx."""
    app.connect("builder-inited", write)
    app.connect("source-read", read)
    app.connect("build-finished", copy_figures)
    return {"parallel_read_safe": True}
