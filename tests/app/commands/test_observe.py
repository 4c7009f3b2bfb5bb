"""What is measured of each generation and the examples it writes, against the checkpoints, the
blocks and counting by hand.
"""

import json

import jax
import numpy as np
import pytest
import scipy.spatial
import scipy.special
import scipy.stats

from collapse_jax.app.commands import held_out, observe
from collapse_jax.app.commands.examples import example_prompts, example_table, write_examples
from collapse_jax.app.commands.held_out import Scores
from collapse_jax.app.commands.lm_ingredients import prepare, process_of
from collapse_jax.app.commands.lm_run import run_lm
from collapse_jax.app.config import LMConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm import corpus
from collapse_jax.models.lm.decode import BeamSearch, generate
from collapse_jax.models.lm.hidden_states import mean_hidden
from collapse_jax.models.lm.log_probs import strided_perplexity
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.score import perplexity
from collapse_jax.models.lm.weights import save_opt
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.memory import PEAKS

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


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """settings(**changes) -> LMConfig of a run of a second."""
    folder = tmp_path_factory.mktemp("inputs")
    save_opt(folder / "model", OPT(CONFIG), init_params(CONFIG, jax.random.key(0)))
    corpus._train_embedded().save(str(folder / "model" / "tokenizer.json"))
    (folder / "text.txt").write_text("".join(corpus.embedded_corpus().train[:60]))
    small = {
        "corpus": str(folder / "text.txt"),
        "model": str(folder / "model"),
        "block_length": 8,
        "train_blocks": 20,
        "valid_blocks": 6,
        "test_blocks": 7,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "num_beams": 2,
        "generations": 1,
        "seeds": 1,
        "epochs": 1,
        "examples": 3,
        "context_length": 12,
        "stride": 5,
        "extras": ("embedding-diversity",),
    }
    return lambda **changes: LMConfig(**(small | changes))


def run(config, path):
    settings = config.settings()
    folder = RunFolder.open(path, settings.config)
    run_lm(settings, folder, prepare(settings))
    return folder


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """The folder of a run of generations 0 and 1 in two parts, its ingredients, and the parameters
    of both generations.
    """
    path = tmp_path_factory.mktemp("runs") / "run"
    run(settings(generations=0), path)
    folder = run(settings(), path)
    ingredients = prepare(settings().settings())
    template = process_of(settings().settings(), ingredients).template(jax.random.key(0), 1)
    checkpoints = Checkpoints(folder.checkpoints / "chain_0")
    params = [checkpoints.restore_state(generation, template).params.model for generation in (0, 1)]
    tokens = [checkpoints.restore_record(generation)[1]["tokens"] for generation in (0, 1)]
    checkpoints.close()
    return folder, ingredients, params, tokens


def test_every_training_sequence_under_its_own_model(finished):
    folder, ingredients, params, tokens = finished
    results = folder.results().sel(chain=0)
    for generation, row in enumerate(folder.rows()):
        own = perplexity(ingredients.model, params[generation], tokens[generation])
        np.testing.assert_allclose(
            results["train_perplexity_own"].sel(generation=generation), own, rtol=1e-6
        )
        assert row["train_perplexity_own_median"] == pytest.approx(np.median(own), rel=1e-6)
        assert row["train_perplexity_own_mean"] == pytest.approx(own.mean(), rel=1e-6)
    first, own = (results[f"train_perplexity_{name}"].values for name in ("first", "own"))
    assert np.array_equal(first[0], own[0]) and not np.allclose(first[1], own[1], rtol=1e-3)


def test_optimiser_steps_are_recorded(finished):
    """20 blocks in batches of 8, in one epoch."""
    assert [row["optimiser_steps"] for row in finished[0].rows()] == [3, 3]
    assert all(0 < row["gradient_norm"] < 100 for row in finished[0].rows())


def test_tails_are_counted_against_generation_0(finished):
    """In a resumed run too: generation 1 was made by another call than generation 0."""
    folder, ingredients, params, tokens = finished
    real = np.sort(perplexity(ingredients.model, params[0], ingredients.blocks.train))
    # of 20 the quantiles lie 1.9, 17.1 and 18.81 steps up the sorted ones
    low, high, highest = (
        real[i] + part * (real[i + 1] - real[i]) for i, part in ((1, 0.9), (17, 0.1), (18, 0.81))
    )
    for generation, row in enumerate(folder.rows()):
        values = perplexity(ingredients.model, params[0], tokens[generation])
        assert row["share_below_real_10"] == (values < low).sum() / 20
        assert row["share_above_real_90"] == (values > high).sum() / 20
        assert row["share_above_real_99"] == (values > highest).sum() / 20
    row = folder.rows()[0]
    assert (row["share_below_real_10"], row["share_above_real_90"], row["share_above_real_99"]) == (
        0.1,
        0.1,
        0.05,
    )


def test_the_training_text_is_measured(finished):
    folder, _, _, tokens = finished
    for row, blocks in zip(folder.rows(), tokens, strict=True):
        assert row["vocabulary_in_use"] == len(set(blocks.ravel().tolist()))
        pairs = [tuple(block[i : i + 2]) for block in blocks.tolist() for i in range(7)]
        assert row["distinct_2"] == len(set(pairs)) / len(pairs)
        assert row["type_token_ratio"] == pytest.approx(
            np.mean([len(set(block)) / 8 for block in blocks.tolist()])
        )
        assert {
            "distinct_1",
            "distinct_3",
            "distinct_4",
            "repeated_4_grams",
            "repeated_within_16",
        } <= row.keys()


def test_every_generation_continues_the_same_blocks_of_the_test_text(finished):
    folder, ingredients, params, _ = finished
    prompts = ingredients.blocks.test[[0, 2, 4]]
    decode = ingredients.tokenizer.decode
    lines = (folder.path / "samples" / "examples_seed_0.jsonl").read_text().splitlines()
    expected = [
        {
            "generation": generation,
            "example": i,
            "prompt": decode(prompt),
            "continuation": decode(made),
        }
        for generation in (0, 1)
        for i, (prompt, made) in enumerate(
            zip(
                prompts,
                generate(ingredients.model, params[generation], prompts, BeamSearch(2), 8),
                strict=True,
            )
        )
    ]
    assert [json.loads(line) for line in lines] == expected
    assert "example_tokens" not in folder.results() and len(list(folder.samples.iterdir())) == 3


def test_in_one_part_the_same_comes_out(finished, settings, tmp_path):
    """Rows but for seconds and memory, arrays and files, of a run that nothing stopped."""
    parts, whole = finished[0], run(settings(), tmp_path / "whole")
    costs = ("seconds", *PEAKS)
    rows = [
        [{name: value for name, value in row.items() if name not in costs} for row in folder.rows()]
        for folder in (parts, whole)
    ]
    assert rows[0] == rows[1] and parts.results().identical(whole.results())
    for file in whole.samples.iterdir():
        assert file.read_bytes() == (parts.samples / file.name).read_bytes()


def logits(ingredients, params, blocks):
    """In float64, [N, length, vocabulary]."""
    made = jax.jit(ingredients.model.apply)({"params": params}, blocks)
    return np.asarray(made, np.float64)


def test_entropies_of_the_test_text_the_training_set_and_the_examples(finished):
    """SciPy's, mean over the positions of the tokens that are predicted."""
    folder, ingredients, params, tokens = finished

    def entropy(params, blocks, first=1):
        found = logits(ingredients, params, blocks)[:, first - 1 : -1]
        return scipy.stats.entropy(scipy.special.softmax(found, -1), axis=-1).mean()

    test, prompts = ingredients.blocks.test, ingredients.blocks.test[[0, 2, 4]]
    for generation, row in enumerate(folder.rows()):
        model = params[generation]
        written = generate(ingredients.model, model, prompts, BeamSearch(2), 8)
        whole = np.concatenate([prompts, written], axis=1)
        assert row["test_entropy"] == pytest.approx(entropy(model, test), rel=1e-5)
        assert row["train_entropy_own"] == pytest.approx(
            entropy(model, tokens[generation]), rel=1e-5
        )
        assert row["example_entropy"] == pytest.approx(entropy(model, whole, 8), rel=1e-5)
    first, second = folder.rows()
    before = entropy(ingredients.pretrained, test)
    assert first["pretrained_test_entropy"] == pytest.approx(before, rel=1e-5)
    assert "pretrained_test_entropy" not in second


def test_the_share_of_the_gain_that_was_lost(finished):
    """From the recorded perplexities; generation 1 was made by another call than 0."""
    folder, *_ = finished
    first, second = folder.rows()
    p = [np.log(row["test_perplexity"]) for row in (first, second)]
    before = np.log(first["pretrained_test_perplexity"])
    assert first["gain_lost"] == 0 and before > p[0]
    assert second["gain_lost"] == pytest.approx((p[1] - p[0]) / (before - p[0]), rel=1e-9)
    results = folder.results()["gain_lost"].sel(chain=0)
    np.testing.assert_array_equal(results, [0, second["gain_lost"]])
    header = (folder.path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"gain_lost", "test_entropy", "test_bits_per_byte", "mtld"} <= set(header)


def test_bits_per_byte_and_the_window_that_moves_on(finished):
    """All 56 tokens of the test text once, from the second on; bytes of the text they stand for."""
    folder, ingredients, params, _ = finished
    test = ingredients.blocks.test

    def bytes_of(ids):
        kept = [int(i) for i in ids if i != 2]  # </s>
        return len(ingredients.tokenizer.decode(kept).encode())

    for generation, row in enumerate(folder.rows()):
        found = scipy.special.log_softmax(logits(ingredients, params[generation], test), axis=-1)
        nats = -np.take_along_axis(found[:, :-1], test[:, 1:, None], -1).sum()
        inside = sum(bytes_of(block[1:]) for block in test)
        assert row["test_bits_per_byte"] == pytest.approx(nats / np.log(2) / inside, rel=1e-5)
        expected = strided_perplexity(ingredients.model, params[generation], test.ravel(), 12, 5)
        assert row["test_perplexity_strided"] == pytest.approx(expected, rel=1e-9)
        assert row["test_bits_per_byte_strided"] == pytest.approx(
            np.log2(expected) * 55 / bytes_of(test.ravel()[1:]), rel=1e-9
        )
        assert ("pretrained_test_perplexity_strided" in row) == (generation == 0)


def test_frequencies_are_held_against_the_real_training_text(finished):
    folder, ingredients, _, tokens = finished
    first, second = folder.rows()
    assert first["unigram_kl"] == first["unigram_js"] == 0
    real, made = (np.bincount(of.ravel(), minlength=2048) for of in tokens)
    held = (real + made) > 0
    kl = scipy.stats.entropy(real[held] + 0.5, made[held] + 0.5)
    assert second["unigram_kl"] == pytest.approx(kl, rel=1e-9)
    assert second["different_sequences"] == len({tuple(row) for row in tokens[1].tolist()})
    states = mean_hidden(ingredients.model, ingredients.pretrained, tokens[1])
    distance = scipy.spatial.distance.pdist(states.astype(float), "cosine").mean()
    assert second["embedding_diversity"] == pytest.approx(distance, rel=1e-5)
    assert "mauve" not in first


def test_no_share_where_fine_tuning_gained_nothing():
    """And the share is of the sums of losses, not of the blocks' own."""
    scores = [Scores(np.array(losses), np.zeros(2)) for losses in ([2, 3], [1, 2], [4, 3], [2, 3])]
    now, first, before, worse = scores
    assert held_out.gain_lost(now, first, before) == {"gain_lost": 0.5}
    assert held_out.gain_lost(first, first, before) == {"gain_lost": 0.0}
    assert held_out.gain_lost(now, worse, worse) == held_out.gain_lost(now, before, first) == {}


def test_what_cannot_be_measured_is_refused_before_any_work(settings, monkeypatch):
    monkeypatch.setattr(held_out, "has_mauve", lambda: False)
    for changes, says in (
        ({"extras": ("mauve",)}, "extras has mauve, which needs the package 'mauve-text'"),
        ({"context_length": 17}, "context_length is 17; this model has 16 positions"),
        ({"context_length": 16, "test_blocks": 1}, "but the test text has 8 tokens"),
    ):
        with pytest.raises(InputError, match=says):
            prepare(settings(**changes).settings())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stride": 3}, "stride is 3 without a sliding window; give the length of the"),
        ({"context_length": 1}, "context_length is 1; it must be at least 2"),
        ({"context_length": 9, "stride": 9}, "stride is 9 with context_length 9; it must be below"),
        ({"context_length": 9, "stride": 0}, "stride is 0; it must be at least 1"),
        (
            {"context_length": 9, "blocks_from": "spread", "test_blocks": 5},
            "whose 5 test blocks are not consecutive; give --test-blocks 0 or",
        ),
        ({"extras": ("mauve", "mauve")}, "extras names mauve twice"),
    ],
)
def test_settings_that_mean_nothing(changes, says):
    with pytest.raises(InputError, match=says):
        LMConfig(**changes).check()
    assert LMConfig(context_length=9).window() == (9, 4) and LMConfig().window() is None


@pytest.mark.parametrize(
    ("changes", "real"),
    [
        pytest.param({"real_fraction": 0.3}, 6, marks=pytest.mark.slow),
        # ceil(6 / 8) batches of 8
        pytest.param({"real_fraction": 0.3, "real_kept": "batches"}, 8, marks=pytest.mark.slow),
        ({"workflow": "accumulate"}, 20),
    ],
)
def test_blocks_of_a_run_and_their_origins(settings, changes, real, tmp_path):
    """What is called real is real text, and nothing else is."""
    config = settings(examples=0, **changes)
    folder, train = run(config, tmp_path / "run"), prepare(config.settings()).blocks.train
    checkpoints = Checkpoints(folder.checkpoints / "chain_0")
    _, arrays = checkpoints.restore_record(1)
    checkpoints.close()
    tokens, origins = arrays["tokens"], arrays["origins"]
    known = set(map(tuple, train.tolist()))
    assert [tuple(block) in known for block in tokens.tolist()] == (origins == -1).tolist()
    assert (origins == -1).sum() == real and set(origins.tolist()) == {-1, 0}
    lines = (folder.samples / "seed_0_generation_1.jsonl").read_text().splitlines()
    assert [json.loads(line)["origin"] for line in lines] == [
        "real" if origin == -1 else "generation 0" for origin in origins
    ]
    first, second = folder.rows()
    assert "newest_vocabulary_in_use" not in first and "origins" not in folder.results()
    assert second["newest_vocabulary_in_use"] == len(np.unique(tokens[origins == 0]))
    assert second["vocabulary_in_use"] == len(np.unique(tokens))


def test_no_examples_where_none_are_asked_for(settings, tmp_path):
    folder = run(settings(examples=0, generations=0), tmp_path / "run")
    assert [file.name for file in folder.samples.iterdir()] == ["seed_0_generation_0.jsonl"]
    with pytest.raises(InputError, match=r"contains no examples in samples/examples_seed_0\.jsonl"):
        example_table(folder)


def test_prompts_are_spread_over_the_test_text():
    blocks = np.arange(20).reshape(10, 2)
    assert example_prompts(blocks, 4)[:, 0].tolist() == [0, 4, 10, 14]
    assert example_prompts(blocks, 99).tolist() == blocks.tolist()
    assert example_prompts(blocks, 0).shape == (0, 2)


class Letters:
    """A tokenizer of letters."""

    @staticmethod
    def decode(ids):
        return "".join(chr(i) for i in ids)


def test_a_table_of_examples_by_generation(tmp_path):
    """A generation that is written again, and later than the next one, stands in its place once."""
    folder, ids = (
        RunFolder(tmp_path),
        lambda *texts: [[ord(letter) for letter in text] for text in texts],
    )
    for generation, made in (
        (1, ("b|c", "d\n\u2028e")),
        (0, ("old", "old")),
        (0, ("<x>", "y")),
        (9, ("z", "z")),
    ):
        write_examples(folder, Letters, 3, generation, ids("one", "two"), ids(*made))
    assert example_table(folder, 3, (0, 1)) == (
        "Input: one\n\n| generation | continuation |\n|---|---|\n| 0 | \\<x\\> |\n| 1 | b\\|c |\n\n"
        "Input: two\n\n| generation | continuation |\n|---|---|\n| 0 | y |\n| 1 | d e |\n"
    )
    assert example_table(folder, 3).count("| 9 | z |") == 2
    with pytest.raises(InputError, match="no examples of generations 5 in"):
        example_table(folder, 3, [5])


def test_what_is_left_out_is_said_in_a_line(monkeypatch):
    monkeypatch.setattr(observe, "has_sacrebleu", lambda: False)
    assert observe.unmeasured() == [
        "self-BLEU is left out: it needs the package 'sacrebleu' (pip install sacrebleu)"
    ]
    monkeypatch.setattr(observe, "has_sacrebleu", lambda: True)
    assert observe.unmeasured() == []
