"""The language-model loop from the command line to the run folder, with a tiny OPT and a text of a
few thousand words.
"""

import contextlib
import csv
import dataclasses
import json
import shutil
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.app.cli import main
from collapse_jax.app.commands.lm_ingredients import prepare, process_of
from collapse_jax.app.commands.lm_loop import workflow_of
from collapse_jax.app.config import LMConfig
from collapse_jax.core import points
from collapse_jax.errors import InputError
from collapse_jax.estimators.causal_lm import causal_lm
from collapse_jax.models.lm import corpus
from collapse_jax.models.lm.decode import BeamSearch, Greedy, generate
from collapse_jax.models.lm.finetune import FineTune
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.score import perplexity
from collapse_jax.models.lm.weights import save_opt
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder

CONFIG = OPTConfig(
    vocab_size=2048,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=16,
    dropout=0.0,
    init_std=0.3,
)
LENGTH, BLOCKS = 8, 20


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a model, its tokenizer and a text file."""
    folder = tmp_path_factory.mktemp("inputs")
    save_opt(folder / "model", OPT(CONFIG), init_params(CONFIG, jax.random.key(0)))
    corpus._train_embedded().save(str(folder / "model" / "tokenizer.json"))
    (folder / "text.txt").write_text("".join(corpus.embedded_corpus().train[:60]))
    return folder


@pytest.fixture(scope="module")
def settings(inputs):
    """settings(**changes) -> LMConfig of a run of seconds."""
    small = {
        "corpus": str(inputs / "text.txt"),
        "model": str(inputs / "model"),
        "block_length": LENGTH,
        "train_blocks": BLOCKS,
        "valid_blocks": 6,
        "test_blocks": 7,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "num_beams": 2,
        "generations": 2,
        "seeds": 2,
        "examples": 0,
    }
    return lambda **changes: LMConfig(**(small | changes))


def call(config, out, figures=False):
    """`collapse-jax lm` with these settings; drawing takes longer than such a run."""
    default = LMConfig()
    arguments = ["lm", "--out", str(out)]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != getattr(default, field.name):
            arguments += ["--" + field.name.replace("_", "-"), str(value)]
    with (
        contextlib.nullcontext()
        if figures
        else mock.patch("collapse_jax.app.plots.draw_run", lambda folder: [])
    ):
        main(arguments)


def saved(out, chain, generation):
    """Record and arrays of one checkpoint."""
    checkpoints = Checkpoints(out / "checkpoints" / f"chain_{chain}")
    found = checkpoints.restore_record(generation)
    checkpoints.close()
    return found


def saved_params(config, ingredients, out, chain, generation):
    template = process_of(config.settings(), ingredients).template(
        jax.random.key(0), config.generations
    )
    checkpoints = Checkpoints(out / "checkpoints" / f"chain_{chain}")
    state = checkpoints.restore_state(generation, template)
    checkpoints.close()
    assert int(state.generation) == generation
    return state.params.model


def contents(path, *parts):
    files = [
        file
        for part in parts
        for file in ([path / part] if (path / part).is_file() else (path / part).rglob("*"))
        if file.is_file()
    ]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def as_set(blocks):
    return set(map(tuple, np.asarray(blocks).tolist()))


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """A run of 2 seeds and generations 0 to 2 under the default preset, and what it needed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    config = settings()
    call(config, out, figures=True)
    return out, config, prepare(config.settings())


# One run.


def test_the_folder_is_whole(finished):
    out, config, _ = finished
    assert {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "metrics.csv",
        "results.nc",
        "samples",
        "checkpoints",
        "figures",
    } <= {file.name for file in out.iterdir()}
    assert not [file for file in out.rglob("*") if "partial" in file.name or "tmp" in file.name]
    assert any(file.stat().st_size > 1000 for file in (out / "figures").iterdir())
    folder = RunFolder(out)
    assert folder.config() == config.resolved()
    rows = folder.rows()
    assert [(row["chain"], row["generation"]) for row in rows] == [
        (c, g) for c in range(2) for g in range(3)
    ]
    assert [
        (row["chain"], row["generation"]) for row in rows if "pretrained_test_perplexity" in row
    ] == [(0, 0), (1, 0)]
    with open(out / "metrics.csv", newline="") as lines:
        assert [float(line["test_perplexity"]) for line in csv.DictReader(lines)] == [
            row["test_perplexity"] for row in rows
        ]
    results = folder.results()
    assert results["test_perplexity"].values.tolist() == [
        [row["test_perplexity"] for row in rows if row["chain"] == c] for c in range(2)
    ]
    assert results["train_perplexity_first"].shape == (2, 3, BLOCKS) and "tokens" not in results
    assert results["train_loss_by_epoch"].shape == (2, 3, 5)  # the preset's epochs
    assert len({row["test_perplexity"] for row in rows}) == 6


def test_the_numbers_can_be_had_again_from_the_checkpoints(finished):
    out, config, ingredients = finished
    first = saved_params(config, ingredients, out, 1, 0)
    second = saved_params(config, ingredients, out, 1, 1)
    row, arrays = saved(out, 1, 1)
    test = perplexity(ingredients.model, second, ingredients.blocks.test)
    assert row["test_perplexity"] == pytest.approx(np.exp(np.log(test).mean()), rel=1e-6)
    assert row["test_perplexity_mean"] == pytest.approx(test.mean(), rel=1e-6)
    assert row["valid_loss"] == pytest.approx(
        np.log(perplexity(ingredients.model, second, ingredients.blocks.valid)).mean(), rel=1e-6
    )
    assert row["best_epoch"] == arrays["valid_loss_by_epoch"].argmin()
    under_first = perplexity(ingredients.model, first, arrays["tokens"])
    np.testing.assert_allclose(arrays["train_perplexity_first"], under_first, rtol=1e-6)
    assert row["train_perplexity_first_median"] == pytest.approx(np.median(under_first), rel=1e-6)
    before = perplexity(ingredients.model, ingredients.pretrained, ingredients.blocks.test)
    assert saved(out, 1, 0)[0]["pretrained_test_perplexity"] == pytest.approx(
        np.exp(np.log(before).mean()), rel=1e-6
    )


def test_each_training_set_continues_the_original_blocks(finished):
    out, config, ingredients = finished
    train = ingredients.blocks.train
    assert as_set(saved(out, 0, 0)[1]["tokens"]) == as_set(train)
    for generation in (1, 2):
        params = saved_params(config, ingredients, out, 0, generation - 1)
        made = generate(ingredients.model, params, train, BeamSearch(2), LENGTH)
        np.testing.assert_array_equal(saved(out, 0, generation)[1]["tokens"], made)


def test_samples_are_the_decoded_training_sets(finished):
    out, _, ingredients = finished
    assert len(list((out / "samples").iterdir())) == 6
    for chain, generation in ((0, 0), (1, 2)):
        lines = (
            (out / "samples" / f"seed_{chain}_generation_{generation}.jsonl")
            .read_text()
            .splitlines()
        )
        tokens = saved(out, chain, generation)[1]["tokens"]
        rows = [json.loads(line) for line in lines]
        numbers = [row.pop("block") for row in rows]
        assert rows == [
            {
                "text": ingredients.tokenizer.decode(block),
                "tokens": block.tolist(),
                "origin": f"generation {generation - 1}" if generation else "real",
            }
            for block in tokens
        ]
        # All blocks are continued in their order; the real set is in another one.
        if generation:
            assert numbers == list(range(len(tokens)))
        else:
            np.testing.assert_array_equal(ingredients.blocks.train[numbers], tokens)


def test_said_again_nothing_changes(finished, capsys):
    out, config, _ = finished
    before = contents(out, ".")
    call(config, out)
    assert "all 6 generations of" in capsys.readouterr().out
    after = contents(out, ".")
    assert after.keys() == before.keys()
    assert {
        name for name in before if before[name] != after[name] and not name.startswith("figures")
    } == set()


def test_more_generations_leave_the_old_ones_alone(finished, tmp_path, capsys):
    """Seed 0 alone goes on: what is there of seed 1 stays too."""
    out, config, _ = finished
    grown = tmp_path / "grown"
    shutil.copytree(out, grown)
    call(dataclasses.replace(config, generations=3, seeds=1), grown)
    old, new = RunFolder(out).rows(), RunFolder(grown).rows()
    assert [(row["chain"], row["generation"]) for row in new] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 0),
        (1, 1),
        (1, 2),
    ]
    assert [row for row in new if row["generation"] < 3] == old
    before = contents(out, "samples", "checkpoints")
    assert contents(grown, *before) == before
    results = RunFolder(grown).results()
    assert (
        np.isnan(results["test_perplexity"].sel(chain=1, generation=3))
        and np.isfinite(results["test_perplexity"]).sum() == 7
    )
    call(dataclasses.replace(config, seeds=1, generations=1), grown)
    assert "are done" in capsys.readouterr().out and RunFolder(grown).rows() == new


def test_a_run_in_two_parts_equals_a_run_in_one(finished, settings, tmp_path):
    out, config, _ = finished
    call(dataclasses.replace(config, generations=0, seeds=1), tmp_path / "parts")
    call(dataclasses.replace(config, generations=1, seeds=1), tmp_path / "parts")
    parts = [
        {k: v for k, v in row.items() if k != "seconds" and not k.endswith("_mib")}
        for row in RunFolder(tmp_path / "parts").rows()
    ]
    whole = [
        {k: v for k, v in row.items() if k != "seconds" and not k.endswith("_mib")}
        for row in RunFolder(out).rows()
    ]
    assert parts == whole[:2]


# Workflows, starts, presets.


@pytest.mark.parametrize(
    ("workflow", "start", "decoding", "sizes"),
    [
        ("accumulate", "first", "sampling", [BLOCKS, 2 * BLOCKS, 3 * BLOCKS]),
        ("accumulate_subsample", "previous", "greedy", [BLOCKS, BLOCKS, BLOCKS]),
    ],
)
def test_workflows_that_keep_everything(settings, tmp_path, workflow, start, decoding, sizes):
    config = settings(
        workflow=workflow,
        start=start,
        decoding=decoding,
        num_beams=LMConfig.num_beams,
        seeds=1,
        epochs=1,
    )
    call(config, tmp_path / "run")
    sets = [saved(tmp_path / "run", 0, generation)[1]["tokens"] for generation in range(3)]
    assert [len(tokens) for tokens in sets] == sizes
    originals = as_set(sets[0])
    kept = [sum(tuple(block) in originals for block in tokens.tolist()) for tokens in sets]
    if workflow == "accumulate":
        assert kept == [BLOCKS] * 3
        np.testing.assert_array_equal(sets[2][: 2 * BLOCKS], sets[1])
    else:
        assert kept[0] == BLOCKS and all(0 < count < BLOCKS for count in kept[1:])
    results = RunFolder(tmp_path / "run").results()["train_perplexity_first"].values[0]
    assert np.isfinite(results).sum(1).tolist() == sizes


def test_fig1c_keeps_a_tenth_of_the_original_blocks_anew(settings, tmp_path):
    config = settings(preset="fig1c", seeds=1)
    call(config, tmp_path / "run")
    assert RunFolder(tmp_path / "run").results()["train_loss_by_epoch"].shape == (1, 3, 10)
    sets = [saved(tmp_path / "run", 0, generation)[1]["tokens"] for generation in range(3)]
    kept = [as_set(tokens) & as_set(sets[0]) for tokens in sets]
    assert [len(tokens) for tokens in sets] == [BLOCKS] * 3
    assert [len(found) for found in kept] == [BLOCKS, 2, 2] and kept[1] != kept[2]


@pytest.mark.parametrize(("share", "count"), [(0.25, 5), (0.5, 10), (1.0, 20), (0.0, 0)])
def test_real_fraction_is_an_exact_number_of_blocks(settings, share, count):
    """With a model that makes blocks of -1 only."""
    config = settings(real_fraction=share)
    originals = np.arange(BLOCKS * LENGTH).reshape(BLOCKS, LENGTH)
    made = cj.estimator(
        lambda key, params, data: (0, cj.FitInfo.exact()),
        lambda key, params, n: jnp.full((n, LENGTH), -1),
        init=lambda key, data: 0,
        traceable=False,
    )
    process = cj.generational_process(
        made, cj.sources.dataset(originals), workflow_of(config.settings()), sample_size=BLOCKS
    )
    state, _ = process.init(jax.random.key(0))
    _, info = process.step(jax.random.key(1), state)
    tokens = points.filled(info.data)
    assert (
        len(tokens) == BLOCKS
        and (tokens[:, 0] >= 0).sum() == count
        and len(as_set(tokens[tokens[:, 0] >= 0])) == count
    )


@pytest.mark.parametrize("start", ["pretrained", "first", "previous"])
def test_what_a_generation_starts_from(start):
    """With a learning rate of zero a fit returns what it began with."""
    pretrained = init_params(CONFIG, jax.random.key(0))
    blocks = np.random.default_rng(0).integers(3, 2048, (4, LENGTH))
    data = points.of_sample(jnp.asarray(blocks))
    moving, still = (
        causal_lm(
            OPT(CONFIG),
            pretrained,
            blocks,
            blocks,
            settings=FineTune(1, 4, rate, rate),
            start=start,
        )
        for rate in (1e-2, 0.0)
    )
    keys = jax.random.split(jax.random.key(1), 4)
    params = moving.init(keys[0], data)
    made = [pretrained]
    for key in keys[:2]:
        params, _ = moving.fit(key, params, data)
        made.append(params.model)
    params, _ = still.fit(keys[2], params, data)
    expected = {"pretrained": made[0], "first": made[1], "previous": made[2]}
    same = {
        name: all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves(params.model), jax.tree.leaves(tree), strict=True)
        )
        for name, tree in expected.items()
    }
    assert same == {name: name == start for name in expected}
    assert int(params.fits) == 3 and bool(params.first) == (start == "first")


def test_the_loss_of_a_fit_is_that_of_the_epoch_kept():
    pretrained = init_params(CONFIG, jax.random.key(0))
    rng = np.random.default_rng(0)
    blocks, valid = rng.integers(3, 2048, (4, LENGTH)), rng.integers(3, 2048, (4, LENGTH))
    for keep, index in (("best", np.argmin), ("last", lambda losses: len(losses) - 1)):
        settings = FineTune(4, 4, 5e-2, 5e-2, keep=keep)
        estimator = causal_lm(OPT(CONFIG), pretrained, blocks, valid, settings=settings)
        data = points.of_sample(jnp.asarray(blocks))
        _, info = estimator.fit(jax.random.key(0), estimator.init(jax.random.key(0), data), data)
        losses = info.detail["valid_loss"]
        assert losses.argmin() < 3 and float(info.loss) == pytest.approx(losses[index(losses)])


def test_the_estimator_refuses_what_does_not_fit():
    pretrained, blocks = init_params(CONFIG, jax.random.key(0)), np.full((4, LENGTH), 5)
    for bad, options, says in (
        (blocks, {"start": "scratch"}, "start is 'scratch'"),
        (blocks[:0], {}, "there are no prompts"),
        (np.full((4, 9), 5), {}, "needs 18 positions"),
        (blocks, {"settings": FineTune(epochs=0)}, "epochs is 0"),
        (blocks, {"decoder": Greedy(-1.0)}, "repetition_penalty is -1.0"),
    ):
        with pytest.raises(InputError, match=says):
            causal_lm(OPT(CONFIG), pretrained, bad, blocks, **options)
    with pytest.raises(InputError, match="5 continuations are asked for, but there are 4 prompts"):
        causal_lm(OPT(CONFIG), pretrained, blocks, blocks).sample(jax.random.key(0), None, 5)


@pytest.mark.slow
def test_opt_125m_takes_the_same_path(shared, tmp_path):
    """One optimiser step and one decoded batch of the published size, with OPT's own tokenizer."""
    (tmp_path / "text.txt").write_text("".join(corpus.embedded_corpus().test))
    config = LMConfig(
        corpus=str(tmp_path / "text.txt"),
        model="random:opt-125m",
        tokenizer=str(shared / "opt-tokenizer"),
        block_length=8,
        train_blocks=2,
        valid_blocks=1,
        test_blocks=1,
        epochs=1,
        batch_size=2,
        num_beams=2,
    )
    settings = config.settings()
    ingredients = prepare(settings)
    estimator = process_of(settings, ingredients).estimator
    data = points.of_sample(jnp.asarray(ingredients.blocks.train))
    params, info = estimator.fit(jax.random.key(1), estimator.init(jax.random.key(0), data), data)
    assert sum(leaf.size for leaf in jax.tree.leaves(params.model)) == 125_239_296
    assert int(info.iterations) == 1 and info.detail["train_loss"] == pytest.approx(
        np.log(50_272), rel=0.05
    )
    tokens = estimator.sample(jax.random.key(2), params, 2)
    assert tokens.shape == (2, 8) and ingredients.tokenizer.decode(np.asarray(tokens[0]))
    assert settings.decoder == BeamSearch(2, 1.0)
