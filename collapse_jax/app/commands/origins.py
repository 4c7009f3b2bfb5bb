"""The origin of each block of a training set: who wrote it, and after which real block."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core import points
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Estimator, FitInfo, Workflow
from collapse_jax.estimators import sources
from collapse_jax.estimators.causal_lm import prompt_numbers

REAL = -1
# No real block of the run: a text that no prompt began, or real text from elsewhere.
NO_BLOCK = -1


class Origins:
    """The origin of each block of every training set of a run, by chain and generation.

    The origins are derived. A workflow chooses blocks by its key and by their numbers, never by
    their content. The same workflow with the same keys therefore makes the same choices among
    labels, where a model "writes" the number of its generation and the real data is `REAL`.

    chain: the current chain; to be set before each generation.
    """

    def __init__(
        self,
        workflow: Workflow,
        blocks: int,
        key: jax.Array,
        last_generation: int,
        *,
        models_write: bool = True,
        has_prompts: bool = True,
        of_pool: Callable[[jax.Array, int, int], np.ndarray] | None = None,
    ):
        """Computes nothing yet.

        Args:
            workflow: That of the run.
            blocks: Number of real blocks, which is the sample size.
            key: That of the run.
            last_generation: The last one of the run.
            models_write: False for a control, where real text replaces generated text.
            has_prompts: False if models write from the beginning-of-text token alone.
            of_pool: `Pool.labels` of a lineage that reads others; its chain must be set too.
        """
        numbers = np.arange(blocks, dtype=np.int32)
        real = [np.full_like(numbers, REAL), numbers, np.full_like(numbers, REAL)]
        source = sources.dataset(np.stack(real, axis=1))
        prompts = blocks if has_prompts and models_write else None
        family = _labels(models_write, prompts, of_pool)
        self._process = generational_process(family, source, workflow, sample_size=blocks)
        self._blocks, self._key, self._last = blocks, key, last_generation
        self._newest_alone, self._models_write = workflow.name == "replace", models_write
        # The chain that is being made.
        self.chain = 0
        # The newest state and training set, and the chain and generation that they are of.
        self._state, self._newest, self._at = None, points.of_sample(jnp.zeros(0)), (-1, -1)

    def of(self, chain: int, generation: int) -> np.ndarray:
        """Returns the origins of the training set of a generation.

        Returns:
            int32 [N]: `REAL`, or the generation of the model that wrote the block.
        """
        if self._newest_alone:
            return np.full(self._blocks, generation - 1 if self._models_write else REAL, np.int32)
        return self._of(chain, generation)[:, 0]

    def blocks_of(self, chain: int, generation: int) -> np.ndarray:
        """Returns the real block that each block of a training set is, or continues.

        Returns:
            int32 [N]: the number of the block among those of generation 0, in the order of the
            corpus; for a generated block, that of its prompt; `NO_BLOCK` without one.
        """
        return self._of(chain, generation)[:, 1]

    def lineages_of_current(self, generation: int) -> np.ndarray:
        """Returns the lineage of a pool that wrote each block of the current chain.

        Returns:
            int32 [N]: its number; `REAL` for real blocks.
        """
        return self._of(self.chain, generation)[:, 2]

    def _of(self, chain, generation):
        """The labels [N, 3] of a training set: origin, block and lineage."""
        if self._at[0] != chain or self._at[1] > generation:
            self._state, self._at = None, (chain, -1)
        chain_key = jax.random.fold_in(self._key, chain)
        for number in range(self._at[1] + 1, generation + 1):
            key = jax.random.fold_in(chain_key, number)
            if self._state is None:
                self._state, info = self._process.init(key, self._last)
            else:
                self._state, info = self._process.step(key, self._state)
            self._at, self._newest = (chain, number), info.data
        return points.filled(self._newest).astype(np.int32)

    def of_current(self, generation: int) -> np.ndarray:
        """`of` for the current chain."""
        return self.of(self.chain, generation)

    def blocks_of_current(self, generation: int) -> np.ndarray:
        """`blocks_of` for the current chain."""
        return self.blocks_of(self.chain, generation)

    @property
    def mixed(self) -> bool:
        """Whether a training set may contain more than the text of the newest model."""
        return self._models_write and not self._newest_alone


def words(origin: int) -> str:
    """An origin as samples/ names it."""
    return "real" if origin == REAL else f"generation {origin}"


def _labels(models_write, prompts, of_pool) -> Estimator:
    """A model that writes labels: its number or `REAL`, its prompt's number, and its lineage's.

    prompts: number of prompts, or None.
    of_pool: as for `Origins`; without it there is only lineage 0.
    """

    def init(key, data):
        return jnp.asarray(REAL, jnp.int32)

    def fit(key, number, data):
        return number + 1, FitInfo.exact()

    def sample(key, number, n):
        if of_pool is not None:
            begun, lineages = of_pool(key, int(number), n).T
            return _written(number, begun if prompts else np.full(n, NO_BLOCK), lineages)
        begun = np.full(n, NO_BLOCK) if prompts is None else prompt_numbers(key, n, prompts)
        return _written(number, begun)

    def continued(key, number, x):
        return _written(number, np.full(len(x), NO_BLOCK) if prompts is None else x[:, 1])

    def _written(number, begun, lineages=0):
        writer = jnp.full(len(begun), number if models_write else REAL, jnp.int32)
        lineage = jnp.full(len(begun), lineages if models_write else REAL, jnp.int32)
        return jnp.stack([writer, jnp.asarray(begun, jnp.int32), lineage], axis=1)

    return estimator(fit, sample, name="labels", init=init, continued=continued, traceable=False)
