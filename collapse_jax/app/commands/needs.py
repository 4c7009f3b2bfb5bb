"""What a run of the language model needs before it starts: room on disk, and batches that the
devices can share.
"""

import json
from typing import NamedTuple

import jax

from collapse_jax.app.config import LMConfig
from collapse_jax.models.lm.devices import Placement

# Texts are measured on this many blocks.
_SAMPLE = 100


class DiskNeed(NamedTuple):
    """Bytes that the generations still to come will take, at the most.

    states: how many states (`state` bytes each) there will be at once. unfinished: what waits on
    the scratch. arrays: tokens and
    scores beside the states, and results.nc while it is replaced. texts: the samples.
    """

    states: int
    state: int
    unfinished: int
    arrays: int
    texts: int

    @property
    def total(self) -> int:
        return self.states * self.state + self.unfinished + self.arrays + self.texts

    def words(self) -> str:
        """One line for people."""
        parts = [
            f"{self.states} checkpoint{'s' * (self.states != 1)} of {_size(self.state)}",
            f"unfinished work {_size(self.unfinished)}",
        ]
        parts += [f"tokens and scores {_size(self.arrays)}", f"texts {_size(self.texts)}"]
        return f"about {_size(self.total)} on disk: {', '.join(parts)}"


def disk_need(
    config: LMConfig, ingredients, finished: set[tuple[int, int]], seeds: tuple[int, ...] = ()
) -> DiskNeed:
    """For the (chain, generation) pairs of the settings (or of some seeds) that are not among the
    `finished`; ingredients: of `prepare`.
    """
    config = config.resolved()
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(ingredients.pretrained))
    blocks = len(ingredients.blocks.train)
    missing = [
        (c, g)
        for c in seeds or range(config.seeds)
        for g in range(config.generations + 1)
        if (c, g) not in finished
    ]
    grows = config.workflow in ("accumulate", "accumulate_subsample")
    pool = blocks * (config.generations + 1) * (config.block_length + 1) * 4 if grows else 0
    sets = sum(
        blocks * (generation + 1 if config.workflow == "accumulate" else 1)
        for _, generation in missing
    )
    if config.checkpoints == "ends":
        # The predecessor goes only when its successor is there.
        states = len([g for _, g in missing if g in (0, config.generations)]) + bool(
            missing and config.generations > 1
        )
    else:
        states = len(missing)
    return DiskNeed(
        states=states,
        state=parameters * (2 if config.start == "first" else 1) + pool,
        unfinished=bool(missing)
        * (parameters * _copies(config.epochs) + blocks * config.block_length * 4),
        # A token in 4 bytes; scores in 8, and twice in 4 while results.nc is replaced.
        arrays=sets * (config.block_length * 4 + 16),
        texts=int(sets * _bytes_per_block(ingredients)),
    )


def spread_words(config: LMConfig, ingredients, placement: Placement = Placement()) -> str | None:
    """One line that names the stages whose batches the devices cannot share evenly; None where
    there are none.
    """
    rows = {"batch_size": config.batch_size}
    if config.decode_batch is not None:  # else it is made to fit the devices
        rows["decode_batch"] = config.decode_batch
    rows = {name: min(count, len(ingredients.blocks.train)) for name, count in rows.items()}
    alone = [f"{name} {count}" for name, count in rows.items() if placement.devices_for(count) == 1]
    if placement.count() == 1 or not alone:
        return None
    return (
        f"{placement.count()} devices, but {' and '.join(alone)} is no multiple of that: these "
        "batches are not shared"
    )


def _copies(epochs):
    """Sets of parameters on the scratch: each epoch but the last is three (two moments), twice
    while replaced; the best is one.
    """
    return {1: 1, 2: 4}.get(epochs, 7)


def _bytes_per_block(ingredients):
    blocks = ingredients.blocks.train[:_SAMPLE]
    texts = [
        json.dumps({"text": ingredients.tokenizer.decode(block)}, ensure_ascii=False)
        for block in blocks
    ]
    return sum(len(text.encode()) + 1 for text in texts) / max(len(texts), 1)


def _size(number):
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number / 2**10:.0f} KiB"
