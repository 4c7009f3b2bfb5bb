"""Gemma 2 and 3: norms around attention and MLP, scaled embeddings, windows in most layers.

References:
    Gemma Team 2024, arXiv 2408.00118, and 2025, arXiv 2503.19786.
"""

from typing import Any

from collapse_jax.errors import InputError
from collapse_jax.models.lm.families import llama, tensors
from collapse_jax.models.lm.families.reading import Values, rope_parameters, rotary_from
from collapse_jax.models.lm.switches import TransformerConfig

NORMS = {
    "input_layernorm": "self_attn_layer_norm",
    "post_attention_layernorm": "self_attn_post_norm",
    "pre_feedforward_layernorm": "final_layer_norm",
    "post_feedforward_layernorm": "final_post_norm",
}
_KINDS = ("sliding_attention", "full_attention")


def read_gemma2(values: Values) -> TransformerConfig:
    """Of `model_type` "gemma2": windows in every other layer, capped scores and logits."""
    shared = _shared(values)
    layers = shared["num_hidden_layers"]
    by_default = [_KINDS[i % 2] for i in range(layers)]
    rotary = values.rotary()
    shared |= _caps(values, attention=50.0, logit=30.0)
    shared |= {"rotary": rotary, "local_rotary": rotary}
    return TransformerConfig(family="gemma2", **shared, windows=_windows(values, by_default))


def read_gemma3(values: Values) -> TransformerConfig:
    """Of `model_type` "gemma3_text": other rotary positions where there is a window."""
    shared = _shared(values)
    pattern = values.integer("sliding_window_pattern", 6)
    layers = shared["num_hidden_layers"]
    by_default = [_KINDS[(i + 1) % pattern == 0] for i in range(layers)]
    shared |= _caps(values, attention=None, logit=None) | _rotaries(values)
    return TransformerConfig(
        family="gemma3_text",
        **shared,
        windows=_windows(values, by_default),
        query_key_norm=True,
    )


def _shared(values) -> dict[str, Any]:
    if values.flag("use_bidirectional_attention", False):
        raise InputError(
            "config.json: use_bidirectional_attention is true; only false is supported"
        )
    shared = llama.common(
        Values({name: value for name, value in values.values.items() if "rope" not in name}),
        heads_of_keys=4,
        layers=26,
        head_dim=256,
        activation="hidden_activation",
    )
    if "hidden_activation" not in values.values:
        shared["activation"] = "gelu_tanh"
    bias = values.flag("attention_bias", False)
    scale = values.number("query_pre_attn_scalar", 256)
    return (
        shared
        | values.special_tokens(eos=1, bos=2, pad=0)
        | {
            "norm_offset": 1.0,
            "norm_place": "around",
            "qkv_bias": bias,
            "out_bias": bias,
            "ffn_bias": False,
            "query_scale": scale**-0.5,
            "embed_scale": shared["hidden_size"] ** 0.5,
            "tied": values.flag("tie_word_embeddings", True),
        }
    )


def _caps(values, attention, logit) -> dict[str, Any]:
    """The caps; an explicit null is none."""
    given = values.values
    return {
        "attention_cap": given.get("attn_logit_softcapping", attention),
        "logit_cap": given.get("final_logit_softcapping", logit),
    }


def _windows(values, by_default):
    window = values.values.get("sliding_window", 4096)
    return values.windows(len(by_default), window, by_default)


def _rotaries(values) -> dict[str, Any]:
    """Of the layers that see everything, and of those with a window."""
    by_kind = Values(values.object("rope_parameters"))
    full = values.object("rope_scaling") | by_kind.object("full_attention")
    local = dict(by_kind.object("sliding_attention"))
    full.setdefault("rope_theta", values.get("rope_theta", 1_000_000.0))
    local.setdefault("rope_theta", values.get("rope_local_base_freq", 10_000.0))
    return {"rotary": rotary_from(full), "local_rotary": rotary_from(local)}


def write(config: TransformerConfig) -> dict[str, Any]:
    """The `config.json` of these families."""
    values = llama.common_written(config)
    if config.family == "gemma3_text":
        values["rope_parameters"] = {
            "full_attention": rope_parameters(config.rotary),
            "sliding_attention": rope_parameters(config.local_rotary),
        }
    scale = config.head_dim**-0.5 if config.query_scale is None else config.query_scale
    scalar = scale**-2
    window = next((one for one in config.windows if one is not None), None)
    names = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "silu": "silu"}
    return values | {
        "hidden_activation": names[config.activation],
        "attention_bias": config.qkv_bias,
        "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar,
        "attn_logit_softcapping": config.attention_cap,
        "final_logit_softcapping": config.logit_cap,
        "sliding_window": window,
        "layer_types": llama.layer_types(config),
    }


def table(config: TransformerConfig) -> list[tensors.Tensor]:
    """Every tensor of a checkpoint."""
    return llama.table(config, NORMS)
