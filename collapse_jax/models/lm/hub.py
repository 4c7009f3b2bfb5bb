"""Finds the folder of a model: a local folder, the hub's cache, or the hub."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from collapse_jax.errors import InputError
from collapse_jax.models.lm.families import model_from_json
from collapse_jax.models.lm.tokenizer_settings import TOKENIZER_FILES
from collapse_jax.models.lm.weight_files import WEIGHT_FILES, one_line, weight_files

# Hub names without a revision are pinned to a commit, so that no result changes with the hub's main
# branch.
PINNED_REVISIONS = {"facebook/opt-125m": "27dcfa74d334bc871f3234de431e71c6eeba5dd6"}
# Names without an owner, from before the hub asked for one.
_MOVED = {
    name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
} | {"distilgpt2": "distilbert/distilgpt2"}

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def find_model(
    source: str | os.PathLike,
    revision: str | None = None,
    check: Callable[[str], object] = model_from_json,
) -> Path:
    """The local folder of a model: `source` itself, or the hub's cache after a fetch.

    Fetched are the configuration, then, if it is of a model that is built, the tokenizer and the
    weights in one layout.

    Args:
        source: A folder or a hub name.
        revision: Of the hub name.
        check: Called with the text of config.json before the weights are fetched; an `InputError`
            or `TypeError` of its refuses the model.

    Raises:
        InputError: If `source` is neither a folder nor a hub name, the hub does not give it, or it
            is of a model that is not built.
    """
    if not isinstance(source, str | bytes | os.PathLike):
        raise InputError(f"the model is {source!r:.200}; it must be a folder or a hub name")
    name = os.fsdecode(source)
    if name and os.path.isdir(name):
        if revision is not None:
            raise InputError(
                f"revision {revision!r} was given, but {name!r} is a local folder, which "
                "has no revisions"
            )
        return Path(name)
    if name and os.path.exists(name):
        raise InputError(
            f"{name!r} is a file; give the folder that contains config.json and the weights"
        )
    name = _MOVED.get(name, name)
    is_odd = ".." in name or "--" in name or name.endswith((".git", ".", "-"))
    if is_odd or not _HUB_NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is neither a local folder nor a hub name (owner/name, made of letters, "
            "digits, '-', '_' and '.')"
        )
    return _fetch(name, PINNED_REVISIONS.get(name) if revision is None else revision, check)


def _fetch(name, revision, check):
    try:
        from huggingface_hub import list_repo_files, snapshot_download
    except ImportError:
        raise InputError(
            f"{name!r} is not a local folder, and reading it from the hub needs the package "
            "huggingface_hub"
        ) from None
    try:
        cached = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except Exception:  # not in the cache: each release of the hub's package has a class for that
        cached = None
    if cached is not None and not _is_complete(cached):
        cached = None
    if cached is not None and revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        return cached  # a commit never changes, so the hub need not be asked
    try:
        files = list_repo_files(name, revision=revision)
        layout = _layout(name, files)
        # A few kB, which say whether the weights are worth fetching.
        first = snapshot_download(name, revision=revision, allow_patterns=["config.json"])
        _refuse_unbuilt(name, Path(first) / "config.json", check)
        patterns = ["config.json", "generation_config.json", *TOKENIZER_FILES, layout]
        if layout.endswith(".index.json"):
            patterns.append(layout.removesuffix(".index.json").replace(".", "-*."))
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except InputError:
        raise
    except Exception as error:  # offline, no such name or revision, private: many classes
        if cached is not None:
            return cached
        at = f" at revision {revision!r}" if revision else ""
        raise InputError(
            f"{name!r} is not a local folder, and the hub did not provide it{at} "
            f"({one_line(error)})"
        ) from None


def _layout(name, files):
    """One file of weights or index, because a repository may hold the same weights three times."""
    layout = next((file for file in WEIGHT_FILES if file in files), None)
    packed = next((file for file in files if file.endswith(".gguf")), None)
    if layout is None and packed is not None:
        raise InputError(
            f"{name!r} on the hub contains only GGUF files, such as {packed}; download one, and "
            "give its path"
        )
    if layout is None:
        raise InputError(
            f"{name!r} on the hub contains no weight file; looked for "
            f"{', '.join(sorted(WEIGHT_FILES))}"
        )
    if "config.json" not in files:
        raise InputError(f"{name!r} on the hub contains no config.json")
    return layout


def _refuse_unbuilt(name, path, check):
    """Raises `InputError` for the config.json of a model that is not built."""
    try:
        check(path.read_text(encoding="utf-8"))
    except (InputError, TypeError) as error:
        raise InputError(f"{name!r} on the hub: {error}; no weights were downloaded") from None


def _is_complete(folder):
    """Whether a cached snapshot has a config, a tokenizer and weights in one file.

    An interrupted fetch may have left a part.
    """
    file = next(iter(weight_files(folder)), None)
    has_tokenizer = (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    )
    return (
        has_tokenizer
        and (folder / "config.json").is_file()
        and file is not None
        and not file.endswith(".index.json")
    )
