"""Weights in and out of the Hugging Face layout, held against numbers that transformers computed
(make_opt_fixture.py).
"""

import dataclasses
import itertools
import json
import os
from pathlib import Path

import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from collapse_jax.models.lm.assemble import tensor_table
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.score import batch_loss
from collapse_jax.models.lm.weights import load_opt, save_opt

FIXTURE = Path(__file__).parent / "fixtures" / "opt_tiny"
MINI = Path(__file__).parents[4] / "shared" / "data" / "opt-mini-books"
LAYOUTS = ("flax_model.msgpack", "model.safetensors", "pytorch_model.bin")
TOLERANCE = 1e-4  # of the largest logit: float32 against a float64 reference


@pytest.fixture
def stored(only):
    """A folder with model.safetensors, its tensors, and a function that writes them back."""
    folder = only("model.safetensors")
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    return (
        folder,
        tensors,
        lambda: safetensors.numpy.save_file(tensors, folder / "model.safetensors"),
    )


def flatten(params):
    return flax.traverse_util.flatten_dict(params, sep="/")


def assert_same(params, others):
    params, others = flatten(params), flatten(others)
    assert params.keys() == others.keys()
    for name in params:
        assert params[name].dtype == others[name].dtype == jnp.float32
        np.testing.assert_array_equal(params[name], others[name], err_msg=name)


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


# What transformers says.


@pytest.mark.parametrize("file", LAYOUTS)
def test_every_layout_gives_the_same_params(only, tiny, file):
    model, params = load_opt(str(only(file)))
    assert model.config == tiny[0].config
    assert_same(params, tiny[1])
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))


def test_params_have_the_structure_of_init(tiny):
    model, params = tiny
    fresh = init_params(model.config, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh)
    assert {"/".join(path) for row in tensor_table(model) for path in row.paths} == {
        *flatten(fresh)
    }


def test_logits_loss_and_perplexity(tiny, expected):
    model, params = tiny
    tokens = jnp.asarray(expected["tokens"])
    logits = jax.jit(model.apply)({"params": params}, tokens)
    assert_close(logits, expected["logits"])
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(nll.mean(), expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(nll.mean(1)), expected["perplexity"], rtol=1e-4)


def test_gradient_of_every_parameter(tiny, expected):
    """Of the loss that fine-tuning takes; relative to the largest entry of each parameter's
    gradient.
    """
    model, params = tiny
    tokens = jnp.asarray(expected["tokens"])
    gradients = flatten(
        jax.grad(lambda params: batch_loss(model, params, tokens, jnp.ones(len(tokens))))(params)
    )
    names = {"/".join(*row.paths): row for row in tensor_table(model)}
    assert names.keys() == gradients.keys()
    for path, row in names.items():
        (theirs,) = row.split(expected[f"gradient/{row.name}"])
        if path.endswith("k_proj/bias"):
            assert np.abs(theirs).max() < 1e-9 and np.abs(gradients[path]).max() < 1e-6, (
                "a softmax does not see it"
            )
        else:
            np.testing.assert_allclose(
                gradients[path], theirs, rtol=0, atol=1e-4 * np.abs(theirs).max(), err_msg=path
            )


def test_logits_of_left_padded_rows(tiny, expected):
    model, params = tiny
    mask = jnp.asarray(expected["padded_mask"])
    logits = jax.jit(model.apply)({"params": params}, jnp.asarray(expected["padded_tokens"]), mask)
    assert jnp.isfinite(logits).all()
    assert_close(logits * mask[..., None], expected["padded_logits"])


def test_greedy_continuation(tiny, expected):
    model, params = tiny
    prompts, made = expected["prompts"], expected["greedy"]
    logits = jax.jit(model.apply)(
        {"params": params}, jnp.asarray(np.concatenate([prompts, made], 1))
    )[:, 63:-1]
    np.testing.assert_array_equal(
        logits.at[..., 2].set(-jnp.inf).argmax(-1), made
    )  # min_new_tokens forbids the end token


# Out and in again.


def test_save_and_load_is_exact_and_leaves_no_other_file(tmp_path, tiny):
    model, params = tiny
    for _ in range(2):  # the second time over the first
        save_opt(tmp_path / "a" / "b", model, params)
    again, others = load_opt(tmp_path / "a" / "b")
    assert again.config == model.config
    assert_same(params, others)
    assert len({file.stat().st_mode for file in (tmp_path / "a" / "b").iterdir()}) == 1
    assert sorted(os.listdir(tmp_path / "a" / "b")) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    reference = safetensors.numpy.load_file(FIXTURE / "model.safetensors")
    saved = safetensors.numpy.load_file(tmp_path / "a" / "b" / "model.safetensors")
    assert reference.keys() == saved.keys()
    assert all(np.array_equal(reference[name], saved[name]) for name in saved)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_save_widens_half_precision(tmp_path, tiny, dtype):
    model, params = tiny
    half = jax.tree.map(lambda x: x.astype(dtype), params)
    save_opt(tmp_path, model, half)
    assert_same(load_opt(tmp_path)[1], jax.tree.map(lambda x: x.astype(jnp.float32), half))


def test_transformers_opens_what_we_save(tmp_path, tiny, expected):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, params = tiny
    save_opt(tmp_path, model, params)
    theirs, report = transformers.OPTForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert theirs.generation_config.eos_token_id == 2 and theirs.config.dtype == torch.float32
    with torch.no_grad():
        logits = theirs.eval()(torch.tensor(expected["tokens"])).logits.numpy()
    assert_close(logits, expected["logits"])
    theirs.save_pretrained(tmp_path / "back")
    assert_same(load_opt(tmp_path / "back")[1], params)


def test_bfloat16_is_rounded_as_torch_rounds_and_widened_again(tmp_path, tiny, refused):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, params = tiny
    save_opt(tmp_path / "half", model, params, "bfloat16")
    save_opt(tmp_path / "whole", model, params)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[1] - sizes[0] == pytest.approx(
        2 * sum(leaf.size for leaf in jax.tree.leaves(params)), abs=200
    )
    theirs, report = transformers.OPTForCausalLM.from_pretrained(
        tmp_path / "half", dtype="auto", output_loading_info=True
    )
    assert not any(report.values()) and theirs.dtype == torch.bfloat16
    whole = transformers.OPTForCausalLM.from_pretrained(tmp_path / "whole", dtype="auto")
    assert whole.dtype == torch.float32
    rounded = whole.to(torch.bfloat16).state_dict()
    assert all(torch.equal(tensor, rounded[name]) for name, tensor in theirs.state_dict().items())
    whole.save_pretrained(tmp_path / "back")
    assert_same(load_opt(tmp_path / "half")[1], load_opt(tmp_path / "back")[1])
    assert "dtype is 'float16'; it must be one of float32, bfloat16" in refused(
        save_opt, tmp_path, model, params, "float16"
    )


def test_save_refuses_params_that_do_not_fit(tmp_path, tiny, refused):
    model, params = tiny
    flat = flatten(params)
    del flat["layers_1/fc1/bias"]
    flat |= {
        "layers_0/fc2/kernel": flat["layers_0/fc2/kernel"].T,
        "layers_2/fc1/bias": jnp.zeros(64),
    }
    text = refused(
        save_opt, tmp_path / "new", model, flax.traverse_util.unflatten_dict(flat, sep="/")
    )
    assert "1 missing: layers_1/fc1/bias" in text and "1 unexpected: layers_2/fc1/bias" in text
    assert "layers_0/fc2/kernel is [32, 64], not [64, 32]" in text
    assert not (tmp_path / "new").exists()
    assert "36 missing" in refused(save_opt, tmp_path / "new", model, {})


def test_save_refuses_a_folder_where_it_would_not_be_read(tmp_path, only, tiny, refused):
    assert "flax_model.msgpack" in refused(save_opt, only("flax_model.msgpack"), *tiny)
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(save_opt, tmp_path / "file", *tiny)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.safetensors.index.json", "adapter_config.json"]
)
def test_save_refuses_a_folder_with_other_weights(tmp_path, tiny, name, refused):
    (tmp_path / name).write_text("{}")
    assert f"already contains {name}" in refused(save_opt, tmp_path, *tiny)
    assert os.listdir(tmp_path) == [name]


def test_a_crash_in_mid_save_leaves_the_old_files(tmp_path, tiny, monkeypatch, refused):
    model, params = tiny
    save_opt(tmp_path, model, params)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    assert "No space left" in refused(
        save_opt, tmp_path, model, jax.tree.map(jnp.zeros_like, params)
    )
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


# Tensors that do not fit: all of them in one line.


def test_all_problems_in_one_line(stored, refused):
    folder, tensors, write = stored
    layer = "model.decoder.layers.0"
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        del tensors[f"{layer}.self_attn.{name}.weight"], tensors[f"{layer}.self_attn.{name}.bias"]
    del tensors["model.decoder.final_layer_norm.bias"], tensors[f"{layer}.fc1.bias"]
    tensors["model.decoder.project_in.weight"] = np.zeros((2, 2), np.float32)
    tensors[f"{layer}.fc1.weight"] = tensors[f"{layer}.fc1.weight"].T.copy()
    tensors[f"{layer}.fc2.bias"] = np.zeros(32, np.int8)
    tensors["lm_head.weight"] = np.zeros((96, 32), np.float32)
    write()
    text = refused(load_opt, folder)
    assert "10 missing: " in text and "out_proj.bias and 2 more" in text and str(folder) in text
    assert "1 unexpected: model.decoder.project_in.weight" in text
    assert "3 misshapen: lm_head.weight is [96, 32], the embedding needs [97, 32]" in text
    assert (
        f"{layer}.fc1.weight is [32, 64], not [64, 32]" in text
        and f"{layer}.fc2.bias is int8, not floating" in text
    )


def test_the_same_tensor_under_both_prefixes(stored, refused):
    folder, tensors, write = stored
    tensors["decoder.final_layer_norm.bias"] = tensors["model.decoder.final_layer_norm.bias"]
    write()
    text = refused(load_opt, folder)
    assert "1 twice: " in text and "decoder.final_layer_norm.bias" in text


def test_the_tied_head_stands_in_for_the_embedding(stored, tiny):
    folder, tensors, write = stored
    tensors["lm_head.weight"] = tensors.pop("model.decoder.embed_tokens.weight")
    write()
    assert_same(load_opt(folder)[1], tiny[1])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_safetensors(stored, dtype):
    folder, tensors, _ = stored
    code = {"float16": "F16", "bfloat16": "BF16"}[np.dtype(dtype).name]
    rounded = {name: value.astype(dtype) for name, value in tensors.items()}
    header, body = {}, b""
    for name, value in rounded.items():
        header[name] = {
            "dtype": code,
            "shape": value.shape,
            "data_offsets": [len(body), len(body) + value.nbytes],
        }
        body += value.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)
    params = load_opt(folder)[1]
    fc1 = rounded["model.decoder.layers.1.fc1.weight"].astype(np.float32)
    np.testing.assert_array_equal(params["layers_1"]["fc1"]["kernel"], fc1.T)


def test_shards(stored, tiny, refused):
    folder, tensors, _ = stored
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {name: f"model-{1 + (i > 9)}-of-2.safetensors" for i, name in enumerate(names)}
    for shard in set(weight_map.values()):
        safetensors.numpy.save_file(
            {name: tensors[name] for name in names if weight_map[name] == shard}, folder / shard
        )
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert_same(load_opt(folder)[1], tiny[1])
    (folder / "model-2-of-2.safetensors").unlink()
    assert "1 of 2 shards are missing: model-2-of-2.safetensors" in refused(load_opt, folder)
    index.write_text(json.dumps({"weight_map": weight_map | {"x": "../model-1-of-2.safetensors"}}))
    assert "plain file names: '../model-1-of-2.safetensors'" in refused(load_opt, folder)
    for bad in ("[]", "{", '{"weight_map": {"x": 3}}', '{"weight_map": {}}'):
        index.write_text(bad)
        assert "index.json" in refused(load_opt, folder)


def test_shards_that_are_not_those_of_the_index(stored, tiny, refused):
    folder, tensors, _ = stored
    (folder / "model.safetensors").rename(folder / "model-1-of-1.safetensors")
    index, shard = folder / "model.safetensors.index.json", "model-1-of-1.safetensors"
    assert "shards without their index" in refused(load_opt, folder)
    name = "model.decoder.final_layer_norm.bias"
    weight_map = dict.fromkeys(tensors, shard)
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert_same(load_opt(folder)[1], tiny[1])
    safetensors.numpy.save_file({name: tensors[name]}, folder / "model-2-of-2.safetensors")
    assert "not among those that it names: model-2-of-2.safetensors" in refused(load_opt, folder)
    index.write_text(json.dumps({"weight_map": weight_map | {name: "model-2-of-2.safetensors"}}))
    assert_same(load_opt(folder)[1], tiny[1])  # twice, but equal
    safetensors.numpy.save_file({name: tensors[name] + 1}, folder / "model-2-of-2.safetensors")
    assert f"in two shards with different numbers: {name}" in refused(load_opt, folder)
    (folder / "model-2-of-2.safetensors").unlink()
    index.write_text(json.dumps({"weight_map": weight_map | {"lost": shard}}))
    assert "not in the shards that it names for them: lost" in refused(load_opt, folder)


# One set of weights.


@pytest.mark.parametrize("newer, older", list(itertools.combinations(LAYOUTS, 2)))
def test_two_sets_of_weights_must_be_one(only, tiny, newer, older, refused):
    folder = only(newer)
    only(older)
    assert_same(load_opt(folder)[1], tiny[1])
    if "flax_model.msgpack" in (newer, older):
        tree = flax.serialization.msgpack_restore((FIXTURE / "flax_model.msgpack").read_bytes())
        flat = flax.traverse_util.flatten_dict(tree)
        path = next(path for path in flat if path[-2:] == ("fc1", "bias"))
        flat[path] = flat[path] + np.float32(1)
        changed, name = flax.traverse_util.unflatten_dict(flat), "flax_model.msgpack"
        (folder / name).write_bytes(flax.serialization.msgpack_serialize(changed))
    else:
        tensors = safetensors.numpy.load_file(folder / "model.safetensors")
        tensors["model.decoder.layers.0.fc1.bias"] += 1
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    text = refused(load_opt, folder)
    assert "two different sets of weights" in text and newer in text and older in text
    assert "layers_0/fc1/bias differ" in text
    last = "flax_model.msgpack" if "flax_model.msgpack" in (newer, older) else "pytorch_model.bin"
    (folder / last).write_bytes(b"damaged")
    text = refused(load_opt, folder)
    assert newer in text and older in text


def test_a_second_set_may_be_rounded(stored, only, tiny):
    folder, tensors, _ = stored
    only("flax_model.msgpack")
    half = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(half, folder / "model.safetensors")
    first = jax.tree.map(lambda x: x.astype(jnp.float16).astype(jnp.float32), tiny[1])
    assert_same(load_opt(folder)[1], first)  # what transformers loads


def test_a_tied_head_must_be_the_embedding(stored, tiny, refused):
    folder, tensors, write = stored
    tensors["lm_head.weight"] = tensors["model.decoder.embed_tokens.weight"].copy()
    write()
    assert_same(load_opt(folder)[1], tiny[1])
    tensors["lm_head.weight"][5, 3] += 1e-3
    write()
    assert "lm_head.weight has other numbers than the embedding" in refused(load_opt, folder)


def test_a_tied_head_of_flax_must_be_the_embedding(only, tiny, refused):
    folder = only("flax_model.msgpack")
    file = folder / "flax_model.msgpack"
    tree = flax.serialization.msgpack_restore(file.read_bytes())
    embedding = tree["model"]["decoder"]["embed_tokens"]["embedding"]
    tree["lm_head"] = {"kernel": embedding.T.copy()}
    file.write_bytes(flax.serialization.msgpack_serialize(tree))
    assert_same(load_opt(folder)[1], tiny[1])
    tree["lm_head"]["kernel"][0, 0] += 1
    file.write_bytes(flax.serialization.msgpack_serialize(tree))
    assert "lm_head.weight has other numbers than the embedding" in refused(load_opt, folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_beside_the_weights(only, name, refused):
    folder = only("model.safetensors")
    (folder / name).write_text("{}")
    assert f"contains {name}, an adapter" in refused(load_opt, folder)


@pytest.mark.parametrize("end", [0, [2, 5]])
def test_two_ends_of_text(only, end, refused):
    folder = only("model.safetensors")
    file = folder / "generation_config.json"
    for same in ({"eos_token_id": 2}, {"eos_token_id": [2]}, {"eos_token_id": None}, {}):
        file.write_text(json.dumps(same))
        load_opt(folder)
    file.write_text(json.dumps({"eos_token_id": end}))
    text = refused(load_opt, folder)
    assert f"eos_token_id is {end} in generation_config.json and 2 in config.json" in text
    file.write_text("{")
    assert "generation_config.json" in refused(load_opt, folder)


# Files and folders that cannot be read.


@pytest.mark.parametrize("file", LAYOUTS)
@pytest.mark.parametrize("keep", [0, 3, 500, 20_000, -1])
def test_truncated_files(only, file, keep, refused):
    folder = only(file)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[:keep])
    assert str(folder / file) in refused(load_opt, folder)


def test_msgpack_that_holds_something_else(only, refused):
    folder = only("flax_model.msgpack")
    for tree in ([1], {"model": {"decoder": 3}}, {}):
        (folder / "flax_model.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
        assert "flax_model.msgpack" in refused(load_opt, folder)


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "gelu"},
        {"model_type": "gpt2"},
        {"tie_word_embeddings": False},
        {"enable_bias": False},
        {"num_attention_heads": 5},
        {"dropout": "much"},
        {"hidden_size": 32.0},
        {"eos_token_id": None},
        {"eos_token_id": [2, 3]},
        {"layerdrop": 1.5},
        {"quantization_config": {"bits": 8}},
    ],
)
def test_config_of_another_model(only, change, refused):
    folder = only("model.safetensors")
    values = json.loads((FIXTURE / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | change))
    text = refused(load_opt, folder)
    assert str(folder) in text and (next(iter(change)) in text or "wrong type" in text)


def test_config_that_is_no_json(only, refused):
    folder = only("model.safetensors")
    for content in (b"{", b"[]", b"\xff\xfe\x00"):
        (folder / "config.json").write_bytes(content)
        assert "config.json" in refused(load_opt, folder)
    (folder / "config.json").unlink()
    assert "no config.json" in refused(load_opt, folder)


def test_config_with_other_sizes_names_the_tensors(only, refused):
    folder = only("pytorch_model.bin")
    values = json.loads((FIXTURE / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(values | {"num_hidden_layers": 3, "vocab_size": 98})
    )
    text = refused(load_opt, folder)
    assert (
        "16 missing: model.decoder.layers.2." in text
        and "embed_tokens.weight is [97, 32], not [98, 32]" in text
    )


# The small pretrained model of this project.


def test_opt_mini_books():
    if not (MINI / "model.safetensors").is_file():
        pytest.skip("the pretrained opt-mini-books is not beside this checkout (../shared/data)")
    model, params = load_opt(MINI)
    assert model.config == dataclasses.replace(
        OPTConfig(),
        vocab_size=8192,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        ffn_dim=1024,
        max_position_embeddings=256,
        dropout=0.0,
    )
    assert (
        isinstance(model, OPT) and sum(leaf.size for leaf in jax.tree.leaves(params)) == 5_322_752
    )
    tokens = np.random.default_rng(0).integers(4, 8192, (2, 64))
    logits = jax.jit(model.apply)({"params": params}, jnp.asarray(tokens, jnp.int32))
    assert jnp.isfinite(logits).all()
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    with torch.no_grad():
        theirs = (
            transformers.OPTForCausalLM.from_pretrained(MINI)
            .eval()(torch.tensor(tokens))
            .logits.numpy()
        )
    assert_close(logits, theirs)
