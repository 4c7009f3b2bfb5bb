"""Random weights of any model: the law that each family draws them by."""

import dataclasses

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.models.lm import opt
from collapse_jax.models.lm.switches import TransformerConfig

KEY = jax.random.key(0)
SMALL = TransformerConfig(
    family="llama",
    vocab_size=50,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    ffn_dim=64,
    max_position_embeddings=16,
    embed_size=32,
    norm="rms",
    positions="rotary",
    activation="silu",
    gated=True,
    qkv_bias=False,
    out_bias=False,
    ffn_bias=False,
    tied=False,
    init_std=0.02,
)


def deviations(params):
    """Last two names of each kernel and embedding -> its deviation, and how sure that is."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [
        (path[-2].key, float(np.std(leaf)), leaf.size) for path, leaf in leaves if leaf.ndim == 2
    ]


def test_every_matrix_is_normal_and_the_rest_is_plain():
    params = cj.lm.init_params(SMALL, KEY)
    found = deviations(params)
    assert len(found) == 2 + 2 * 7 and "lm_head" in params
    for _, deviation, size in found:
        assert abs(deviation / 0.02 - 1) < 4 / np.sqrt(2 * size)
    scales = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 1]
    assert len(scales) == 5 and all((np.asarray(scale) == 1).all() for scale in scales)


def test_what_ends_in_a_residual_sum_is_smaller_in_a_gpt2():
    """`GPT2PreTrainedModel._init_weights`: initializer_range / sqrt(2 n_layer) for c_proj."""
    config = dataclasses.replace(
        SMALL, family="gpt2", positions="learned", norm="layer", gated=False, tied=True
    )
    for name, deviation, size in deviations(cj.lm.init_params(config, KEY)):
        expected = 0.02 / 2 if name in ("out_proj", "fc2") else 0.02
        assert abs(deviation / expected - 1) < 4 / np.sqrt(2 * size)


def test_a_model_its_configuration_and_an_opt_give_the_same():
    config = dataclasses.replace(opt.TINY, num_hidden_layers=1, hidden_size=8, ffn_dim=8)
    given = [cj.lm.init_params(one, KEY) for one in (config, cj.lm.OPT(config), config.switches)]
    given.append(opt.init_params(config, KEY))
    for other in given[1:]:
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), given[0], other))
    another = cj.lm.init_params(config, jax.random.key(1))
    assert not (another["embed_tokens"]["embedding"] == given[0]["embed_tokens"]["embedding"]).any()


def test_something_else_is_refused():
    with pytest.raises(cj.InputError, match=r"model is 'gpt2'; it must be a cj\.lm\.Transformer"):
        cj.lm.init_params("gpt2", KEY)


FAMILIES = {
    "gpt2": {"n_embd": 128, "n_layer": 4, "n_head": 4, "n_positions": 64},
    "llama": {"num_key_value_heads": 2, "initializer_range": 0.03},
    "gpt_neox": {},
    "qwen2": {"num_key_value_heads": 2},
    "opt": {"ffn_dim": 256, "word_embed_proj_dim": 128, "max_position_embeddings": 64},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 32},
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_draws_every_tensor_by_the_same_law(family, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from safetensors.numpy import load_file

    from collapse_jax.models.lm.weights import read_model

    sizes = {"vocab_size": 200, "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0}
    if family != "gpt2":
        sizes |= {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
        sizes |= {} if family == "opt" else {"intermediate_size": 256}
    config = transformers.AutoConfig.for_model(family, **sizes, **FAMILIES[family])
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "theirs")
    model = read_model(tmp_path / "theirs")
    cj.lm.save(tmp_path / "ours", model, cj.lm.init_params(model, KEY))
    theirs, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        if tensor.std() == 0:
            assert np.array_equal(tensor, ours[name]), name
        else:
            z = np.log(tensor.std() / ours[name].std()) * np.sqrt(tensor.size)
            assert abs(z) < 4, name
