"""made_of.json: hashes of all inputs of a run, which are compared with those of the next call.

An entry is {"where": its name or path, "contents": {part: hash}, "files": {file: hash}}. Contents
are compared if both sides have them, else files; files name what changed. Paths are not compared. A
process of `cj.run` is described by `drivers.made_of`, in an entry of the same file.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from collapse_jax.errors import InputError, first_line
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.results import damaged

FILE = "made_of.json"
_MOST_NAMED = 3
_MOST_BYTES = 2**26


def read(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the hashes of inputs in a run folder; None if there are none.

    Raises:
        InputError: If the file contains anything else.
    """
    path = folder / FILE
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise damaged(path, f"it has {path.stat().st_size:,} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, first_line(error, 200)) from None
    if not isinstance(values, dict):
        raise damaged(path, "it is not an object")
    return values


def write(folder: pathlib.Path, values: Mapping[str, Any]) -> None:
    """Writes or replaces the file."""
    with atomic(folder / FILE) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def refuse_changed(
    folder: pathlib.Path, given: Mapping[str, Any], remedy: str = "choose another --out"
) -> None:
    """Raises `InputError` if an input has changed since the run started.

    Args:
        folder: The run folder.
        given: Entries of the present inputs.
        remedy: The alternative to restoring the input, for the error message.
    """
    saved = read(folder) or {}
    for name in [name for name in given if name in saved]:
        try:
            changed = _changed(saved[name], given[name])
        except (TypeError, AttributeError, KeyError):
            raise damaged(folder / FILE, f"its {name} is not an entry") from None
        if changed:
            raise InputError(
                f"the {name} at {given[name]['where']} changed since the run in {folder} began: "
                f"{changed}; restore it, or {remedy}"
            )


def unknown(folder: pathlib.Path, given: Mapping[str, Any]) -> list[str]:
    """Returns the names of inputs whose hashes a folder of an older version lacks."""
    saved = read(folder) or {}
    return [name for name in given if name not in saved]


def expanded(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path with `~` replaced by the home folder, if there is one; else unchanged."""
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        return pathlib.Path(path)


def of_files(paths: Iterable[pathlib.Path], root: pathlib.Path) -> dict[str, str]:
    """Returns file, relative to `root` -> hash of its bytes.

    Raises:
        InputError: If one cannot be read.
    """
    hashes = {}
    for path in sorted(paths):
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror})") from None
        hashes[os.path.relpath(path, root)] = digest
    return hashes


def of_texts(rows: Iterable[str]) -> str:
    """Returns the hash of texts in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()


def _changed(saved, given):
    """A description of the differences in an entry; "" if there are none."""
    kind = "contents" if "contents" in saved and "contents" in given else "files"
    parts = _differing(saved.get(kind, {}), given.get(kind, {}))
    if not parts or kind not in saved or kind not in given:
        return ""
    files = _differing(saved.get("files", {}), given.get("files", {}))
    if files and "files" in saved and "files" in given:
        several = "file" if len(files) == 1 else "files"
        count = len(given["files"].keys() | saved["files"].keys())
        return f"{several} {_named(files)}, {len(files)} of {count}"
    count = len(given[kind].keys() | saved[kind].keys())
    return f"{_named(parts)}, {len(parts)} of {count}"


def _differing(saved, given):
    names = sorted(saved.keys() | given.keys())
    return [name for name in names if saved.get(name) != given.get(name)]


def _named(names):
    rest = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + rest
