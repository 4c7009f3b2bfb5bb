"""Blocks of tokens on disk: found again by what they were made from, and memory-mapped."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from collapse_jax.runs.atomic import atomic

_ABOUT = "blocks.json"


def write_blocks(
    folder: pathlib.Path, blocks: Mapping[str, np.ndarray], made_from: dict[str, Any]
) -> None:
    """Writes FOLDER/NAME.npy for `read_blocks`.

    blocks.json is written last, so that `read_blocks` ignores what a killed call leaves.

    Args:
        folder: Made if needed.
        blocks: Name -> int32 [N, length].
        made_from: What the blocks depend on, as JSON values.
    """
    hashes = {}
    for name, part in blocks.items():
        with atomic(folder / f"{name}.npy") as temporary:
            with open(temporary, "wb") as file:
                np.save(file, np.asarray(part, np.int32))
            hashes[name] = _sha256(temporary)
    with atomic(folder / _ABOUT) as temporary:
        about = {"made_from": made_from, "sha256": hashes}
        temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def read_blocks(folder: pathlib.Path, made_from: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """Name -> int32 [N, length], memory-mapped.

    None if there are none that were made from that and are whole: they can be made again.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if about["made_from"] != made_from:
            return None
        blocks = {}
        for name, digest in about["sha256"].items():
            path = folder / f"{name}.npy"
            if _sha256(path) != digest:
                return None
            blocks[name] = np.load(path, mmap_mode="r")
        return blocks
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
