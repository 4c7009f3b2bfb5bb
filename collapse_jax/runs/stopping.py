"""Ctrl-C, and a cluster's SIGTERM, as requests: what is under way is finished and saved first."""

import signal
import threading
from collections.abc import Callable
from typing import Self

from collapse_jax.runs import distributed


class Stopped(KeyboardInterrupt):
    """Raised where a run stops because a signal asked it to; `signal` is the signal's number."""

    def __init__(self, signal: int):
        super().__init__()
        self.signal = signal


class Stop:
    """Within `with Stop(say) as stop`, the first signal is noted, and a second one interrupts.

    The work calls `stop.here()` wherever everything up to that point is saved. Signals reach the
    main thread alone; in other threads nothing changes. In a job of several processes all call it
    at the same points, and all stop once one of them got a signal.
    """

    def __init__(self, say: Callable[[str], object] = print):
        """Notes nothing yet.

        Args:
            say: Called with one line at the first signal.
        """
        self._say, self._signal, self._handlers = say, None, {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {
                number: signal.signal(number, self._note)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def requested(self) -> bool:
        """Whether any process of the job got a signal."""
        return self._number() > 0

    def here(self) -> None:
        """Raises `Stopped` if any process of the job got a signal."""
        number = self._number()
        if number:
            raise Stopped(number)

    def _number(self):
        return distributed.largest(self._signal or 0)

    def _note(self, number, frame):
        if self._signal is not None:
            raise Stopped(number)
        self._signal = number
        self._say(
            "stopping once what is under way is saved (again: at once; nothing saved is lost)"
        )
