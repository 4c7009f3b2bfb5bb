"""Folders whose names mean something to a library: it is given another path to the same place."""

import contextlib
import hashlib
import os
import pathlib
import re
import tempfile
import weakref

from collapse_jax.runs import distributed

# What no library takes for a pattern, an address or an escape.
_PLAIN = re.compile(r"[\w/.+=@, -]*")


def plain_path(folder: pathlib.Path, owner: object) -> pathlib.Path:
    """A path to a folder that holds letters, digits and harmless signs alone.

    It is the folder's own where that is such a path, else a symbolic link among the temporary
    files: Orbax looks for its files by patterns, in which `[`, `*`, `?` and a backslash of the
    user's folder would be signs of the pattern.

    Args:
        folder: An absolute path.
        owner: The link is removed with this object. In a job of several processes, which must all
            name one path, it stays.

    Raises:
        OSError: If no link can be made.
    """
    if _PLAIN.fullmatch(os.fspath(folder)):
        return folder
    temporary = next(filter(_PLAIN.fullmatch, (tempfile.gettempdir(), "/tmp")))
    if distributed.processes() == 1:
        place = pathlib.Path(tempfile.mkdtemp(prefix="collapse-jax-", dir=temporary))
        link = place / "folder"
        link.symlink_to(folder, target_is_directory=True)
        weakref.finalize(owner, _remove, link, place)
        return link
    name = hashlib.sha256(os.fspath(folder).encode(errors="surrogateescape")).hexdigest()[:16]
    link = pathlib.Path(temporary) / f"collapse-jax-{os.getuid()}-{name}"
    with contextlib.suppress(FileExistsError):
        link.symlink_to(folder, target_is_directory=True)
    if not os.path.samefile(link, folder):
        raise FileExistsError(f"{link} is in the way; delete it")
    return link


def _remove(link, place):
    with contextlib.suppress(OSError):
        link.unlink()
        place.rmdir()
