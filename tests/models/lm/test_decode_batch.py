"""How many prompts are decoded at once where nobody says."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.models.lm import decode
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, generate
from collapse_jax.models.lm.decode_batch import bytes_per_prompt, prompts_at_once
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.runs.placement import Placement
from collapse_jax.runs.session import Session

NEW = 64
MANY_WORDS = OPTConfig(
    vocab_size=50272,
    hidden_size=96,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=384,
    max_position_embeddings=128,
    dropout=0.0,
)
DEEP = OPTConfig(
    vocab_size=500,
    hidden_size=192,
    num_hidden_layers=4,
    num_attention_heads=2,
    ffn_dim=768,
    max_position_embeddings=128,
    dropout=0.0,
)


def device(gib=None, process=0):
    """A device that tells its memory, or none."""
    stats = None if gib is None else {"bytes_limit": int(gib * 2**30)}
    return types.SimpleNamespace(memory_stats=lambda: stats, process_index=process)


def at_once(devices, count=10**6, model=OPT(OPTConfig(), "bfloat16"), decoder=BeamSearch()):
    return prompts_at_once(model, decoder, 64, NEW, count, Placement(tuple(devices)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "dtype", "decoder"),
    [
        (MANY_WORDS, "float32", BeamSearch(repetition_penalty=2.0)),
        (MANY_WORDS, "float32", Sampling(top_p=0.9)),
        (DEEP, "float32", Greedy()),
        (DEEP, "bfloat16", BeamSearch()),
    ],
)
def test_the_estimate_is_above_what_xla_takes_and_not_far(config, dtype, decoder):
    model = OPT(config, dtype)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))

    def taken(batch):
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
        prompts = jax.ShapeDtypeStruct((batch, 64), jnp.int32)
        compiled = decode._generate_batch.lower(
            model, decoder, NEW, params, prompts, keys
        ).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    each = (taken(48) - taken(16)) / 32
    assert each <= bytes_per_prompt(model, decoder, 64, NEW) <= 2.5 * each


def test_half_of_the_memory_holds_them():
    need = bytes_per_prompt(OPT(OPTConfig(), "bfloat16"), BeamSearch(), 64, NEW)
    assert at_once([device(139)]) == 1024
    for gib in (2, 6, 16):
        batch = at_once([device(gib)])
        assert batch * need <= gib * 2**29 < 2 * batch * need
    assert at_once([device(0.001)]) == 1


def test_devices_share_them_and_the_smallest_decides():
    assert at_once([device(139)] * 4) == 4 * 1024
    assert at_once([device(139), device(6)]) == 2 * at_once([device(6)])
    # Those of other processes tell nothing here.
    assert at_once([device(139), device(6, process=1)]) == 2 * 1024
    assert at_once([device(139)] * 4, count=38_403) == 4 * 1024
    assert at_once([device(139)] * 4, count=21) == 24


@pytest.mark.parametrize(
    ("devices", "count", "batch"),
    [(1, 1000, 64), (1, 5, 5), (8, 1000, 64), (5, 1000, 65), (8, 4, 8)],
)
def test_where_nothing_tells_the_memory(devices, count, batch):
    assert at_once([device()] * devices, count) == batch


def test_the_continuations_are_those_of_any_batch_size():
    config = OPTConfig(
        vocab_size=29,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        max_position_embeddings=16,
        dropout=0.0,
        init_std=0.3,
    )
    model, prompts = OPT(config), np.random.default_rng(0).integers(3, 29, (70, 8))
    params = init_params(config, jax.random.key(0))
    told = []
    session = Session(progress=lambda *now: told.append(now))
    made = generate(model, params, prompts, BeamSearch(2), 4, session=session)
    assert told[-1] == ("generate", 70 * 4, 70 * 4)
    assert len(told) == -(-70 // prompts_at_once(model, BeamSearch(2), 8, 4, 70))
    np.testing.assert_array_equal(
        made, generate(model, params, prompts, BeamSearch(2), 4, batch_size=7)
    )
