"""Runs a script whose options are the arguments of a function, as in experiments/."""

from collections.abc import Callable

import tyro

from collapse_jax.app.terminal import terminal


def run_script(main: Callable[..., object], description: str | None) -> None:
    """Calls a function with arguments from the command line; `terminal` handles errors.

    Args:
        main: A function whose annotated arguments are the options, or a dataclass whose fields are.
        description: The text of --help, usually the script's docstring.
    """
    with terminal():
        tyro.cli(main, description=description, config=(tyro.conf.OmitArgPrefixes,))
