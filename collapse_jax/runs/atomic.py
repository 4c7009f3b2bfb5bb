"""One way to write a file: under a temporary name beside it, renamed at the end."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

# What a killed process may leave: `.NAME.PID.partial`.
LEFT_OVER = ".*.partial"


@contextlib.contextmanager
def atomic(path: str | os.PathLike, sync: bool = False) -> Iterator[pathlib.Path]:
    """Yields a temporary path that becomes `path` at the end; after an error it is removed.

    A reader sees the old file or the new one. The temporary name starts with `.NAME.`, matches
    `LEFT_OVER`, and holds the number of the process, since several may write into one folder.

    Args:
        path: The file to write or replace; its folder is made.
        sync: Whether the bytes must be on the disk before the file has its name.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        if sync:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
