"""`collapse-jax reproduce`: every published result that this machine can check, judged while you
watch.
"""

import difflib
import json

from collapse_jax.app.config import ReproduceConfig
from collapse_jax.app.reproduce import FALSE_ALARM, decide, load_entries, own_folder, report, store
from collapse_jax.app.reproduce.entries import COSTS, Entry
from collapse_jax.app.reproduce.judge import AGREES, FAILED, UNREACHABLE, Result
from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.stopping import Stop

_VERDICT_STYLES = {AGREES: "green", FAILED: "bold red", UNREACHABLE: "dim"}


def chosen(entries: list[Entry], ids=(), paper: str = "", cost: str = "") -> list[Entry]:
    """The entries of these ids, of papers whose arXiv number or name contains `paper`, and of this
    cost.

    Raises `InputError` for an id, a paper or a cost that is not there.
    """
    if cost and cost not in COSTS:
        raise InputError(f"cost is {cost!r}; it must be one of {', '.join(COSTS)}")
    known = [one.id for one in entries]
    for id in ids:
        if id not in known:
            nearest = difflib.get_close_matches(id, known, 1)
            raise InputError(
                f"no entry {id!r}; --list names them "
                f"all{f' (did you mean {nearest[0]!r}?)' if nearest else ''}"
            )
    left = [one for one in entries if not ids or one.id in ids]
    left = [
        one
        for one in left
        if paper.lower() in f"{one.paper.arxiv} {one.paper.name}".lower() and cost in ("", one.cost)
    ]
    if not left:
        papers = sorted({one.paper.name for one in entries})
        raise InputError(
            f"no entry of paper {paper!r} and cost {cost!r}; papers are {'; '.join(papers)}"
        )
    return left


def run_reproduce(
    config: ReproduceConfig, ids, paper: str, cost: str, show: bool, out: str, console
) -> bool:
    """Checks (or lists) the entries that are asked for, keeps them in a run folder, and prints a
    table; whether none failed.
    """
    config.check()
    entries = load_entries(config.registry or own_folder())
    wanted = chosen(entries, ids, paper, cost)
    table = _Table(console)
    if show:
        table.listed(wanted)
        return True
    folder = RunFolder.open(out, config)
    table.head()
    judged, results = sum(one.check is not None for one in entries), []
    with Stop(lambda line: console.print(line, highlight=False)) as stop:
        for entry in wanted:
            results.append(_one(entry, folder, config.seed, judged, table))
            stop.here()
    gathered = store.load(folder)
    folder.write_text(
        "metrics.jsonl", "".join(json.dumps(_row(result)) + "\n" for result in gathered)
    )
    paths = report.write(folder, gathered, config.seed)
    failed = [result for result in results if result.verdict == FAILED]
    console.print(
        f"{report.summary(results)}, in {sum(result.seconds for result in results):.0f} s",
        highlight=False,
    )
    for path in paths:
        console.print(f"table: {path}", highlight=False)
    if failed:
        console.print(
            f"failed: {', '.join(result.entry.id for result in failed)}",
            style="bold red",
            highlight=False,
        )
    return not failed


def _one(entry, folder, seed, judged, table):
    result = store.reusable(folder, entry, FALSE_ALARM / judged)
    if result is None:
        with table.waiting(entry.id):
            result = decide(entry, seed, judged)
        store.save(folder, result)
    table.row(result)
    return result


def _row(result: Result) -> dict:
    expected, ours, z = report.cells(result)
    values = {
        "id": result.entry.id,
        "paper": result.entry.paper.arxiv,
        "expected": expected,
        "ours": ours,
        "z": z,
    }
    return values | {"verdict": result.verdict, "seconds": round(result.seconds, 2)}


class _Table:
    """Two lines an entry, printed as they come: the numbers in columns, and the claim below them."""

    def __init__(self, console):
        self._console = console
        self._widths = (24, 10, 20, 5, max(console.width - 24 - 10 - 20 - 5 - 4, 17))

    def head(self):
        self._print(("id", "expected", "ours ± error", "z", "verdict"), "bold")

    def row(self, result: Result):
        style = _VERDICT_STYLES.get(result.verdict, "yellow")
        self._print((result.entry.id, *report.cells(result), result.verdict), style)
        self._below(result.entry.claim)
        if result.reason:
            self._below(result.reason, style)

    def listed(self, entries):
        for entry in entries:
            source = (
                f"{entry.paper.name}, arXiv:{entry.paper.arxiv}"
                if entry.paper.arxiv
                else entry.paper.name
            )
            self._print((entry.id, entry.cost, entry.status, "", source), "")
            self._below(entry.claim)

    def waiting(self, text):
        return self._console.status(text)

    def _print(self, cells, style):
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        for width in self._widths:
            grid.add_column(width=width, overflow="fold")
        grid.add_row(
            Text(cells[0], style="bold"), *map(Text, cells[1:-1]), Text(cells[-1], style=style)
        )
        self._console.print(grid, soft_wrap=False)

    def _below(self, text, style="dim"):
        from rich.padding import Padding
        from rich.text import Text

        self._console.print(Padding(Text(text, style=style), (0, 0, 0, 2)), soft_wrap=False)
