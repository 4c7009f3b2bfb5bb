"""Who wrote each block of a training set, against blocks that tell it themselves."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.app.commands import observe
from collapse_jax.app.commands.observe import Observer, publisher
from collapse_jax.app.commands.origins import NO_BLOCK, REAL, Origins, words
from collapse_jax.core import points
from collapse_jax.core.types import FitInfo
from collapse_jax.errors import DivergenceError
from collapse_jax.metrics.frequencies import frequency_metrics
from collapse_jax.metrics.text import text_metrics
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.session import Session

pytestmark = pytest.mark.usefixtures("quick_compile")
BLOCKS, LAST, KEY = 10, 2, jax.random.key(7)
WORKFLOWS = {
    "replace": cj.workflows.replace(),
    "accumulate": cj.workflows.accumulate(),
    "accumulate_subsample": cj.workflows.accumulate_subsample(),
    "real batches": cj.workflows.accumulate(0.3, random_counts=False),
    "mix": cj.workflows.mix(0.5, 0.2, 0.3, random_counts=False),
    "keep_or_continue": cj.workflows.keep_or_continue(0.25, beta=0.2, batch_size=2),
}


@pytest.fixture(scope="module")
def told():
    """told(workflow) -> origins of each generation, from a family whose points carry them.

    A real point is [place, -1], a generated one [place of its prompt, generation of the model].
    """

    def fit(key, params, data):
        return params + 1, FitInfo.exact()

    def sample(key, params, n):
        # What is continued, by the rule that `causal_lm` states for its `sample`.
        choice_key, _ = jax.random.split(key)
        some = np.sort(np.asarray(jax.random.permutation(choice_key, BLOCKS)[:n]))
        return jnp.stack([jnp.asarray(some), jnp.full(n, params)], 1).astype(jnp.int32)

    family = cj.estimator(
        fit,
        sample,
        init=lambda key, data: jnp.asarray(-1, jnp.int32),
        continued=lambda key, params, x: x.at[:, 1].set(params),
        traceable=False,
    )
    real = np.stack([np.arange(BLOCKS), np.full(BLOCKS, -1)], 1)

    def run(workflow):
        source = cj.sources.dataset(real)
        process = cj.generational_process(family, source, workflow, sample_size=BLOCKS)
        chain_key = jax.random.fold_in(KEY, 2)
        state, info = process.init(jax.random.fold_in(chain_key, 0), LAST)
        found = [points.filled(info.data)]
        for generation in range(1, LAST + 1):
            state, info = process.step(jax.random.fold_in(chain_key, generation), state)
            found.append(points.filled(info.data))
        return found

    return run


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "keep_or_continue" else ())
        for name in WORKFLOWS
    ],
)
def test_origins_are_what_the_points_say(name, told):
    origins, points_told = Origins(WORKFLOWS[name], BLOCKS, KEY, LAST), told(WORKFLOWS[name])
    blocks, expected = ([one[:, place] for one in points_told] for place in (0, 1))
    assert origins.mixed == (name != "replace")
    for generation in (0, 1, 2, 1, 2):  # forwards, and a generation that is made again
        found = origins.of(2, generation)
        assert found.dtype == np.int32 and found.tolist() == expected[generation].tolist()
        found = origins.blocks_of(2, generation)
        assert found.dtype == np.int32 and found.tolist() == blocks[generation].tolist()
    if name == "accumulate_subsample":
        assert len(set(expected[2])) > 2  # of several generations
        assert origins.of(0, 2).tolist() != expected[2].tolist()  # another chain, another choice
    if name == "accumulate":
        assert expected[2].tolist() == [REAL] * 10 + [0] * 10 + [1] * 10
    if name == "real batches":
        batches = [[REAL] * 10, [0] * 7 + [REAL] * 3, [1] * 7 + [REAL] * 3]
        assert expected[2].tolist() == [*batches[0], *batches[1], *batches[2]]
    assert origins.of(2, 0).tolist() == [REAL] * BLOCKS


@pytest.mark.parametrize("options", [{"models_write": False}, {"has_prompts": False}])
def test_a_text_without_a_prompt_goes_on_no_block(options):
    origins = Origins(WORKFLOWS["replace"], BLOCKS, KEY, LAST, **options)
    assert sorted(origins.blocks_of(0, 0)) == list(range(BLOCKS))
    assert origins.blocks_of(0, 1).tolist() == [NO_BLOCK] * BLOCKS
    assert origins.of(0, 1).tolist() == [REAL if "models_write" in options else 0] * BLOCKS


@pytest.fixture
def observed(monkeypatch):
    """observed(origins, mixed) -> what is observed of generation 2, and its tokens."""

    class State:
        generation, params = 2, type("Params", (), {"model": {}})

    class Blocks:
        train = test = np.zeros((4, 6), np.int32)

    tokens = np.random.default_rng(0).integers(0, 9, (8, 6))
    losses = lambda model, params, blocks, **_: np.log(blocks.sum(1) + 1.0)  # noqa: E731
    both = lambda *given, **more: (losses(*given), np.full(len(given[2]), 0.5))  # noqa: E731
    monkeypatch.setattr(observe, "mean_loss", losses)
    monkeypatch.setattr(observe, "mean_loss_and_entropy", both)
    info = type("Info", (), {"data": points.of_sample(tokens), "fit": None})
    info.fit = type(
        "Fit",
        (),
        {
            "loss": 1.0,
            "iterations": 3,
            "detail": dict.fromkeys(
                ("best_epoch", "train_loss", "valid_loss", "gradient_norm"), np.zeros(1)
            ),
        },
    )

    def call(origins, mixed):
        observer = Observer(
            None,
            {},
            Blocks,
            np.zeros((0, 6)),
            None,
            None,
            Session(),
            lambda generation: np.array(origins),
            mixed,
        )
        return observer(State, State, info), tokens

    return call


def test_the_newest_models_blocks_are_measured_apart(observed):
    origins = [REAL, 0, 1, 1, 0, 1, REAL, 1]
    found, tokens = observed(origins, True)
    assert found["origins"].tolist() == origins
    newest = tokens[[2, 3, 5, 7]]
    for name, value in text_metrics(newest).items():
        assert found[f"newest_{name}"] == value
    frequencies = frequency_metrics(newest, np.zeros((4, 6), int))
    assert frequencies.keys() >= {"zipf_exponent", "unigram_kl", "yules_k", "different_sequences"}
    for name, value in frequencies.items():
        assert found[f"newest_{name}"] == value != found[name]
    assert found["newest_vocabulary_in_use"] == len(set(newest.ravel().tolist()))
    assert found["vocabulary_in_use"] == len(set(tokens.ravel().tolist()))
    sums = newest.sum(1) + 1.0
    assert found["newest_train_perplexity_first_median"] == pytest.approx(np.median(sums))
    assert found["newest_train_perplexity_own_mean"] == pytest.approx(sums.mean())
    assert found["newest_share_above_real_99"] == np.mean(sums > 1)  # real blocks: all of sum 0


@pytest.mark.parametrize("origins, mixed", [([1] * 8, False), ([REAL] * 8, True)])
def test_nothing_apart_where_there_is_nothing_of_it(observed, origins, mixed):
    found, _ = observed(origins, mixed)
    assert not [name for name in found if name.startswith("newest_")]


def test_a_loss_that_is_none_is_no_perplexity(observed, monkeypatch):
    odd = np.array([1.0, np.nan, np.inf])
    monkeypatch.setattr(observe, "mean_loss_and_entropy", lambda *_, **__: (odd, odd))
    with pytest.raises(DivergenceError, match="loss of 2 of 3 sequences is nan"):
        observed([1] * 8, False)


class Numbers:
    """A tokenizer whose text is the ids."""

    name = "numbers"

    @staticmethod
    def decode(ids):
        return " ".join(map(str, ids))


def test_every_block_of_the_samples_has_its_origin(tmp_path):
    folder = RunFolder(tmp_path)
    publish = publisher(folder, Numbers, np.zeros((0, 2), int))
    made = {"origins": np.array([REAL]), "origin_blocks": np.array([4])}
    publish(0, 0, {"tokens": np.array([[1, 2]])} | made)
    tokens, origins = np.array([[3, 4], [5, 6], [1, 2]]), np.array([1, 0, REAL])
    blocks = np.array([7, NO_BLOCK, 4])
    publish(0, 2, {"tokens": tokens, "origins": origins, "origin_blocks": blocks})
    lines = (folder.samples / "seed_0_generation_2.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == [
        {"text": "3 4", "tokens": [3, 4], "origin": "generation 1", "block": 7},
        {"text": "5 6", "tokens": [5, 6], "origin": "generation 0", "block": None},
        {"text": "1 2", "tokens": [1, 2], "origin": "real", "block": 4},
    ]
    assert words(REAL) == "real"


@pytest.mark.parametrize("columns", [{}, {"origin": "real"}, {"tokens": [1, 2]}])
def test_a_run_of_an_older_version_goes_on_as_it_began(tmp_path, columns):
    """Without origins, or without ids; what is written again stays as it was."""
    folder = RunFolder(tmp_path)
    publish = publisher(folder, Numbers, np.zeros((0, 2), int))
    first = json.dumps({"text": "1 2"} | columns) + "\n"
    folder.write_text("samples/seed_0_generation_0.jsonl", first)
    publish(0, 0, {"tokens": np.array([[1, 2]]), "origins": np.array([REAL])})
    made = {"origins": np.array([0]), "origin_blocks": np.array([2])}
    publish(0, 1, {"tokens": np.array([[3, 4]])} | made)
    assert (folder.samples / "seed_0_generation_0.jsonl").read_text() == first
    (row,) = (folder.samples / "seed_0_generation_1.jsonl").read_text().splitlines()
    now = {"text": "3 4", "tokens": [3, 4], "origin": "generation 0"}
    assert json.loads(row) == {name: now[name] for name in ("text", *columns)}


@pytest.mark.parametrize("text", ["", "{", "[1]\n", "5"])
def test_samples_that_are_damaged_are_written_as_they_are_now(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.write_text("samples/seed_0_generation_0.jsonl", text)
    publish = publisher(folder, Numbers, np.zeros((0, 2), int))
    publish(0, 0, {"tokens": np.array([[1, 2]]), "origins": np.array([REAL])})
    (row,) = (folder.samples / "seed_0_generation_0.jsonl").read_text().splitlines()
    assert json.loads(row) == {"text": "1 2", "tokens": [1, 2], "origin": "real"}
