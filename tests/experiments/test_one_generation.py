"""The floors that experiments/benchmarks/one_generation.py prints."""

import importlib

import jax
import jax.numpy as jnp
import pytest

from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params

CONFIG = OPTConfig(
    vocab_size=1000,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    ffn_dim=256,
    max_position_embeddings=128,
    dropout=0.0,
)


@pytest.fixture
def script(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments" / "benchmarks")
    return importlib.import_module("one_generation")


def test_operations_of_scoring_are_those_xla_counts(script):
    settings = script.Settings(blocks=3, decode_batch=2)
    model, params = OPT(CONFIG), jax.eval_shape(lambda: init_params(CONFIG, jax.random.key(0)))
    tokens = jax.ShapeDtypeStruct((3, script.LENGTH), jnp.int32)
    counted = (
        jax.jit(lambda params, tokens: model.apply({"params": params}, tokens))
        .lower(params, tokens)
        .compile()
        .cost_analysis()
    )
    found = script.needs(CONFIG, settings)
    # Two models; XLA counts norms and softmaxes too, and attention to what is masked.
    assert 0.85 * counted["flops"] < found["score"].operations / 2 < counted["flops"]
    assert found["fit"].operations == 3 * script.EPOCHS * found["score"].operations / 2


def test_decoding_by_a_loop(script):
    blocks, width, layers, words = (
        5,
        CONFIG.hidden_size,
        CONFIG.num_hidden_layers,
        CONFIG.vocab_size,
    )
    per_layer = 4 * width * width + 2 * width * CONFIG.ffn_dim
    operations = 0
    for position in range(script.LENGTH):  # the prompt
        operations += 2 * layers * per_layer + layers * 4 * width * (position + 1)
    operations += 2 * words * width
    for step in range(1, script.LENGTH):
        for _ in range(script.BEAMS):
            operations += (
                2 * layers * per_layer
                + 2 * words * width
                + layers * 4 * width * (script.LENGTH + step)
            )
    found = script.needs(CONFIG, script.Settings(blocks=blocks, decode_batch=2))["generate"]
    assert found.operations == pytest.approx(blocks * operations)
    keys_and_values = sum(
        2 * layers * width * 4 * (script.LENGTH + step) for step in range(1, script.LENGTH)
    )
    weights = 3 * script.LENGTH * 4 * (layers * per_layer + words * width)
    assert found.bytes == pytest.approx(blocks * keys_and_values + weights)
