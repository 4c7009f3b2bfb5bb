"""Functions of Arrow, which is imported when a file is read."""

from typing import Any


def compute() -> Any:
    """The module pyarrow.compute, whose functions are made when it is imported."""
    import pyarrow.compute

    return pyarrow.compute
