"""The one exception that a user's mistake raises: its text is one line that names the field, the value and what would be right."""


class InputError(ValueError):
    """Bad input, found before any work was done. The command line prints its text alone and exits with code 2."""


class DivergenceError(ArithmeticError):
    """A fit whose loss stopped being a number: the text names the step; what was saved stays on disk."""
