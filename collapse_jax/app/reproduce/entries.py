"""Published results as entries: what is claimed, by whom, and the simulation that checks it."""

import importlib.util
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from collapse_jax.app.reproduce.compare import Comparison
from collapse_jax.errors import InputError

STATUSES = ("published number", "published formula", "derived here")
_ID = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)
COSTS = ("cpu", "gpu", "weights")


class Paper(NamedTuple):
    """arxiv: its number. name: authors and year. title."""

    arxiv: str
    name: str
    title: str


class Entry(NamedTuple):
    """One result of one paper.

    check(key) -> the comparisons that decide it; None where no machine like this can (then
    `command` says what would).
    claim: one sentence. status: one of STATUSES. setting: sizes, generations, chains. oracle: where
    the expected numbers come from, and from which place of the paper. cost: one of COSTS. x, y,
    log: axes of its plot, log among "", "x", "y", "xy".
    differs: how the paper's text and its code disagree, where they do. disagrees: why we think the
    published number is not met.
    paper, file: filled in when the file is loaded.
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
    check: Callable[[object], Sequence[Comparison] | Comparison] | None
    paper: Paper | None = None
    file: pathlib.Path | None = None


class OutOfReach(Exception):
    """Raised by a check that needs what is not here (data, weights); its text says what, and the
    command that would do it.
    """


def entry(
    id: str,
    *,
    claim,
    status,
    setting,
    oracle,
    cost="cpu",
    x="generation",
    y="",
    log="",
    differs="",
    disagrees="",
):
    """Decorator that makes an `Entry` of a function key -> Comparison or several."""

    def make(check):
        return Entry(
            id, claim, status, setting, oracle, cost, x, y, log, differs, disagrees, "", check
        )

    return make


def out_of_reach(id: str, *, claim, status, setting, oracle, cost, command) -> Entry:
    """An `Entry` that no laptop decides: `command` is what would."""
    return Entry(id, claim, status, setting, oracle, cost, "", "", "", "", "", command, None)


def own_folder() -> pathlib.Path:
    """Where our own entries are: experiments/published of a checkout, or their copy in an installed
    package.
    """
    package = pathlib.Path(__file__).parent
    checkout = package.parents[2] / "experiments" / "published"
    return checkout if checkout.is_dir() else package / "published"


def load_entries(folder) -> list[Entry]:
    """The entries of all Python files of a folder, in the order of names and lines.

    Raises `InputError` for a folder without any, for a file that cannot be loaded, for two of one
    id, and for an entry that lacks its paper or misnames status or cost.
    """
    files = sorted(pathlib.Path(folder).glob("*.py")) if pathlib.Path(folder).is_dir() else []
    entries = [one for file in files for one in _entries_of(file)]
    if not entries:
        raise InputError(
            f"registry is {str(folder)!r}; it must be a folder of Python files with entries in them"
        )
    seen = {}
    for one in entries:
        if one.id in seen:
            raise InputError(
                f"entry id {one.id!r} is in {seen[one.id].name} and in {one.file.name}; "
                "every id must be there once"
            )
        seen[one.id] = one.file
        check_id(one.id, one.file.name)
        for name, known in (("status", STATUSES), ("cost", COSTS)):
            if getattr(one, name) not in known:
                raise InputError(
                    f"{one.file.name}: {name} of {one.id} is {getattr(one, name)!r}; it "
                    f"must be one of {', '.join(known)}"
                )
        if not isinstance(one.paper, Paper):
            raise InputError(f"{one.file.name}: it needs PAPER = Paper(arxiv, name, title)")
    return entries


def check_id(id, where: str) -> None:
    """Raises `InputError` unless an id can name files beside each other: letters, digits, '-', '_'
    and '.', the first no '.'.
    """
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise InputError(
            f"{where}: entry id {id!r} must be up to 100 letters, digits, '-', '_' and "
            "'.', not beginning with '.'"
        )


def _entries_of(file):
    spec = importlib.util.spec_from_file_location(f"collapse_jax_published_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"registry: {file.name} cannot be loaded ({type(error).__name__}: {error})".partition(
                "\n"
            )[0]
        ) from error
    found = [value for value in vars(module).values() if isinstance(value, Entry)]
    return [one._replace(paper=getattr(module, "PAPER", None), file=file) for one in found]
