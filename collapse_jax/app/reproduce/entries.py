"""Published results as entries: what is claimed, by whom, and the simulation that checks it."""

import importlib.util
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from collapse_jax.app.reproduce.compare import Comparison
from collapse_jax.errors import InputError, one_of

STATUSES = ("published number", "published formula", "derived here")
COSTS = ("cpu", "gpu", "weights")
_ID = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)

Check = Callable[[Any], Sequence[Comparison] | Comparison]
"""Takes a key, and returns the comparisons that decide an entry."""


class Paper(NamedTuple):
    """A paper.

    arxiv: Its number, or "".
    name: Authors and year.
    title: Its title.
    """

    arxiv: str
    name: str
    title: str


class Entry(NamedTuple):
    """One result of one paper.

    id: Its name, unique in the registry.
    claim: One sentence.
    status: One of `STATUSES`.
    setting: Sizes, generations, chains.
    oracle: Where the expected numbers come from: the derivation, or the place in the paper.
    cost: One of `COSTS`.
    x, y: Labels of its plot's axes.
    log: Which of them are logarithmic: "", "x", "y" or "xy".
    differs: How the paper's text and its code disagree, if they do.
    disagrees: Why we think that the published number is not met, if it is not.
    command: What would check an entry that no such machine can check.
    check: The function that checks it; None if no such machine can.
    paper, file: Set when the file is loaded.
    """

    id: str
    claim: str
    status: str
    setting: str
    oracle: str
    cost: str
    x: str
    y: str
    log: str
    differs: str
    disagrees: str
    command: str
    check: Check | None
    paper: Paper = Paper("", "", "")
    file: pathlib.Path | None = None


class OutOfReach(Exception):
    """Raised by a check that needs data or weights that are not here.

    Its text says which, and the command that would do the check.
    """


def entry(
    id: str,
    *,
    claim: str,
    status: str,
    setting: str,
    oracle: str,
    cost: str = "cpu",
    x: str = "generation",
    y: str = "",
    log: str = "",
    differs: str = "",
    disagrees: str = "",
) -> Callable[[Check], Entry]:
    """A decorator that makes an `Entry` of a `Check`; its arguments are the entry's fields."""
    fields = (claim, status, setting, oracle, cost, x, y, log, differs, disagrees)

    def make(check: Check) -> Entry:
        return Entry(id, *fields, command="", check=check)

    return make


def out_of_reach(
    id: str, *, claim: str, status: str, setting: str, oracle: str, cost: str, command: str
) -> Entry:
    """An `Entry` that no laptop decides: `command` is what would."""
    return Entry(id, claim, status, setting, oracle, cost, "", "", "", "", "", command, None)


def own_folder() -> pathlib.Path:
    """The folder of our own entries: experiments/published, or its copy in an installed package."""
    package = pathlib.Path(__file__).parent
    checkout = package.parents[2] / "experiments" / "published"
    return checkout if checkout.is_dir() else package / "published"


def load_entries(folder: str | pathlib.Path) -> list[Entry]:
    """The entries of all Python files of a folder, in the order of file names and lines.

    Raises:
        InputError: If there are none, a file cannot be loaded, two entries share an id, or an entry
            lacks its paper or has an unknown status or cost.
    """
    files = sorted(pathlib.Path(folder).glob("*.py")) if pathlib.Path(folder).is_dir() else []
    entries = [loaded for file in files for loaded in _entries_of(file)]
    if not entries:
        raise InputError(
            f"registry is {str(folder)!r}; it must be a folder of Python files with entries in them"
        )
    files_of_ids = {}
    for loaded in entries:
        id, file = loaded.id, loaded.file.name if loaded.file else ""
        if id in files_of_ids:
            raise InputError(
                f"entry id {id!r} is in {files_of_ids[id]} and in {file}; every id must be there "
                "once"
            )
        files_of_ids[id] = file
        check_id(id, file)
        one_of(f"{file}: status of {id}", loaded.status, STATUSES)
        one_of(f"{file}: cost of {id}", loaded.cost, COSTS)
    return entries


def check_id(id: object, where: str) -> None:
    """Checks that an id can name a file: letters, digits, '-', '_' and '.', not first a '.'.

    Raises:
        InputError: If it cannot.
    """
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise InputError(
            f"{where}: entry id {id!r} must be up to 100 letters, digits, '-', '_' and '.', not "
            "beginning with '.'"
        )


def _entries_of(file):
    spec = importlib.util.spec_from_file_location(f"collapse_jax_published_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # the name ends with .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"registry: {file.name} cannot be loaded ({reason})") from error
    entries = [value for value in vars(module).values() if isinstance(value, Entry)]
    paper = getattr(module, "PAPER", None)
    if entries and not isinstance(paper, Paper):
        raise InputError(f"{file.name}: it needs PAPER = Paper(arxiv, name, title)")
    return [one._replace(paper=paper, file=file) for one in entries]
