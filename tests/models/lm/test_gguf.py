"""GGUF files, written here by the package gguf as llama.cpp's converter lays them out."""

import pathlib

import jax
import numpy as np
import pytest

from collapse_jax.models.lm.assemble import as_stored
from collapse_jax.models.lm.corpus import load_tokenizer
from collapse_jax.models.lm.gguf_file import load_gguf
from collapse_jax.models.lm.weights import load

gguf = pytest.importorskip("gguf")
FOLDER = pathlib.Path(__file__).parent / "fixtures" / "families"
MERGES = ["Ġ t", "h e", "Ġt he"]


def permuted(array, heads):
    """The converter's layout: the two coordinates of a rotary pair next to each other."""
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)


def alphabet():
    """The 256 characters that stand for bytes in a byte-level BPE (GPT-2's table)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + i) for i in range(len(others))]


def write(path, name, kind="llama", quantised=None, changes=None, pre="smollm", window=None):
    """The model of a fixture, and a small tokenizer, in one file. changes: tensors to replace."""
    model, params = load(FOLDER / name)
    config, writer = model.switches, gguf.GGUFWriter(path, kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.ffn_dim)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_freq_base(config.rotary.theta)
    if window is not None:
        writer.add_sliding_window(window)
    tokens = ["<pad>", "<s>", "</s>", *alphabet(), "Ġt", "he", "Ġthe"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind.upper()], config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for key, array in as_stored(model, params).items():
        theirs = names.get_name(key, (".weight", ".bias"))
        for part, count in heads.items():
            if kind == "llama" and part in key:
                array = permuted(array, count)
        array = (changes or {}).get(theirs, array)
        if array is not None and quantised is not None and array.ndim == 2:
            type_ = gguf.GGMLQuantizationType[quantised]
            writer.add_tensor(theirs, gguf.quantize(array, type_), raw_dtype=type_)
        elif array is not None:
            writer.add_tensor(theirs, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, params


@pytest.mark.parametrize(
    ("name", "kind"), [("llama2", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")]
)
def test_weights_and_sizes_are_those_of_the_folder(name, kind, tmp_path):
    model, params = write(tmp_path / "model.gguf", name, kind)
    again, same = load(tmp_path / "model.gguf")
    assert again == model.clone(config=again.config)
    ours, theirs = vars(again.config), vars(model.config)
    differing = {key for key in ours if ours[key] != theirs[key]}
    # The window of the fixture of qwen2 is not written.
    assert differing <= {"init_std", "attention_dropout", "windows"}
    assert jax.tree.all(jax.tree.map(np.array_equal, params, same))


def test_quantised_numbers_keep_their_exact_values(tmp_path):
    """Q8_0: blocks of 32 numbers, a float16 step and int8 multiples of it."""
    _, params = write(tmp_path / "model.gguf", "llama2", quantised="F16")
    same = load_gguf(tmp_path / "model.gguf")[1]
    assert jax.tree.all(jax.tree.map(np.array_equal, params, same))
    wide = np.random.default_rng(0).normal(size=(61, 32)).astype(np.float32)
    steps = np.abs(wide).max(1, keepdims=True) / 127
    wanted = np.round(wide / steps) * steps.astype(np.float16).astype(np.float32)
    got = gguf.dequantize(
        gguf.quantize(wide, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_the_tokenizer_of_the_file(tmp_path):
    write(tmp_path / "model.gguf", "llama2")
    tokenizer = load_tokenizer(str(tmp_path / "model.gguf"))
    text = " the t 12 é\n"
    ids = tokenizer.encode([text])[0]
    assert tokenizer.decode(ids) == text
    characters = ["<pad>", "<s>", "</s>", *alphabet(), "Ġt", "he", "Ġthe"]
    shown = [characters[i] for i in ids]
    assert shown == ["Ġthe", "Ġt", "Ġ", "1", "2", "Ġ", "Ã", "©", "Ċ"]


def test_what_does_not_fit_is_one_line(tmp_path, refused):
    path = tmp_path / "model.gguf"
    write(path, "llama2", changes={"blk.1.ffn_up.weight": np.zeros((24, 12), np.float32)})
    assert "blk.1.ffn_up.weight is [24, 12], not [24, 16]" in refused(load, path)
    write(path, "llama2", changes={"blk.1.ffn_up.weight": None})
    assert "contains no tensor 'blk.1.ffn_up.weight'" in refused(load, path)
    write(path, "llama2", changes={"blk.0.attn_norm.weight": np.full(16, np.nan, np.float32)})
    assert "blk.0.attn_norm.weight contains numbers that are nan" in refused(load, path)
    write(path, "llama2", window=7)
    assert "its layers see 7 tokens back" in refused(load, path)
    write(path, "llama2", changes={"output.weight": None, "token_embd.weight": None})
    assert "vocab_size is missing" in refused(load, path) and str(path) in refused(load, path)
    write(path, "llama2", pre="odd")
    assert "its tokenizer is 'gpt2' of kind 'odd'" in refused(load_tokenizer, str(path))
    path.write_bytes(path.read_bytes()[:200])
    assert "not a whole GGUF file" in refused(load, path)
    writer = gguf.GGUFWriter(path, "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert "architecture is 'mamba'; supported are llama" in refused(load, path)
