"""The command line's exit codes, console, and treatment of warnings from libraries."""

import contextlib
import functools
import inspect
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from collapse_jax.app.compilation import default_folder
from collapse_jax.errors import DivergenceError, FloatRangeWarning, InputError, first_line, visible

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Ends the process with one line and an exit code for every error that a user may see.

    Exit code 2: bad input, found before any work. Exit code 1: a fit that diverged, a full disk or
    memory, or the end of another process of the job. Exit codes 130 and 143: interrupted. Messages
    of libraries are silenced, and compiled programs are kept between calls.
    """
    _quiet()
    try:
        yield
    except InputError as error:
        _stop(f"error: {error}", 2)
    except DivergenceError as error:
        _stop(f"stopped: {error}; what was saved is kept", 1)
    except OSError as error:
        _stop(
            f"stopped: {error}; what was saved is kept, and the same command resumes the run once "
            "this is fixed",
            1,
        )
    except MemoryError as error:
        _stop(
            f"stopped: not enough memory ({error or 'allocation failed'}); what was saved is kept, "
            "and smaller batches may fit",
            1,
        )
    except KeyboardInterrupt as error:
        _stop(
            "interrupted: what was saved is kept; the same command resumes the run",
            128 + getattr(error, "signal", 2),
        )
    except Exception as error:
        from collapse_jax.runs import distributed

        if distributed.processes() == 1:
            raise
        _leave_the_job(error)


def _leave_the_job(error):
    """Ends this process of a job after another one ended, or after its own error."""
    from collapse_jax.runs import distributed

    if not distributed.lost_another(error):
        traceback.print_exc()
        distributed.leave(1)
    _stop(
        f"stopped: another process of this job ended ({first_line(error, 200)}); what was saved is "
        "kept, and the same command resumes the run, with any number of processes",
        1,
    )


def _stop(message, code):
    from collapse_jax.runs import distributed

    print(visible(" ".join(message.splitlines())), file=sys.stderr)
    distributed.leave(code)


def new_console(quiet: bool = False) -> "Console":
    """Returns a console for plain text of any length; a quiet one prints nothing.

    Text is printed as `visible` shows it, each string as one line, since names may come from files
    and third-party packages.
    """
    from collapse_jax.app.console import PlainConsole

    return PlainConsole(soft_wrap=True, markup=False, emoji=False, quiet=quiet)


def _quiet():
    """Silences libraries and caches compiled programs, unless the environment says otherwise."""
    # Orbax logs the stack of what it also raises.
    for name in ("absl", "asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"(orbax|jax|transformers)\b")
    warnings.showwarning = functools.partial(_showwarning, warnings.showwarning)
    sys.excepthook, sys.unraisablehook = _excepthook, _unraisablehook
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(default_folder()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def _showwarning(otherwise, message, category, *place, **options):
    """One line, without the place in the code, of what is said of the numbers of a run."""
    if issubclass(category, FloatRangeWarning):
        print(visible(f"warning: {message}"), file=sys.stderr)
    else:
        otherwise(message, category, *place, **options)


def _excepthook(kind, value, trace):
    if not _was_raised_before(kind, value):
        sys.__excepthook__(kind, value, trace)


def _unraisablehook(unraisable):
    """Ignores coroutines: Orbax raises the first error of many reads and drops the others."""
    is_coroutine = inspect.iscoroutine(unraisable.object)
    if not is_coroutine and not _was_raised_before(unraisable.exc_type, unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def _was_raised_before(kind, value):
    """Whether a thread of tensorstore reports an error, already raised, to a closed event loop."""
    return kind is RuntimeError and str(value) == "Event loop is closed"
