"""Reads the models that a language-model run has saved; the run is not changed."""

import dataclasses
import os
import re
from typing import Any, NamedTuple

import flax.traverse_util
import jax.numpy as jnp

from collapse_jax.app.commands.lm_model import model_of_run
from collapse_jax.app.config.lm import LMConfig
from collapse_jax.errors import DamagedError, InputError, whole
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.runs import made_of
from collapse_jax.runs.checkpoint import read_only
from collapse_jax.runs.folder import RunFolder

PRETRAINED = "pretrained"
# Where the parameters of the network are in the state of a generation.
_PREFIX = "params.model."
_REMEDY = "give the new paths by --model and --tokenizer"


class Generation(NamedTuple):
    """A model of a run, with everything that is needed to use it.

    model: the network.
    params: the parameters of the network.
    tokenizer: that of the run.
    """

    model: Transformer
    params: dict
    tokenizer: TextTokenizer


class SavedModels:
    """The models of a run of `collapse-jax lm`, which may still be running.

    folder: the run folder.
    config: its settings, resolved, with the current paths of model and tokenizer.
    model: the network.
    tokenizer: that of the run.
    """

    def __init__(
        self,
        run: str | os.PathLike,
        *,
        model: str | None = None,
        tokenizer: str | None = None,
    ):
        """Reads the run's settings, its model and its tokenizer.

        Args:
            run: The run folder.
            model: Where the model lies now that the run began from; by default where it lay.
            tokenizer: The same of the tokenizer.

        Raises:
            InputError: If the folder contains no run of `lm`, if something cannot be read, or if
                model or tokenizer are not the inputs of the run.
        """
        if not isinstance(run, str | os.PathLike):
            raise InputError(f"run is {run!r:.200}; it must be the path of a run folder")
        self.folder = RunFolder(run)
        config = self.folder.config()
        if not isinstance(config, LMConfig):
            raise InputError(
                f"{self.folder.path} contains a run of {config.command}; it must be a run of lm"
            )
        moved = {"model": model, "tokenizer": tokenizer}
        moved = {name: value for name, value in moved.items() if value is not None}
        self.config: Any = dataclasses.replace(config.resolved(), **moved)
        try:
            self.model, self._pretrained, self.tokenizer, entries = model_of_run(self.config)
        except InputError as error:
            raise InputError(
                f"the model of the run in {self.folder.path}: {error}; {_REMEDY}"
            ) from None
        self._model_entry = {"model": entries.pop("model")}
        made_of.refuse_changed(self.folder.path, entries, _REMEDY)
        # Random weights are rounded otherwise on another processor; only their sizes count then.
        if not self.config.model.startswith("random:") and self.config.start != "random":
            made_of.refuse_changed(self.folder.path, self._model_entry, _REMEDY)
        self._names = {".".join(path): path for path in self._flat()}

    def seeds(self) -> list[int]:
        """Returns the numbers of the seeds that have a saved model, ascending."""
        numbers = (
            re.fullmatch(r"chain_(0|[1-9]\d{0,8})", path.name)
            for path in self.folder.checkpoints.glob("chain_*")
        )
        seeds = sorted(int(match[1]) for match in numbers if match)
        return [seed for seed in seeds if self.generations(seed)]

    def generations(self, seed: int) -> list[int]:
        """Returns the generations of a seed whose parameters are on disk, ascending."""
        if not self._folder_of(seed).is_dir():
            return []
        with self._checkpoints(seed) as checkpoints:
            return [one for one in checkpoints.generations() if checkpoints.has_state(one)]

    def params(self, generation: int | str, seed: int = 0) -> dict:
        """Returns the parameters of a generation, or those before any fit.

        Args:
            generation: Its number, or "pretrained".
            seed: Number of the run's seed, from 0.

        Raises:
            InputError: If they are not on disk, are damaged, or belong to another model.
        """
        if generation == PRETRAINED:
            made_of.refuse_changed(self.folder.path, self._model_entry, _REMEDY)
            return self._pretrained
        self.refuse_missing(generation, seed)
        with self._checkpoints(seed) as checkpoints:
            try:
                leaves = checkpoints.restore_leaves(int(generation))
            except DamagedError as error:
                raise InputError(
                    f"{error}; repeat the command of the run to compute it again"
                ) from None
        found = {
            name.removeprefix(_PREFIX): value
            for name, value in leaves.items()
            if name.startswith(_PREFIX)
        }
        flat = self._flat()
        shapes = {name: flat[path].shape for name, path in self._names.items()}
        if shapes != {name: value.shape for name, value in found.items()}:
            raise InputError(
                f"generation {generation} of seed {seed} in {self.folder.path} belongs to a "
                f"network with other parameters than {self.config.model}"
            )
        return flax.traverse_util.unflatten_dict(
            {self._names[name]: jnp.asarray(value) for name, value in found.items()}
        )

    def refuse_missing(self, generation: int | str, seed: int) -> None:
        """Raises `InputError` for parameters that are not on disk; it lists those that are."""
        whole("generation", generation, 0, must_be=f"a whole number from 0, or {PRETRAINED!r}")
        there = self.generations(whole("seed", seed, 0))
        if generation in there:
            return
        where = f"{self.folder.path} has no parameters of "
        if not there:
            seeds = self.seeds()
            kept = f"seeds {_listed(seeds)} have" if seeds else "no seed has any"
            raise InputError(f"{where}seed {seed}; {kept}")
        hint = ""
        if self.config.checkpoints == "ends":
            hint = " (it keeps only generation 0 and the newest: --checkpoints ends)"
        raise InputError(
            f"{where}generation {generation} of seed {seed}; it has those of generations "
            f"{_listed(there)}{hint}"
        )

    def _flat(self) -> dict[tuple[str, ...], Any]:
        return dict(flax.traverse_util.flatten_dict(self._pretrained))

    def _folder_of(self, seed):
        return self.folder.checkpoints / f"chain_{seed}"

    def _checkpoints(self, seed):
        return read_only(self._folder_of(seed))


def load_generation(
    run: str | os.PathLike,
    generation: int | str,
    seed: int = 0,
    *,
    model: str | None = None,
    tokenizer: str | None = None,
) -> Generation:
    """Returns the model of one generation of a run of `collapse-jax lm`, ready for use.

    The run folder is not changed, and the run may still be in progress.

    Args:
        run: The run folder.
        generation: Its number, or "pretrained" for the model before any fit.
        seed: Number of the run's seed, from 0.
        model: Where the model lies now that the run began from; by default where it lay.
        tokenizer: The same of the tokenizer.

    Returns:
        (model, params, tokenizer), as `cj.lm.generate`, `cj.lm.perplexity` and `cj.lm.save` take
        them.

    Raises:
        InputError: If the folder contains no run of `lm`, the generation is not on disk, or model
            or tokenizer are not the inputs of the run.
    """
    saved = SavedModels(run, model=model, tokenizer=tokenizer)
    return Generation(saved.model, saved.params(generation, seed), saved.tokenizer)


def _listed(numbers: list[int]) -> str:
    """ "0, 1, 2", or "0 to 9" for many consecutive numbers."""
    if len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
