"""Writes the pages of docs/reference/ from the package itself, each time the site is built.

A page is Markdown whose blocks are directives of autodoc, or the --help of a command. The pages are
not committed: what they say is in docstrings.
"""

import inspect
import os
import re
import subprocess
import sys

from pages import write_page

import collapse_jax as cj
from collapse_jax.app.commands import COMMANDS
from collapse_jax.estimators import registry

PYTHON = {
    "A process": (
        "generational_process estimator sources workflows ecosystem infinite_sample points"
    ),
    "Your own data": "read_data",
    "Simulate and run": (
        "simulate simulate_summary simulate_grid simulate_couplings run estimate cache point_key"
    ),
    "Results": (
        "Trace RunFolder load_generation measure table Interrupted DivergenceError InputError"
    ),
    "Metrics": "metrics",
    "Figures": "plots",
    "Analyses": "profile early_warning hysteresis genealogy genealogy_of genealogy_process policy",
    "Your own family": (
        "from_sklearn register families check_estimator check_workflow FitInfo Dataset"
    ),
    "Types": "Estimator Source Workflow Process State StepInfo Family Watcher",
}
SOURCES = "normal categorical population dataset"
WORKFLOWS = (
    "replace mix keep_or_continue accumulate accumulate_subsample keep_real switch contaminated"
    " weighted planned"
)
CURATIONS = "best_of verified labelled_verifier tempered top_p detector"
PLOTS = "trajectories phase perplexity histograms"
METRICS = " ".join(
    name for name in cj.metrics.__all__ if not name.startswith("Of") and name != "resolve_metrics"
)
POINTS = "of_sample append merge subsample compact filled reserve summarise"


def _block(directive: str, name: str, *options: str) -> str:
    lines = [f".. {directive}:: {name}", *(f"   :{option}:" for option in options)]
    return "\n".join(["```{eval-rst}", *lines, "```", ""])


def _named(path: str) -> str:
    """A block for one public name of the package, below its short name."""
    value = cj
    for part in path.split("."):
        value = getattr(value, part)
    directive = "autoclass" if inspect.isclass(value) else "autofunction"
    options = ("members",) if inspect.isclass(value) and not issubclass(value, Exception) else ()
    return f"### `cj.{path}`\n\n" + _block(directive, f"collapse_jax.{path}", *options)


def _python() -> str:
    parts = ["# Python\n", "The public names of `import collapse_jax as cj`.\n"]
    modules = {
        "sources": SOURCES,
        "workflows": WORKFLOWS,
        "points": POINTS,
        "metrics": METRICS,
        "plots": PLOTS,
    }
    for title, names in PYTHON.items():
        parts.append(f"## {title}\n")
        for name in names.split():
            inner = modules.get(name)
            if inner is None:
                parts.append(_named(name))
            else:
                parts += [_named(f"{name}.{function}") for function in inner.split()]
    parts.append("## Curation: between sampling and fitting\n")
    parts += [_named(f"curation.{name}") for name in CURATIONS.split()]
    parts += [_named(f"verifiers.{name}") for name in cj.verifiers.__all__]
    return "\n".join(parts)


def _families() -> str:
    parts = ["# Families\n"]
    parts.append("Use `cj.estimators.NAME(options)`, or `collapse-jax simulate --family NAME`.\n")
    parts.append("[](../families.md) compares our results with published ones.\n")
    for name in registry.families():
        if hasattr(cj.estimators, name):
            parts.append(_named(f"estimators.{name}"))
    return "\n".join(parts).replace("\n### ", "\n## ")


def _theory() -> str:
    parts = ["# Theory\n"]
    parts.append("Closed forms and exact recursions in float64: `cj.theory.MODULE.FUNCTION`.\n")
    conventions = str(inspect.getdoc(cj.theory)).partition("Conventions")[2]
    parts.append("Conventions" + conventions + "\n")
    for name in sorted(cj.theory.__all__):
        parts.append(f"## {name}\n")
        parts.append(_block("automodule", f"collapse_jax.theory.{name}", "members"))
    return "\n".join(parts)


def _language_models() -> str:
    parts = ["# Language models\n", "The names of `cj.lm`. See also [](../models.md).\n"]
    for name in sorted(cj.lm.__all__, key=str.lower):
        value = getattr(cj.lm, name)
        if callable(value) and (inspect.getdoc(value) or "").strip():
            parts.append(_named(f"lm.{name}"))
    return "\n".join(parts).replace("\n### ", "\n## ")


def _help(command: str) -> str:
    start = "from collapse_jax.app.cli import main; main()"
    words = [sys.executable, "-c", start, command, "--help-all"]
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode or not done.stdout:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr}")
    return done.stdout.rstrip()


def _commands() -> str:
    parts = ["# Commands\n", "Every command with all its options. `--help` shows a shorter text.\n"]
    for name in COMMANDS:
        parts.append(f"## `{name}`\n\n```text\n{_help(name)}\n```\n")
    return "\n".join(parts)


PAGES = {
    "python": _python,
    "families": _families,
    "theory": _theory,
    "language-models": _language_models,
    "commands": _commands,
}


def write(app) -> None:
    """Writes every page whose text changed."""
    for name, make in PAGES.items():
        write_page(app, name, make() + "\n")


def plain(app, what, name, obj, options, lines) -> None:
    """Docstrings are plain text: what reStructuredText would read as markup is escaped.

    The fields of a class, a line each as "name: what it is", become a section of their own.
    """
    lines[:] = [_escaped(line) for line in (_with_fields(lines) if what == "class" else lines)]


def _escaped(line: str) -> str:
    pieces = line.split("`")
    for at, piece in enumerate(pieces):
        if at % 2 == 0:
            piece = piece.replace("*", r"\*").replace("|", r"\|")
            piece = re.sub(r"(?<=\w)_(?!\w)", r"\\_", piece)
            # Code is followed by a space or a stop; an escaped space is none to the reader.
            pieces[at] = rf"\ {piece}" if at and re.match(r"[\w(\[]", piece) else piece
    return "`".join(pieces)


def _with_fields(lines: list[str]) -> list[str]:
    is_field = re.compile(r"[a-z][a-z0-9_]*(, [a-z0-9_]+)*: ").match
    first = next((at for at, line in enumerate(lines) if is_field(line)), None)
    if first is None or lines[first - 1].strip():
        return lines
    last = next((at for at in range(first, len(lines)) if not lines[at].strip()), len(lines))
    fields = [f"    {line}" for line in lines[first:last]]
    return [*lines[:first], "Attributes:", *fields, "", *lines[last:]]


def setup(app) -> dict:
    """Registers both with Sphinx."""
    app.connect("builder-inited", write)
    # Before napoleon, whose own markup is meant.
    app.connect("autodoc-process-docstring", plain, priority=100)
    return {"parallel_read_safe": True}
