"""Scripts whose options are the arguments of a function; those of experiments/ run by it."""

from collections.abc import Callable

import tyro

from collapse_jax.app.terminal import terminal


def run_script(main: Callable[..., object], description: str | None) -> None:
    """Calls a function with arguments from the command line; errors end as `terminal` says.

    Args:
        main: Its annotated arguments are the options; of a dataclass, the fields are.
        description: The text of --help, as a rule the script's docstring.
    """
    with terminal():
        tyro.cli(main, description=description, config=(tyro.conf.OmitArgPrefixes,))
