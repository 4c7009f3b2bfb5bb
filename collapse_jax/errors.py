"""The exceptions with one line for the user: it names the field or the place, the value, and what would be right."""


class InputError(ValueError):
    """Bad input, found before any work was done. The command line prints its text alone and exits with code 2."""

    def __init__(self, text: str):
        # Values and other libraries' messages may hold line breaks, and a line of many thousand characters is none to read.
        line = " ".join(str(text).splitlines())
        super().__init__(line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}")


_LONGEST = 2000


class DivergenceError(ArithmeticError):
    """A fit whose loss or parameters stopped being numbers: the text names the step; what was saved stays on disk."""


class DamagedError(Exception):
    """A file that is not what was saved: the text names it. What was computed from it is made again."""
