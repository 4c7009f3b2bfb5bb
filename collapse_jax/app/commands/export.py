"""`collapse-jax export`: the model of one generation as a Hugging Face folder with tokenizer."""

import os
import pathlib
import shutil
from typing import TYPE_CHECKING, Any

from collapse_jax.app.generations import PRETRAINED, SavedModels
from collapse_jax.errors import InputError, size_words
from collapse_jax.models.lm.tokenizer_out import write_tokenizer
from collapse_jax.models.lm.weights import save
from collapse_jax.runs import made_of, strict_json
from collapse_jax.runs.environment import environment
from collapse_jax.runs.settings import as_dict

if TYPE_CHECKING:
    from rich.console import Console

# What the folder says of where it came from.
_ORIGIN = "collapse_jax.json"


def export_command(
    console: "Console",
    run: str,
    to: str,
    generation: str = "last",
    seed: int = 0,
    dtype: str = "float32",
    model: str | None = None,
    tokenizer: str | None = None,
) -> None:
    """Writes one model of a run, with its tokenizer, into a new folder.

    Args:
        console: Where a line about what was written is printed.
        run: The run folder.
        to: The new folder, or an empty one.
        generation: Its number, "pretrained", or "last": the newest that is on disk.
        seed: Number of the run's seed, from 0.
        dtype: Type of the weights.
        model: New path of the model that the run started from, if it has been moved.
        tokenizer: New path of the tokenizer, if it has been moved.

    Raises:
        InputError: If `to` is not empty or cannot be written, or as raised by `SavedModels`.
    """
    folder = made_of.expanded(to).absolute()
    _refuse_taken(folder)
    saved = SavedModels(run, model=model, tokenizer=tokenizer)
    number = _number(saved, generation, seed)
    params = saved.params(number, seed)
    _write(folder, saved, params, dtype, {"generation": number, "seed": seed})
    size = sum(file.stat().st_size for file in folder.iterdir())
    of = "the pretrained model" if number == PRETRAINED else f"generation {number} of seed {seed}"
    console.print(
        f"{of} of {saved.folder.path}: {to} ({saved.model.label}, {dtype}, {size_words(size)}), "
        "which AutoModelForCausalLM, AutoTokenizer and lm --model can load",
        highlight=False,
    )


def _number(saved, generation, seed):
    if generation == PRETRAINED:
        return generation
    if generation == "last":
        there = saved.generations(seed)
        return there[-1] if there else 0  # `params` says what is missing
    if not generation.isdecimal():
        raise InputError(
            f"generation is {generation!r}; it must be a number, 'last' or {PRETRAINED!r}"
        )
    return int(generation)


def _refuse_taken(folder: pathlib.Path) -> None:
    """Raises `InputError` for a folder that is not empty, or a path that is not a folder."""
    try:
        there = os.listdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"to is '{folder}', which is not a folder ({error.strerror})") from None
    if there:
        raise InputError(
            f"to is '{folder}', which contains {max(there)}; give a new folder or an empty one"
        )


def _write(folder: pathlib.Path, saved: SavedModels, params: dict, dtype: str, what: Any) -> None:
    """Writes the folder; it has its final name only when it is complete."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    origin = what | {"settings": as_dict(saved.config), "packages": environment()["packages"]}
    try:
        partial.mkdir(parents=True)
        try:
            save(partial, saved.model, params, dtype)
            write_tokenizer(partial, saved.tokenizer.name, saved.tokenizer)
            text = strict_json.dumps(origin, indent=2) + "\n"
            (partial / _ORIGIN).write_text(text, encoding="utf-8")
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise InputError(f"to is '{folder}', which cannot be written ({error.strerror})") from None
