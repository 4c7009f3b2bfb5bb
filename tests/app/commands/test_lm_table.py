"""The table and the lines of a language-model run, from rows that are made up."""

import dataclasses
import io
import json

import pytest

from collapse_jax.app.commands.lm_table import measures_table, table_of
from collapse_jax.app.commands.progress import LanguageModelProgress
from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm import context_words
from collapse_jax.app.console import PlainConsole
from collapse_jax.runs.folder import RunFolder

MEDIAN, EPOCH = "training set, median under the first model", "best epoch, from 0"
MEAN, TOTAL = "mean over blocks (paper)", "exp of the mean loss (released code)"


def row(chain, generation, **more):
    return {
        "chain": chain,
        "generation": generation,
        "test_perplexity": 20.0 + chain + generation,
        "test_perplexity_mean": 30.0 + 2 * chain + generation,
        "train_perplexity_first_median": 5.0 + generation,
        "best_epoch": chain,
        "seconds": 1.4,
    } | more


@pytest.fixture
def table(tmp_path):
    """table(rows, protocol) -> its header, its cells by row, and its caption."""

    def make(rows, protocol="paper"):
        folder, config = RunFolder(tmp_path), LMConfig(protocol=protocol).resolved()
        settings = {"command": "lm"} | dataclasses.asdict(config)
        folder.write_text("config.json", json.dumps(settings))
        folder.write_rows(rows)
        made = table_of(folder)
        cells = [list(column.cells) for column in made.columns]
        header = [column.header for column in made.columns]
        return header, [list(row) for row in zip(*cells, strict=True)], made.caption

    return make


def test_both_perplexities_by_name_the_protocols_first(table):
    before = {"pretrained_test_perplexity": 100.0, "pretrained_test_perplexity_mean": 115.0}
    rows = [row(0, 0, **before), row(1, 0, **before), row(0, 1), row(1, 1)]
    header, cells, caption = table(rows)
    assert header == [
        "generation",
        f"test text, {MEAN}",
        f"test text, {TOTAL}",
        MEDIAN,
        EPOCH,
        "seconds",
    ]
    assert cells == [
        # the deviation of two values (ddof = 1) is their distance over the root of 2
        ["0", "31.00 ± 1.41", "20.50 ± 0.71", "5.00 ± 0.00", "0, 1", "3"],
        ["1", "32.00 ± 1.41", "21.50 ± 0.71", "6.00 ± 0.00", "0, 1", "3"],
    ]
    assert caption == f"test perplexity before any fine-tuning: 115.00, {MEAN}; 100.00, {TOTAL}"
    header, cells, caption = table(rows, "released-code")
    assert header[1:3] == [f"test text, {TOTAL}", f"test text, {MEAN}"]
    assert cells[0][1:3] == ["20.50 ± 0.71", "31.00 ± 1.41"]
    assert caption.startswith("test perplexity before any fine-tuning: 100.00")


def test_an_older_run_has_one_of_them_under_its_own_name(table):
    rows = [row(0, 0, pretrained_test_perplexity=100.0), row(0, 1)]
    del rows[1]["test_perplexity_mean"]
    header, cells, caption = table(rows)
    assert header[1:3] == [f"test text, {TOTAL}", MEDIAN]
    assert [line[1] for line in cells] == ["20.00", "21.00"]
    assert caption == f"test perplexity before any fine-tuning: 100.00, {TOTAL}"
    del rows[0]["pretrained_test_perplexity"]
    assert table(rows)[2] is None


def test_the_epoch_is_the_recorded_one(table):
    """It counts from 0, as metrics.csv, results.nc and `FineTuned` do."""
    header, cells, _ = table([row(0, 0, best_epoch=0), row(1, 0, best_epoch=4)])
    assert cells[0][header.index(EPOCH)] == "0, 4"


def test_what_the_newest_model_wrote_stands_apart(table):
    name = "newest_train_perplexity_first_median"
    header, cells, _ = table([row(0, 0), row(0, 1, **{name: 2.5})])
    place = header.index("its part that the newest model wrote")
    assert [line[place] for line in cells] == ["", "2.50"]


def test_the_share_of_the_gain_is_a_column_with_its_meaning(table):
    """In percent, where it was recorded."""
    rows = [row(0, 0, gain_lost=0.0), row(0, 1, gain_lost=0.5), row(1, 1, gain_lost=0.7), row(0, 2)]
    header, cells, caption = table(rows)
    place = header.index("gain lost, %")
    assert [line[place] for line in cells] == ["0", "60 ± 14", ""]
    assert "the share of fine-tuning's gain, in nats, that has been lost again" in caption
    assert "below 0" not in caption
    rows.append(row(1, 2, gain_lost=-0.1))
    assert table(rows)[2].endswith("below 0: better than generation 0")


def folder_of(path, rows, **settings):
    folder = RunFolder(path)
    settings = {"command": "lm"} | dataclasses.asdict(LMConfig(**settings).resolved())
    folder.write_text("config.json", json.dumps(settings))
    folder.write_rows(rows)
    return folder


def test_every_perplexity_says_its_context(tmp_path):
    settings = {"block_length": 32, "context_length": 256, "stride": 64}
    rows = [row(0, 0, test_perplexity_strided=12.5, test_entropy=3.25), row(0, 1)]
    folder = folder_of(tmp_path, rows, **settings)
    title = "perplexity of texts, by generation; each token after at most 31 others"
    assert table_of(folder).title == title
    found = measures_table(folder)
    columns = {column.header: list(column.cells) for column in found.columns}
    assert columns == {
        "generation": ["0", "1"],
        "entropy on test text": ["3.25", ""],
        "test perplexity, exp of the mean loss, each token after 192 to 255 others": ["12.50", ""],
    }


def test_an_older_run_has_no_other_measures(tmp_path):
    assert measures_table(folder_of(tmp_path, [row(0, 0)])) is None


def test_optimiser_steps_are_a_column_where_they_differ(tmp_path):
    def header(*steps):
        rows = [row(0, one, test_entropy=1.0, optimiser_steps=n) for one, n in enumerate(steps)]
        found = measures_table(folder_of(tmp_path, rows))
        return {column.header: list(column.cells) for column in found.columns}

    assert header(5, 10)["optimiser steps"] == ["5", "10"]
    assert "optimiser steps" not in header(5, 5)


def test_no_word_is_cut_in_a_narrow_terminal(tmp_path):
    name = "newest_train_perplexity_first_median"
    folder, file = RunFolder(tmp_path), io.StringIO()
    settings = {"command": "lm"} | dataclasses.asdict(LMConfig().resolved())
    folder.write_text("config.json", json.dumps(settings))
    folder.write_rows(
        [
            row(chain, 1, test_perplexity_mean=4380.04, gain_lost=1.4 + chain, **{name: 2019.2})
            for chain in (0, 1)
        ]
    )
    PlainConsole(file=file, width=80, soft_wrap=True).print(table_of(folder))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert {"(paper)", "(released", "training", "newest", "4380.04", "2019.20"} <= set(text.split())
    others = ("test_entropy", "train_entropy_own", "example_entropy", "test_bits_per_byte")
    names = (*others, "test_perplexity_strided", "different_sequences")
    rows = [row(chain, 1, **{name: 12.5 + chain for name in names}) for chain in (0, 1)]
    rows += [row(0, 2, test_perplexity_strided=1234.56, different_sequences=38_403)]
    folder, file = folder_of(tmp_path, rows, context_length=256, stride=64), io.StringIO()
    PlainConsole(file=file, width=80, soft_wrap=True).print(measures_table(folder))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert {"entropy", "perplexity,", "sequences", "1234.56", "38403"} <= set(text.split())
    rows = [one | {"optimiser_steps": 1200 * one["generation"]} for one in rows]
    for one in rows:
        one.pop("test_perplexity_strided")
    folder, file = folder_of(tmp_path, rows), io.StringIO()
    PlainConsole(file=file, width=80, soft_wrap=True).print(measures_table(folder))
    assert max(map(len, file.getvalue().splitlines())) <= 80 and "2400" in file.getvalue()


@pytest.mark.parametrize(
    ("protocol", "said"), [("paper", f"33.00, {MEAN}"), ("released-code", f"22.00, {TOTAL}")]
)
def test_the_line_of_a_generation_says_which_perplexity_it_is(protocol, said):
    file = io.StringIO()
    bars = LanguageModelProgress(PlainConsole(file=file, soft_wrap=True), 2, 1, protocol)
    bars.watcher.end(1, 1, row(1, 1))
    assert file.getvalue() == (
        f"seed 1 generation 1: test perplexity {said}; median perplexity of its training set under "
        "generation 0 6.00 (1 s)\n"
    )


def test_the_line_of_a_generation_says_the_context():
    file = io.StringIO()
    bars = LanguageModelProgress(
        PlainConsole(file=file, soft_wrap=True), 1, 1, context=context_words(64)
    )
    bars.watcher.end(0, 1, row(0, 1))
    assert f"31.00, {MEAN}, each token after at most 63 others; median" in file.getvalue()
