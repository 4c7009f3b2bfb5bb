"""Writes the page of metrics: what each is, which families offer it, whether it needs the truth.

Names and families come from the registry. Sphinx warns of a metric that a family offers and that
has no formula.
"""

import inspect

import formulas_of_metrics as formulas
from pages import write_page
from sphinx.util import logging

from collapse_jax.estimators import registry

logger = logging.getLogger(__name__)
GROUPS = {
    "Size and shape": formulas.SHAPE,
    "Regressions": formulas.REGRESSION,
    "Distances to the real distribution": formulas.DISTANCES,
}
# The one family whose metrics have names of columns.
TABLES = "gaussian_copula"


def offered() -> dict[str, dict[str, list[str]]]:
    """Metric -> {"metrics": families, "distances": families} of all that can be made."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, family in registry.families().items():
        for kind in ("metrics", "distances"):
            # One dimension may have metrics that others lack.
            held = [getattr(made, kind, None) or {} for made in _made(family)]
            for metric in dict.fromkeys(metric for of_one in held for metric in of_one):
                found.setdefault(metric, {}).setdefault(kind, []).append(name)
    return found


def _made(family):
    """Estimators in two dimensions and in one; some examples would set up a network for seconds."""
    needed = [
        name
        for name, one in inspect.signature(family.factory).parameters.items()
        if one.default is one.empty and one.kind is not one.VAR_KEYWORD
    ]
    if needed in ([], ["dim"]):
        return [family.factory(*(dim for _ in needed)) for dim in ((2, 1) if needed else (2,))]
    return [family.example()[0]] if family.example else []


def without(found: dict[str, dict[str, list[str]]]) -> list[str]:
    """Metrics that are offered and have no formula."""
    known = {metric for group in GROUPS.values() for metric in group}
    return [one for one, by in found.items() if one not in known and not _is_column(one, by)]


def _is_column(metric, by):
    families = {name for names in by.values() for name in names}
    return families == {TABLES} and any(metric.startswith(f"{one}_") for one in formulas.COLUMNS)


def page() -> str:
    """The page in Markdown."""
    found = offered()
    for metric in without(found):
        logger.warning("docs/_site/formulas_of_metrics.py has no formula of %s", metric)
    parts = [
        "# Metrics",
        "This page has the formula of every metric, and the families that offer it. $p$ is the "
        "model of a generation and $p_0$ the real distribution, $x$ a draw of the model, $F$ a "
        "distribution function, $w$ the weights of a regression, $n_v$ the count of token $v$. "
        "$\\mu$ and $\\Sigma$ are a mean and a covariance in $d$ dimensions, $\\lambda_j$ the "
        "eigenvalues of the covariance. Index 0 means the real distribution. Logarithms are "
        "natural.",
        "A distance needs a source whose distribution is known. With `remember_first=True` a "
        "process also offers each distance to the model of generation 0, as `NAME_to_first`. "
        "How metrics are chosen: [](../metrics.md).",
    ]
    for title, group in GROUPS.items():
        parts.append(f"## {title}")
        for metric, (formula, words) in group.items():
            parts += _entry(metric, formula, words, _offer(found.get(metric)))
    parts += ["## Columns of a table", f"For `{TABLES}`. COLUMN is the name of a column."]
    for metric, (formula, words) in formulas.COLUMNS.items():
        truth = metric == "total_variation"
        parts += _entry(f"{metric}_COLUMN", formula, words, _offer(_kind(truth, [TABLES])))
    parts += [
        "## Points compared with real ones",
        "For any family: `cj.metrics`, with real points.",
    ]
    for metric, (formula, words) in formulas.POINTS.items():
        parts += _entry(
            metric, formula, words, "Any family. Needs real points, but not their distribution."
        )
    parts += [
        "## Language models",
        "Columns of `metrics.csv`. [](../language-model.md) has the text and the cost of each.",
    ]
    for metric, (formula, words) in formulas.TEXT.items():
        parts += _entry(metric, formula, words, "")
    return "\n\n".join(parts) + "\n"


def _kind(truth, names):
    return {"distances" if truth else "metrics": names}


def _entry(metric, formula, words, offer):
    return [f"### `{metric}`", f"$$\n{formula}\n$$", " ".join((words, offer)).strip()]


def _offer(by):
    if not by:
        return "Offered if its option is set. Does not need the real distribution."
    names = [name for kind in ("metrics", "distances") for name in by.get(kind, ())]
    listed = ", ".join(f"`{name}`" for name in names)
    needs = "Needs" if "distances" in by else "Does not need"
    return f"Offered by {listed}. {needs} the real distribution."


def write(app) -> None:
    """Writes the page if its text changed."""
    write_page(app, "metrics", page())


def setup(app) -> dict:
    """Registers it with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
