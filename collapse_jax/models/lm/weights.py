"""Weights in and out of the Hugging Face layout, of every family."""

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors.numpy

from collapse_jax.errors import InputError, one_of
from collapse_jax.models.lm.assemble import as_stored, assembled
from collapse_jax.models.lm.families import model_from_json, model_to_json
from collapse_jax.models.lm.hub import PINNED_REVISIONS, find_model
from collapse_jax.models.lm.notice import listed
from collapse_jax.models.lm.opt import OPT
from collapse_jax.models.lm.transformer import Transformer
from collapse_jax.models.lm.weight_files import (
    WEIGHT_FILES,
    loose_shards,
    one_line,
    read_weights,
    same_numbers,
    weight_files,
)
from collapse_jax.runs.atomic import atomic

__all__ = ["PINNED_REVISIONS", "load", "load_opt", "save", "save_opt"]

_SAVED_DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def load(source: str | os.PathLike, revision: str | None = None) -> tuple[Transformer, dict]:
    """Reads a model and its parameters.

    Reads model.safetensors, else its shards, else pytorch_model.bin, else its shards (torch is not
    needed), else flax_model.msgpack: these are the files that transformers would load, and Flax's
    file.

    Args:
        source: A local folder in the Hugging Face layout; a GGUF file; else a hub name such as
            `facebook/opt-125m`.
        revision: Of the hub name; by default the pinned one.

    Returns:
        The model, an `OPT` or another `Transformer`; and a plain dict of float32 arrays, rounded or
        widened from whatever floating type they are stored in.

    Raises:
        InputError: If the folder, configuration or a file cannot be read; if its family or one of
            its settings is not supported; if tensors are missing, unexpected or misshapen (the
            message lists all of them); or if two weight files, or a head and the embedding that it
            is tied to, contain different numbers.
    """
    return _loaded(source, revision)


def _loaded(source, revision, only=None):
    """`load`; of one class of models if `only` is given."""
    is_path = only is None and isinstance(source, str | os.PathLike)
    if is_path and os.fspath(source).endswith(".gguf"):
        if os.path.isfile(source):
            from collapse_jax.models.lm.gguf_file import load_gguf

            return load_gguf(source)
    folder = find_model(source, revision, lambda text: _refuse_other(model_from_json(text), only))
    model = _read_model(folder)
    _refuse_other(model, only, f"{folder}: ")
    files = weight_files(folder)
    adapters = [name for name in _ADAPTER_FILES if (folder / name).exists()]
    if adapters:
        raise InputError(
            f"{folder}: contains {adapters[0]}, an adapter that changes the weights and is not "
            "read here; merge it into the weights and save the result to another folder"
        )
    if not files:
        raise InputError(
            f"{folder}: no weight file; looked for {', '.join(sorted(WEIGHT_FILES))}"
            + ("; there are shards without their index" if loose_shards(folder) else "")
        )
    flat = assembled(model, read_weights(folder / files[0]), folder / files[0])
    for other in files[1:]:
        _refuse_another_set(model, flat, folder, files[0], other)
    # Copied, so that no array of ours is a view of the file's buffer.
    return model, flax.traverse_util.unflatten_dict(
        {path: jnp.array(np.ascontiguousarray(x, np.float32)) for path, x in flat.items()}
    )


def read_model(folder: str | os.PathLike) -> Transformer:
    """Returns the model that a folder's config.json describes; weights are not needed.

    Raises:
        InputError: If the configuration cannot be read, or its model is not supported.
    """
    return _read_model(Path(os.fsdecode(folder)))


def load_opt(source: str | os.PathLike, revision: str | None = None) -> tuple[OPT, dict]:
    """`load` for an OPT.

    Raises:
        InputError: As `load`, and if the model is of another family.
    """
    loaded: Any = _loaded(source, revision, OPT)
    return loaded


def _refuse_other(model, only, where=""):
    """Raises `InputError` for a model of another class than that one, if one is given."""
    if only is not None and not isinstance(model, only):
        raise InputError(
            f"{where}model_type is {model.switches.family!r}, not that of an {only.__name__}; use "
            "cj.lm.load"
        )


def _refuse_another_set(model, flat, folder, file, other):
    """Refuses a second weight file, unless it holds the same numbers."""
    try:
        again = assembled(model, read_weights(folder / other), folder / other)
        names = ["/".join(path) for path in flat if not same_numbers(flat[path], again[path])]
        why = f"{listed(names, most=2)} differ" if names else ""
    except InputError as error:
        why = str(error)
    if why:
        raise InputError(
            f"{folder}: contains two different sets of weights, {file} and {other} ({why}); keep "
            "only the right one"
        )


def _read_model(folder):
    """The model of a folder's config.json, which ends texts as its generation_config.json says."""
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{folder}: no config.json in this folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / 'config.json'}: cannot be read ({one_line(error)})") from None
    try:
        model = model_from_json(text)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None
    except TypeError as error:
        raise InputError(
            f"{folder}: config.json has a value of the wrong type ({one_line(error)})"
        ) from None
    return _with_ends(folder, model)


def _with_ends(folder, model):
    """The model with the ends of text by which transformers decodes."""
    try:
        text = (folder / "generation_config.json").read_text(encoding="utf-8")
        values = json.loads(text)
    except FileNotFoundError:
        return model
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{folder / 'generation_config.json'}: cannot be read ({one_line(error)})"
        ) from None
    end = values.get("eos_token_id") if isinstance(values, dict) else None
    ends = tuple(end) if isinstance(end, list) else (end,)
    if end is None or ends == model.switches.ends:
        return model
    if isinstance(model, OPT) or not ends or any(type(one) is not int for one in ends):
        raise InputError(
            f"{folder}: eos_token_id is {end!r:.80} in generation_config.json and "
            f"{model.config.eos_token_id} in config.json; make them one id"
        )
    config = dataclasses.replace(model.config, eos_token_id=ends[0], more_ends=ends[1:])
    return Transformer(config, model.dtype)


def save(
    folder: str | os.PathLike, model: Transformer, params: dict, dtype: str = "float32"
) -> None:
    """Writes model.safetensors, config.json and generation_config.json, as transformers opens them.

    A crash leaves no half file; the weights come last.

    Args:
        folder: Made if needed.
        params: A dict of arrays with the shapes of `model.init`.
        dtype: "float32", or "bfloat16" in half the bytes (each number rounded to the nearest, ties
            to even); `load` widens it again.

    Raises:
        InputError: If the params do not fit the model, the folder cannot be written, or it holds
            other weights.
    """
    one_of("dtype", dtype, _SAVED_DTYPES)
    tensors = {
        name: tensor.astype(_SAVED_DTYPES[dtype])
        for name, tensor in as_stored(model, params).items()
    }
    folder = Path(os.fsdecode(folder))
    others = [
        name
        for name in (*WEIGHT_FILES, *_ADAPTER_FILES)
        if name != "model.safetensors" and (folder / name).exists()
    ]
    if others:
        raise InputError(
            f"{folder}: already contains {others[0]}, which differs from the weights to save in "
            "model.safetensors; save to another folder"
        )
    config, tokens = model.switches, {}
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        tokens[name] = getattr(config, name)
    if config.more_ends:
        tokens["eos_token_id"] = list(config.ends)
    texts = {
        "config.json": model_to_json(model, dtype),
        "generation_config.json": json.dumps({"_from_model_config": True} | tokens, indent=2)
        + "\n",
    }
    try:
        with contextlib.ExitStack() as files:
            # In reverse order they get their names: the weights last.
            weights, *others = (
                files.enter_context(atomic(folder / name, sync=True))
                for name in ("model.safetensors", *reversed(texts))
            )
            for file, text in zip(others, reversed(texts.values()), strict=True):
                file.write_text(text, encoding="utf-8")
            safetensors.numpy.save_file(tensors, weights, metadata={"format": "pt"})
            shutil.copymode(others[0], weights)  # safetensors lets only the owner read it
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or one_line(error)})"
        ) from None


def save_opt(folder: str | os.PathLike, model: OPT, params: dict, dtype: str = "float32") -> None:
    """`save` of an OPT."""
    save(folder, model, params, dtype)
