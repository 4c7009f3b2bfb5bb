"""The exceptions with one line for the user: it names the field or the place, the value, and what would be right."""


class InputError(ValueError):
    """Bad input, found before any work was done. The command line prints its text alone and exits with code 2."""


class DivergenceError(ArithmeticError):
    """A fit whose loss or parameters stopped being numbers: the text names the step; what was saved stays on disk."""


class DamagedError(Exception):
    """A file that is not what was saved: the text names it. What was computed from it is made again."""
