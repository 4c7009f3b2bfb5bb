"""Whole runs of lineages: folders, exchange, resuming."""

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app.commands import lineages
from collapse_jax.app.commands.lm import lm_command
from collapse_jax.app.commands.lm_ingredients import prepare
from collapse_jax.app.commands.lm_run import run_lm
from collapse_jax.app.config import LMConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm import corpus
from collapse_jax.runs.checkpoint import read_only
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.memory import PEAKS

pytestmark = pytest.mark.usefixtures("quick_compile")
COUNT, LENGTH = 10, 8


@pytest.fixture(scope="module")
def settings(tmp_path_factory, write_inputs):
    folder = write_inputs(tmp_path_factory.mktemp("inputs"), dropout=0.0)
    # A network with another tokenizer, which has fewer entries.
    other = write_inputs(tmp_path_factory.mktemp("other"), dropout=0.0, vocab_size=600) / "model"
    rows = corpus.embedded_corpus().train
    corpus._train_bpe(rows, 600).save(str(other / "tokenizer.json"))
    shutil.move(other, folder / "other")
    small = {
        "corpus": str(folder / "text.txt"),
        "model": str(folder / "model"),
        "block_length": LENGTH,
        "train_blocks": COUNT,
        "valid_blocks": 4,
        "test_blocks": 4,
        "batch_size": 8,
        "decode_batch": COUNT,
        "decoding": "greedy",
        "generations": 2,
        "seeds": 1,
        "epochs": 1,
        "examples": 0,
    }
    return lambda **changes: LMConfig(**(small | changes))


@pytest.fixture
def console():
    return Console(width=200, record=True, markup=False)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])
    monkeypatch.setattr(lineages, "compare_command", lambda *arguments: None)


def sets(folder):
    """The tokens of each training set, and what the model of the generation wrote."""
    with read_only(folder / "checkpoints" / "chain_0") as checkpoints:
        found = [checkpoints.restore_record(generation)[1] for generation in range(3)]
    return [(one["tokens"].tolist(), one["written_tokens"].tolist()) for one in found]


def rows(folder):
    costs = ("seconds", *PEAKS)
    return [{k: v for k, v in row.items() if k not in costs} for row in RunFolder(folder).rows()]


@pytest.fixture(scope="module")
def ran(settings, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collapse_jax.app.plots.draw_run", lambda folder: [])
        patch.setattr(lineages, "compare_command", lambda *arguments: None)
        path = tmp_path_factory.mktemp("runs") / "two"
        config = settings(lineages=2, exchange=0.3)
        lm_command(config, str(path), Console(width=200, file=io.StringIO()))
        return path


def test_each_reads_shares_of_what_both_wrote(ran):
    first, second = (sets(ran / f"lineage_{one}") for one in range(2))
    # Both are given the same real text, and differ by their keys from there on.
    assert sorted(first[0][0]) == sorted(second[0][0])
    for generation in (1, 2):
        for own, other in ((first, second), (second, first)):
            tokens = own[generation][0]
            wrote, others_wrote = own[generation - 1][1], other[generation - 1][1]
            apart = [block for block in others_wrote if block not in wrote]
            read = [block for block in tokens if block in apart]
            assert len(tokens) == COUNT and len(read) <= 3
            assert all(block in wrote or block in others_wrote for block in tokens)
            assert sum(block in others_wrote for block in tokens) >= 3
    counts = [
        (row["read_of_lineage_0"], row["read_of_lineage_1"]) for row in rows(ran / "lineage_0")
    ]
    assert counts == [(0, 0), (7, 3), (7, 3)]


def test_samples_say_who_wrote_each_block_and_after_which_prompt(ran):
    texts = [sets(ran / f"lineage_{one}") for one in range(2)]
    for one in range(2):
        for generation in (1, 2):
            name = f"seed_0_generation_{generation}.jsonl"
            lines = (ran / f"lineage_{one}" / "samples" / name).read_text().splitlines()
            for row in map(json.loads, lines):
                assert row["origin"] == f"generation {generation - 1}"
                wrote = texts[row["lineage"]][generation - 1][1]
                assert row["tokens"] == wrote[row["block"]]
    path = ran / "lineage_0" / "samples" / "seed_0_generation_0.jsonl"
    first = json.loads(path.read_text().splitlines()[0])
    assert (first["origin"], first["lineage"]) == ("real", None)


def test_generation_0_is_that_of_a_run_of_its_own(ran, settings, tmp_path):
    alone = settings(generations=0).settings()
    folder = RunFolder.open(tmp_path / "alone", alone.config)
    run_lm(alone, folder, prepare(alone))
    mine, theirs = rows(folder.path)[0], rows(ran / "lineage_0")[0]
    assert {name: theirs[name] for name in mine} == mine
    assert rows(ran / "lineage_1")[0] != rows(ran / "lineage_0")[0]


def test_without_exchange_it_reads_what_it_wrote_itself(settings, tmp_path, console):
    """Greedy texts are the same whoever draws them: the sets are those of a run of its own."""
    config = settings(lineages=2, exchange=0.0, generations=1)
    lm_command(config, str(tmp_path / "two"), console)
    said = console.export_text()
    for one, generation in ((0, 0), (1, 0), (0, 1), (1, 1)):
        assert said.count(f"lineage {one} seed 0 generation {generation}: test perplexity") == 1
    alone = settings(generations=1).settings()
    folder = RunFolder.open(tmp_path / "alone", alone.config)
    run_lm(alone, folder, prepare(alone))
    with read_only(folder.checkpoints / "chain_0") as checkpoints:
        wanted = checkpoints.restore_record(1)[1]["tokens"].tolist()
    with read_only(tmp_path / "two" / "lineage_0" / "checkpoints" / "chain_0") as checkpoints:
        found = checkpoints.restore_record(1)[1]["tokens"].tolist()
    assert sorted(found) == sorted(wanted)


def test_a_run_that_was_killed_goes_on_with_the_same_numbers(
    ran, settings, tmp_path, console, monkeypatch
):
    config = settings(lineages=2, exchange=0.3)
    made, whole = [], lineages.run_lm

    def killed(*arguments, **options):
        if len(made) == 3:  # generation 1 of lineage 0 is there, that of lineage 1 is not
            raise KeyboardInterrupt
        made.append(1)
        return whole(*arguments, **options)

    monkeypatch.setattr(lineages, "run_lm", killed)
    with pytest.raises(KeyboardInterrupt):
        lm_command(config, str(tmp_path / "run"), console)
    monkeypatch.setattr(lineages, "run_lm", whole)
    lm_command(config, str(tmp_path / "run"), console)
    for one in ("lineage_0", "lineage_1"):
        assert rows(tmp_path / "run" / one) == rows(ran / one)
        assert sets(tmp_path / "run" / one) == sets(ran / one)


def test_models_of_two_tokenizers(settings, tmp_path, console):
    config = settings(generations=1)
    other = config.model.replace("model", "other")
    config = settings(
        lineages=2, lineage_models=(config.model, other), coupling=(0, 1, 1, 0), generations=1
    )
    lm_command(config, str(tmp_path / "run"), console)
    first, second = (tmp_path / "run" / f"lineage_{one}" for one in range(2))
    models = [json.loads((path / "config.json").read_text())["model"] for path in (first, second)]
    assert models == [*config.lineage_models]
    tokenizers = [corpus.load_tokenizer(model) for model in config.lineage_models]

    def text(folder, generation, name, tokenizer):
        with read_only(folder / "checkpoints" / "chain_0") as checkpoints:
            arrays = checkpoints.restore_record(generation)[1]
        return [tokenizer.decode(block.tolist()) for block in arrays[name]]

    written = text(second, 0, "written_tokens", tokenizers[1])
    read = "".join(text(first, 1, "tokens", tokenizers[0]))
    # Whole texts of the other, in some order; the last one may be cut.
    assert sum(one in read for one in written if len(one) > 4) >= 3
    counts = rows(first)[1]
    assert counts["read_of_lineage_0"] + counts["read_of_lineage_1"] == COUNT


def test_other_settings_are_refused_before_any_work(ran, settings, console):
    with pytest.raises(InputError, match="exchange"):
        lm_command(settings(lineages=2, exchange=0.4), str(ran), console)
    with pytest.raises(InputError, match="the command sets it"):
        lm_command(settings(lineages=2, lineage=1), str(ran), console)


def test_a_lineage_without_the_others(settings, ran, tmp_path):
    shutil.copytree(ran, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "lineage_1")
    config = settings(lineages=2, exchange=0.3, generations=3)
    one = lineages.lineage_configs(config)[0].settings()
    from collapse_jax.app.commands.pool import Pool, Writer, root_key_of

    ingredients = prepare(one)
    writers = [
        Writer(tmp_path / "run" / f"lineage_{number}", ingredients.tokenizer) for number in range(2)
    ]
    pool = Pool(0, writers, [0.7, 0.3], root_key_of(one.config))
    folder = RunFolder.open(tmp_path / "run" / "lineage_0", one.config)
    with pytest.raises(InputError, match=r"lineage 1 has no generation 2 of seed 0 in .*together"):
        run_lm(one, folder, ingredients, pool=pool)
    assert np.array_equal([row["generation"] for row in folder.rows()], [0, 1, 2])
