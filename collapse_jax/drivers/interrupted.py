"""What a simulation had done that was interrupted, or ended because a model became nan."""

from typing import TYPE_CHECKING

import numpy as np

from collapse_jax.errors import DivergenceError

if TYPE_CHECKING:
    import xarray

    from collapse_jax.drivers.simulate_summary import Summary
    from collapse_jax.drivers.trace import Trace


def diverged(
    error: DivergenceError,
    generations: np.ndarray,
    *,
    trace: "Trace | None" = None,
    summary: "Summary | None" = None,
    dataset: "xarray.Dataset | None" = None,
) -> DivergenceError:
    """The same error with what was recorded, which its text tells of.

    Args:
        error: what ended the simulation.
        generations: [recorded] the numbers of those that are done.
        trace: of `cj.simulate`.
        summary: of `cj.simulate_summary`.
        dataset: of `cj.simulate_grid`.
    """
    result = DivergenceError(f"{error}; {_holds(generations, summary, dataset)}")
    result.trace, result.summary, result.dataset = trace, summary, dataset
    return result


def _holds(generations, summary, dataset):
    if dataset is not None:
        return "the exception's `dataset` holds the points that are done, and nan at all others"
    where = "trace" if summary is None else "summary"
    done = f"up to generation {generations[-1]}" if len(generations) else "of no generation"
    return f"the exception's `{where}` holds what is recorded {done}"


class Interrupted(KeyboardInterrupt):
    """A KeyboardInterrupt that holds what was recorded before it.

    Records are those of whole chunks: a smaller `chunk` of the driver loses less. Interactively,
    `sys.last_value` is the exception after it was raised.

    trace: of `cj.simulate`, the generations that are done; else None.
    summary: of `cj.simulate_summary`, the same; else None.
    dataset: of `cj.simulate_grid`, the points that are done, with nan at all others; else None.
    """

    def __init__(
        self,
        generations: np.ndarray,
        *,
        trace: "Trace | None" = None,
        summary: "Summary | None" = None,
        dataset: "xarray.Dataset | None" = None,
    ):
        """generations: [recorded] the numbers of those that are done."""
        self.trace, self.summary, self.dataset = trace, summary, dataset
        super().__init__(f"interrupted; {_holds(generations, summary, dataset)}")
