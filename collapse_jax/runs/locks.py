"""Locks of a run folder: one process works on all of it, or several on different chains."""

import contextlib
import errno
import pathlib
from collections.abc import Iterator, Sequence

import filelock

from collapse_jax.errors import InputError
from collapse_jax.runs.atomic import LEFT_OVER

LOCK = ".lock"
# How long a part waits for others that are starting.
_PATIENCE_SECONDS = 10.0


@contextlib.contextmanager
def locked(
    folder: pathlib.Path, part: tuple[int | str, ...]
) -> Iterator[Sequence[filelock.BaseFileLock]]:
    """Yields the locks of a folder, or of some of its chains; they last as long as their list.

    Nobody else starts in the folder while the context lasts. Files that a killed process left half
    written are removed from a folder that is locked as a whole.

    Args:
        folder: The run folder.
        part: Numbers of chains, or the name of another part; () locks the whole folder.

    Raises:
        InputError: If another process works there.
    """
    in_use = f"{folder} is in use by another process; wait until it ends, or choose another --out"
    if not part:
        locks = [_acquired(folder / LOCK, in_use)]
        for path in sorted(folder.glob(f"{LOCK}_*")):
            _acquired(path, in_use).release()
            path.unlink(missing_ok=True)
        for left in (*folder.glob(LEFT_OVER), *folder.glob(f"*/{LEFT_OVER}")):
            left.unlink(missing_ok=True)
        yield locks
        return
    starting = _acquired(folder / LOCK, in_use, _PATIENCE_SECONDS)
    try:
        yield [_acquired(folder / f"{LOCK}_{one}", f"{_words(one)} of {in_use}") for one in part]
    finally:
        starting.release()


def _words(one):
    return f"chain {one}" if isinstance(one, int) else one.replace("_", " ")


def _acquired(path, in_use, seconds=0.0):
    """A lock that is released with its last owner; `InputError` if another process has it."""
    lock = filelock.FileLock(path, is_singleton=True)
    try:
        with contextlib.suppress(NotImplementedError):  # a Python without locks
            lock.acquire(timeout=seconds)
    except filelock.Timeout:
        raise InputError(in_use) from None
    except OSError as error:
        # Some network file systems have no locks; there the user is trusted to start one process.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return lock
