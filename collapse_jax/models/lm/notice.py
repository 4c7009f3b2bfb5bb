"""Lines for the user about what was read: passed to a callback, else logged."""

import logging
from collections.abc import Callable
from typing import Any

Say = Callable[[str], Any]

_LOG = logging.getLogger(__name__)


def tell(say: Say | None, line: str, *, matters: bool) -> None:
    """Passes a line on.

    Args:
        say: Called with the line. None logs it: without a logging configuration, Python prints
            warnings on stderr and drops other lines.
        line: One line of text.
        matters: Whether the line is important, so that it is logged as a warning.
    """
    if say is None:
        _LOG.log(logging.WARNING if matters else logging.INFO, line)
    else:
        say(line)


def listed(names: list[str], most: int = 8) -> str:
    """Names with commas; if there are many, the first ones and the number of the others."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
