"""The records of a simulation that was interrupted, or that ended because a model became nan."""

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
    """Returns the error with the records attached, and with a message that mentions them.

    Args:
        error: the error that ended the simulation.
        generations: [recorded], the numbers of the generations that are done.
        trace: the records of `cj.simulate`.
        summary: the records of `cj.simulate_summary`.
        dataset: the records of `cj.simulate_grid`.
    """
    result = DivergenceError(f"{error}; {_holds(generations, summary, dataset)}")
    result.trace, result.summary, result.dataset = trace, summary, dataset
    return result


def _holds(generations, summary, dataset):
    if dataset is not None:
        return "the exception's `dataset` has the points that are done, and nan at all others"
    where = "trace" if summary is None else "summary"
    if not len(generations):
        return f"the exception's `{where}` has no records, because no generation is done"
    return f"the exception's `{where}` has the records up to generation {generations[-1]}"


class Interrupted(KeyboardInterrupt):
    """A KeyboardInterrupt with the records that were made before it.

    The records are those of whole chunks: with a smaller `chunk` of the driver, less is lost. In an
    interactive session, `sys.last_value` is the exception after it was raised.

    trace: of `cj.simulate`, the generations that are done; else None.
    summary: of `cj.simulate_summary`, the generations that are done; else None.
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
        """generations: [recorded], the numbers of the generations that are done."""
        self.trace, self.summary, self.dataset = trace, summary, dataset
        super().__init__(f"interrupted; {_holds(generations, summary, dataset)}")
