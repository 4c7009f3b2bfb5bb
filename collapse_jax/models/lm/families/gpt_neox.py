"""GPT-NeoX, and with it Pythia (Black et al. 2022, arXiv 2204.06745; Biderman et al. 2023,
arXiv 2304.01373): rotary positions on a part of each head, attention and MLP side by side.
"""

from typing import Any

from collapse_jax.models.lm.families import tensors
from collapse_jax.models.lm.families.reading import (
    ACTIVATION_NAMES,
    Values,
    rope_parameters,
    written_tokens,
)
from collapse_jax.models.lm.switches import TransformerConfig

# Masks and wavelengths that old releases saved with the weights.
CONSTANTS = r"(gpt_neox\.)?layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)"


def read(values: Values) -> TransformerConfig:
    """Of `model_type` "gpt_neox"."""
    heads, width = values.shared_width("num_attention_heads", "hidden_size", (64, 6144))
    bias = values.flag("attention_bias", True)
    rotary = values.rotary(values.get("rotary_emb_base", 10_000), values.get("rotary_pct", 0.25))
    return TransformerConfig(
        family="gpt_neox",
        vocab_size=values.integer("vocab_size", 50432),
        hidden_size=width,
        embed_size=width,
        num_hidden_layers=values.integer("num_hidden_layers", 44),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=width // heads,
        ffn_dim=values.integer("intermediate_size", 24576),
        max_position_embeddings=values.integer("max_position_embeddings", 2048),
        norm_epsilon=values.get("layer_norm_eps", 1e-5),
        positions="rotary",
        rotary=rotary,
        local_rotary=rotary,
        qkv_bias=bias,
        out_bias=bias,
        activation=values.activation("hidden_act", "gelu"),
        parallel=values.flag("use_parallel_residual", True),
        tied=values.flag("tie_word_embeddings", False),
        embed_dropout=values.get("hidden_dropout", 0.0),
        dropout=values.get("hidden_dropout", 0.0),
        attention_dropout=values.get("attention_dropout", 0.0),
        init_std=values.get("initializer_range", 0.02),
        **values.special_tokens(eos=2, bos=0),
    )


def write(config: TransformerConfig) -> dict[str, Any]:
    """The `config.json`."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.ffn_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "layer_norm_eps": config.norm_epsilon,
        "rope_parameters": {"partial_rotary_factor": 1.0} | rope_parameters(config.rotary),
        "attention_bias": config.qkv_bias,
        "hidden_act": ACTIVATION_NAMES[config.activation],
        "use_parallel_residual": config.parallel,
        "tie_word_embeddings": config.tied,
        "hidden_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.init_std,
    } | written_tokens(config)


def table(config: TransformerConfig) -> list[tensors.Tensor]:
    """Every tensor of a checkpoint; queries, keys and values are stored by head."""
    width, vocabulary, heads = config.hidden_size, config.vocab_size, config.num_attention_heads
    matrix = vocabulary, width
    rows = [tensors.same("gpt_neox.embed_in.weight", "embed_tokens/embedding", *matrix)]
    for i in range(config.num_hidden_layers):
        name, path = f"gpt_neox.layers.{i}", f"layers_{i}"
        norms = {
            "input_layernorm": "self_attn_layer_norm",
            "post_attention_layernorm": "final_layer_norm",
        }
        for theirs, ours in norms.items():
            rows += tensors.norm(f"{name}.{theirs}", f"{path}/{ours}", width, "layer")
        own = [f"{path}/self_attn/{part}_proj" for part in "qkv"]
        stored = f"{name}.attention.query_key_value"
        for theirs, ours, inputs in (("weight", "kernel", (width,)), ("bias", "bias", ())):
            if theirs == "weight" or config.qkv_bias:
                paths = tuple(f"{one}/{ours}" for one in own)
                rows.append(
                    tensors.by_head(f"{stored}.{theirs}", paths, heads, config.head_dim, *inputs)
                )
        products = {
            "attention.dense": ("self_attn/out_proj", width, width, config.out_bias),
            "mlp.dense_h_to_4h": ("fc1", width, config.ffn_dim, True),
            "mlp.dense_4h_to_h": ("fc2", config.ffn_dim, width, True),
        }
        for theirs, (ours, inputs, outputs, bias) in products.items():
            rows += tensors.linear(f"{name}.{theirs}", f"{path}/{ours}", inputs, outputs, bias)
    rows += tensors.norm("gpt_neox.final_layer_norm", "final_layer_norm", width, "layer")
    if not config.tied:
        rows.append(tensors.same("embed_out.weight", "lm_head/embedding", *matrix))
    return rows
