"""`collapse-jax reproduce`: checks the published results that this machine can check."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from collapse_jax.app.config.reproduce import ReproduceConfig
from collapse_jax.app.reproduce import FALSE_ALARM, decide, load_entries, own_folder, report, store
from collapse_jax.app.reproduce.entries import COSTS, Entry
from collapse_jax.app.reproduce.judge import AGREES, FAILED, UNREACHABLE, Result
from collapse_jax.errors import InputError, did_you_mean, one_of
from collapse_jax.runs import strict_json
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.stopping import Stop

if TYPE_CHECKING:
    from rich.console import Console

_VERDICT_STYLES = {AGREES: "green", FAILED: "bold red", UNREACHABLE: "dim"}
# Widths of the table's columns but the last, and the least of that.
_WIDTHS, _NARROWEST = (24, 10, 20, 5), 17


def chosen(
    entries: list[Entry], ids: Sequence[str] = (), paper: str = "", cost: str = ""
) -> list[Entry]:
    """Returns the entries with these ids, papers and cost; all by default.

    Args:
        entries: To choose from.
        ids: () is all.
        paper: Part of a paper's arXiv number or name.
        cost: One of `COSTS`, or "".

    Raises:
        InputError: For an unknown id or cost, and if no entry is left.
    """
    if cost:
        one_of("cost", cost, COSTS)
    known = [entry.id for entry in entries]
    for id in ids:
        if id not in known:
            raise InputError(
                f"there is no entry {id!r}; --list shows all entries{did_you_mean(id, known)}"
            )
    left = [
        entry
        for entry in entries
        if (not ids or entry.id in ids)
        and paper.lower() in f"{entry.paper.arxiv} {entry.paper.name}".lower()
        and cost in ("", entry.cost)
    ]
    if not left:
        papers = sorted({entry.paper.name for entry in entries})
        raise InputError(
            f"there is no entry of paper {paper!r} and cost {cost!r}; papers are "
            f"{'; '.join(papers)}"
        )
    return left


def run_reproduce(
    config: ReproduceConfig,
    out: str,
    console: "Console",
    ids: Sequence[str] = (),
    paper: str = "",
    cost: str = "",
    show: bool = False,
) -> bool:
    """Checks the chosen entries, stores the results in a run folder, and prints a table.

    Args:
        config: Seed and registry.
        out: The run folder.
        console: Where to print.
        ids, paper, cost: As for `chosen`.
        show: Whether to list the entries and check nothing.

    Returns:
        Whether no entry failed.
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
    judged, results = sum(entry.check is not None for entry in entries), []
    with Stop(lambda line: console.print(line, highlight=False)) as stop:
        for entry in wanted:
            results.append(_result_of(entry, folder, config.seed, judged, table))
            stop.here()
    gathered = store.load(folder)
    _say_what_is_older(folder, entries, wanted, judged, console)
    rows = "".join(strict_json.dumps(_row(result)) + "\n" for result in gathered)
    folder.write_text("metrics.jsonl", rows)
    paths = report.write(folder, gathered, config.seed)
    seconds = sum(result.seconds for result in results)
    console.print(f"{report.summary(results)}, in {seconds:.0f} s", highlight=False)
    for path in paths:
        console.print(f"table: {path}", highlight=False)
    failed = [result.entry.id for result in results if result.verdict == FAILED]
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="bold red", highlight=False)
    return not failed


def _result_of(entry, folder, seed, judged, table):
    """The result of an entry; it is read from the folder if the same code computed it."""
    result = store.reusable(folder, entry, FALSE_ALARM / judged)
    if result is None:
        with table.waiting(entry.id):
            result = decide(entry, seed, judged)
        store.save(folder, result)
    table.row(result)
    return result


def _say_what_is_older(folder, entries, wanted, judged, console):
    """Prints which results in the table come from an earlier call with different code."""
    others = {entry.id: entry for entry in entries if entry not in wanted}
    level = FALSE_ALARM / max(judged, 1)
    older = [
        path.stem
        for path in sorted((folder.path / "results").glob("*.json"))
        if path.stem not in {entry.id for entry in wanted}
        if path.stem not in others or store.reusable(folder, others[path.stem], level) is None
    ]
    if older:
        console.print(
            f"results in the table from an earlier version of the code: {', '.join(older)}; name "
            "them on the command line to check them again",
            highlight=False,
        )


def _row(result):
    expected, ours, z = report.cells(result)
    return {
        "id": result.entry.id,
        "paper": result.entry.paper.arxiv,
        "expected": expected,
        "ours": ours,
        "z": z,
        "verdict": result.verdict,
        "seconds": round(result.seconds, 2),
    }


class _Table:
    """Prints two lines per entry as soon as it is done: numbers in columns, then the claim."""

    def __init__(self, console):
        self._console = console
        last = console.width - sum(_WIDTHS) - len(_WIDTHS)
        self._widths = (*_WIDTHS, max(last, _NARROWEST))

    def head(self):
        self._print(("id", "expected", "ours ± error", "z", "verdict"), "bold")

    def row(self, result: Result):
        style = _VERDICT_STYLES.get(result.verdict, "yellow")
        self._print((result.entry.id, *report.cells(result), result.verdict), style)
        self._below(result.entry.claim)
        if decided := report.decided_by(result):
            self._below(decided)
        if result.reason:
            self._below(result.reason, style)

    def listed(self, entries):
        for entry in entries:
            number = f", arXiv:{entry.paper.arxiv}" if entry.paper.arxiv else ""
            source = f"{entry.paper.name}{number}"
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
        first, *middle, last = cells
        grid.add_row(Text(first, style="bold"), *map(Text, middle), Text(last, style=style))
        self._console.print(grid, soft_wrap=False)

    def _below(self, text, style="dim"):
        from rich.padding import Padding
        from rich.text import Text

        self._console.print(Padding(Text(text, style=style), (0, 0, 0, 2)), soft_wrap=False)
