"""`collapse-jax families`: lists every name that a user may give, with its source."""

import inspect
import re
from typing import TYPE_CHECKING

from collapse_jax.app.config.lm.presets import PRESETS
from collapse_jax.core import curation, workflows
from collapse_jax.estimators import verifiers
from collapse_jax.estimators.registry import broken, families

if TYPE_CHECKING:
    from rich.console import Console

_WORKFLOWS = (
    "replace", "accumulate", "accumulate_subsample", "keep_real", "mix", "keep_or_continue",
    "switch", "contaminated", "weighted", "planned",
)  # fmt: skip
_CURATIONS = ("best_of", "verified", "labelled_verifier", "tempered", "top_p", "detector")


def print_families(console: "Console") -> None:
    """Prints one table each of estimators, workflows, curations and published loops.

    Lines below the tables name the families of other packages that cannot be loaded, and why.
    """
    from rich.table import Table

    for title, rows in _tables().items():
        table = Table(
            "name", "description", "source", title=title, title_justify="left", title_style="bold"
        )
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for reason in broken().values():
        console.print(f"not available: {reason}", style="yellow", highlight=False)


def _tables():
    """Title -> rows of (name with options, summary, source)."""
    factories = {
        "estimators (cj.estimators)": {name: family.factory for name, family in families().items()},
        "workflows (cj.workflows)": {name: getattr(workflows, name) for name in _WORKFLOWS},
        "between sampling and fitting (cj.curation)": {
            name: getattr(curation, name) for name in _CURATIONS
        },
        "verifiers that are refitted in later generations (cj.verifiers)": {
            name: getattr(verifiers, name) for name in verifiers.__all__
        },
    }
    loops = [(name, preset.title, preset.source) for name, preset in PRESETS.items()]
    return {
        title: [_row(name, factory) for name, factory in named.items()]
        for title, named in factories.items()
    } | {"published loops (collapse-jax lm --preset NAME; docs/presets.md)": loops}


def _row(name, factory):
    text = str(inspect.getdoc(factory) or "")
    try:
        options = ", ".join(inspect.signature(factory).parameters)
    except (TypeError, ValueError):  # a factory that is written in C does not tell
        options = "..."
    return f"{name}({options})", _in_a_line(text.partition("\n\n")[0]), _source(text)


def _source(text):
    """A docstring's "References:" section, or its paragraph "Source: ..."; "" without either."""
    section = re.search(r"^References:\n((?: +.*\n?|\n)+)", text, re.M)
    paragraph = re.search(r"^Source: (.*?)(?=\n\S*:|\n\n|\Z)", text, re.S | re.M)
    match = section or paragraph
    return _in_a_line(match[1]) if match else ""


def _in_a_line(text):
    return " ".join(text.split())
