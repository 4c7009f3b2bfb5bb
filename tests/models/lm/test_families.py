"""Every family beside transformers: committed fixtures of tiny models, with every switch at a value
that shows (`make_family_fixtures.py`).
"""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from collapse_jax.models.lm.assemble import as_stored, tensor_table
from collapse_jax.models.lm.decode import BeamSearch, Greedy, generate
from collapse_jax.models.lm.families import FAMILIES, model_from_json, model_to_json
from collapse_jax.models.lm.score import batch_loss, mean_loss
from collapse_jax.models.lm.weights import load, load_opt, save

FOLDER = pathlib.Path(__file__).parent / "fixtures" / "families"
CASES = sorted(folder.name for folder in FOLDER.iterdir())
# Those that show what the switches of decoding do: shared keys, windows in some layers, caps.
DECODED = ("llama3", "gemma2")
END = (5, 9, 11)

pytestmark = pytest.mark.usefixtures("quick_compile")


def expected_of(name):
    with np.load(FOLDER / name / "expected.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", CASES)
def test_logits_losses_and_gradients(name):
    """Logits to 1e-4 and gradients to 1e-3, relative to the largest of each tensor."""
    (model, params), expected = load(FOLDER / name), expected_of(name)
    tokens = jnp.asarray(expected["tokens"])

    @jax.jit
    def everything(params, mask):
        loss, gradient = jax.value_and_grad(
            lambda params: batch_loss(model, params, tokens, jnp.ones(len(tokens)))
        )(params)
        padded = model.apply({"params": params}, tokens, mask)
        return model.apply({"params": params}, tokens), padded, loss, gradient

    mask = expected["padded_mask"]
    logits, padded, loss, gradient = everything(params, jnp.asarray(mask))
    close(logits, expected["logits"], 1e-4)
    close(padded * mask[..., None], expected["padded_logits"], 1e-4)
    np.testing.assert_allclose(loss, expected["loss"].mean(), rtol=1e-5)
    np.testing.assert_allclose(mean_loss(model, params, tokens), expected["loss"], rtol=1e-5)
    stored = as_stored(model, jax.tree.map(np.asarray, gradient))
    assert {f"gradient/{key}" for key in stored} == {
        key for key in expected if key.startswith("gradient")
    }
    largest = max(np.abs(value).max() for value in stored.values())
    for key, value in stored.items():
        theirs = expected[f"gradient/{key}"]
        # A softmax does not see the bias of keys: rounding alone.
        scale = np.maximum(np.abs(theirs).max(), 1e-3 * largest)
        assert np.abs(value - theirs).max() <= 1e-3 * scale, key


def close(ours, theirs, share):
    assert np.abs(np.asarray(ours) - theirs).max() <= share * np.abs(theirs).max()


def decoded(name):
    (model, params), expected = load(FOLDER / name), expected_of(name)
    prompts, new = expected["tokens"], expected["greedy"].shape[1]
    assert np.array_equal(generate(model, params, prompts, Greedy(), new), expected["greedy"])
    assert np.array_equal(generate(model, params, prompts, BeamSearch(), new), expected["beam5"])
    if name != "opt_350m":  # an OPT has one end
        changed = {"eos_token_id": END[0], "more_ends": END[1:], "pad_token_id": 0}
        model = type(model)(dataclasses.replace(model.config, **changed))
        ended = generate(model, params, prompts, BeamSearch(3, min_new_tokens=0), new)
        theirs, is_end = expected["ended"], np.isin(expected["ended"], END)
        # What follows an end is padding, which transformers fills in otherwise if its id is 0.
        counts = np.cumsum(is_end, axis=1) - is_end == 0
        assert is_end.any() and np.array_equal(np.where(counts, ended, 0), counts * theirs)


@pytest.mark.parametrize("name", DECODED)
def test_tokens_of_greedy_and_beams(name):
    decoded(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CASES) - set(DECODED)))
def test_tokens_of_greedy_and_beams_of_the_others(name):
    decoded(name)


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_is_the_same(name, tmp_path):
    model, params = load(FOLDER / name)
    save(tmp_path / "again", model, params)
    again, same = load(tmp_path / "again")
    assert again == model
    assert jax.tree.all(jax.tree.map(np.array_equal, params, same))
    theirs = safetensors.numpy.load_file(FOLDER / name / "model.safetensors")
    ours = safetensors.numpy.load_file(tmp_path / "again" / "model.safetensors")
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }
    for key, value in ours.items():
        assert np.array_equal(value, theirs[key].astype(np.float32)), key


def test_parameters_are_those_of_init():
    for name in CASES:
        model, params = load(FOLDER / name)
        fresh = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
        shapes = jax.tree.map(jnp.shape, fresh["params"])
        assert jax.tree.map(jnp.shape, params) == shapes, name
        assert len({path for row in tensor_table(model) for path in row.paths}) == len(
            jax.tree.leaves(params)
        )


CHANGES = [
    ("llama3", {"model_type": "gemma"}, "the most similar one is 'gemma2'"),
    ("llama3", {"model_type": "mamba"}, "supported are opt, gpt2"),
    ("llama3", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "type 'yarn'"),
    ("llama3", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, "need factor"),
    ("llama3", {"hidden_act": "mish"}, "hidden_act is 'mish'"),
    ("llama3", {"num_key_value_heads": 3}, "not a multiple of num_key_value_heads 3"),
    ("llama3", {"eos_token_id": None}, "eos_token_id is missing"),
    ("llama3", {"eos_token_id": [2, 61]}, "61"),
    ("llama3", {"head_dim": 5}, "must be an even number"),
    ("llama3", {"vocab_size": "61"}, "vocab_size is '61'; it must be a positive integer"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "only False is supported"),
    ("gemma2", {"use_bidirectional_attention": True}, "only false is supported"),
    ("gemma3", {"layer_types": ["full_attention"]}, "a list of 2"),
    ("gemma3", {"layer_types": ["full_attention", "chunked_attention"]}, "'sliding_attention'"),
    ("mistral", {"sliding_window": 0}, "sliding window"),
    ("llama3", {"tie_word_embeddings": "false"}, "'false'; it must be true or false"),
    ("llama3", {"num_attention_heads": 0}, "num_attention_heads is 0; it must be a positive"),
    ("llama3", {"model_type": ["llama"]}, "model_type is ['llama']"),
    ("gpt2", {"n_head": 0}, "n_head is 0"),
    ("gpt2", {"n_head": 3}, "n_embd 16 is not a multiple of n_head 3"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0; it must be above 0"),
    ("gemma2", {"attn_logit_softcapping": 0}, "attention_cap is 0; it must be above 0"),
    ("gemma2", {"final_logit_softcapping": "30"}, "logit_cap is '30'"),
    ("gemma3", {"rope_parameters": []}, "rope_parameters is []; it must be an object"),
    ("gemma3", {"sliding_window_pattern": 0}, "sliding_window_pattern is 0"),
    ("qwen2", {"quantization_config": {"bits": 4}}, "quantization_config"),
]


@pytest.mark.parametrize(("name", "changes", "said"), CHANGES)
def test_what_is_not_built_is_one_line(name, changes, said, refused):
    values = json.loads((FOLDER / name / "config.json").read_text(encoding="utf-8"))
    assert said in refused(model_from_json, json.dumps(values | changes))


def test_other_words_for_the_same_switches():
    """transformers 4 writes rope_theta and rope_scaling; null counts as absent."""
    values = json.loads((FOLDER / "llama3" / "config.json").read_text(encoding="utf-8"))
    rope = values.pop("rope_parameters")
    old = values | {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    assert model_from_json(json.dumps(old)) == load(FOLDER / "llama3")[0]
    values = json.loads((FOLDER / "gpt_neox" / "config.json").read_text(encoding="utf-8"))
    rope = values.pop("rope_parameters")
    old = values | {"rotary_pct": rope["partial_rotary_factor"], "rotary_emb_base": 10000}
    assert model_from_json(json.dumps(old)) == load(FOLDER / "gpt_neox")[0]


def test_ends_are_those_that_transformers_decodes_by(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(FOLDER / "llama3", folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 8]}', encoding="utf-8")
    assert load(folder)[0].switches.ends == (7, 8)


def test_another_family_than_opt_is_named(tmp_path, refused):
    assert "'llama'" in refused(load_opt, FOLDER / "llama3")
    tensors = safetensors.numpy.load_file(FOLDER / "gpt_neox" / "model.safetensors")
    # Masks and wavelengths that old releases saved; a tensor that nobody knows.
    extra = {"gpt_neox.layers.0.attention.bias": np.ones((1, 1, 4, 4), np.uint8)}
    shutil.copytree(FOLDER / "gpt_neox", tmp_path / "old")
    safetensors.numpy.save_file(tensors | extra, tmp_path / "old" / "model.safetensors")
    assert load(tmp_path / "old")[0] == load(FOLDER / "gpt_neox")[0]
    extra = {"gpt_neox.layers.2.attention.dense.bias": np.zeros(16, np.float32)}
    safetensors.numpy.save_file(tensors | extra, tmp_path / "old" / "model.safetensors")
    assert "1 unexpected: gpt_neox.layers.2.attention.dense.bias" in refused(load, tmp_path / "old")


def test_every_family_writes_what_it_reads():
    for name in CASES:
        model = load(FOLDER / name)[0]
        again = model_from_json(model_to_json(model))
        assert again == model and model.switches.family in FAMILIES
