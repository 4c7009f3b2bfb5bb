"""Whether somebody watches what is printed: a terminal, a notebook, or only a log file."""

import sys
from typing import TextIO


def is_watched(stream: TextIO | None = None) -> bool:
    """Whether a stream, by default standard output, is a terminal or a notebook's cell."""
    stream = sys.stdout if stream is None else stream
    return in_notebook() or bool(getattr(stream, "isatty", lambda: False)())


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    # Asked of what is loaded: a kernel has imported IPython, and others do not pay for it.
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
