"""Makes named checks one after the other, and says how each ended."""

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from collapse_jax.errors import InputError, first_line, function, one_of
from collapse_jax.runs.watching import is_watched


def speaker(verbose: bool | Callable[[str], object] | None) -> Callable[[str], object] | None:
    """What is called with each line; None where nobody is to read it."""
    if callable(verbose):
        return function("verbose", verbose)
    one_of("verbose", verbose, (True, False, None), must_be="True, False or a function of a line")
    is_shown = is_watched() if verbose is None else verbose
    return functools.partial(print, flush=True) if is_shown else None


def check_names(names: tuple[str, ...], known: Iterable[str], argument: str = "skip") -> None:
    """Raises `InputError` for the name of a check that does not exist."""
    for name in names:
        if name not in known:
            raise InputError(f"{argument} has {name!r}; it must be made of {', '.join(known)}")


def passed_checks(
    what: str,
    checks: Mapping[str, Callable],
    subject: Any,
    say: Callable[[str], object] | None = None,
) -> tuple[str, ...]:
    """The names of all checks; raises `AssertionError` with one line for each that fails.

    Args:
        what: what is checked, for the error text.
        checks: name -> function of the subject.
        subject: what they are called with.
        say: called with a line for each check as it ends; None says nothing.
    """
    failed = []
    for name, check in checks.items():
        began, ending = time.perf_counter(), "passed"
        try:
            check(subject)
        except Exception as error:
            ending = f"{type(error).__name__}: {first_line(error)}"
            failed.append(f"{name}: {ending}")
        if say is not None:
            say(f"{name}: {ending} ({time.perf_counter() - began:.1f} s)")
    if failed:
        raise AssertionError(f"the {what} breaks its contract\n" + "\n".join(failed))
    return tuple(checks)
