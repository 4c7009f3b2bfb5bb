"""Ctrl-C, and the SIGTERM of a cluster, as a request: what is under way is finished and saved
first.
"""

import signal
import threading
from collections.abc import Callable

from collapse_jax.runs import distributed


class Stopped(KeyboardInterrupt):
    """Raised where a run stops because it was asked to. signal: the number of what asked."""

    def __init__(self, signal: int):
        super().__init__()
        self.signal = signal


class Stop:
    """Within `with Stop(say) as stop`, a first signal is only noted and said; a second one
    interrupts at once.

    The work calls `stop.here()` wherever everything up to that point is saved. Signals reach the
    main thread alone; elsewhere nothing is changed about them. In a job of several processes all
    call it at the same points, and all stop once one of them got a signal.
    """

    def __init__(self, say: Callable[[str], None] = print):
        self._say, self._signal, self._before = say, None, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._note)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def requested(self) -> bool:
        """Whether a signal came, to any process of the job."""
        return self._anywhere() > 0

    def here(self) -> None:
        """Raises `Stopped` if a signal came."""
        signal = self._anywhere()
        if signal:
            raise Stopped(signal)

    def _anywhere(self):
        return distributed.largest(self._signal or 0)

    def _note(self, number, frame):
        if self._signal is not None:
            raise Stopped(number)
        self._signal = number
        self._say(
            "stopping once what is under way is saved (again: at once; nothing saved is lost)"
        )
