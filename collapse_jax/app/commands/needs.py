"""Checks before a language-model run: disk space, and batches that devices can share."""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

import jax

from collapse_jax.app.config.lm import LMSettings
from collapse_jax.app.config.lm.kept import training_blocks
from collapse_jax.errors import InputError, size_words
from collapse_jax.models.lm.fit_settings import plan_of
from collapse_jax.models.lm.lora import trained_count
from collapse_jax.runs.placement import Placement

# Texts are measured on this many blocks.
_SAMPLE = 100


class DiskNeed(NamedTuple):
    """Upper bounds on the bytes that the remaining generations will need.

    states: largest number of checkpoints at the same time.
    state: bytes of each checkpoint.
    unfinished: bytes of unfinished work.
    arrays: bytes of tokens and scores in the checkpoints, and of results.nc while it is replaced.
    texts: bytes of the samples.
    """

    states: int
    state: int
    unfinished: int
    arrays: int
    texts: int

    @property
    def total(self) -> int:
        """The sum of all."""
        return self.states * self.state + self.unfinished + self.arrays + self.texts

    def summary(self) -> str:
        """Returns one line that names all parts."""
        return (
            f"about {size_words(self.total)} on disk: "
            f"{self.states} checkpoint{'s' * (self.states != 1)} of {size_words(self.state)}, "
            f"unfinished work {size_words(self.unfinished)}, "
            f"tokens and scores {size_words(self.arrays)}, texts {size_words(self.texts)}"
        )


def disk_need(
    settings: LMSettings,
    ingredients: Any,
    finished: Collection[tuple[int, int]],
    seeds: tuple[int, ...] = (),
) -> DiskNeed:
    """Estimates the disk space of the generations that are not finished.

    Args:
        ingredients: Made by `commands.lm_ingredients.prepare`.
        finished: (chain, generation) pairs.
        seeds: The seeds of this call; () is all.

    Raises:
        InputError: If the fit of a generation would be shorter than its warm-up.
    """
    config = settings.config
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(ingredients.pretrained))
    blocks = len(ingredients.blocks.train)
    missing = [
        (chain, generation)
        for chain in seeds or range(config.seeds)
        for generation in range(config.generations + 1)
        if (chain, generation) not in finished
    ]
    grows = config.workflow in ("accumulate", "accumulate_subsample") and config.control != "kept"
    pool = blocks * (config.generations + 1) * (config.block_length + 1) * 4 if grows else 0
    sets = sum(training_blocks(config, blocks, generation) for _, generation in missing)
    if config.control == "real":
        pool += 4 * (blocks + ingredients.other_blocks)  # their order
    states = len(missing)
    if config.checkpoints == "ends":
        states = sum(generation in (0, config.generations) for _, generation in missing)
        # A predecessor goes only when its successor is saved.
        states += bool(missing and config.generations > 1)
    fine_tune = settings.fine_tune
    trained = parameters
    if fine_tune.lora_rank:
        trained = 4 * trained_count(ingredients.pretrained, fine_tune)
    # A set that is too small for the fit's settings is refused here, before generation 0.
    sizes = sorted({training_blocks(config, blocks, generation) for _, generation in missing})
    epochs = [_epochs(fine_tune, size, config) for size in sizes]
    copies = max(map(_copies, epochs), default=0)
    unfinished = trained * copies + blocks * config.block_length * 4
    return DiskNeed(
        states=states,
        state=parameters * (2 if config.start == "first" else 1) + pool,
        unfinished=unfinished if missing else 0,
        # A token in 4 bytes; scores in 8, and twice in 4 while results.nc is replaced.
        arrays=sets * (config.block_length * 4 + 16),
        texts=int(sets * _bytes_per_block(ingredients)),
    )


def unshared_batches(
    settings: LMSettings, ingredients: Any, placement: Placement = Placement()
) -> list[str]:
    """A line that names the batches that the devices cannot share evenly, or no line."""
    config = settings.config
    rows = {"batch_size": config.batch_size}
    if config.decode_batch is not None:  # else it is made to fit the devices
        rows["decode_batch"] = config.decode_batch
    rows = {name: min(count, len(ingredients.blocks.train)) for name, count in rows.items()}
    alone = [f"{name} {count}" for name, count in rows.items() if placement.devices_for(count) == 1]
    if placement.count() == 1 or not alone:
        return []
    return [
        f"{placement.count()} devices, but {' and '.join(alone)} is not a multiple of that number: "
        "these batches are not divided among the devices"
    ]


def _epochs(fine_tune, size, config):
    """Number of epochs of a fit of `size` blocks."""
    try:
        return plan_of(fine_tune, size, config.block_length).epochs
    except InputError as error:
        if config.control == "kept":
            error.args = (f"{error} (with control kept, only the real blocks kept are trained on)",)
        raise


def _copies(epochs):
    """Largest number of parameter sets of unfinished work."""
    state, best = 3, 1  # parameters and Adam's two moments; the parameters of the best epoch
    if epochs == 1:
        return best  # only the last epoch is saved, without its moments
    # A file is replaced as a whole, so that old and new exist at once.
    return state + best if epochs == 2 else 2 * state + best


def _bytes_per_block(ingredients):
    blocks = ingredients.blocks.train[:_SAMPLE]
    texts = [
        json.dumps(
            {"text": ingredients.tokenizer.decode(block), "tokens": block.tolist()},
            ensure_ascii=False,
        )
        for block in blocks
    ]
    return sum(len(text.encode()) + 1 for text in texts) / max(len(texts), 1)
