"""What a language model holds from generation to generation."""

import importlib

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.drivers.run import Watcher
from collapse_jax.models.lm.decode import Greedy
from collapse_jax.models.lm.finetune import FineTune
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.runs.session import Session

# The module, whose name in the package is that of its function.
module = importlib.import_module("collapse_jax.estimators.causal_lm")
CONFIG = OPTConfig(29, 8, 1, 2, 16, 16, dropout=0.0)
MODEL, BLOCKS = OPT(CONFIG), np.random.default_rng(0).integers(3, 29, (4, 8))
LAST = 3


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, jax.random.key(0))


def live():
    """Bytes of all JAX arrays, those that share memory once."""
    buffers = {a.unsafe_buffer_pointer(): a.nbytes for a in jax.live_arrays()}
    return sum(buffers.values())


@pytest.mark.parametrize("start", ["pretrained", "first", "previous"])
def test_generations_hold_the_same(params, start, tmp_path):
    """The pretrained model, the first and the newest: from generation 1 on, no array more."""
    settings = FineTune(epochs=2, batch_size=4, learning_rate=1e-3)
    family = cj.estimators.causal_lm(
        MODEL, params, BLOCKS, BLOCKS[:2], settings=settings, decoder=Greedy(), start=start
    )
    source, workflow = cj.sources.dataset(BLOCKS), cj.workflows.replace()
    process = cj.generational_process(family, source, workflow, sample_size=4)
    size, before, held = sum(leaf.nbytes for leaf in jax.tree.leaves(params)), live(), []
    cj.run(
        process,
        jax.random.key(1),
        generations=LAST,
        folder=tmp_path / "run",
        states="ends",
        watcher=Watcher(end=lambda *_: held.append((live() - before) / size)),
    )
    assert len(held) == LAST + 1 and held[0] == pytest.approx(1, abs=0.3)
    assert held[1:] == pytest.approx([2] * LAST, abs=0.3)


@pytest.mark.parametrize("large", [0, 10**9])
def test_stages_of_a_large_model_begin_and_end_tidy(params, large, monkeypatch):
    done, stages = [], []
    monkeypatch.setattr(module, "_LARGE_BYTES", large)
    monkeypatch.setattr(module, "give_back", lambda: done.append("tidy"))
    monkeypatch.setattr(module, "fine_tune", lambda *_, **__: pytest.fail("is not called"))
    monkeypatch.setattr(module, "generate", lambda *_, **__: done.append("generate") or BLOCKS[:1])

    class Stage:
        def __init__(self, name):
            stages.append(name)

        def __enter__(self):
            done.append("in")

        def __exit__(self, *error):
            done.append("out")

    session = Session(stage=Stage)
    family = cj.estimators.causal_lm(MODEL, params, BLOCKS, BLOCKS[:2], session=session)
    model = family.init(jax.random.key(0), None)
    family.continued(jax.random.key(0), model, BLOCKS[:1])
    expected = ["in", "generate", "out"]
    assert stages == ["generate"]
    assert done == (expected if large else ["tidy", *expected, "tidy"])
