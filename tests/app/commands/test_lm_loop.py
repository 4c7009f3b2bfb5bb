"""Which blocks go where in every generation, against plain NumPy rewrites.

Fits are replaced by ones that note what they are given, and decoding by a function of the prompts;
where texts are sampled, decoding is the real one, with a model of 8 dimensions.
"""

import importlib

import jax
import numpy as np
import pytest

from collapse_jax.app.commands.lm_ingredients import Blocks, Ingredients, process_of
from collapse_jax.app.commands.lm_loop import loop_words, workflow_of
from collapse_jax.app.commands.needs import disk_need
from collapse_jax.app.commands.origins import REAL, Origins
from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm.kept import kept_blocks, made_blocks, training_blocks
from collapse_jax.errors import InputError
from collapse_jax.models.lm.decode import Sampling, generate
from collapse_jax.models.lm.finetune import FineTuned
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params

pytestmark = pytest.mark.usefixtures("quick_compile")
# The module, whose name in the package is that of its function.
causal_lm = importlib.import_module("collapse_jax.estimators.causal_lm")
CONFIG = OPTConfig(
    vocab_size=2048,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=8,
    max_position_embeddings=16,
    dropout=0.0,
    init_std=0.5,
)
MODEL, KEY, LAST = OPT(CONFIG), jax.random.key(3), 3
LENGTH, COUNT, OTHERS = 8, 20, 50
BLOCKS = np.random.default_rng(0).integers(3, 1000, (COUNT + OTHERS, LENGTH)).astype(np.int32)
TRAIN = BLOCKS[:COUNT]
PARAMS = {"embed_tokens": {"embedding": np.zeros((1, 1), np.float32)}}


class Run:
    """A chain of generations 0 to 3 (or 0 alone, where `steps` is 0), fits noted.

    begins, keys, sets: what each fit was given. prompts: what each decoding was given.
    """

    def __init__(
        self,
        monkeypatch,
        *,
        decode=None,
        params=PARAMS,
        others=BLOCKS[COUNT:],
        steps=LAST,
        **changes,
    ):
        self.begins, self.keys, self.sets, self.prompts = [], [], [], []
        self._decode = decode or written
        monkeypatch.setattr(causal_lm, "fine_tune", self.fine_tune)
        monkeypatch.setattr(causal_lm, "generate", self.generate)
        small = {"block_length": LENGTH, "batch_size": 4, "epochs": 1, "generations": LAST}
        self.settings = LMConfig(**(small | changes)).settings()
        splits = Blocks(TRAIN, TRAIN, TRAIN)
        self.ingredients = Ingredients(MODEL, params, None, splits, others=others)
        self.process = process_of(self.settings, self.ingredients)
        chain = jax.random.fold_in(KEY, 1)
        state, _ = self.process.init(jax.random.fold_in(chain, 0), LAST)
        for generation in range(1, steps + 1):
            state, _ = self.process.step(jax.random.fold_in(chain, generation), state)

    def fine_tune(self, model, params, blocks, valid_blocks, settings, key, **options):
        self.begins.append(params)
        self.keys.append(np.asarray(jax.random.key_data(key)).tolist())
        self.sets.append(np.asarray(blocks).tolist())
        return dict(params), FineTuned(np.ones(1), np.ones(1), 0, 1, np.ones(1))

    def generate(self, model, params, prompts, decoder, new_tokens, **options):
        self.prompts.append(np.asarray(prompts).tolist())
        assert options["attention_mask"].shape == np.shape(prompts)
        return self._decode(model, params, prompts, decoder, new_tokens, **options)

    def origins(self):
        """Of the training sets, as the run folder has them."""
        workflow = workflow_of(self.settings, COUNT)
        is_control = self.settings.config.control != "none"
        found = Origins(workflow, COUNT, KEY, LAST, models_write=not is_control)
        return [found.of(1, generation).tolist() for generation in range(LAST + 1)]


def written(model, params, prompts, decoder, new_tokens, **options):
    """Tokens that no real block has, from which their prompt can be told."""
    first = np.asarray(prompts).sum(1)[:, None] % 1000 + 1000
    return np.repeat(first, new_tokens, axis=1).astype(np.int32)


def as_set(blocks):
    return set(map(tuple, blocks))


def real_of(blocks):
    """Those among blocks that are real, in their order."""
    known = as_set(BLOCKS.tolist())
    return [block for block in blocks if tuple(block) in known]


# Prompts, continuations, what is trained on.


@pytest.mark.parametrize(
    ("changes", "prompt", "both"),
    [
        ({}, 8, False),
        ({"prompt_length": 3}, 3, False),
        ({"prompt_length": 3, "continuation_length": 5, "train_on": "both"}, 3, True),
        ({"prompt_length": 7, "train_on": "both"}, 7, True),
    ],
)
def test_new_blocks_are_made_of_the_first_tokens_of_each(monkeypatch, changes, prompt, both):
    run = Run(monkeypatch, **changes)
    prompts = TRAIN[:, :prompt]
    new = np.repeat(prompts.sum(1)[:, None] % 1000 + 1000, LENGTH, 1)
    expected = np.concatenate([prompts, new[:, prompt:]], 1) if both else new
    assert run.prompts == [prompts.tolist()] * LAST
    assert run.sets[1:] == [expected.tolist()] * LAST


@pytest.mark.parametrize("workflow", ["accumulate", "accumulate_subsample"])
def test_a_pool_holds_new_blocks_of_one_length(monkeypatch, workflow):
    run = Run(monkeypatch, workflow=workflow, prompt_length=3, train_on="both")
    for generation, (blocks, origins) in enumerate(zip(run.sets, run.origins(), strict=True)):
        assert np.shape(blocks)[1] == LENGTH and len(blocks) == len(origins)
        is_real = [tuple(block) in as_set(TRAIN.tolist()) for block in blocks]
        assert is_real == [origin == REAL for origin in origins]
        assert len(blocks) == COUNT * (generation + 1 if workflow == "accumulate" else 1)


@pytest.mark.parametrize("train_on", ["continuation", "both"])
def test_texts_from_the_beginning_of_text(monkeypatch, train_on):
    """Each text is that of its own stream, and no two are one."""
    run = Run(
        monkeypatch,
        decode=generate,
        params=init_params(CONFIG, jax.random.key(0)),
        prompts="start",
        train_on=train_on,
        decoding="sampling",
        decode_batch=COUNT,
    )
    assert run.prompts == [[[CONFIG.bos_token_id]] * COUNT] * LAST
    sets = [as_set(blocks) for blocks in run.sets]
    assert [len(blocks) for blocks in sets] == [COUNT] * 4 and not sets[1] & sets[2]
    assert all(np.shape(blocks) == (COUNT, LENGTH) for blocks in run.sets)
    firsts = {block[0] for blocks in run.sets[1:] for block in blocks}
    assert (firsts == {CONFIG.bos_token_id}) == (train_on == "both")
    assert len({block[1] for block in run.sets[1]}) > COUNT // 2


# Real text that is kept.


@pytest.mark.parametrize(
    ("changes", "kept", "previous"),
    [
        ({"real_blocks": 7, "real_kept": "batches"}, 7, 0),
        ({"real_blocks": 0, "real_kept": "batches"}, 0, 0),
        ({"real_blocks": 20}, 20, 0),
        ({"real_tokens": 59}, 7, 0),  # 7.4 blocks
        ({"real_tokens": 60}, 8, 0),  # 7.5 blocks
        ({"real_blocks": 7, "beta": 0.25}, 7, 5),
        ({"preset": "fig1c", "real_blocks": 3}, 3, 0),  # instead of its 10%
    ],
)
def test_real_text_is_kept_by_number(monkeypatch, changes, kept, previous):
    run = Run(monkeypatch, **changes)
    config = run.settings.config
    assert kept_blocks(config, COUNT) == kept
    assert made_blocks(config, COUNT) == COUNT - kept - previous
    for generation, origins in enumerate(run.origins()[1:], 1):
        blocks = run.sets[generation]
        fresh = np.sum(np.array(origins) == generation - 1)
        assert len(blocks) == COUNT and fresh == COUNT - kept - previous
        assert [origin == REAL for origin in origins] == [
            tuple(block) in as_set(TRAIN.tolist()) for block in blocks
        ]
        if not previous:
            assert len(real_of(blocks)) == len(as_set(real_of(blocks))) == kept
    if "real_kept" in changes and not previous:
        # Exactly those that are not kept are continued.
        for blocks, prompts in zip(run.sets[1:], run.prompts, strict=True):
            assert as_set(real_of(blocks)) | as_set(prompts) == as_set(TRAIN.tolist())


@pytest.mark.parametrize("real_kept", ["drawn", "batches"])
@pytest.mark.parametrize(
    ("real_fraction", "beta"), [(0.125, 0.125), (0.125, 0.3), (0.3, 0.125), (0.0, 0.125), (0.5, 0)]
)
def test_shares_are_rounded_as_the_workflow_rounds_them(
    monkeypatch, real_fraction, beta, real_kept
):
    """20 blocks and an eighth are halves of blocks."""
    run = Run(monkeypatch, real_fraction=real_fraction, beta=beta, real_kept=real_kept)
    config, origins = run.settings.config, run.origins()[1]
    assert origins.count(0) == made_blocks(config, COUNT)
    if not beta:  # the previous set is real, too
        assert origins.count(REAL) == kept_blocks(config, COUNT)


# What fits begin with.


def test_random_weights_are_drawn_for_each_generation_and_seed(monkeypatch):
    params = init_params(CONFIG, jax.random.key(0))
    run, again = (Run(monkeypatch, params=params, start="random") for _ in range(2))
    tables = [np.asarray(begin["embed_tokens"]["embedding"]) for begin in run.begins]
    assert tables[0].shape == (2048, 8)
    for i, table in enumerate(tables):
        assert abs(table.std() / 0.5 - 1) < 4 / np.sqrt(2 * table.size)
        assert (table == again.begins[i]["embed_tokens"]["embedding"]).all()
        for other in tables[:i]:
            assert not (table == other).any()
            assert abs(np.corrcoef(table.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(table.size)
    # No stream is used twice: the fit has that of its key, which is as without random weights.
    assert run.keys == Run(monkeypatch).keys


# Controls.

BESIDE = [
    {"preset": "fig1c", "real_fraction": 0.35},
    {"preset": "fig1c", "real_fraction": 0.3, "real_kept": "batches"},
    {"real_blocks": 7},
    {"real_blocks": 7, "real_kept": "batches"},
    {"workflow": "accumulate"},
]


@pytest.mark.parametrize("changes", BESIDE)
def test_kept_text_alone_is_that_of_the_run_beside_it(monkeypatch, changes):
    beside = Run(monkeypatch, **changes)
    control = Run(monkeypatch, control="kept", **changes)
    assert (control.sets[0], control.keys) == (beside.sets[0], beside.keys)
    for generation in range(1, LAST + 1):
        blocks, kept = control.sets[generation], real_of(beside.sets[generation])
        assert len(blocks) == training_blocks(control.settings.config, COUNT, generation)
        if "workflow" in changes:
            assert as_set(blocks) == as_set(TRAIN.tolist()) and len(blocks) == COUNT
        else:
            assert blocks == kept and len(blocks) == kept_blocks(beside.settings.config, COUNT)
    assert control.prompts == []
    origins = control.origins()
    assert [set(one) for one in origins] == [{REAL}] * 4
    assert list(map(len, origins)) == list(map(len, control.sets))


@pytest.mark.parametrize("others", [OTHERS, 30, 5, 0])
def test_fresh_text_comes_once_before_any_comes_again(monkeypatch, others):
    run = Run(monkeypatch, control="real", others=BLOCKS[COUNT : COUNT + others])
    given = [tuple(block) for blocks in run.sets[1:] for block in blocks]
    assert list(map(len, run.sets)) == [COUNT] * 4 and run.prompts == []
    everything = as_set(BLOCKS[: COUNT + others].tolist())
    # All others first, then those of generation 0, then all again in the same order.
    assert as_set(given[:others]) == as_set(BLOCKS[COUNT : COUNT + others].tolist()) or (
        others > len(given)
    )
    once = given[: COUNT + others]
    assert len(set(once)) == len(once) and set(once) <= everything
    if others + COUNT <= 3 * COUNT:
        assert set(once) == everything
        rest = given[COUNT + others :]
        assert rest == [once[i % len(once)] for i in range(len(rest))]
    assert all(len(as_set(blocks)) == COUNT for blocks in run.sets)
    assert run.origins() == [[REAL] * COUNT] * 4
    first = Run(monkeypatch)
    assert (run.sets[0], run.keys) == (first.sets[0], first.keys)
    if others > 5:
        assert given[:others] != list(map(tuple, BLOCKS[COUNT : COUNT + others].tolist()))


@pytest.mark.parametrize(
    ("changes", "fresh", "size"),
    [
        ({"preset": "fig1c", "real_fraction": 0.35}, 13, 20),
        ({"real_fraction": 0.3, "real_kept": "batches"}, 12, 20),
        ({"real_blocks": 7, "beta": 0.25}, 8, 20),
        ({"workflow": "accumulate"}, 20, None),
        ({"workflow": "accumulate_subsample"}, None, 20),
        ({"prompts": "start", "decoding": "sampling"}, 20, 20),
    ],
)
def test_fresh_text_takes_the_place_of_what_models_make(monkeypatch, changes, fresh, size):
    """Under every workflow; all else is as in the run beside it."""
    beside, run = Run(monkeypatch, **changes), Run(monkeypatch, control="real", **changes)
    others, train = as_set(BLOCKS[COUNT:].tolist()), as_set(TRAIN.tolist())
    assert (run.sets[0], run.keys) == (beside.sets[0], beside.keys)
    seen = set()
    for generation in range(1, LAST + 1):
        blocks, written_there = run.sets[generation], beside.sets[generation]
        assert len(blocks) == len(written_there) == (size or COUNT * (generation + 1))
        found = [tuple(block) for block in blocks if tuple(block) in others]
        assert len(found) == len(set(found))
        if fresh is None:
            places = [tuple(block) in train for block in blocks]
            # In generation 3 blocks of generation 0 come again.
            assert generation == 3 or places == [tuple(b) in train for b in written_there]
            continue
        new = set(found) - seen
        if "beta" not in changes:
            assert len(new) == (min(fresh, OTHERS - len(seen)))
        seen |= set(found)
        if "workflow" not in changes and "beta" not in changes and fresh < COUNT:
            assert [tuple(b) for b in blocks if tuple(b) in train] == [
                tuple(b) for b in written_there if tuple(b) in train
            ]
    assert {origin for origins in run.origins() for origin in origins} == {REAL}


def test_seeds_have_fresh_text_in_orders_of_their_own(monkeypatch):
    run = Run(monkeypatch, control="real")
    orders = [
        np.asarray(run.process.template(jax.random.key(seed), LAST).params.order)
        for seed in (0, 1, 0)
    ]
    assert (orders[0] == orders[2]).all() and not (orders[0] == orders[1]).all()
    for order in orders:
        assert sorted(order[:OTHERS]) == list(range(OTHERS))
        assert sorted(order) == list(range(OTHERS + COUNT))


# What is said, and what is refused.


def said(monkeypatch, others=OTHERS, **changes):
    run = Run(monkeypatch, others=BLOCKS[COUNT : COUNT + others], steps=0, **changes)
    tokenizer = type("Numbers", (), {"decode": staticmethod(lambda ids: f"<{ids[0]}>")})
    return loop_words(run.settings, run.ingredients._replace(tokenizer=tokenizer))


def test_what_is_drawn_is_said(monkeypatch):
    assert said(monkeypatch) == said(monkeypatch, real_tokens=16) == []
    assert said(monkeypatch, real_tokens=59) == [
        "real_tokens 59 is 7.4 blocks of 8 tokens: 7 blocks, 56 tokens, are kept"
    ]
    assert said(monkeypatch, real_fraction=0.5, control="real") == [
        "control real: the 10 generated blocks per generation are replaced by the 50 blocks of "
        "the training text that generation 0 did not use, each at most once"
    ]
    (some,) = said(monkeypatch, control="real")
    assert "they last for 2.5 of 3 generations; then the blocks of generation 0 follow" in some
    (none,) = said(monkeypatch, 0, control="real")
    assert "the training text has no others; give train_blocks to have fresh ones" in none
    (kept,) = said(monkeypatch, control="kept", preset="fig1c")
    assert "from generation 1 on, a training set consists only of the 2 real blocks" in kept
    assert said(monkeypatch, real_fraction=0.01) == [
        "real_fraction 0.01 of 20 blocks is 0.2; in whole blocks, 0 of 20 (0.0%) are real text"
    ]
    batches = {"preset": "fig1c", "real_kept": "batches"}
    assert said(monkeypatch, batch_size=16, **batches) == [
        "real_fraction 0.1 of 20 blocks is 2.0; in whole batches of 16, 16 of 20 (80.0%) are real "
        "text"
    ]
    (every,) = said(monkeypatch, batch_size=128, **batches)
    assert every.endswith("20 of 20 (100.0%) are real text, and models make none")
    (start,) = said(monkeypatch, prompts="start", decoding="sampling")
    assert start == "prompts start: every text begins after token 2, '<2>'"


def test_room_for_what_is_trained_on(monkeypatch):
    def need(**changes):
        run = Run(monkeypatch, seeds=1, steps=0, **changes)
        tokenizer = type("Nothing", (), {"decode": staticmethod(lambda ids: "")})
        return disk_need(run.settings, run.ingredients._replace(tokenizer=tokenizer), set())

    plain = need()
    assert need(control="real").state - plain.state == 4 * (COUNT + OTHERS)
    kept = need(control="kept", real_blocks=5)
    assert kept.arrays * 4 * COUNT == plain.arrays * (COUNT + 3 * 5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"real_blocks": 3, "real_fraction": 0.1}, "real_blocks 3 and real_fraction 0.1 both set"),
        ({"real_blocks": 3, "real_tokens": 9}, "real_tokens 9 and real_blocks 3 both set"),
        ({"real_blocks": -1}, "real_blocks is -1; it must be at least 0"),
        ({"real_tokens": 2**31}, "real_tokens is 2147483648; it must be at most"),
        ({"real_blocks": 3, "workflow": "accumulate"}, "real_blocks is 3 with workflow accumulate"),
        ({"control": "kept"}, "control is kept, but no real text is"),
        ({"control": "kept", "real_blocks": 0}, "control is kept, but no real text is"),
        ({"control": "kept", "workflow": "accumulate_subsample"}, "give --control real"),
        ({"control": "kept", "real_blocks": 3, "beta": 0.1}, "beta is 0.1 with control kept"),
        ({"prompts": "start"}, "decoding is beam with prompts start.*give --decoding sampling"),
        ({"prompts": "start", "decoding": "greedy"}, "decoding is greedy with prompts start"),
        ({"prompts": "start", "decoding": "sampling", "top_k": 1}, "top_k is 1 with prompts start"),
        (
            {"prompts": "start", "decoding": "sampling", "min_p": 1.0},
            "min_p is 1.0 with prompts start, .* or a smaller value",
        ),
        ({"prompts": "start", "prompt_length": 4}, "prompt_length is 4 with prompts start"),
        ({"prompt_length": 65}, "prompt_length is 65, more than a block has"),
        ({"prompt_length": 0}, "prompt_length is 0"),
        ({"continuation_length": 32}, "give continuation_length 64, or block_length 32"),
        ({"train_on": "both"}, "leaves no token to generate"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, says):
    with pytest.raises(InputError, match=says):
        LMConfig(**changes).check()


def test_one_block_from_the_beginning_of_text_may_be_decoded_by_beams():
    LMConfig(prompts="start", train_blocks=1).check()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"real_blocks": 21}, "real_blocks is 21, which is 21 blocks, but a training set has 20;"),
        ({"real_tokens": 164}, "which is 21 blocks, .*; give at most 160 tokens"),
        ({"real_blocks": 16, "beta": 0.25}, "5 of them from the previous set .*at most 15 blocks"),
        ({"real_blocks": 18, "beta": 0.125}, "3 of them from the previous set .*at most 17 blocks"),
        ({"real_tokens": 3}, "real_tokens is 3, which is less than half a block of 8 tokens; gi"),
        ({"real_fraction": 0.01, "control": "kept"}, "no block of real text is kept; give a"),
    ],
)
def test_numbers_that_do_not_fit_the_text_are_refused(monkeypatch, changes, says):
    with pytest.raises(InputError, match=says):
        Run(monkeypatch, **changes)


def test_one_text_many_times_is_refused_in_python_too():
    prompting = causal_lm.Prompting(prompts="start")
    for decoder in (causal_lm.BeamSearch(), Sampling(top_k=1), Sampling(min_p=1.0)):
        with pytest.raises(InputError, match="the same text 20 times; it must be Sampling"):
            causal_lm.causal_lm(MODEL, PARAMS, TRAIN, TRAIN, prompting=prompting, decoder=decoder)
    with pytest.raises(InputError, match="prompting is 'start'"):
        causal_lm.causal_lm(MODEL, PARAMS, TRAIN, TRAIN, prompting="start")
    causal_lm.causal_lm(MODEL, PARAMS, TRAIN, TRAIN, prompting=prompting, decoder=Sampling())


def test_a_configuration_reads_back_as_it_was_resolved():
    config = LMConfig(preset="fig1c", real_blocks=3).resolved()
    assert (config.real_fraction, config.real_blocks) == (None, 3) and config.resolved() == config
    config.check()
