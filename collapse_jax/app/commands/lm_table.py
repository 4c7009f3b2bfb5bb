"""The table of a language-model run: perplexities by generation, each with what it is."""

from typing import Any

import numpy as np

from collapse_jax.app.config.lm import PERPLEXITY_WORDS, LMConfig, perplexities_shown
from collapse_jax.runs.folder import RunFolder

_MEDIAN = "train_perplexity_first_median"


def table_of(folder: RunFolder) -> Any:
    """A rich table of the run by generation, means over seeds ± their standard deviation."""
    from rich.table import Column, Table

    rows, config = folder.rows(), folder.config()
    protocol = config.protocol if isinstance(config, LMConfig) else "paper"
    # What every row has: those of older versions lack some.
    perplexities = perplexities_shown(protocol, set.intersection(*map(set, rows)))
    # Words of at most ten letters: cut in a terminal of 80 columns they would say nothing.
    columns = {f"test text, {PERPLEXITY_WORDS[name]}": name for name in perplexities}
    columns["training set, median under the first model"] = _MEDIAN
    if any(f"newest_{_MEDIAN}" in row for row in rows):
        columns["of it, what the newest model wrote"] = f"newest_{_MEDIAN}"
    # Epochs are numbered as in metrics.csv, in results.nc and in messages.
    headers = ("generation", *columns, "best epoch, from 0", "seconds")
    table = Table(
        *(Column(name, overflow="fold", min_width=_longest_word(name)) for name in headers),
        title="perplexity of texts, by generation",
        title_justify="left",
        show_edge=False,
        pad_edge=False,
    )
    for generation in sorted({row["generation"] for row in rows}):
        group = [row for row in rows if row["generation"] == generation]
        table.add_row(
            str(generation),
            *(_over_seeds(group, name) for name in columns.values()),
            ", ".join(str(row["best_epoch"]) for row in group),
            f"{sum(row['seconds'] for row in group):.0f}",
        )
    before = {name: [row[name] for row in rows if name in row] for name in _before(perplexities)}
    known = "; ".join(
        f"{values[0]:.2f}, {PERPLEXITY_WORDS[name.removeprefix('pretrained_')]}"
        for name, values in before.items()
        if values
    )
    if known:
        table.caption = f"test perplexity before any fine-tuning: {known}"
    return table


def _longest_word(text):
    return max(map(len, text.split()))


def _before(perplexities):
    return [f"pretrained_{name}" for name in perplexities]


def _over_seeds(group, name):
    """The mean of a column, with its deviation if there are several seeds; "" if none has it."""
    values = [row[name] for row in group if name in row]
    if not values:
        return ""
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{deviation}"
