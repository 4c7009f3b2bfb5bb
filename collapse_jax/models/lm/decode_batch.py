"""The default number of prompts decoded at once, by the memory of the devices."""

from typing import Any

import jax
import jax.numpy as jnp

from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs.distributed import largest
from collapse_jax.runs.placement import Placement

# Prompts of all devices together, if their memory is unknown: the matrices are large enough for a
# CPU.
_WITHOUT_ACCELERATOR = 64
# Prompts of one device: more are not faster (an estimate from operations and bytes; not measured).
_MOST = 1024
# The rest is for parameters, and for what the estimate leaves out.
_SHARE_OF_MEMORY = 0.5


def prompts_at_once(
    model: Transformer,
    decoder: Any,
    length: int,
    new_tokens: int,
    count: int,
    placement: Placement = Placement(),
) -> int:
    """The batch size for `count` prompts of `length` tokens, each continued by `new_tokens`.

    It is 64 in total on devices that do not report their memory. On others it is a power of two per
    device, at most 1,024, such that `bytes_per_prompt` fits into half of the smallest memory. It is
    always a multiple of the number of devices, never more than `count` needs, and the same in every
    process of a job.
    """
    here = [
        device
        for device in placement.devices or jax.devices()
        if device.process_index == jax.process_index()
    ]
    memory = min(
        ((device.memory_stats() or {}).get("bytes_limit", 0) for device in here), default=0
    )
    fits = int(_SHARE_OF_MEMORY * memory / bytes_per_prompt(model, decoder, length, new_tokens))
    # The least of all processes; 0 if one of them cannot tell.
    fits = -largest(-min(max(fits, 1), _MOST) if memory else 0)
    devices = placement.count()
    on_each = 2 ** (fits.bit_length() - 1) if fits else -(-_WITHOUT_ACCELERATOR // devices)
    return devices * min(on_each, -(-count // devices))


def bytes_per_prompt(model: Transformer, decoder: Any, length: int, new_tokens: int) -> int:
    """Estimates the bytes that decoding needs per prompt, without parameters; an upper estimate.

    Keys and values of the prompt and of every beam, half as much again while they grow; the scores
    of all next words three times, and more while they are sorted; the activations of one layer for
    the prompt. The tests compare it with what XLA plans on a CPU.
    """
    config, beams = model.switches, getattr(decoder, "num_beams", 1)
    slots = length + beams * new_tokens
    keys = config.num_key_value_heads * config.head_dim
    cache = 2 * config.num_hidden_layers * keys * jnp.dtype(model.dtype).itemsize * slots
    widest = (1 + config.gated) * config.ffn_dim
    scores = 4 * config.vocab_size * (3 * beams + 5)
    return int(1.5 * cache + scores + 4 * length * (widest + 4 * config.hidden_size))
