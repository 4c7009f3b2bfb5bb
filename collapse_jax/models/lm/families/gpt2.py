"""GPT-2, from distilgpt2 to gpt2-xl (Radford et al. 2019)."""

from typing import Any

from collapse_jax.models.lm.families import tensors
from collapse_jax.models.lm.families.reading import ACTIVATION_NAMES, Values, written_tokens
from collapse_jax.models.lm.switches import TransformerConfig

# Masks that old releases saved with the weights.
CONSTANTS = r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)"


def read(values: Values) -> TransformerConfig:
    """Of `model_type` "gpt2"."""
    values.only("scale_attn_weights", True, True)
    values.only("scale_attn_by_inverse_layer_idx", False, False)
    values.only("add_cross_attention", False, False)
    heads, width = values.shared_width("n_head", "n_embd", (12, 768))
    return TransformerConfig(
        family="gpt2",
        vocab_size=values.integer("vocab_size", 50257),
        hidden_size=width,
        embed_size=width,
        num_hidden_layers=values.integer("n_layer", 12),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        ffn_dim=values.integer("n_inner", 4 * width),
        max_position_embeddings=values.integer("n_positions", 1024),
        norm_epsilon=values.get("layer_norm_epsilon", 1e-5),
        activation=values.activation("activation_function", "gelu_new"),
        tied=values.flag("tie_word_embeddings", True),
        embed_dropout=values.get("embd_pdrop", 0.1),
        dropout=values.get("resid_pdrop", 0.1),
        attention_dropout=values.get("attn_pdrop", 0.1),
        init_std=values.get("initializer_range", 0.02),
        **values.special_tokens(eos=50256),
    )


def write(config: TransformerConfig) -> dict[str, Any]:
    """The `config.json`."""
    return {
        "vocab_size": config.vocab_size,
        "n_embd": config.hidden_size,
        "n_layer": config.num_hidden_layers,
        "n_head": config.num_attention_heads,
        "n_inner": config.ffn_dim,
        "n_positions": config.max_position_embeddings,
        "layer_norm_epsilon": config.norm_epsilon,
        "activation_function": ACTIVATION_NAMES[config.activation],
        "tie_word_embeddings": config.tied,
        "embd_pdrop": config.embed_dropout,
        "resid_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
        "initializer_range": config.init_std,
    } | written_tokens(config)


def table(config: TransformerConfig) -> list[tensors.Tensor]:
    """Every tensor of a checkpoint; its kernels are not transposed."""
    width, vocabulary, same = config.hidden_size, config.vocab_size, tensors.same
    places = config.max_position_embeddings
    rows = [
        same("transformer.wte.weight", "embed_tokens/embedding", vocabulary, width),
        same("transformer.wpe.weight", "embed_positions/embedding", places, width),
    ]
    for i in range(config.num_hidden_layers):
        name, path = f"transformer.h.{i}", f"layers_{i}"
        rows += tensors.norm(f"{name}.ln_1", f"{path}/self_attn_layer_norm", width, "layer")
        rows += tensors.norm(f"{name}.ln_2", f"{path}/final_layer_norm", width, "layer")
        own = [f"{path}/self_attn/{part}_proj" for part in "qkv"]
        stored = f"{name}.attn.c_attn"
        for theirs, ours, inputs in (("weight", "kernel", (width,)), ("bias", "bias", ())):
            paths = tuple(f"{one}/{ours}" for one in own)
            rows.append(tensors.side_by_side(f"{stored}.{theirs}", paths, *inputs, width))
        products = {
            "attn.c_proj": ("self_attn/out_proj", width, width),
            "mlp.c_fc": ("fc1", width, config.ffn_dim),
            "mlp.c_proj": ("fc2", config.ffn_dim, width),
        }
        for theirs, (ours, inputs, outputs) in products.items():
            rows.append(same(f"{name}.{theirs}.weight", f"{path}/{ours}/kernel", inputs, outputs))
            rows.append(same(f"{name}.{theirs}.bias", f"{path}/{ours}/bias", outputs))
    rows += tensors.norm("transformer.ln_f", "final_layer_norm", width, "layer")
    if not config.tied:
        rows.append(same("lm_head.weight", "lm_head/embedding", vocabulary, width))
    return rows
