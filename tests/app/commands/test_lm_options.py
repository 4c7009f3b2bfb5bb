"""Workflow, start, decoder and generator of the language-model loop are independent: every pair of
their values runs, fits replaced.

A fit here notes what it is given and returns weights at random; decoding is the real one, with a
model of 8 dimensions.
"""

import importlib
import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from collapse_jax.app.commands.lm_ingredients import Blocks, Ingredients, process_of
from collapse_jax.app.config import LMConfig
from collapse_jax.core import points
from collapse_jax.errors import InputError
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, generate
from collapse_jax.models.lm.finetune import FineTuned
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params

pytestmark = pytest.mark.usefixtures("quick_compile")
# The module, whose name in the package is that of its function.
causal_lm = importlib.import_module("collapse_jax.estimators.causal_lm")
CONFIG = OPTConfig(
    vocab_size=512,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=16,
    dropout=0.0,
    init_std=0.3,
)
MODEL, KEY = OPT(CONFIG), jax.random.key(0)
LENGTH, BLOCKS, BATCH = 8, 20, 8
# Settings, then of generation 1: blocks in all, blocks that the model made, original ones.
FLOWS = {
    "replace": ({}, 20, 20, 0),
    "real drawn": ({"real_fraction": 0.25}, 20, 15, 5),
    "real in batches": ({"real_fraction": 0.25, "real_kept": "batches"}, 20, 12, 8),
    "previous": ({"beta": 0.25}, 20, 15, 5),  # the previous set is the original one
    "real drawn, previous": ({"real_fraction": 0.25, "beta": 0.25}, 20, 10, 10),
    "real in batches, previous": (
        {"real_fraction": 0.25, "beta": 0.25, "real_kept": "batches"},
        20,
        7,
        13,
    ),
    "accumulate": ({"workflow": "accumulate"}, 40, 20, 20),
    "accumulate_subsample": ({"workflow": "accumulate_subsample"}, 20, 20, None),
}
DECODINGS = {
    "beam": ({"num_beams": 2}, BeamSearch(2, 1.0)),
    "penalised beam": ({"num_beams": 2, "repetition_penalty": 2.0}, BeamSearch(2, 2.0)),
    "greedy": ({"decoding": "greedy"}, Greedy(1.0)),
    "temperature": ({"decoding": "sampling", "temperature": 0.7}, Sampling(0.7, 0, 1.0, 1.0)),
    "top-k": ({"decoding": "sampling", "top_k": 5}, Sampling(1.0, 5, 1.0, 1.0)),
    "nucleus, penalised": (
        {"decoding": "sampling", "top_p": 0.8, "repetition_penalty": 1.5},
        Sampling(1.0, 0, 0.8, 1.5),
    ),
}
STARTS, GENERATORS = ("pretrained", "first", "previous"), ("best", "last")
RUNS = [
    (flow, decoding, STARTS[(i + j) % 3], GENERATORS[(i + j // 2) % 2])
    for (i, flow), (j, decoding) in itertools.product(enumerate(FLOWS), enumerate(DECODINGS))
]


class Spy:
    """What the fits and the decoder were given."""

    def __init__(self, monkeypatch, decode=generate, fit=None):
        self.begins, self.settings, self.decoded = [], [], []
        self._decode, self._fit = decode, fit or moved
        monkeypatch.setattr(causal_lm, "fine_tune", self.fine_tune)
        monkeypatch.setattr(causal_lm, "generate", self.generate)

    def fine_tune(self, model, params, blocks, valid_blocks, settings, key, **options):
        self.begins.append(params)
        self.settings.append(settings)
        losses = np.linspace(2, 1, settings.epochs)
        return self._fit(params, key), FineTuned(losses, losses, settings.epochs - 1, 1, losses)

    def generate(self, model, params, prompts, decoder, length, **options):
        self.decoded.append((params, np.asarray(prompts), decoder))
        return self._decode(model, params, prompts, decoder, length, **options)


@pytest.fixture(scope="module")
def ingredients():
    blocks = np.random.default_rng(0).integers(3, 512, (BLOCKS + 2, LENGTH)).astype(np.int32)
    return Ingredients(
        MODEL,
        init_params(CONFIG, KEY),
        None,
        Blocks(blocks[:BLOCKS], blocks[BLOCKS:], blocks[BLOCKS:]),
    )


def moved(params, key):
    """Weights that make other texts, at next to no cost."""
    rng = np.random.default_rng(int(jax.random.bits(key)))
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(0, 0.3, leaf.shape).astype(np.float32), params
    )


def rows(blocks):
    return list(map(tuple, np.asarray(blocks).tolist()))


def test_every_pair_of_options_is_among_the_runs():
    for a, b in itertools.combinations(range(4), 2):
        values = [sorted({run[place] for run in RUNS}) for place in (a, b)]
        assert {(run[a], run[b]) for run in RUNS} == set(itertools.product(*values))
    assert [len({run[place] for run in RUNS}) for place in range(4)] == [8, 6, 3, 2]


@pytest.mark.parametrize(("flow", "decoding", "start", "generator"), RUNS)
def test_options_are_independent(monkeypatch, ingredients, flow, decoding, start, generator):
    changes, size, made, real = FLOWS[flow]
    chosen, decoder = DECODINGS[decoding]
    config = LMConfig(
        start=start,
        generator=generator,
        batch_size=BATCH,
        decode_batch=4,
        epochs=2,
        **changes,
        **chosen,
    )
    spy = Spy(monkeypatch)
    process = process_of(config.settings(), ingredients)
    state, _ = process.init(KEY)
    models = [ingredients.pretrained, state.params.model]
    for generation in (1, 2):
        state, info = process.step(jax.random.fold_in(KEY, generation), state)
        models.append(state.params.model)
        if generation == 1:
            tokens = points.filled(info.data)
    expected = {"pretrained": [0, 0, 0], "first": [0, 1, 1], "previous": [0, 1, 2]}[start]
    assert all(begin is models[index] for begin, index in zip(spy.begins, expected, strict=True))
    assert [settings.keep for settings in spy.settings] == [generator] * 3
    assert (
        [used for _, _, used in spy.decoded] == [decoder] * 2
        and spy.decoded[0][0] is models[1]
        and spy.decoded[1][0] is models[2]
    )
    assert len(tokens) == size and len(spy.decoded[0][1]) == made
    train = ingredients.blocks.train
    assert set(rows(spy.decoded[0][1])) <= set(rows(train))
    found = [row for row in rows(tokens) if row in set(rows(train))]
    assert len(found) == real if real is not None else 0 < len(found) < BLOCKS
    if not isinstance(decoder, Sampling):
        continuations = generate(MODEL, models[1], spy.decoded[0][1], decoder, LENGTH, batch_size=4)
        others = [row for row in rows(tokens) if row not in set(rows(train))]
        assert set(others) <= set(rows(continuations)) and (len(others) == made or real is None)


# How the real blocks are chosen, with a model that adds 1,000 to every token.


@pytest.mark.parametrize("workflow", ["accumulate", "accumulate_subsample"])
def test_each_new_batch_holds_a_share_of_real_blocks(monkeypatch, workflow):
    """Of 20 blocks 5, chosen anew; the newest model continues 15, and everything stays."""
    train = np.arange(BLOCKS * LENGTH).reshape(BLOCKS, LENGTH).astype(np.int32)

    def add(model, params, prompts, decoder, length, **options):
        return np.asarray(prompts) + 1000

    Spy(monkeypatch, add, fit=lambda params, key: params)
    config = LMConfig(workflow=workflow, real_share=0.25, batch_size=BATCH)
    ingredients = Ingredients(MODEL, init_params(CONFIG, KEY), None, Blocks(train, train, train))
    process = process_of(config.settings(), ingredients)
    state, _ = process.init(KEY, 3)
    sets = []
    for generation in (1, 2, 3):
        state, info = process.step(jax.random.fold_in(KEY, generation), state)
        sets.append(points.filled(info.data)[:, 0] // LENGTH)
    if workflow == "accumulate_subsample":
        # Of blocks that are there once, those of generation 0 and of the batches.
        assert [len(numbers) for numbers in sets] == [20] * 3
        assert all((numbers >= BLOCKS).any() and (numbers < BLOCKS).any() for numbers in sets)
        return
    assert [len(numbers) for numbers in sets] == [40, 60, 80]
    assert sorted(sets[-1][:BLOCKS]) == list(range(BLOCKS))
    batches = sets[-1][BLOCKS:].reshape(3, BLOCKS)
    real = [set(batch[batch < BLOCKS].tolist()) for batch in batches]
    assert list(map(len, real)) == [5] * 3 and len(set(map(frozenset, real))) == 3
    assert [len(set(batch[batch >= BLOCKS].tolist())) for batch in batches] == [15] * 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"real_share": 0.3}, "real_share is 0.3 with workflow replace, .* --real-fraction 0.3"),
        ({"real_share": 1.0, "workflow": "accumulate"}, "real_share is 1; .* below 1"),
        ({"real_share": float("nan"), "workflow": "accumulate"}, "real_share is nan"),
        (
            {"real_share": 0.3, "workflow": "accumulate", "control": "kept"},
            "real_share is 0.3 with control kept",
        ),
    ],
)
def test_a_real_share_that_means_nothing_is_one_line(settings, says):
    with pytest.raises(InputError, match=says):
        LMConfig(**settings).check()


def test_a_real_share_of_too_few_blocks_is_one_line(ingredients):
    config = LMConfig(workflow="accumulate", real_share=0.02, batch_size=BATCH)
    with pytest.raises(InputError, match=r"real_share 0.02 of 20 blocks is 0.4, none of them"):
        process_of(config.settings(), ingredients)


def test_which_blocks_are_kept_and_which_are_continued(monkeypatch, chi_square_p):
    """drawn: the two are independent, so that kept ones may be continued as well. batches: exactly
    those that are not kept are.
    """
    train = np.arange(BLOCKS * LENGTH).reshape(BLOCKS, LENGTH).astype(np.int32)

    def add(model, params, prompts, decoder, length, **options):
        return np.asarray(prompts) + 1000

    Spy(monkeypatch, add, fit=lambda params, key: params)
    params = init_params(CONFIG, KEY)
    both = {}
    for real_kept, share in (("drawn", 5), ("batches", 8)):
        config = LMConfig(real_fraction=0.25, real_kept=real_kept, batch_size=BATCH)
        ingredients = Ingredients(MODEL, params, None, Blocks(train, train, train))
        process = process_of(config.settings(), ingredients)
        state, _ = process.init(KEY)
        kept, both[real_kept] = [], []
        for generation in range(120):
            state, info = process.step(jax.random.fold_in(KEY, generation), state)
            numbers = points.filled(info.data)[:, 0] // LENGTH
            real, made = numbers[numbers < BLOCKS], numbers[numbers >= BLOCKS] - 1000 // LENGTH
            assert (
                len(set(real)) == len(real) == share
                and len(set(made)) == len(made) == BLOCKS - share
            )
            kept.append(tuple(sorted(real)))
            both[real_kept].append(len(set(real) & set(made)))
        assert len(set(kept)) > 110
        assert (
            chi_square_p(
                np.bincount(np.concatenate(kept), minlength=BLOCKS), np.full(BLOCKS, 1 / BLOCKS)
            )
            > 1e-4
        )
    assert set(both["batches"]) == {0}
    assert (
        chi_square_p(
            np.bincount(both["drawn"], minlength=6),
            stats.hypergeom.pmf(np.arange(6), BLOCKS, 5, 15),
        )
        > 1e-4
    )
