"""The room on disk that is announced, against what a run then takes."""

import jax
import pytest

from collapse_jax.app.commands.lm import memory_words
from collapse_jax.app.commands.lm_ingredients import prepare
from collapse_jax.app.commands.needs import DiskNeed, disk_need, unshared_batches
from collapse_jax.app.config import LMConfig
from collapse_jax.errors import InputError
from collapse_jax.models.lm import corpus
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.weights import save_opt

CONFIG = OPTConfig(
    vocab_size=2048,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=16,
    init_std=0.3,
)
GIB = 2**30


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Settings of 5 seeds and generations 0 to 9 (changed as said), and what they need."""
    folder = tmp_path_factory.mktemp("inputs")
    params = init_params(CONFIG, jax.random.key(0))
    save_opt(folder / "model", OPT(CONFIG), params)
    corpus._train_embedded().save(str(folder / "model" / "tokenizer.json"))
    (folder / "text.txt").write_text("".join(corpus.embedded_corpus().train[:60]))
    small = {
        "corpus": str(folder / "text.txt"),
        "model": str(folder / "model"),
        "block_length": 8,
        "train_blocks": 20,
    }
    ingredients = prepare(LMConfig(**small).settings())
    return (
        lambda **changes: LMConfig(**small, **changes).settings(),
        ingredients,
        sum(leaf.nbytes for leaf in jax.tree.leaves(params)),
    )


def test_every_part_by_hand(case):
    config, ingredients, parameters = case
    need = disk_need(config(), ingredients, set())
    assert (need.states, need.state) == (50, parameters)
    assert need.unfinished == 7 * parameters + 20 * 8 * 4
    assert need.arrays == 50 * 20 * (8 * 4 + 16)
    assert need.texts == pytest.approx(
        50
        * sum(
            len(ingredients.tokenizer.decode(b).encode()) + len(f"{b.tolist()}") + 25
            for b in ingredients.blocks.train
        ),
        rel=0.1,
    )
    assert need.total == 50 * parameters + need.unfinished + need.arrays + need.texts


def test_what_changes_it(case):
    config, ingredients, parameters = case
    done = {(0, g) for g in range(10)} | {(1, g) for g in range(4)}
    assert disk_need(config(), ingredients, done).states == 50 - 14
    assert disk_need(config(checkpoints="ends"), ingredients, set()).states == 5 * 2 + 1
    assert disk_need(config(checkpoints="ends"), ingredients, done).states == 1 + 3 * 2 + 1
    assert disk_need(config(start="first"), ingredients, set()).state == 2 * parameters
    assert disk_need(config(epochs=1), ingredients, set()).unfinished == parameters + 640
    kept = disk_need(config(workflow="accumulate"), ingredients, set())
    assert kept.state == parameters + 10 * 20 * 9 * 4 and kept.arrays == 5 * sum(
        range(1, 11)
    ) * 20 * (8 * 4 + 16)
    everything = {(c, g) for c in range(5) for g in range(10)}
    assert disk_need(config(), ingredients, everything).total == 0


def test_a_later_set_that_is_too_small_for_the_fit_is_refused_at_once(case):
    """The kept real text alone is 2 of 20 blocks: one step an epoch, where generation 0 has 5."""
    config, ingredients, parameters = case
    fit = {"control": "kept", "real_fraction": 0.1, "batch_size": 4, "epochs": 5}
    fit |= {"schedule": "linear", "warmup_steps": 5}
    with pytest.raises(InputError, match=r"a fit of 2 blocks has 5 optimiser st.*control kept"):
        disk_need(config(**fit), ingredients, set())
    assert disk_need(config(**fit | {"warmup_steps": 4}), ingredients, set()).unfinished > 0
    assert disk_need(config(**fit, generations=0), ingredients, set()).unfinished > 0
    # A budget of steps is more epochs of fewer blocks, and the larger need is said.
    budget = {"control": "kept", "real_fraction": 0.1, "batch_size": 4, "max_steps": 5}
    need = disk_need(config(**budget, epochs=9), ingredients, set())
    assert need.unfinished == 7 * parameters + 20 * 8 * 4


def test_in_words():
    need = DiskNeed(50, 239 * 2**20, int(1.6 * GIB), 3 * 2**20, 1000)
    assert need.summary() == (
        "about 13.3 GiB on disk: 50 checkpoints of 239 MiB, unfinished work 1.6 GiB, "
        "tokens and scores 3 MiB, texts 1000 bytes"
    )


def test_batches_that_devices_cannot_share_are_named(case, monkeypatch):
    config, ingredients, _ = case
    assert len(jax.devices()) > 1 or unshared_batches(config(), ingredients) == []
    monkeypatch.setattr(jax, "devices", lambda: [None] * 5)
    assert unshared_batches(config(batch_size=10, decode_batch=20), ingredients) == []
    assert unshared_batches(config(batch_size=10, decode_batch=6), ingredients) == [
        "5 devices, but decode_batch 6 is not a multiple of that number: these "
        "batches are not divided among the devices"
    ]
    (line,) = unshared_batches(config(batch_size=12, decode_batch=6), ingredients)
    assert "batch_size 12 and decode_batch 6 is" in line


def test_memory_in_words():
    rows = [
        {"fit_peak_mib": 812.4, "score_peak_mib": 600.0},
        {"fit_peak_mib": 1500.6, "generate_peak_mib": 640.0, "score_peak_mib": 1.0},
    ]
    assert memory_words(rows) == "peak memory, host: fit 1,501 MiB, generate 640 MiB, score 600 MiB"
    rows[0]["fit_device_peak_mib"] = 90_000.0
    assert memory_words(rows).endswith("score 600 MiB; fullest device: fit 90,000 MiB")
    assert memory_words([{}]) == "peak memory: not available here"
