"""Random weights of any model, as its family draws them before pretraining."""

import math

import jax

from collapse_jax.errors import InputError
from collapse_jax.models.lm import transformer
from collapse_jax.models.lm.opt import OPTConfig
from collapse_jax.models.lm.switches import TransformerConfig
from collapse_jax.models.lm.transformer import Transformer

# Families whose products that end in a residual sum are drawn smaller, by the root of how many
# there are, and those products.
_SCALED = {"gpt2": ("out_proj", "fc2")}


def init_params(model: Transformer | TransformerConfig | OPTConfig, key: jax.Array) -> dict:
    """Random parameters of a model, as transformers draws them: Normal(0, init_std), no bias.

    The products of a GPT-2 that end in a residual sum have init_std / sqrt(2 layers).

    Args:
        model: A model, or its sizes and switches.
        key: One key of `jax.random.key`.

    Returns:
        A plain dict of float32 arrays.

    Raises:
        InputError: If `model` is something else.

    References:
        Radford et al. 2019, section 2.3 (GPT-2).
    """
    if isinstance(model, TransformerConfig | OPTConfig):
        model = Transformer(model)
    if not isinstance(model, Transformer):
        raise InputError(
            f"model is {model!r:.200}; it must be a cj.lm.Transformer, or the configuration of one"
        )
    params = transformer.init_params(model, key)
    scaled = _SCALED.get(model.switches.family, ())
    if not scaled:
        return params
    factor = 1 / math.sqrt(2 * model.switches.num_hidden_layers)

    def drawn(path, leaf):
        is_scaled = path[-1].key == "kernel" and path[-2].key in scaled
        return leaf * factor if is_scaled else leaf

    return jax.tree_util.tree_map_with_path(drawn, params)
