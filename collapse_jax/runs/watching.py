"""Whether somebody watches what is printed: a terminal, a notebook, or only a log file."""

import sys


def is_watched() -> bool:
    """Whether standard output is a terminal or a notebook's cell."""
    return in_notebook() or bool(getattr(sys.stdout, "isatty", lambda: False)())


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    # Asked of what is loaded: a kernel has imported IPython, and others do not pay for it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if hasattr(ipython, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")
