"""What an interrupted simulation had done."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collapse_jax.drivers.simulate_summary import Summary
    from collapse_jax.drivers.trace import Trace


class Interrupted(KeyboardInterrupt):
    """A KeyboardInterrupt that holds what was recorded before it.

    Records are those of whole chunks: a smaller `chunk` of the driver loses less. Interactively,
    `sys.last_value` is the exception after it was raised.

    trace: of `cj.simulate`, the generations that are done; else None.
    summary: of `cj.simulate_summary`, the same; else None.
    """

    def __init__(
        self,
        generations: np.ndarray,
        *,
        trace: "Trace | None" = None,
        summary: "Summary | None" = None,
    ):
        """generations: [recorded] the numbers of those that are done."""
        self.trace, self.summary = trace, summary
        where = "trace" if summary is None else "summary"
        done = f"up to generation {generations[-1]}" if len(generations) else "of no generation"
        super().__init__(f"interrupted; the exception's `{where}` holds what is recorded {done}")
