"""Fits and draws that are stopped anywhere and started again, bit for bit; and what generating
holds in memory.
"""

import jax
import numpy as np
import pytest

from collapse_jax.models.lm import decode, finetune
from collapse_jax.models.lm.decode import BeamSearch, Sampling, generate
from collapse_jax.models.lm.finetune import FineTune, fine_tune
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.runs.scratch import Scratch
from collapse_jax.runs.session import Session

CONFIG = OPTConfig(
    vocab_size=29,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=16,
    dropout=0.3,
    init_std=0.3,
)
MODEL = OPT(CONFIG)
KEY = jax.random.key(4)


class Stopped(Exception):
    pass


class Memory(Scratch):
    """A scratch in memory that fails at one of its writes, before or after it is done."""

    def __init__(self, fails_at=None, after=False):
        self.pieces, self.names, self.fails_at, self.after = {}, [], fails_at, after

    def load(self, name, made_of):
        made, arrays = self.pieces.get(name, (None, None))
        return dict(arrays) if made == made_of else None

    def save(self, name, made_of, arrays):
        self.names.append(name)
        fails = len(self.names) == self.fails_at
        if fails and not self.after:
            raise Stopped
        self.pieces[name] = made_of, {key: np.array(value) for key, value in arrays.items()}
        if fails:
            raise Stopped


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def blocks():
    return np.random.default_rng(0).integers(3, 29, (6, 8))


@pytest.fixture(scope="module")
def valid():
    return np.random.default_rng(1).integers(3, 29, (4, 8))


@pytest.fixture
def calls(monkeypatch):
    """calls(place, name) -> a list that grows with each call of the function there."""

    def count(place, name):
        function, found = getattr(place, name), []

        def counted(*arguments, **options):
            found.append(0)
            return function(*arguments, **options)

        monkeypatch.setattr(place, name, counted)
        return found

    return count


def same_trees(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_fit_goes_on_from_its_last_epoch(params, blocks, valid, keep, calls):
    """Six epochs of one compiled call each, the best an early one: stopped before and after each
    write, and started again.
    """
    settings = FineTune(6, 4, 5e-2, 5e-2, keep=keep)
    fitted, result = fine_tune(MODEL, params, blocks, valid, settings, KEY)
    assert (
        0 < result.best_epoch < 4
    )  # so that the best parameters have to be kept apart for a while
    undisturbed = Memory()
    fine_tune(MODEL, params, blocks, valid, settings, KEY, session=Session(scratch=undisturbed))
    parts = sum(name.endswith("best") for name in undisturbed.names)
    assert len(undisturbed.names) == 6 + parts and (parts > 0) == (keep == "best")
    epochs = calls(finetune, "run_steps")
    for write, name in enumerate(undisturbed.names, 1):
        for after in (False, True):
            memory = Memory(write, after)
            epochs.clear()
            with pytest.raises(Stopped):
                fine_tune(
                    MODEL, params, blocks, valid, settings, KEY, session=Session(scratch=memory)
                )
            again, same = fine_tune(
                MODEL, params, blocks, valid, settings, KEY, session=Session(scratch=memory)
            )
            assert len(epochs) == (6 if after and not name.endswith("best") else 7)
            assert same_trees(again, fitted)
            assert (
                same.train_loss.tolist() == result.train_loss.tolist()
                and same.valid_loss.tolist() == result.valid_loss.tolist()
            )
            assert (same.best_epoch, same.steps) == (result.best_epoch, result.steps)
            epochs.clear()
            assert same_trees(
                fine_tune(
                    MODEL, params, blocks, valid, settings, KEY, session=Session(scratch=memory)
                )[0],
                fitted,
            )
            assert epochs == []  # a fit that is done is only read


def test_another_fit_does_not_go_on_from_this_one(params, blocks, valid):
    memory = Memory()
    settings = FineTune(epochs=2, batch_size=4, learning_rate=1e-2)
    fine_tune(MODEL, params, blocks, valid, settings, KEY, session=Session(scratch=memory))
    for change in (
        {"settings": settings._replace(learning_rate=2e-2)},
        {"key": jax.random.key(5)},
        {"blocks": blocks[::-1] + 0},
    ):
        given = {"blocks": blocks, "valid_blocks": valid, "settings": settings, "key": KEY} | change
        wanted, found = (
            fine_tune(MODEL, params, **given, session=Session(scratch=bench))[0]
            for bench in (Scratch(), memory)
        )
        assert same_trees(found, wanted)


@pytest.mark.parametrize("decoder", [BeamSearch(2), Sampling()])
def test_a_draw_goes_on_from_what_is_written(params, decoder, calls, monkeypatch):
    """11 prompts in batches of 2, each written as it ends: stopped before and after each write, and
    started again.
    """
    prompts = np.random.default_rng(2).integers(3, 29, (11, 4))
    options = {"key": KEY, "batch_size": 2}
    whole = generate(MODEL, params, prompts, decoder, 4, **options)
    monkeypatch.setattr(decode, "_SAVE_SECONDS", 0.0)
    batches = calls(decode, "_generate_batch")
    for write in range(1, 7):
        for after in (False, True):
            memory, told = Memory(write, after), []
            session = Session(scratch=memory, progress=lambda *now, told=told: told.append(now))
            batches.clear()
            with pytest.raises(Stopped):
                generate(
                    MODEL, params, prompts, decoder, 4, **options, session=Session(scratch=memory)
                )
            again = generate(MODEL, params, prompts, decoder, 4, **options, session=session)
            np.testing.assert_array_equal(again, whole)
            assert len(batches) == 6 + (not after) and told == [
                ("generate", done * 4, 44) for done in (2, 4, 6, 8, 10, 11)
            ]
            others = prompts[::-1] + 0
            np.testing.assert_array_equal(
                generate(
                    MODEL, params, others, decoder, 4, **options, session=Session(scratch=memory)
                ),
                generate(MODEL, params, others, decoder, 4, **options),
            )


def test_a_draw_is_written_in_a_few_pieces(params):
    """Within 20 seconds one piece, whatever the number of batches."""
    memory = Memory()
    prompts = np.random.default_rng(2).integers(3, 29, (11, 4))
    tokens = generate(
        MODEL,
        params,
        prompts,
        Sampling(),
        4,
        key=KEY,
        batch_size=2,
        session=Session(scratch=memory),
    )
    ((_, piece),) = memory.pieces.values()
    np.testing.assert_array_equal(piece["tokens"], tokens)


def test_generating_holds_no_more_for_more_prompts(params):
    """Arrays on the device between batches: as many bytes at the first as at the last, and for 64
    prompts as for 640.
    """
    prompts = np.random.default_rng(2).integers(3, 29, (640, 4))
    held = {}
    for count in (64, 640):
        seen = []

        def report(*now, seen=seen):
            seen.append(sum(array.nbytes for array in jax.live_arrays()))

        options = {"key": KEY, "batch_size": 16, "session": Session(progress=report)}
        generate(MODEL, params, prompts[:count], Sampling(), 4, **options)
        held[count] = set(seen)
    assert held[64] == held[640] and len(held[64]) == 1
