"""A checkpoint of a few small arrays: the files of Orbax without its care for large ones.

`ocp.Checkpointer` runs threads and event loops for each item of a checkpoint, and its default
format waits for the disk a dozen times. That is 30 ms of CPU and up to 80 ms in all, whatever is
saved. Here Orbax's handler for trees of arrays is called directly, in its format of one folder for
each array. Orbax reads both.
"""

import functools
import json
import os
import pathlib
import re
import shutil
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from etils import epath

TEMPORARY = ".orbax-checkpoint-tmp"
# Beyond these the other format takes less time.
_MOST_BYTES, _MOST_ARRAYS = 2**22, 24
# Names that are good names of folders on every file system ...
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
# ... and are not those of Orbax's own files.
_RESERVED = {"_metadata", "_sharding", "_checkpoint_metadata", "array_metadatas", "d"}
_RESERVED |= {"manifest.ocdbt", "commit_success.txt"}
_KINDS = "biufcV"  # V: bfloat16 and its like


def is_small(trees: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether `save` can take these, and is the faster way.

    Args:
        trees: Item -> name -> array.
    """
    for tree in trees.values():
        names = {name.lower() for name in tree}
        if len(names) < len(tree) or names & _RESERVED or not all(map(_PLAIN.fullmatch, tree)):
            return False
    leaves = [leaf for tree in trees.values() for leaf in tree.values()]
    return len(leaves) <= _MOST_ARRAYS and all(map(_is_array, leaves)) and _size(leaves)


def _is_array(leaf):
    is_kind = getattr(getattr(leaf, "dtype", None), "kind", "O") in _KINDS
    return is_kind and leaf.size > 0 and getattr(leaf, "is_fully_addressable", True)


def _size(leaves):
    return sum(leaf.nbytes for leaf in leaves) <= _MOST_BYTES


def save(
    final: pathlib.Path,
    trees: Mapping[str, Mapping[str, Any]],
    texts: Mapping[str, Mapping[str, Any]],
) -> None:
    """Writes a checkpoint under a temporary name beside it, and renames it.

    Args:
        final: Its folder, which is replaced where it exists. The path is one that Orbax can read.
        trees: Item -> name -> array.
        texts: Item -> an object of JSON values.

    Raises:
        OSError, ValueError: If the disk refuses it; tensorstore raises the latter.
    """
    temporary = final.with_name(final.name + TEMPORARY)
    shutil.rmtree(temporary, ignore_errors=True)
    began = time.time_ns()
    try:
        temporary.mkdir()
        handlers = {}
        for item, value in texts.items():
            (temporary / item).mkdir()
            (temporary / item / "metadata").write_text(json.dumps(value), encoding="utf-8")
            handlers[item] = _name(ocp.JsonCheckpointHandler)
        for item, tree in trees.items():
            (temporary / item).mkdir()
            _save_tree(temporary / item, tree)
            handlers[item] = _name(ocp.StandardCheckpointHandler)
        described = _description(handlers, began)
        (temporary / "_CHECKPOINT_METADATA").write_text(described, encoding="utf-8")
        replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _save_tree(folder, tree):
    # Of NumPy's arrays, whose way through Orbax is the shorter one.
    arrays = {name: np.asarray(leaf) for name, leaf in tree.items()}
    handler = _handler()
    handler.save(epath.Path(folder), args=ocp.args.PyTreeSave(arrays))
    handler.finalize(epath.Path(folder))


@functools.cache
def _handler():
    return ocp.PyTreeCheckpointHandler(use_ocdbt=False)


def _name(handler):
    return f"{handler.__module__}.{handler.__qualname__}"


def _description(handlers, began):
    """What Orbax itself writes about a checkpoint, as JSON."""
    described = {"item_handlers": handlers, "metrics": {}, "performance_metrics": {}}
    described |= {"init_timestamp_nsecs": began, "commit_timestamp_nsecs": time.time_ns()}
    return json.dumps(described | {"custom_metadata": {}})


def replace(new: pathlib.Path, final: pathlib.Path) -> None:
    """Renames a folder, in the place of another where there is one."""
    old = final.with_name(f"{final.name}-old{TEMPORARY}")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    os.rename(new, final)
    shutil.rmtree(old, ignore_errors=True)


def delete(final: pathlib.Path) -> None:
    """Deletes a checkpoint; one that is killed meanwhile leaves a whole one, or none."""
    replaced = final.with_name(f"{final.name}-old{TEMPORARY}")
    shutil.rmtree(replaced, ignore_errors=True)
    final.rename(replaced)
    shutil.rmtree(replaced, ignore_errors=True)
