"""`collapse-jax families`: what there is, read from the docstrings."""

import inspect
import re

from collapse_jax.core import curation, workflows
from collapse_jax.estimators.registry import families


def print_families(console) -> None:
    """Prints a table each of estimators, workflows and curations: the name with its options, one
    line, and the source.
    """
    from rich.table import Table

    for title, entries in _tables().items():
        table = Table(
            "name", "what it is", "source", title=title, title_justify="left", title_style="bold"
        )
        for row in entries:
            table.add_row(*row)
        console.print(table)


def _tables():
    wrappers = {
        name: getattr(curation, name)
        for name in ("best_of", "verified", "labelled_verifier", "tempered", "top_p", "detector")
    }
    flows = {
        name: getattr(workflows, name)
        for name in ("replace", "accumulate", "accumulate_subsample", "mix", "keep_or_continue")
    }
    known = {name: family.factory for name, family in families().items()}
    return {
        f"{title} (cj.{where})": [_row(name, function) for name, function in functions.items()]
        for title, where, functions in (
            ("estimators", "estimators", known),
            ("workflows", "workflows", flows),
            ("between sampling and fitting", "curation", wrappers),
        )
    }


def _row(name, function):
    text = inspect.getdoc(function) or ""
    source = re.search(r"^References:\n((?: .*\n?)+)", text, re.M)
    options = ", ".join(inspect.signature(function).parameters)
    return (
        f"{name}({options})",
        text.partition("\n")[0],
        " ".join(source[1].split()) if source else "",
    )
