"""The OPT model: its size, its configuration, and what a causal language model must and must not
see.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm.opt import OPT, OPTConfig, config_from_json, config_to_json, init_params
from collapse_jax.models.lm.score import batch_loss

SMALL = OPTConfig(
    vocab_size=31,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    ffn_dim=24,
    max_position_embeddings=40,
    init_std=0.3,
)
OPT_125M = 125_239_296  # what transformers counts, the tied head once


@pytest.fixture(scope="module")
def params():
    return init_params(SMALL, jax.random.key(0))


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(1), (3, 12), 4, SMALL.vocab_size)


@pytest.fixture(scope="module")
def logits_of():
    return jax.jit(lambda params, *inputs: OPT(SMALL).apply({"params": params}, *inputs))


def test_opt_125m_has_the_known_number_of_parameters():
    shapes = jax.eval_shape(OPT(OPTConfig()).init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))[
        "params"
    ]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == OPT_125M


def test_transformers_counts_the_same():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.OPTConfig(**json.loads(config_to_json(OPTConfig())))
    with torch.device("meta"):
        model = transformers.OPTForCausalLM(config)
    model.tie_weights()
    assert sum(parameter.numel() for parameter in model.parameters()) == OPT_125M


def test_initial_parameters_have_the_configured_spread(params):
    kernels = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key in ("kernel", "embedding")
    ]
    values = np.concatenate([np.ravel(leaf) for leaf in kernels])
    assert abs(values.std() / SMALL.init_std - 1) < 0.05 and abs(values.mean()) < 0.02
    assert not np.any(params["layers_0"]["fc1"]["bias"])


# config.json


def test_config_round_trip():
    odd = dataclasses.replace(
        SMALL, dropout=0.25, attention_dropout=0.5, bos_token_id=0, eos_token_id=5, pad_token_id=7
    )
    odd = dataclasses.replace(odd, layerdrop=0.125)
    assert config_from_json(config_to_json(odd)) == odd
    assert config_from_json("{}") == OPTConfig()
    values = json.loads(config_to_json(odd)) | {
        "use_cache": True,
        "num_attention_heads": 8,
        "dropout": None,
    }
    assert config_from_json(json.dumps(values)) == dataclasses.replace(
        odd, num_attention_heads=8, dropout=0.1
    )


def test_the_text_of_a_configuration_is_what_it_was():
    """Unfinished fits of earlier versions are known by it."""
    assert repr(OPTConfig()) == (
        "OPTConfig(vocab_size=50272, hidden_size=768, num_hidden_layers=12, "
        "num_attention_heads=12, ffn_dim=3072, max_position_embeddings=2048, dropout=0.1, "
        "attention_dropout=0.0, init_std=0.02, bos_token_id=2, eos_token_id=2, pad_token_id=1)"
    )
    assert repr(OPTConfig(layerdrop=0.5)).endswith("pad_token_id=1, layerdrop=0.5)")


def test_special_tokens_that_are_null(refused):
    assert config_from_json('{"pad_token_id": null, "eos_token_id": 7}').pad_token_id == 7
    assert config_from_json('{"pad_token_id": null}').pad_token_id == 2
    assert config_from_json('{"bos_token_id": null}').bos_token_id == 2
    assert "eos_token_id is null" in refused(config_from_json, '{"eos_token_id": null}')


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "gpt2"),
        ("activation_function", "gelu"),
        ("do_layer_norm_before", "no"),
        ("enable_bias", False),
        ("layer_norm_elementwise_affine", False),
        ("tie_word_embeddings", False),
        ("_remove_final_layer_norm", True),
        ("word_embed_proj_dim", 0),
        ("hidden_size", 18),
        ("vocab_size", 0),
        ("vocab_size", "31"),
        ("ffn_dim", 2.5),
        ("num_hidden_layers", True),
        ("num_attention_heads", -4),
        ("max_position_embeddings", 0),
        ("dropout", 1.0),
        ("dropout", "much"),
        ("attention_dropout", -0.1),
    ],
)
def test_configurations_that_are_not_built_here(name, value, refused):
    values = json.loads(config_to_json(SMALL))
    if name == "hidden_size":
        del values["word_embed_proj_dim"]
    text = refused(config_from_json, json.dumps(values | {name: value}))
    assert name in text and str(value) in text


@pytest.mark.parametrize("text", ["", "{", "[1]", "5"])
def test_config_that_is_no_json_object(text, refused):
    assert "config.json" in refused(config_from_json, text)


# What the model sees.


def test_a_later_token_changes_no_earlier_logit(params, tokens, logits_of):
    before = logits_of(params, tokens)
    for position in (0, 5, 11):
        changed = tokens.at[:, position].set((tokens[:, position] + 1) % SMALL.vocab_size)
        after = logits_of(params, changed)
        np.testing.assert_array_equal(after[:, :position], before[:, :position])
        assert (jnp.abs(after[:, position:] - before[:, position:]).max(-1) > 1e-4).all()


def test_left_padding_changes_nothing(params, tokens, logits_of):
    alone = logits_of(params, tokens)
    for pad in (1, 6):
        padded = jnp.pad(tokens, ((0, 0), (pad, 0)), constant_values=SMALL.pad_token_id)
        mask = jnp.pad(jnp.ones_like(tokens), ((0, 0), (pad, 0)))
        np.testing.assert_allclose(
            logits_of(params, padded, mask)[:, pad:], alone, rtol=0, atol=1e-4
        )
        without_mask = logits_of(params, padded)[:, pad:]
        assert np.abs(without_mask - alone).max() > 1e-2


def test_positions_matter(params, tokens, logits_of):
    repeated = jnp.broadcast_to(tokens[:, :1], tokens.shape)
    logits = logits_of(params, repeated)
    assert (np.abs(np.diff(logits, axis=1)).max(-1) > 1e-3).all()


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "layerdrop"])
def test_dropout_needs_an_rng_and_changes_the_logits(params, tokens, field, logits_of):
    model = OPT(dataclasses.replace(SMALL, **{"dropout": 0.0, field: 0.5}))
    inputs = {"params": params}, tokens
    with pytest.raises(Exception, match="dropout"):
        model.apply(*inputs, deterministic=False)

    def noisy(seed):
        return model.apply(*inputs, deterministic=False, rngs={"dropout": jax.random.key(seed)})

    assert np.abs(noisy(0) - noisy(1)).max() > 1e-2
    np.testing.assert_array_equal(noisy(0), noisy(0))
    np.testing.assert_allclose(model.apply(*inputs), logits_of(params, tokens), rtol=0, atol=1e-4)


def test_no_dropout_is_none_of_any_kind(params, tokens, logits_of):
    config = dataclasses.replace(SMALL, dropout=0.1, attention_dropout=0.2, layerdrop=0.3)
    assert config.has_dropout and config.with_dropout(None) is config
    assert config.with_dropout(0.4) == dataclasses.replace(config, dropout=0.4)
    without = config.with_dropout(0)
    assert not without.has_dropout
    logits = OPT(without).apply({"params": params}, tokens, deterministic=False)  # without an rng
    np.testing.assert_allclose(logits, logits_of(params, tokens), rtol=0, atol=1e-4)
    with pytest.raises(InputError, match="dropout is 1"):
        config.with_dropout(1)


def test_a_layer_is_dropped_as_often_as_it_says(params, tokens):
    """Of one layer: the logits are those without it, as NumPy finds them, with its probability.

    A dropped layer is dropped for all sequences.
    """
    rate, draws = 0.25, 2000
    model = OPT(dataclasses.replace(SMALL, num_hidden_layers=1, dropout=0.0, layerdrop=rate))
    tokens = tokens[:2, :3]

    def noisy(key):
        inputs = {"params": params}, tokens
        return model.apply(*inputs, deterministic=False, rngs={"dropout": key})

    logits = np.asarray(jax.jit(jax.vmap(noisy))(jax.random.split(jax.random.key(3), draws)))
    embedding = np.asarray(params["embed_tokens"]["embedding"], np.float64)
    x = embedding[tokens] + np.asarray(params["embed_positions"]["embedding"])[2:5]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    norm = params["final_layer_norm"]
    without = (x * np.asarray(norm["scale"]) + np.asarray(norm["bias"])) @ embedding.T
    is_without = np.abs(logits - without).max((1, 2, 3)) < 1e-3
    full = np.asarray(model.apply({"params": params}, tokens))
    assert np.abs(full - without).max() > 0.1
    np.testing.assert_allclose(
        logits[~is_without], np.broadcast_to(full, logits[~is_without].shape), rtol=0, atol=1e-4
    )
    z = (is_without.sum() - rate * draws) / np.sqrt(draws * rate * (1 - rate))
    assert abs(z) < 4


@pytest.mark.parametrize("bad", [-1, -31, 31, 2**31 - 1])
def test_ids_outside_the_vocabulary_are_never_read(params, logits_of, tokens, bad, refused):
    """Refused where they are known; inside jit its whole sequence is nan, and no other is."""
    wrong = np.asarray(tokens).copy()
    wrong[1, -1] = bad
    text = refused(OPT(SMALL).apply, {"params": params}, jnp.asarray(wrong))
    assert str(bad) in text and "the model's vocabulary is 0 to 30" in text
    logits = np.asarray(logits_of(params, jnp.asarray(wrong)))
    assert np.isnan(logits[1]).all() and np.isfinite(logits[[0, 2]]).all()
    right = np.asarray(logits_of(params, tokens))
    np.testing.assert_array_equal(logits[[0, 2]], right[[0, 2]])


def test_ids_of_64_bits_do_not_wrap(params, refused):
    """2^32 + 5 is no 5."""
    wide = np.array([[2**32 + 5, 4]])
    assert "4294967301" in refused(OPT(SMALL).apply, {"params": params}, wide)


def test_positions_beyond_the_model(params, logits_of, refused):
    most = SMALL.max_position_embeddings
    tokens = np.full((1, most + 1), 4)
    for call in (lambda *given: OPT(SMALL).apply({"params": given[0]}, *given[1:]), logits_of):
        assert "41 tokens exceed max_position_embeddings 40" in refused(call, params, tokens)
    mask = np.ones_like(tokens)
    assert "41 tokens exceed" in refused(OPT(SMALL).apply, {"params": params}, tokens, mask)
    assert np.isnan(logits_of(params, tokens, mask)).all()
    mask[0, 0] = 0
    assert np.isfinite(logits_of(params, tokens, mask)[0, 1:]).all()


def test_tokens_and_masks_of_other_shapes(params, tokens, refused):
    model = {"params": params}
    for bad in (tokens[0], [[1, 2]], tokens[..., None]):
        assert "must be an array [batch, length]" in refused(OPT(SMALL).apply, model, bad)
    assert "it must be that of the tokens, [3, 12]" in refused(
        OPT(SMALL).apply, model, tokens, np.ones((3, 11), int)
    )


def test_masks_are_of_zeros_and_ones(params, tokens, logits_of, refused):
    mask = np.ones(tokens.shape, int)
    mask[1, :4] = 0
    assert "attention_mask must have 1" in refused(
        OPT(SMALL).apply, {"params": params}, tokens, 2 * mask
    )
    wanted = logits_of(params, tokens, mask)
    np.testing.assert_array_equal(logits_of(params, tokens, mask.astype(bool)), wanted)
    np.testing.assert_array_equal(logits_of(params, tokens, -2 * mask), wanted)  # under jit


def test_bfloat16_products_with_float32_around_them(tiny, expected):
    """Logits within some roundings of bfloat16 (2^-8) of float32's; parameters, logits and
    gradients stay float32.
    """
    model, params = tiny
    half = OPT(model.config, "bfloat16")
    tokens = jnp.asarray(expected["tokens"])
    logits = half.apply({"params": params}, tokens)
    assert logits.dtype == jnp.float32
    error = np.abs(logits - expected["logits"]).max() / np.abs(expected["logits"]).max()
    assert 1e-4 < error < 8 * 2**-8
    fresh = jax.jit(half.init)(jax.random.key(0), tokens)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    weights = jnp.ones(len(tokens))
    loss, gradients = jax.value_and_grad(lambda params: batch_loss(half, params, tokens, weights))(
        params
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, gradients))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(loss, expected["loss"], rtol=2e-3)
    exact = jax.grad(lambda params: batch_loss(model, params, tokens, weights))(params)
    for ours, theirs in zip(
        jax.tree.leaves(gradients["layers_0"]["fc1"]),
        jax.tree.leaves(exact["layers_0"]["fc1"]),
        strict=True,
    ):
        assert np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(theirs)
