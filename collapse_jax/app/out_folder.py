"""The output folder of a command, which may contain only earlier output of that command."""

from collections.abc import Collection

from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder


def refuse_taken(folder: RunFolder, files: Collection[str], what: str) -> None:
    """Raises `InputError` for a folder that contains anything but files of an earlier call.

    Args:
        folder: the folder of the option `out`; it need not exist.
        files: names of the files that the command writes.
        what: name of the output, such as "warning".
    """
    try:
        others = {path.name for path in folder.path.iterdir()} - set(files)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(
            f"out is '{folder.path}', which is not a folder ({error.strerror})"
        ) from None
    if others:
        raise InputError(
            f"out is '{folder.path}', which contains {max(others)}; give a new folder, or the "
            f"folder of an earlier {what}"
        )
