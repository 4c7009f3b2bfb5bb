"""The number of real blocks that a run of `collapse-jax lm` keeps in its training sets."""

import math
from typing import Any

from collapse_jax.app.config.lm.loop import COUNTS
from collapse_jax.errors import InputError


def kept_blocks(config: Any, blocks: int) -> int:
    """Returns the number of real blocks in the training set of each generation after the first.

    Args:
        config: A resolved `LMConfig`.
        blocks: Number of real blocks, which is the size of a training set.

    Raises:
        InputError: If more blocks are asked for than exist, or fewer tokens than half a block.
    """
    if config.workflow == "accumulate":
        return blocks
    counted = _counted(config, blocks)
    if counted is not None:
        return counted
    if config.real_kept == "batches":
        batches = math.ceil(round(blocks * config.real_fraction / config.batch_size, 9))
        return min(blocks, batches * config.batch_size)
    # As `workflows.mix` rounds what is not real.
    made = _made_share(config, config.real_fraction)
    return blocks - round((made + config.beta) * blocks)


def check_real_kept(values: dict[str, Any], usual: str) -> None:
    """Raises `InputError` for a given `real_kept` if no real blocks are chosen.

    A share of 0 that is given explicitly is accepted: it may be the end of a series of shares.

    Args:
        values: All settings by name, with the values of preset and protocol filled in.
        usual: The default of preset and protocol.
    """
    if values["real_kept"] == usual:
        return
    if values["real_fraction"] or any(values[name] is not None for name in COUNTS):
        return
    if values["workflow"] == "replace":
        what = "whose training sets contain no real blocks; give --real-fraction or --real-blocks"
    else:
        what = "which keeps every real block; give --workflow replace with --real-fraction"
    raise InputError(
        f"real_kept is {values['real_kept']} with workflow {values['workflow']}, {what}, or leave "
        "real_kept out"
    )


def made_blocks(config: Any, blocks: int) -> int:
    """Number of blocks that a model generates per training set; arguments as for `kept_blocks`."""
    if config.workflow != "replace":
        return blocks - real_in_batch(config, blocks)
    kept = kept_blocks(config, blocks)
    share = config.real_fraction if config.real_fraction is not None else kept / blocks
    if config.real_kept == "batches" and share > 0:
        return max(blocks - kept - round(config.beta * blocks), 0)
    # `workflows.mix` rounds this, and this with beta; what is between comes from the previous set.
    return round(_made_share(config, share) * blocks)


def real_in_batch(config: Any, blocks: int) -> int:
    """How many of the new blocks of a generation are original ones, where all blocks stay.

    Raises:
        InputError: Where `real_share` comes to none of so many blocks, or leaves the model none.
    """
    if not config.real_share:
        return 0
    real = round(config.real_share * blocks)
    if 0 < real < blocks:
        return real
    what = "none" if real == 0 else "all"
    raise InputError(
        f"real_share {config.real_share:g} of {blocks} blocks is {config.real_share * blocks:.2g}, "
        f"{what} of them; give from {1 / blocks:.2g} to {1 - 1 / blocks:.2g}, or more blocks"
    )


def _made_share(config, real_fraction):
    """The share of a training set that the newest model generates."""
    return round(1 - real_fraction - config.beta, 12)


def training_blocks(config: Any, blocks: int, generation: int) -> int:
    """Number of blocks in a generation's training set; other arguments as for `kept_blocks`."""
    if config.control == "kept" and generation > 0:
        return kept_blocks(config, blocks)
    return blocks * (generation + 1 if config.workflow == "accumulate" else 1)


def _counted(config, blocks):
    """The number of real blocks if the settings give a number; None for a share."""
    length = config.block_length
    if config.real_blocks is None and config.real_tokens is None:
        return None
    name = COUNTS[0] if config.real_blocks is None else COUNTS[1]
    given = getattr(config, name)
    kept = given if name == "real_blocks" else (2 * given + length) // (2 * length)
    # A share: the workflows refuse more than 1 in all, also where rounding would make room.
    from_previous = math.ceil(round(config.beta * blocks, 9))
    if kept + from_previous > blocks:
        beside = f", {from_previous} of them from the previous set (beta)" * bool(from_previous)
        most = blocks - from_previous
        least = f"{most} blocks" if name == "real_blocks" else f"{most * length} tokens"
        raise InputError(
            f"{name} is {given}, which is {kept} block{'s' * (kept != 1)}, but a training set has "
            f"{blocks}{beside}; give at most {least}"
        )
    if given and not kept:
        raise InputError(
            f"real_tokens is {given}, which is less than half a block of {length} tokens; give at "
            f"least {-(-length // 2)}, or 0"
        )
    return kept


def kept_words(config: Any, blocks: int) -> list[str]:
    """A line on the rounding of `real_tokens`, or of a share if rounding changes it noticeably.

    Args:
        config: A resolved `LMConfig`.
        blocks: As for `kept_blocks`.
    """
    if config.real_fraction:
        return _share_words(config, blocks)
    if config.real_tokens is None or config.real_tokens % config.block_length == 0:
        return []
    kept = kept_blocks(config, blocks)
    return [
        f"real_tokens {config.real_tokens:,} is {config.real_tokens / config.block_length:.1f} "
        f"blocks of {config.block_length} tokens: {kept} block{'s' * (kept != 1)}, "
        f"{kept * config.block_length:,} tokens, are kept"
    ]


def _share_words(config, blocks):
    """A line if the share of blocks kept differs by over a tenth from `real_fraction`."""
    kept, wanted = kept_blocks(config, blocks), config.real_fraction * blocks
    if abs(kept - wanted) <= 0.1 * wanted:
        return []
    in_batches = config.real_kept == "batches"
    whole = f"batches of {config.batch_size}" if in_batches else "blocks"
    none_made = ", and models make none" if kept == blocks else ""
    return [
        f"real_fraction {config.real_fraction:g} of {blocks:,} blocks is {wanted:.1f}; in whole "
        f"{whole}, {kept:,} of {blocks:,} ({kept / blocks:.1%}) are real text{none_made}"
    ]
