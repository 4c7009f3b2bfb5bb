"""What a user should know of what was read: told to whoever asks, else logged."""

import logging
from collections.abc import Callable
from typing import Any

Say = Callable[[str], Any]

_LOG = logging.getLogger(__name__)


def tell(say: Say | None, line: str, *, matters: bool) -> None:
    """Passes a line on.

    Args:
        say: Called with the line. None logs it: Python prints warnings of a log that nobody has
            set up on stderr, and drops the rest.
        line: One line of text.
        matters: Whether a user who asked for nothing must know, so that it is a warning.
    """
    if say is None:
        _LOG.log(logging.WARNING if matters else logging.INFO, line)
    else:
        say(line)


def listed(names: list[str], most: int = 8) -> str:
    """Names with commas between them; only the first ones, and how many more, if there are many."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
