"""What a run recorded, read from any form that it comes in: a trace, a summary, a data set, a
folder."""

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np

from collapse_jax.drivers.simulate_summary import Summary
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import InputError, first_line, whole
from collapse_jax.runs import strict_json
from collapse_jax.runs.folder import RunFolder

if TYPE_CHECKING:
    import xarray

# What holds the records of a run.
Records = Union[
    Trace, Summary, "xarray.Dataset", RunFolder, str, os.PathLike, Mapping[str, np.ndarray]
]
_FORMS = (
    "a run folder or its path, a Trace, a Summary, an xarray.Dataset, or a dict of arrays "
    "[chain, generation]"
)
# Commands whose folders hold generations.
_COMMANDS = ("simulate", "lm")
_STATISTICS = ("mean", "std", "quantile")
_BEFORE = "pretrained_"
_OF_VAES = ("latent_deviation", "latent_deviation_to_first")
# Rows without results.nc: what names a row, and what costs it took.
_NO_METRICS = re.compile(r"chain|generation|seconds|.*_peak_mib")


class Statistics(NamedTuple):
    """A metric of which no chain was kept.

    mean: [generation, ...] over chains.
    std: the same with ddof=1.
    quantile: [generation, ..., level].
    """

    mean: np.ndarray
    std: np.ndarray
    quantile: np.ndarray


class Recorded(NamedTuple):
    """The records of one run, whatever they were read from.

    name: the folder's path, or the kind of object.
    kind: "chains", "vae" or "language model".
    generations: int [generation] the numbers of those that were recorded, ascending.
    metrics: name -> floats [chain, generation, ...]; nan where a chain, or seed, has no such
        record.
    statistics: name -> `Statistics`, of runs that kept no chains.
    levels: [level] of the quantiles in `statistics`.
    chains: how many, 0 where that is not known.
    settings: of the folder's config.json; {} for objects, and for folders of `cj.run`.
    before: name -> float64 [chain], what a language model measured before any fit, under the name
        that it has in `metrics`.
    axes: name -> values of each axis of a grid; arrays then have these axes before all others, and
        `points` takes them apart. {} for one run.
    """

    name: str
    kind: str
    generations: np.ndarray
    metrics: Mapping[str, np.ndarray]
    statistics: Mapping[str, Statistics] = {}
    levels: tuple[float, ...] = ()
    chains: int = 0
    settings: Mapping[str, Any] = {}
    before: Mapping[str, np.ndarray] = {}
    axes: Mapping[str, tuple] = {}

    def scalars(self) -> dict[str, np.ndarray]:
        """Name -> [chain, generation] of the metrics that are one number a generation."""
        ndim = 2 + len(self.axes)
        return {name: values for name, values in self.metrics.items() if values.ndim == ndim}

    def points(self) -> Iterator[tuple[dict[str, Any], "Recorded"]]:
        """Each point of a grid: its place by axis, and its records; of one run, itself."""
        if not self.axes:
            yield {}, self
            return
        for place in itertools.product(*(range(len(values)) for values in self.axes.values())):
            names = {
                name: values[at]
                for (name, values), at in zip(self.axes.items(), place, strict=True)
            }
            shown = ", ".join(f"{name} {value}" for name, value in names.items())
            yield (
                names,
                self._replace(
                    name=f"{self.name} ({shown})",
                    metrics={name: values[place] for name, values in self.metrics.items()},
                    statistics={
                        name: Statistics(*(part[place] for part in parts))
                        for name, parts in self.statistics.items()
                    },
                    settings={**self.settings, **names},
                    axes={},
                ),
            )


def recorded(run: Records, *, chains: int | None = None) -> Recorded:
    """The records of a run as arrays by metric, with what is known of the run.

    Args:
        run: a run folder of `simulate`, `lm` or `cj.run`, or its path; what `cj.simulate`, `cj.run`
            or `cj.simulate_summary` returned; an `xarray.Dataset` with the axes chain and
            generation; or a dict of arrays [chain, generation], whose generations count from 0. A
            run folder may be one that is still written.
        chains: how many chains a summary is of, where its settings do not say.

    Raises:
        InputError: for anything else, for damaged files, and where nothing is recorded yet.
    """
    if chains is not None:
        whole("chains", chains, 1)
    if isinstance(run, RunFolder | str | os.PathLike):
        found = _of_folder(run if isinstance(run, RunFolder) else RunFolder(run))
    elif isinstance(run, Summary):
        found = _of_summary(run)
    elif hasattr(run, "data_vars"):
        found = _of_dataset("xarray.Dataset", run)
    elif isinstance(run, Mapping):
        found = _of_arrays(run)
    else:
        raise InputError(f"run is {run!r:.200}; it must be {_FORMS}")
    if not len(found.generations) or not (found.metrics or found.statistics):
        raise InputError(f"{found.name} has no recorded generation; give a run with records")
    if chains is not None and found.metrics and chains != found.chains:
        raise InputError(
            f"chains is {chains}, but {found.name} has the records of {found.chains} chains; leave "
            "it out"
        )
    found = found if chains is None else found._replace(chains=chains)
    return _ascending(found._replace(kind=_kind(found)))


def _of_arrays(run):
    """A `Trace`, or a dict of arrays, whose generations count from 0."""
    is_trace = isinstance(run, Trace)
    name = "the Trace" if is_trace else "the dict"
    arrays = {str(key): _floats(f"{name}[{key!r}]", run[key]) for key in run}
    shapes = {key: values.shape[:2] for key, values in arrays.items()}
    for key, values in arrays.items():
        if values.ndim < 2 or not values.shape[0]:
            raise InputError(
                f"{name}[{key!r}] has shape {list(values.shape)}; it must be [chain, generation]"
            )
    if len(set(shapes.values())) > 1:
        words = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
        raise InputError(f"{name} has {words}; all must have the same chains and generations")
    chains, count = next(iter(shapes.values()), (0, 0))
    generations = np.asarray(run.generations) if is_trace else np.arange(count)  # pyright: ignore
    return Recorded(name, "", generations, arrays, chains=chains)


def _of_summary(summary):
    parts = {
        name: Statistics(
            np.asarray(mean, float),
            np.asarray(summary.std[name], float),
            np.asarray(summary.quantile[name], float),
        )
        for name, mean in summary.mean.items()
    }
    generations = np.asarray(summary.generations)
    return Recorded("the Summary", "", generations, {}, parts, tuple(summary.quantiles))


def _of_dataset(name, data):
    """Arrays [*axes, chain, generation, ...], and NAME_mean, NAME_std, NAME_quantile without chains
    [*axes, generation, ...]."""
    if "generation" not in data.dims:
        raise InputError(
            f"{name} has the axes {', '.join(map(str, data.dims)) or 'of one number'}; it must "
            "have the axis generation"
        )
    variables = {
        str(key): values
        for key, values in data.data_vars.items()
        if "generation" in values.dims and values.dtype.kind in "fiub"
    }
    axes = _axes_of(variables)
    named = {axis: tuple(data[axis].values.tolist()) for axis in axes}
    if "generation" in data.coords:
        generations = np.asarray(data["generation"].values)
    else:
        generations = np.arange(data.sizes["generation"])
    is_kept = "chain" in data.dims
    metrics, parts = {}, {}
    for key, values in variables.items():
        stem, _, kind = key.rpartition("_")
        if "chain" not in values.dims and stem and kind in _STATISTICS and not is_kept:
            order = (*axes, "generation", ..., *(["quantile"] if kind == "quantile" else []))
            parts.setdefault(stem, {})[kind] = values.transpose(*order)
            continue
        if "chain" not in values.dims:
            values = values.expand_dims("chain")
        metrics[key] = _floats(key, values.transpose(*axes, "chain", "generation", ...).values)
    statistics = {
        stem: Statistics(*(found[kind].values.astype(float) for kind in _STATISTICS))
        for stem, found in parts.items()
        if set(found) == set(_STATISTICS)
    }
    levels = tuple(data["quantile"].values.tolist()) if "quantile" in data.coords else ()
    chains = int(data.sizes.get("chain", 1)) if metrics else 0
    return Recorded(name, "", generations, metrics, statistics, levels, chains, axes=named)


def _axes_of(variables):
    """The axes of a grid, in the order in which they come."""
    found = {}
    for key, values in variables.items():
        for axis in map(str, values.dims):
            is_own = re.fullmatch(rf"({re.escape(key)})_\d+", axis)
            if axis not in ("chain", "generation", "quantile") and not is_own:
                found[axis] = None
    held_by_all = [
        axis for axis in found if all(axis in values.dims for values in variables.values())
    ]
    for axis in found:
        if axis not in held_by_all:
            raise InputError(
                f"only some arrays have the axis {axis}; an axis of a metric must be called "
                "METRIC_0, and all arrays must have the axes of a grid"
            )
    return held_by_all


def _of_folder(folder):
    if not folder.path.is_dir():
        raise InputError(f"run is '{folder.path}', which is not a folder; it must be {_FORMS}")
    settings = _settings(folder)
    command = settings.get("command", "")
    if command not in ("", *_COMMANDS):
        raise InputError(
            f"{folder.path} holds a run of {command}; it must be one of {' or '.join(_COMMANDS)}"
        )
    results = folder.results()
    if results is None and command == "simulate":
        raise InputError(f"{folder.path} has no results.nc yet; wait until the run is finished")
    if results is not None:
        found = _of_dataset(str(folder.path), results)
        of_rows = _rows_as_arrays(folder, found) if "chain" in results.dims else {}
        found = found._replace(metrics={**of_rows, **found.metrics})
    else:
        rows = folder.rows("chain", "generation")
        if not rows:
            raise InputError(f"{folder.path} has no generation yet; wait until one is finished")
        found = _of_rows(str(folder.path), rows)
    if not found.metrics:
        found = found._replace(chains=int(settings.get("chains", 0)))
    before = {
        key.removeprefix(_BEFORE): _first_finite(values)
        for key, values in found.metrics.items()
        if key.startswith(_BEFORE)
    }
    metrics = {key: v for key, v in found.metrics.items() if not key.startswith(_BEFORE)}
    return found._replace(settings=settings, before=before, metrics=metrics)


def _settings(folder):
    path = folder.path / "config.json"
    try:
        settings = strict_json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}  # a folder of cj.run, or one whose settings were taken out
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error, 200)}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path} is not an object of settings")
    return settings


def _rows_as_arrays(folder, found):
    """What the rows of a language model hold beside results.nc, at the places of that."""
    rows = folder.rows()
    if not rows or any("chain" not in row for row in rows):
        return {}
    of_rows = _of_rows(found.name, rows)
    same = np.array_equal(of_rows.generations, found.generations) and of_rows.chains == found.chains
    return of_rows.metrics if same else {}


def _of_rows(name, rows):
    """Rows of a chain and a generation each as arrays."""
    chains = sorted({row["chain"] for row in rows})
    generations = sorted({row["generation"] for row in rows})
    names = dict.fromkeys(key for row in rows for key in row if not _NO_METRICS.fullmatch(key))
    arrays = {key: np.full((len(chains), len(generations)), np.nan) for key in names}
    for row in rows:
        place = chains.index(row["chain"]), generations.index(row["generation"])
        for key in names:
            value = row.get(key)
            if isinstance(value, int | float):
                arrays[key][place] = value
    return Recorded(name, "", np.array(generations), arrays, chains=len(chains))


def _first_finite(values):
    """[chain] of [chain, generation]: what one generation alone holds; nan without any."""
    return np.array([next(iter(row[np.isfinite(row)]), np.nan) for row in values])


def _kind(found):
    names = {*found.metrics, *found.statistics}
    if found.settings.get("command") == "lm" or "test_perplexity" in names:
        return "language model"
    is_vae = found.settings.get("family") == "vae" or not names.isdisjoint(_OF_VAES)
    return "vae" if is_vae else "chains"


def _ascending(found):
    """The same with ascending generations, each once."""
    generations = np.asarray(found.generations).astype(int)
    order = np.argsort(generations, kind="stable")
    if len(np.unique(generations)) < len(generations):
        raise InputError(
            f"{found.name} has a generation more than once ({generations.tolist()}); give each once"
        )
    if (order == np.arange(len(order))).all():
        return found._replace(generations=generations)
    axes = len(found.axes)
    take = {key: np.take(values, order, axes + 1) for key, values in found.metrics.items()}
    parts = {
        key: Statistics(*(np.take(part, order, axes) for part in of_metric))
        for key, of_metric in found.statistics.items()
    }
    return found._replace(generations=generations[order], metrics=take, statistics=parts)


def _floats(what, values):
    """The values as floats; float32 of many chains is not copied."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return values
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError):
        raise InputError(f"{what} is {values!r:.200}; it must be an array of numbers") from None
