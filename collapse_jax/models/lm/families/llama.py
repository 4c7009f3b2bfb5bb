"""Llama 2 and 3, SmolLM, SmolLM2 and TinyLlama; Mistral, which adds a window; Qwen 2, 2.5 and 3.

References:
    Touvron et al. 2023, arXiv 2307.09288; Grattafiori et al. 2024, arXiv 2407.21783; Jiang et al.
    2023, arXiv 2310.06825; Yang et al. 2024, arXiv 2412.15115, and 2025, arXiv 2505.09388.
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

NORMS = {"input_layernorm": "self_attn_layer_norm", "post_attention_layernorm": "final_layer_norm"}
_FULL, _SLIDING = "full_attention", "sliding_attention"


def read_llama(values: Values) -> TransformerConfig:
    """Of `model_type` "llama"."""
    bias = values.flag("attention_bias", False)
    return TransformerConfig(
        family="llama",
        **common(values, heads_of_keys=None),
        **values.special_tokens(eos=2, bos=1),
        tied=values.flag("tie_word_embeddings", False),
        qkv_bias=bias,
        out_bias=bias,
        ffn_bias=values.flag("mlp_bias", False),
    )


def read_mistral(values: Values) -> TransformerConfig:
    """Of `model_type` "mistral"."""
    shared = common(values, heads_of_keys=8, layers=32)
    # An explicit null is no window; where the name is absent, transformers takes 4,096.
    window = values.values.get("sliding_window", 4096)
    layers = shared["num_hidden_layers"]
    return TransformerConfig(
        family="mistral",
        **shared,
        **values.special_tokens(eos=2, bos=1),
        tied=values.flag("tie_word_embeddings", False),
        windows=() if window is None else (window,) * layers,
        **_biases(),
    )


def read_qwen2(values: Values) -> TransformerConfig:
    """Of `model_type` "qwen2" (2 and 2.5): queries, keys and values have a bias."""
    return TransformerConfig(
        family="qwen2",
        **common(values, heads_of_keys=32, layers=32),
        **values.special_tokens(),
        tied=values.flag("tie_word_embeddings", False),
        windows=_qwen_windows(values),
        **_biases(qkv_bias=True),
    )


def read_qwen3(values: Values) -> TransformerConfig:
    """Of `model_type` "qwen3": queries and keys of each head pass through a norm."""
    bias = values.flag("attention_bias", False)
    return TransformerConfig(
        family="qwen3",
        **common(values, heads_of_keys=32, layers=32, head_dim=128),
        **values.special_tokens(),
        tied=values.flag("tie_word_embeddings", False),
        windows=_qwen_windows(values),
        query_key_norm=True,
        **_biases(qkv_bias=bias, out_bias=bias),
    )


def _biases(qkv_bias=False, out_bias=False) -> dict[str, Any]:
    return {"qkv_bias": qkv_bias, "out_bias": out_bias, "ffn_bias": False}


def common(
    values: Values,
    heads_of_keys: int | None,
    layers: int = 32,
    head_dim: int | None = None,
    activation: str = "hidden_act",
) -> dict[str, Any]:
    """The sizes and switches that these families share, by the names of `TransformerConfig`."""
    heads, width = values.integer("num_attention_heads", 32), values.integer("hidden_size", 4096)
    rotary = values.rotary()
    return {
        "vocab_size": values.integer("vocab_size"),
        "hidden_size": width,
        "embed_size": width,
        "num_hidden_layers": values.integer("num_hidden_layers", layers),
        "num_attention_heads": heads,
        "num_key_value_heads": values.integer("num_key_value_heads", heads_of_keys or heads),
        "head_dim": values.integer("head_dim", head_dim or width // heads),
        "ffn_dim": values.integer("intermediate_size"),
        "max_position_embeddings": values.integer("max_position_embeddings"),
        "norm": "rms",
        "norm_epsilon": values.get("rms_norm_eps", 1e-6),
        "positions": "rotary",
        "rotary": rotary,
        "local_rotary": rotary,
        "activation": values.activation(activation, "silu"),
        "gated": True,
        "attention_dropout": values.get("attention_dropout", 0.0),
        "init_std": values.get("initializer_range", 0.02),
    }


def _qwen_windows(values):
    layers = values.integer("num_hidden_layers", 32)
    window = (
        values.get("sliding_window", 4096) if values.flag("use_sliding_window", False) else None
    )
    first = values.get("max_window_layers", 28)
    by_default = [_SLIDING if window and i >= first else _FULL for i in range(layers)]
    return values.windows(layers, window, by_default)


def write(config: TransformerConfig) -> dict[str, Any]:
    """The `config.json` of these families."""
    values = common_written(config) | {"hidden_act": ACTIVATION_NAMES[config.activation]}
    if config.family == "llama":
        values |= {"attention_bias": config.qkv_bias, "mlp_bias": config.ffn_bias}
    if config.family == "qwen3":
        values["attention_bias"] = config.qkv_bias
    if config.family == "mistral":
        values["sliding_window"] = config.window(0)
    if config.family in ("qwen2", "qwen3"):
        window = next((one for one in config.windows if one is not None), None)
        values |= {
            "use_sliding_window": window is not None,
            "sliding_window": window,
            "layer_types": layer_types(config),
        }
    return values


def common_written(config: TransformerConfig) -> dict[str, Any]:
    """What `common` reads, and the special tokens."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": rope_parameters(config.rotary),
        "attention_dropout": config.attention_dropout,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.tied,
    } | written_tokens(config)


def layer_types(config: TransformerConfig) -> list[str]:
    """What each layer sees, in the words of transformers."""
    layers = range(config.num_hidden_layers)
    return [_FULL if config.window(i) is None else _SLIDING for i in layers]


def table(config: TransformerConfig, norms: dict[str, str] = NORMS) -> list[tensors.Tensor]:
    """Every tensor of a checkpoint. norms: their names in a layer, and ours."""
    width, linear = config.hidden_size, tensors.linear
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    rows = [tensors.same("model.embed_tokens.weight", "embed_tokens/embedding", *_matrix(config))]
    for i in range(config.num_hidden_layers):
        name, path = f"model.layers.{i}", f"layers_{i}"
        attention, own = f"{name}.self_attn", f"{path}/self_attn"
        for part, size in {"q": queries, "k": keys, "v": keys}.items():
            projection = f"{part}_proj"
            rows += linear(
                f"{attention}.{projection}", f"{own}/{projection}", width, size, config.qkv_bias
            )
        rows += linear(f"{attention}.o_proj", f"{own}/out_proj", queries, width, config.out_bias)
        if config.query_key_norm:
            for one in ("q_norm", "k_norm"):
                rows += tensors.norm(f"{attention}.{one}", f"{own}/{one}", config.head_dim, "rms")
        for theirs, ours in {"gate": "gate", "up": "fc1"}.items():
            rows += linear(
                f"{name}.mlp.{theirs}_proj",
                f"{path}/{ours}",
                width,
                config.ffn_dim,
                config.ffn_bias,
            )
        rows += linear(
            f"{name}.mlp.down_proj", f"{path}/fc2", config.ffn_dim, width, config.ffn_bias
        )
        for theirs, ours in norms.items():
            rows += tensors.norm(f"{name}.{theirs}", f"{path}/{ours}", width, "rms")
    rows += tensors.norm("model.norm", "final_layer_norm", width, "rms")
    if not config.tied:
        rows.append(tensors.same("lm_head.weight", "lm_head/embedding", *_matrix(config)))
    return rows


def _matrix(config):
    return config.vocab_size, config.embed_size
