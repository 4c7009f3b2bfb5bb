"""What the variables and coordinates of a data set are called, and what its numbers came from.

Attributes that any reader of netCDF shows: `long_name` and `units` of each variable, and of the
data set the process, its key, versions and the commit.
"""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from collapse_jax.core.types import Process
from collapse_jax.metrics.labels import Label, label_of
from collapse_jax.runs.environment import git_commit
from collapse_jax.runs.environment import numbers as made_with

if TYPE_CHECKING:
    import xarray

    from collapse_jax.drivers.plan import Plan

# Coordinates, and the settings that are axes of a grid.
_COORDINATES: Mapping[str, tuple[str, str]] = {
    "chain": ("number of the chain", "1"),
    "generation": ("generation; 0 is the model fitted to real data", "generations"),
    "quantile": ("level of the quantile over chains", "1"),
    "is_done": ("whether the point is simulated", "1"),
    "coupling": ("number of the coupling", "1"),
    "sample_size": ("points of each training set", "points"),
    "alpha": ("share of the newest model's points in each training set", "share"),
    "beta": ("share of the previous training set", "share"),
    "gamma": ("share of fresh real points in each training set", "share"),
    "real_share": ("share of fresh real points in each new batch", "share"),
    "synthetic_ratio": ("synthetic points for each real one", "1"),
    "synthetic_weight": ("weight of a synthetic point against a real one", "1"),
    "temperature": ("temperature at which models are sampled", "1"),
    "exchange": ("share of its points that a model reads of others", "share"),
    "dim": ("dimensions", "1"),
    "ddof": ("degrees of freedom taken off by the covariance", "1"),
    "num_categories": ("number of categories", "categories"),
}
_STATISTICS = {
    "_mean": "mean over chains",
    "_std": "standard deviation over chains (ddof=1)",
    "_quantile": "quantiles over chains",
}


class Provenance(NamedTuple):
    """What records came from, as far as it is known; it is pickled with them.

    attributes: name -> text or number, as a file holds them.
    labels: metric -> its label.
    """

    attributes: Mapping[str, Any] = {}
    labels: Mapping[str, Label] = {}


def provenance_of(
    process: Process, key: jax.Array, plan: "Plan", versions: dict | None = None
) -> Provenance:
    """What the records of a process are made of.

    Args:
        process, key, plan: of the simulation.
        versions: of `runs.environment.numbers`, where they were noted before.
    """
    versions = made_with() if versions is None else versions
    attributes = {
        "process": repr(process),
        "key": key_in_words(key),
        "chains": plan.chains,
        "generations": plan.generations,
        "metrics": json.dumps(names_of(plan.metrics)),
        "made_with": json.dumps(versions),
        "git_commit": git_commit() or "not known",
    }
    return Provenance(attributes, labels_of(process, plan.metrics))


def provenance_from(origin: Any, otherwise: Provenance) -> Provenance:
    """Returns the provenance of records that can be continued; of others what they were given.

    Args:
        origin: an `Origin`, or None.
        otherwise: what a pickled copy has, for example.
    """
    if origin is None:
        return otherwise
    process, key, plan, versions, *_ = origin
    return provenance_of(process, key, plan, versions)


def labels_of(process: Process, metrics: Any) -> dict[str, Label]:
    """Metric -> its label, of metrics as `cj.simulate` takes them."""
    found = {}
    for one in _listed(metrics):
        name = one if isinstance(one, str) else getattr(one, "__name__", "")
        found[name] = label_of(name, process.metrics.get(name) if isinstance(one, str) else one)
    return found


def label_in_run(
    process: Process, measured: Mapping[str, Any], observe: Any
) -> Callable[[str], Label]:
    """(name) -> the label of what `run` records.

    Args:
        process: of the run.
        measured: name -> metric, of those that the call asks for.
        observe: of the call, or None; ours observes metrics of ours.
    """

    def found(name: str) -> Label:
        known = measured.get(name, process.metrics.get(name))
        return label_of(name, observe if known is None else known)

    return found


def key_in_words(key: jax.Array) -> str:
    """A key as JSON: the name of its generator, and its numbers."""
    return json.dumps([str(jax.random.key_impl(key)), jax.random.key_data(key).tolist()])


def names_of(metrics: Any) -> list[str]:
    """The names of metrics as `cj.simulate` takes them."""
    return [
        one if isinstance(one, str) else getattr(one, "__name__", "") for one in _listed(metrics)
    ]


def _listed(metrics):
    return [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics)


def with_labels(
    results: "xarray.Dataset",
    labels: Mapping[str, Label] | None = None,
    *,
    of_statistics: bool = False,
) -> "xarray.Dataset":
    """The same results, whose variables and coordinates carry `long_name` and `units`.

    Args:
        results: metrics by name.
        labels: metric -> its label; of others the name tells.
        of_statistics: whether they are NAME_mean, NAME_std and NAME_quantile of metrics.
    """
    labels = labels or {}
    results = results.copy()  # with attributes of its own
    for name, values in results.data_vars.items():
        _mark(values, _label_of_variable(str(name), labels, of_statistics))
    for name, values in results.coords.items():
        if name in _COORDINATES:
            _mark(values, Label(*_COORDINATES[str(name)]))
        elif "long_name" not in values.attrs:
            values.attrs["long_name"] = str(name)
    return results


def _label_of_variable(name, labels, of_statistics):
    for ending, words in _STATISTICS.items() if of_statistics else ():
        if name.endswith(ending):
            inner = name.removesuffix(ending)
            label = labels[inner] if inner in labels else label_of(inner)
            return Label(f"{label.long_name}: {words}", label.units)
    return labels[name] if name in labels else label_of(name)


def _mark(values, label):
    values.attrs["long_name"], values.attrs["units"] = label
