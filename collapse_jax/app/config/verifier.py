"""Settings of `collapse-jax simulate` for a verifier that is fitted again in later generations."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from collapse_jax.errors import InputError, did_you_mean
from collapse_jax.runs.settings import Settings

# What names a verifier's option in `grid`.
PREFIX = "verifier."


def _yes_or_no(text):
    if text not in ("True", "False"):
        raise ValueError
    return text == "True"


# Verifier of `cj.verifiers` -> its options here, and how each is read.
_REFITTED: Mapping[str, Callable] = {"refresh": float, "every": int, "cap": int}
VERIFIERS: Mapping[str, Mapping[str, Callable]] = {
    "centred": {"width": float, "centre": float, "scaled": _yes_or_no, **_REFITTED},
    "logistic": {
        **{"degree": int, "threshold": float, "penalty": float, "against": str, "examples": int},
        **_REFITTED,
    },
}
_WORDS = {float: "a number", int: "a whole number", _yes_or_no: "True or False", str: "a word"}


@dataclasses.dataclass(frozen=True)
class VerifierSettings(Settings):
    """A verifier that filters synthetic points and is itself refitted (docs/verifiers.md)."""

    is_last_in_help: ClassVar[bool] = True

    verifier: str = ""
    """A verifier of synthetic points: NAME:OPTION=VALUE,..., for example
    centred:width=1,refresh=0.1. Names are centred and logistic; their options are those of
    cj.verifiers. The features of logistic are the powers of the points up to the option degree, 1
    by default. A numeric option becomes an axis of a grid by --grid verifier.NAME=VALUE,..."""

    def verifier_name(self) -> str:
        """Returns the name alone; "" without a verifier."""
        return self.verifier.partition(":")[0]

    def verifier_options(self) -> dict[str, Any]:
        """Returns the options given, including those of a point of a grid.

        Raises:
            InputError: for unknown names and invalid values.
        """
        name, _, rest = self.verifier.partition(":")
        own = getattr(self, "options", ())
        pairs = [text.partition("=") for text in rest.split(",") if text]
        pairs += [text[len(PREFIX) :].partition("=") for text in own if text.startswith(PREFIX)]
        known, found = VERIFIERS.get(name, {}), {}
        for option, _, text in pairs:
            if option not in known:
                raise InputError(
                    f"verifier is {self.verifier!r}; {name} has no option {option!r}; its options "
                    f"are {', '.join(known)}{did_you_mean(option, known)}"
                )
            if option in found:
                raise InputError(f"verifier has {option} more than once; give it once")
            try:
                found[option] = known[option](text)
            except ValueError:
                raise InputError(
                    f"verifier has {option}={text}; {option} must be {_WORDS[known[option]]}"
                ) from None
        return found

    def check_verifier(self) -> None:
        """Raises `InputError` for an invalid verifier."""
        axes = [entry for entry in getattr(self, "grid", ()) if entry.startswith(PREFIX)]
        if not self.verifier:
            if axes:
                raise InputError(
                    f"grid has {axes[0]!r} without a verifier; give --verifier centred:width=1"
                )
            return
        name = self.verifier_name()
        if name not in VERIFIERS:
            raise InputError(
                f"verifier is {self.verifier!r}; it must be NAME or NAME:OPTION=VALUE,... with a "
                f"name of {', '.join(VERIFIERS)}{did_you_mean(name, VERIFIERS)}"
            )
        given = self.verifier_options()
        for entry in axes:
            option = entry[len(PREFIX) :].partition("=")[0]
            numbers = [one for one, read in VERIFIERS[name].items() if read in (int, float)]
            if option not in numbers:
                raise InputError(
                    f"grid has {entry!r}; {name} has no numeric option {option!r}; its numeric "
                    f"options are {', '.join(numbers)}{did_you_mean(option, numbers)}"
                )
            if option in given:
                raise InputError(
                    f"{PREFIX}{option} is given by both verifier and grid; give it once"
                )
            given |= {option: None}
        if name == "centred" and "width" not in given:
            raise InputError(
                f"verifier is {self.verifier!r}; centred needs a width, such as centred:width=1"
            )

    def verifier_in_words(self) -> str:
        """Returns the verifier with all its options, sorted by name; "" without a verifier."""
        if not self.verifier:
            return ""
        options = sorted(self.verifier_options().items())
        return ":".join([self.verifier_name(), ",".join(f"{name}={v!r}" for name, v in options)])
