"""Metrics of a fit itself, such as its loss, which the fitted model does not contain."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from collapse_jax.errors import InputError, defined_at, did_you_mean

_PARTS = ("converged", "iterations", "loss")


class WithFits(NamedTuple):
    """The state of a workflow, together with the metrics of the newest fit.

    carry: the state of the workflow.
    fits: name -> array.
    """

    carry: Any
    fits: dict[str, Any]


class OfFit:
    """A part of the `FitInfo` of a generation's fit as a metric; see `of_fit`.

    Two of the same part and name are equal, so that nothing is compiled twice.
    """

    def __init__(self, part: str | Callable, name: str):
        """part: as of `of_fit`; name: of the metric."""
        self.part, self.__name__ = part, name

    def __eq__(self, other):
        return isinstance(other, OfFit) and (self.part, self.__name__) == (
            *(other.part, other.__name__),
        )

    def __hash__(self):
        return hash((self.part, self.__name__))

    def __repr__(self):
        return f"metric {self.__name__!r} of the fit"

    def __call__(self, state):
        if not isinstance(state.carry, WithFits):
            raise InputError(
                f"metric {self.__name__!r} is a metric of the fit, which a saved model does not "
                "contain; cj.simulate, cj.simulate_summary, cj.simulate_grid and cj.run measure it "
                "while they fit"
            )
        return state.carry.fits[self.__name__]

    def measure(self, info: Any) -> Any:
        """Returns the value for a `FitInfo`; True is 1.

        Raises:
            InputError: if it has no such part, or the function does not return an array of numbers.
        """
        if isinstance(self.part, str):
            found = {name: getattr(info, name) for name in _PARTS} | dict(info.detail)
            if self.part not in found:
                raise InputError(
                    f"part of of_fit is {self.part!r}; the FitInfo of this family has "
                    f"{', '.join(found)}{did_you_mean(self.part, found)}"
                )
            value = found[self.part]
        else:
            value = self.part(info)
        try:
            value = jnp.asarray(value)
        except (TypeError, ValueError):
            raise InputError(
                f"metric {self.__name__!r} gave {type(value).__name__}; it must be a number, or "
                "an array of numbers"
            ) from None
        kind = float if value.dtype == bool else value.dtype
        return jnp.asarray(value, kind)  # never weakly typed, which would be another program


def of_fit(part: str | Callable[[Any], Any] = "loss", name: str = "") -> OfFit:
    """Returns a metric of the fit of each generation, taken from its `FitInfo`.

    `cj.simulate`, `cj.simulate_summary`, `cj.simulate_grid` and `cj.run` measure it while they fit.
    The model does not contain it, so it cannot be measured afterwards on a folder of `cj.run`.

    Args:
        part: "loss", "iterations" or "converged" (1 or 0); a name in `FitInfo.detail`; or a
            function of the `FitInfo`.
        name: name of the metric; by default that of the part, or of the function.

    Raises:
        InputError: for a part that is neither text nor a function with a name.
    """
    if not isinstance(part, str) and not callable(part):
        raise InputError(f"part is {part!r:.200}; it must be a name, or a function of the FitInfo")
    name = name or (part if isinstance(part, str) else getattr(part, "__name__", ""))
    if not isinstance(name, str) or not name or name == "<lambda>":
        raise InputError(f"name is {name!r}; a metric of {defined_at(part)} needs a name of text")
    return OfFit(part, name)
