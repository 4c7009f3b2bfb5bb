"""The text that a lineage of language models reads: shares of what all lineages wrote."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.app.commands.origins import NO_BLOCK
from collapse_jax.app.config import LMConfig
from collapse_jax.core.types import Estimator, State
from collapse_jax.errors import InputError
from collapse_jax.models.lm.bounded import no_panics
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.runs.checkpoint import read_only

# What its model writes, among the arrays that a generation's checkpoint holds.
WRITTEN = "written_tokens"
# What the key of a seed's generation is folded with for the text that its model writes: the second
# highest number; the highest is that of fits, and nothing else counts up to it.
_WRITES = np.uint32(2**32 - 2)
# The same of the root key, for the keys of lineages.
_LINEAGES = np.uint32(2**32 - 3)


class Writer(NamedTuple):
    """A lineage as a source of text for the others.

    folder: folder of its run.
    tokenizer: tokenizer of its model.
    """

    folder: pathlib.Path
    tokenizer: TextTokenizer


def root_key_of(config: LMConfig) -> jax.Array:
    """Returns the root key of a run; the first lineage has the key of a run of one lineage."""
    key = jax.random.key(config.seed)
    if not config.lineage:
        return key
    return jax.random.fold_in(jax.random.fold_in(key, _LINEAGES), config.lineage)


def counts_of(shares: Sequence[float], n: int) -> list[int]:
    """Returns integers that sum to n, by shares; the largest remainders are rounded up."""
    exact = [share * n / math.fsum(shares) for share in shares]
    counts = [math.floor(round(value, 9)) for value in exact]
    order = sorted(range(len(shares)), key=lambda one: counts[one] - exact[one])
    for one in order[: n - sum(counts)]:
        counts[one] += 1
    return counts


class Pool:
    """The text that one lineage reads and writes.

    chain: the current seed; to be set before each generation.
    """

    def __init__(self, number: int, writers: Sequence[Writer], shares: Sequence[float], key: Any):
        """Reads nothing yet.

        Args:
            number: Number of this lineage.
            writers: All lineages.
            shares: Share of the text it reads that each lineage writes.
            key: The root key of this lineage.
        """
        self._number, self._writers, self._shares, self._key = number, writers, shares, key
        self._own, self._blocks = None, 0
        # Blocks of the newest training set by who wrote them.
        self._count = [0] * len(writers)
        self.chain = 0

    def reading(self, estimator: Estimator, blocks: int) -> Estimator:
        """Replaces the generated text of a language model by shares of all lineages' texts.

        Args:
            estimator: From `causal_lm`.
            blocks: Number of blocks that it writes in each generation.
        """
        self._own, self._blocks = estimator, blocks

        def sample(key, params, n):
            return jnp.asarray(self._text(key, int(params.fits) - 1, n))

        return estimator._replace(sample=sample)

    def observed(self, state: State) -> dict[str, Any]:
        """Returns the text that a model writes for the next generation, and the amounts it read.

        Real blocks are not counted.
        """
        assert self._own is not None
        generation = int(state.generation)
        key = jax.random.fold_in(self._key, self.chain)
        key = jax.random.fold_in(jax.random.fold_in(key, generation), _WRITES)
        tokens = self._own.sample(key, state.params, self._blocks)
        read = self._count if generation else [0] * len(self._writers)
        columns = {f"read_of_lineage_{one}": count for one, count in enumerate(read)}
        return columns | {WRITTEN: np.asarray(tokens, np.int32)}

    def labels(self, key: jax.Array, generation: int, n: int) -> np.ndarray:
        """Returns the writer and prompt of each of the n blocks that `reading` gives for this key.

        Args:
            key: Key of the draw.
            generation: Generation of the models that wrote the blocks.
            n: Number of blocks.

        Returns:
            int32 [n, 2]: the number of the prompt among the writer's blocks, `NO_BLOCK` if the text
            was cut into blocks again by another tokenizer; and the number of the lineage.
        """
        choices = self._choices(key, generation, n)
        parts = [np.stack([of, np.full_like(of, one)], 1) for one, (_, of) in choices.items()]
        return np.concatenate(parts).astype(np.int32)

    def _text(self, key, generation, n):
        """n blocks [n, length] of the text that all models of a generation wrote."""
        choices = self._choices(key, generation, n)
        self._count = [len(choices[one][0]) if one in choices else 0 for one in self._lineages]
        return np.concatenate([blocks for blocks, _ in choices.values()])

    def _choices(self, key, generation, n):
        """Lineage -> its blocks that are read, and their numbers in its text."""
        wanted = counts_of(self._shares, n)
        parts, missing = {}, 0
        for one, count in enumerate(wanted):
            if one != self._number and count:
                key_of_one = jax.random.fold_in(key, one)
                parts[one] = self._read(key_of_one, one, generation, count)
                missing += count - len(parts[one][0])
        # What others are short of, because their texts are fewer tokens here, it wrote itself.
        own = wanted[self._number] + missing
        if own:
            key = jax.random.fold_in(key, self._number)
            parts[self._number] = self._read(key, self._number, generation, own)
        return {one: parts[one] for one in sorted(parts)}

    def _read(self, key, one, generation, count):
        """Up to `count` blocks of the text of lineage `one` in own tokens, and their numbers."""
        written = _written(self._writers[one], self.chain, generation, one)
        order = np.asarray(jax.random.permutation(key, len(written)))
        there, here = (self._writers[at].tokenizer for at in (one, self._number))
        if there.identity == here.identity and (there.identity or one == self._number):
            return written[order[:count]], order[:count]
        blocks = _in_tokens_of(here, there, written[order], count)
        return blocks, np.full(len(blocks), NO_BLOCK)

    @property
    def _lineages(self):
        return range(len(self._writers))


def _in_tokens_of(
    here: TextTokenizer, there: TextTokenizer, blocks: np.ndarray, count: int
) -> np.ndarray:
    """Texts as blocks of the same length in another tokenizer's tokens, at most `count`."""
    length = blocks.shape[1]
    begins = len(here.encode([""])[0])
    tokens: list[int] = []
    for start in range(0, len(blocks), 64):
        if len(tokens) >= count * length:
            break
        with no_panics(there.name):
            texts = [there.decode(block.tolist()) for block in blocks[start : start + 64]]
        with no_panics(here.name):
            rows = here.encode(texts)
        tokens += [token for row in rows for token in row[begins:]]
    count = min(count, len(tokens) // length)
    return np.asarray(tokens[: count * length], np.int32).reshape(count, length)


def _written(writer, chain, generation, one):
    """The blocks [N, length] that a lineage wrote."""
    folder = writer.folder / "checkpoints" / f"chain_{chain}"
    if not (folder / str(generation)).is_dir():
        raise InputError(
            f"lineage {one} has no generation {generation} of seed {chain} in {writer.folder}; run "
            "all lineages of a seed together"
        )
    with read_only(folder) as checkpoints:
        return checkpoints.restore_record(generation)[1][WRITTEN]
