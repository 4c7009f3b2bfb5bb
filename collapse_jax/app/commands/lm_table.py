"""The tables of a language-model run by generation: perplexities and other metrics."""

from typing import Any

import numpy as np

from collapse_jax.app.config.lm import (
    PERPLEXITY_WORDS,
    LMConfig,
    context_words,
    perplexities_shown,
    window_words,
)
from collapse_jax.runs.folder import RunFolder

_MEDIAN = "train_perplexity_first_median"
_GAIN = "gain_lost"
# What a negative share of the gain lost means.
BELOW_0 = "below 0: better than generation 0"
_STEPS = "optimiser_steps"
# Columns of the second table; what no row has is left out. All of them fit 80 columns.
_MEASURES = {
    "entropy on test text": "test_entropy",
    "on the training set": "train_entropy_own",
    "on its own text": "example_entropy",
    "bits per byte of test text": "test_bits_per_byte",
    "different sequences": "different_sequences",
}


def table_of(folder: RunFolder) -> Any:
    """Returns a rich table of the run by generation: means over seeds ± standard deviations."""
    from rich.table import Table

    rows, config = folder.rows(), folder.config()
    protocol, context = "paper", ""
    if isinstance(config, LMConfig):
        protocol, context = config.protocol, f"; {context_words(config.block_length)}"
    # What every row has: those of older versions lack some.
    perplexities = perplexities_shown(protocol, set.intersection(*map(set, rows)))
    # Words of at most ten letters: cut in a terminal of 80 columns they would say nothing.
    columns = {f"test text, {PERPLEXITY_WORDS[name]}": name for name in perplexities}
    columns["training set, median under the first model"] = _MEDIAN
    if any(f"newest_{_MEDIAN}" in row for row in rows):
        columns["its part that the newest model wrote"] = f"newest_{_MEDIAN}"
    if any(_GAIN in row for row in rows):
        columns["gain lost, %"] = _GAIN
    cells = _cells_of(rows, columns)
    headers = list(cells)
    # Eight columns fit 80 characters where all are as narrow as their words and numbers.
    narrow = headers if len(headers) > 7 else ()
    table = Table(
        *(_column(name, texts, is_narrow=name in narrow) for name, texts in cells.items()),
        title=f"perplexity of texts, by generation{context}",
        title_justify="left",
        show_edge=False,
        pad_edge=False,
    )
    for texts in zip(*cells.values(), strict=True):
        table.add_row(*texts)
    table.caption = _caption(rows, perplexities)
    return table


def _cells_of(rows, columns):
    """The cells of each column of the first table, by its header."""
    # Epochs are numbered as in metrics.csv, in results.nc and in messages.
    cells = {name: [] for name in ("generation", *columns, "best epoch, from 0", "seconds")}
    for generation in sorted({row["generation"] for row in rows}):
        group = [row for row in rows if row["generation"] == generation]
        cells["generation"].append(str(generation))
        for header, name in columns.items():
            scale = (100, 0) if name == _GAIN else ()
            cells[header].append(over_seeds(group, name, *scale))
        cells["best epoch, from 0"].append(", ".join(str(row["best_epoch"]) for row in group))
        cells["seconds"].append(f"{sum(row['seconds'] for row in group):.0f}")
    return cells


def _caption(rows, perplexities):
    """The perplexity before fine-tuning, and the meaning of the share of the gain; or None."""
    before = {name: [row[name] for row in rows if name in row] for name in _before(perplexities)}
    known = "; ".join(
        f"{values[0]:.2f}, {PERPLEXITY_WORDS[name.removeprefix('pretrained_')]}"
        for name, values in before.items()
        if values
    )
    said = [f"test perplexity before any fine-tuning: {known}"] if known else []
    if any(_GAIN in row for row in rows):
        said.append("gain lost: the share of fine-tuning's gain, in nats, that has been lost again")
        if any((row.get(_GAIN) or 0) < 0 for row in rows):
            said.append(BELOW_0)
    return ". ".join(said) or None


def measures_table(folder: RunFolder) -> Any | None:
    """Returns a rich table of the other metrics by generation; None for runs of older versions.

    Cells are means over seeds ± standard deviations. Strided perplexities name their context.
    """
    from rich.table import Table

    rows, config = folder.rows(), folder.config()
    columns = {words: name for words, name in _MEASURES.items() if any(name in row for row in rows)}
    window = config.window() if isinstance(config, LMConfig) else None
    if window and any("test_perplexity_strided" in row for row in rows):
        words = f"test perplexity, exp of the mean loss, {window_words(window)}"
        columns[words] = "test_perplexity_strided"
    # Of fits that are all equally long a column says nothing, and seven columns fit 80 characters.
    differ = len({row[_STEPS] for row in rows if _STEPS in row}) > 1
    if differ and len(columns) <= len(_MEASURES):
        columns["optimiser steps"] = _STEPS
    if not columns:
        return None
    cells = {"generation": []} | {words: [] for words in columns}
    for generation in sorted({row["generation"] for row in rows}):
        group = [row for row in rows if row["generation"] == generation]
        cells["generation"].append(str(generation))
        for words, name in columns.items():
            digits = 0 if name in ("different_sequences", _STEPS) else 2
            cells[words].append(over_seeds(group, name, digits=digits))
    table = Table(
        *(_column(name, texts, is_narrow=len(cells) > 6) for name, texts in cells.items()),
        title="entropy of the predictions (nats), and more, by generation",
        title_justify="left",
        show_edge=False,
        pad_edge=False,
    )
    for texts in zip(*cells.values(), strict=True):
        table.add_row(*texts)
    return table


def _column(name, texts=(), is_narrow=False):
    """A column that is wide enough for every word of its name and its cells.

    is_narrow: whether the column is exactly as wide as that.
    """
    from rich.table import Column

    width = max(map(_longest_word, [name, *texts]))
    return Column(name, overflow="fold", min_width=width, max_width=width if is_narrow else None)


def _longest_word(text):
    return max(map(len, text.split()), default=0)


def _before(perplexities):
    return [f"pretrained_{name}" for name in perplexities]


def over_seeds(group: list[dict], name: str, factor: float = 1, digits: int = 2) -> str:
    """Returns the mean of a column, with its standard deviation over seeds; "" if it is missing."""
    values = [factor * row[name] for row in group if name in row]
    if not values:
        return ""
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"
