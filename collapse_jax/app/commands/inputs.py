"""Hashes of the inputs of a command, which its run folder stores (`collapse_jax.runs.made_of`)."""

import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
import pathlib
import sys
import sysconfig
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.own_data.reading import entry
from collapse_jax.errors import InputError
from collapse_jax.estimators.registry import family
from collapse_jax.models.lm.tokenizer_settings import TOKENIZER_FILES
from collapse_jax.runs import made_of
from collapse_jax.runs.checksums import checksum
from collapse_jax.runs.contents import contents
from collapse_jax.runs.folder import RunFolder

_TEXTS = (".txt", ".raw", ".tokens", ".json", ".jsonl", ".parquet", ".xz", ".gz")
_OWN = "collapse_jax"


def files_of(
    name: str, source: str, suffixes: tuple[str, ...] = (), is_deep: bool = False
) -> dict[str, Any]:
    """{name: entry} of a file or folder; {} if the source is not a local path.

    Args:
        name: Name of the input ("corpus").
        source: A path, or a name on a hub.
        suffixes: For a folder, the suffixes of the files that count; by default all files.
        is_deep: Whether files in subfolders count too.

    Raises:
        InputError: If a file cannot be read.
    """
    path = made_of.expanded(source)
    if path.is_file():
        files, root = [path], path.parent
    elif path.is_dir():
        found = path.rglob("*") if is_deep else path.iterdir()
        files, root = [file for file in found if _counts(file, suffixes)], path
    else:
        return {}
    return {name: {"where": source, "files": made_of.of_files(files, root)}}


def corpus_files(source: str) -> dict[str, Any]:
    """The entry of a local corpus, from its files alone."""
    return files_of("corpus", source, _TEXTS, is_deep=True)


def tokenizer_files(source: str) -> dict[str, Any]:
    """The entry of a local tokenizer, from its files."""
    return files_of("tokenizer", source, TOKENIZER_FILES)


def corpus(source: str, splits: Mapping[str, str]) -> dict[str, Any]:
    """The entry of a corpus that was read.

    Args:
        source: Where from.
        splits: Name of each split -> `made_of.of_texts` of its rows.
    """
    files = corpus_files(source).get("corpus", {})
    return {"corpus": files | {"where": source, "contents": dict(splits)}}


def tokens(source: str, blocks: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The entry of the tokens that are trained on.

    Args:
        source: The corpus that the tokens come from.
        blocks: Split -> [N, length].
    """
    hashes = {
        split: hashlib.sha256(np.ascontiguousarray(part, "<i4").tobytes()).hexdigest()
        for split, part in blocks.items()
    }
    return {"tokens": {"where": source, "contents": hashes}}


def network(source: str, config: Any, params: Any) -> dict[str, Any]:
    """The entry of a loaded model: its weights, and its settings that are not the default.

    Args:
        source: Where from.
        config: A dataclass.
        params: Its parameters.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    own = {name: value for name, value in vars(config).items() if value != defaults[name]}
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    sums = [
        [jax.tree_util.keystr(path), list(leaf.shape), str(leaf.dtype), checksum(leaf)]
        for path, leaf in leaves
    ]
    parts = {
        "weights": hashlib.sha256(json.dumps(sums).encode()).hexdigest(),
        "settings": json.dumps(own, sort_keys=True, default=str),
    }
    return {
        "model": files_of("model", source).get("model", {}) | {"where": source, "contents": parts}
    }


def of_simulation(config: SimulateConfig) -> dict[str, Any]:
    """The entries of a simulation: code of a third-party family, and files that settings name.

    Raises:
        InputError: For an unknown family, and for files that cannot be read.
    """
    entries = entry(config) if config.data else {}
    for option in config.options:
        name, _, value = option.partition("=")
        entries |= files_of(f"file of option {name}", value.strip("'\""))
    if config.coupling_file():
        entries |= files_of("coupling", config.coupling_file())
    factory = inspect.unwrap(family(config.family).factory)
    module = getattr(factory, "__module__", None) or type(factory).__module__
    if module.partition(".")[0] == _OWN:
        return entries
    return entries | {f"code of family {config.family}": _code(module, factory)}


def unchanged(
    folder: RunFolder,
    finders: Mapping[str, Callable[[], dict[str, Any]]],
    say: Callable[[str], object],
) -> bool:
    """Whether the files of a finished run's inputs are unchanged.

    Args:
        folder: Of the run.
        finders: Name of an input -> a function that returns its entry.
        say: Called with a line about an input that can no longer be read.
    """
    for name, find in finders.items():
        try:
            given = find()
        except InputError as error:
            say(f"{name}: {error}; it was not compared with what the run in {folder.path} read")
            continue
        try:
            made_of.refuse_changed(folder.path, given)
        except InputError:
            return False
    return True


def refuse_moved(run: pathlib.Path, given: Mapping[str, str | None]) -> None:
    """Raises `InputError` for a path that a run read and that does not exist here.

    A relative path from another working folder may look like a name on a hub.

    Args:
        run: The run folder, which need not exist.
        given: Option -> path or name to read now; None for options that are not given.
    """
    saved = made_of.read(run) or {}
    for name, source in given.items():
        entry = saved.get(name)
        if source is None or not isinstance(entry, dict):
            continue
        was_here = entry.get("where") == source and "files" in entry
        if was_here and not made_of.expanded(source).exists():
            raise InputError(
                f"{name} is {source!r}, which the run in {run} read from a file or folder that "
                f"does not exist in {pathlib.Path.cwd()}; give its new path by --{name}"
            )


def _counts(file, suffixes):
    is_wanted = not suffixes or file.name.lower().endswith(suffixes)
    return is_wanted and not file.name.startswith(".") and file.is_file()


def _code(module, factory):
    """The entry of third-party code: the version of an installed package, else its source."""
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    installed = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    distributions = importlib.metadata.packages_distributions().get(top, [])
    parts = {f"version of {name}": importlib.metadata.version(name) for name in distributions}
    if parts and file and file.startswith(installed):
        return {"where": ", ".join(distributions), "contents": parts}
    if file is None:  # a session
        return {"where": module, "contents": parts | {"code": contents(factory).fixed}}
    package = getattr(sys.modules.get(top), "__file__", None) or file
    root = pathlib.Path(package).parent
    files = (
        root.rglob("*.py") if pathlib.Path(package).name == "__init__.py" else [pathlib.Path(file)]
    )
    return {"where": package, "contents": parts | made_of.of_files(files, root)}
