"""Whole runs, with prompts shorter than blocks and as controls: what the run folder holds."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.app.commands.lm_ingredients import prepare
from collapse_jax.app.commands.lm_run import run_lm
from collapse_jax.app.config import LMConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm import corpus
from collapse_jax.models.lm.corpus import blocks_of
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.memory import PEAKS

pytestmark = pytest.mark.usefixtures("quick_compile")
LENGTH, PROMPT, COUNT = 12, 4, 10  # 16 positions, which whole blocks would not fit into


@pytest.fixture(scope="module")
def settings(tmp_path_factory, write_inputs):
    folder = write_inputs(tmp_path_factory.mktemp("inputs"), dropout=0.0)
    small = {
        "corpus": str(folder / "text.txt"),
        "model": str(folder / "model"),
        "block_length": LENGTH,
        "prompt_length": PROMPT,
        "train_blocks": COUNT,
        "valid_blocks": 4,
        "test_blocks": 4,
        "batch_size": 8,
        "decode_batch": COUNT,
        "decoding": "greedy",
        "generations": 2,
        "seeds": 1,
        "epochs": 1,
        "examples": 2,
    }
    return lambda **changes: LMConfig(**(small | changes))


def run(config, path):
    settings = config.settings()
    folder = RunFolder.open(path, settings.config)
    run_lm(settings, folder, prepare(settings))
    return folder


def sets(folder):
    """Tokens and origins of each training set."""
    checkpoints = Checkpoints(folder.checkpoints / "chain_0")
    found = [checkpoints.restore_record(generation)[1] for generation in range(3)]
    checkpoints.close()
    return [(one["tokens"], one["origins"].tolist()) for one in found]


def rows(folder):
    costs = ("seconds", *PEAKS)
    return [{k: v for k, v in row.items() if k not in costs} for row in folder.rows()]


@pytest.fixture(scope="module")
def beside(settings, tmp_path_factory):
    return run(settings(), tmp_path_factory.mktemp("runs") / "beside")


def test_prompts_of_a_run_are_the_first_tokens_of_blocks(beside, settings):
    ingredients = prepare(settings().settings())
    lines = (beside.samples / "examples_seed_0.jsonl").read_text().splitlines()
    decode, test = ingredients.tokenizer.decode, ingredients.blocks.test
    prompts = [decode(test[index][:PROMPT]) for index in (0, 2)]
    assert [json.loads(line)["prompt"] for line in lines] == prompts * 3
    assert all(tokens.shape == (COUNT, LENGTH) for tokens, _ in sets(beside))
    assert np.isfinite([row["share_below_real_10"] for row in beside.rows()]).all()


def test_a_control_begins_where_its_run_does_and_resumes(beside, settings, tmp_path):
    config = settings(control="real")
    run(dataclasses.replace(config, generations=1), tmp_path / "run")
    folder = run(config, tmp_path / "run")
    assert rows(folder)[0] == rows(beside)[0] and rows(folder)[1] != rows(beside)[1]
    found, everything = sets(folder), corpus.load_corpus(config.corpus)
    tokenizer = prepare(config.settings()).tokenizer
    blocks = blocks_of(everything.train, tokenizer, LENGTH)
    known = {tuple(block): number for number, block in reversed(list(enumerate(blocks.tolist())))}
    numbers = [[known[tuple(block)] for block in tokens.tolist()] for tokens, _ in found]
    assert sorted(numbers[0]) == list(range(COUNT))
    assert len(set(numbers[1] + numbers[2])) == 2 * COUNT and min(numbers[1] + numbers[2]) >= COUNT
    assert [set(origins) for _, origins in found] == [{-1}] * 3
    assert not [name for row in folder.rows() for name in row if name.startswith("newest_")]
    assert np.array_equal(found[0][0], sets(beside)[0][0])


@pytest.mark.parametrize("blocks_from", ["start", "spread"])
def test_others_are_all_blocks_that_are_not_chosen(settings, blocks_from):
    whole = prepare(settings(train_blocks=0).settings())
    some = prepare(settings(control="real", blocks_from=blocks_from).settings())
    assert whole.others is None and some.other_blocks == len(whole.blocks.train) - COUNT
    both = np.concatenate([some.blocks.train, some.others]).tolist()
    assert sorted(both) == sorted(whole.blocks.train.tolist())
    assert prepare(settings(train_blocks=0, control="real").settings()).other_blocks == 0


def test_random_weights_need_no_file_of_them(settings, tmp_path):
    """Of the configuration's law, and as the seed has them."""
    model = tmp_path / "model"
    shutil.copytree(settings().model, model)
    (model / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weight file"):
        prepare(settings(model=str(model)).settings())
    own = prepare(settings().settings())
    found = prepare(settings(model=str(model), start="random", seed=3).settings())
    expected = cj.lm.init_params(own.model, jax.random.key(3))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), found.pretrained, expected))
    assert found.model == own.model


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt_length": 5}, "a prompt of 5 by 12 tokens needs 17 positions"),
        ({"prompt_length": None}, "a prompt of 12 by 12 tokens needs 24 positions.*smaller block"),
        ({"real_blocks": 11}, "real_blocks is 11, which is 11 blocks, but a training set has 10"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(settings, changes, says):
    with pytest.raises(InputError, match=says):
        prepare(settings(**changes).settings())


@pytest.mark.slow
def test_real_blocks_in_each_batch_have_their_origins_and_resume(settings, tmp_path, capsys):
    """Of 10 new blocks 3 are original ones; what is measured of the newest model is of its 7."""
    config = settings(workflow="accumulate", real_share=0.3)
    whole = run(config, tmp_path / "whole")
    part = run(dataclasses.replace(config, generations=1), tmp_path / "parts")
    part = run(config, tmp_path / "parts")
    assert rows(part) == rows(whole)
    of_sets = sets(whole)
    assert [len(tokens) for tokens, _ in of_sets] == [10, 20, 30]
    assert of_sets[2][1] == [-1] * 10 + [0] * 7 + [-1] * 3 + [1] * 7 + [-1] * 3
    originals = {tuple(block) for block in of_sets[0][0].tolist()}
    batch = of_sets[2][0][20:].tolist()
    assert [tuple(block) in originals for block in batch[7:]] == [True] * 3
    with open(whole.path / "samples" / "seed_0_generation_2.jsonl", encoding="utf-8") as file:
        origins = [json.loads(line)["origin"] for line in file]
    assert origins[20:] == ["generation 1"] * 7 + ["real"] * 3
    newest = [len(set(token for block in batch[:7] for token in block)), 7 * LENGTH]
    row = whole.rows()[2]
    assert row["newest_distinct_1"] == pytest.approx(newest[0] / newest[1])
    with pytest.raises(InputError, match="real_share"):
        run(dataclasses.replace(config, real_share=0.5), tmp_path / "parts")
