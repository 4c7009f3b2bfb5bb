"""How many prompts are decoded at once where nobody says: a fixed number on CPUs, what the memory
holds on accelerators.
"""

import jax
import jax.numpy as jnp

from collapse_jax.models.lm.devices import Placement
from collapse_jax.runs.distributed import largest

# Of all devices together, where nothing tells how much memory they have: the matrices are large
# enough for a CPU.
_WITHOUT_ACCELERATOR = 64
# Of one device: beyond it nothing gets faster (an estimate from operations and bytes; not
# measured).
_MOST = 1024
# The rest is for parameters, and for what the estimate leaves out.
_SHARE_OF_MEMORY = 0.5


def prompts_at_once(
    model, decoder, length: int, new_tokens: int, count: int, placement: Placement = Placement()
) -> int:
    """The batch size for `count` prompts of `length` tokens, each continued by `new_tokens`; a
    multiple of the number of devices.

    On accelerators that tell their memory: a power of two, to 1,024, for each device, such that
    `bytes_per_prompt` fits into half of the memory of the smallest one. Elsewhere 64 in all. Never
    more than `count` calls for. Every process of a job gets the same number.
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
    # The least of all processes; 0 says that one cannot tell.
    fits = -largest(-min(max(fits, 1), _MOST) if memory else 0)
    devices = placement.count()
    on_each = 2 ** (fits.bit_length() - 1) if fits else -(-_WITHOUT_ACCELERATOR // devices)
    return devices * min(on_each, -(-count // devices))


def bytes_per_prompt(model, decoder, length: int, new_tokens: int) -> int:
    """Memory that decoding takes for each prompt, parameters apart; rather too much than too
    little.

    Keys and values of the prompt and of every beam, half as much again while they grow; the scores
    of all next words three times, and some more where they are sorted; what one layer makes of the
    prompt. Compared with what XLA plans on a CPU, in the tests.
    """
    config, beams = model.config, getattr(decoder, "num_beams", 1)
    slots = length + beams * new_tokens
    cache = (
        2 * config.num_hidden_layers * config.hidden_size * jnp.dtype(model.dtype).itemsize * slots
    )
    words = 4 * config.vocab_size * (3 * beams + 5)
    return int(1.5 * cache + words + 4 * length * (config.ffn_dim + 4 * config.hidden_size))
