"""The options, label, metrics and closed forms of a simulation's family.

They are provided by the families (`core.types.Family`); no family is named here.
"""

import ast
import dataclasses
import inspect
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.app.config.simulate import FIELDS_OF_FAMILIES, SimulateConfig
from collapse_jax.app.config.verifier import PREFIX
from collapse_jax.core.closed_forms import ClosedForms, Setting, nothing_known
from collapse_jax.core.functions import is_ours, wrong
from collapse_jax.core.types import Estimator, Family
from collapse_jax.errors import InputError, defined_at, first_line
from collapse_jax.estimators.registry import family


def expected_means(config: SimulateConfig, generation: ArrayLike) -> dict[str, np.ndarray]:
    """Returns metric -> exact mean over chains [generations], for metrics with a closed form."""
    return _asked(config, "means", np.shape(generation), generation)


def expected_quantiles(
    config: SimulateConfig, generation: ArrayLike, probabilities: Sequence[float]
) -> dict[str, np.ndarray]:
    """Returns metric -> exact quantiles [probabilities, generations], if they are known."""
    shape = (*np.shape(probabilities), *np.shape(generation))
    return _asked(config, "quantiles", shape, generation, probabilities)


def chains_for_means(
    config: SimulateConfig, generation: ArrayLike, relative_error: float = 0.05
) -> dict[str, np.ndarray]:
    """Returns metric -> number of chains [generations] for this relative standard error.

    The number is infinite if a float cannot represent it. Metrics without a formula are left out.
    """
    return _asked(config, "chains_for_means", np.shape(generation), generation, relative_error)


def check_laws(config: SimulateConfig) -> None:
    """Evaluates the closed forms of a third-party family at two generations, before any work.

    Raises:
        InputError: if one fails, or returns anything but what `ClosedForms` describes.
    """
    laws, generations = _laws(config), np.array([0, config.generations])
    if not all(map(is_ours, laws)):
        expected_means(config, generations)
        expected_quantiles(config, generations, [0.25, 0.5, 0.75])
        chains_for_means(config, generations)


def default_metrics(name: str) -> tuple[str, ...]:
    """Returns the metrics that a family records by default; () if it names none."""
    return _known(name).metrics


def label(config: SimulateConfig) -> str:
    """Returns the name of the family with its options, for figures."""
    text, options = _known(config.family).label or config.family, all_options(config)
    fields = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
    if not fields <= options.keys():
        text, fields = config.family, set()
    rest = [option for option in config.options if option.partition("=")[0] not in fields]
    return " ".join([text.format(**options), *rest])


def given_options(config: SimulateConfig) -> dict[str, Any]:
    """Returns the arguments of the family's factory in the settings, without those of a grid."""
    fields = [name for name, owner in FIELDS_OF_FAMILIES.items() if owner == config.family]
    own = (option for option in config.options if not option.startswith(PREFIX))
    pairs = (option.partition("=") for option in own)
    return {name: getattr(config, name) for name in fields} | {
        name: _value(text) for name, _, text in pairs
    }


def all_options(config: SimulateConfig) -> dict[str, Any]:
    """Returns the arguments of the family's factory, including defaults."""
    parameters = inspect.signature(_known(config.family).factory).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return defaults | given_options(config)


def _value(text):
    """A Python literal, or the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _known(name):
    """The family, or an empty one: old folders may name families that are not installed."""
    try:
        return family(name)
    except InputError:
        return Family(_unknown)


def _unknown() -> Estimator:
    raise NotImplementedError("this family is not installed")


def _laws(config):
    if config.data or config.resolved().synthetic_weight != 1:
        return ClosedForms(nothing_known)
    return _known(config.family).laws or ClosedForms(nothing_known)


def _asked(config, form, shape, *arguments):
    """Evaluates a closed form: metric -> array of this shape."""
    given, settings = getattr(_laws(config), form), config.resolved()
    if settings.temperature != 1 or settings.workflow == "keep_real" or settings.switch:
        return {}
    if settings.verifier:
        return {}
    if settings.has_ecosystem():
        return _of_ecosystem(settings, *arguments) if form == "means" else {}
    if settings.real_share != 0 and not is_ours(given):
        return {}  # others may know accumulate without it alone
    if is_ours(given):
        return dict(given(_setting(config), *arguments))
    name = f"{form} of the closed forms of {config.family!r}"
    try:
        found = given(_setting(config), *arguments)
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error, 200)}"
        raise InputError(f"{name}, {defined_at(given)}, fails ({why})") from error
    if not isinstance(found, Mapping):
        raise wrong(name, given, found, "a dict of arrays by the metrics' names")
    for metric, values in found.items():
        array = np.asarray(values)
        if array.dtype.kind not in "bfiu" or array.shape != shape:
            raise wrong(f"{name} for {metric!r}", given, array, f"numbers {list(shape)}")
    return dict(found)


def _setting(config):
    config = config.resolved()
    workflow = {"workflow": config.workflow}
    if config.workflow == "mix":
        workflow |= {"alpha": config.alpha, "beta": config.beta, "gamma": config.gamma}
    if config.real_share != 0:
        workflow |= {"real_share": config.real_share}
    return Setting(all_options(config), config.sample_size, workflow)


def _of_ecosystem(settings, generation):
    """Exact means of models that read each other, for families that lose diversity like copying.

    The closed form of such a family shows this: under replace it loses 1 / M per generation.
    """
    from collapse_jax.app.couplings import exact_means  # SciPy and more, for few

    alone = dataclasses.replace(settings, ecosystem=0, coupling="", exchange=None)
    alone = dataclasses.replace(alone, workflow="replace", alpha=1.0, beta=0.0, gamma=0.0)
    mixes = settings.workflow == "mix" and settings.beta == 0
    if not (mixes or settings.workflow == "replace") or settings.sample_size < 2:
        return {}
    kept = 1 - 1 / settings.sample_size
    means = expected_means(alone, np.array([0, 1]))
    real = {
        name: float(means[name][0]) / kept
        for name in ("variance", "heterozygosity")
        if name in means and np.isclose(means[name][1], kept * means[name][0], rtol=1e-9)
    }
    return exact_means(settings, real, generation) if real else {}
