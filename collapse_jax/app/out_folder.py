"""The folder that a command writes its answer to, which may hold an earlier answer alone."""

from collections.abc import Collection

from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder


def refuse_taken(folder: RunFolder, files: Collection[str], what: str) -> None:
    """Raises `InputError` for a folder with anything but the files of an earlier call.

    Args:
        folder: what the option `out` names; it need not be there.
        files: names of what the command writes.
        what: the answer, as "warning".
    """
    try:
        others = {path.name for path in folder.path.iterdir()} - set(files)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"out is '{folder.path}', which is no folder ({error.strerror})") from None
    if others:
        raise InputError(
            f"out is '{folder.path}', which holds {max(others)}; give a new folder, or that of an "
            f"earlier {what}"
        )
