"""Which chains are watched, of two runs, and when each crosses the threshold of its loss."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from collapse_jax.drivers.recorded import Recorded, Records, recorded
from collapse_jax.drivers.warning.sets import in_sets
from collapse_jax.errors import InputError, did_you_mean, real


class Watched(NamedTuple):
    """Chains at the generations that both runs recorded.

    loss: the metric that is the loss.
    generations: [generation].
    collapsing: name -> [chain, generation] of the chains that may cross.
    steady: the same of chains that do not.
    crossed: [collapsing chain] the place of the first generation beyond the threshold; the number
        of generations for a chain that never gets there.
    rises: whether the threshold lies above the first losses.
    dropped: how many chains that were given as steady crossed.
    left_out: name of a metric -> why it is not watched, where nothing was asked for by name.
    """

    loss: str
    generations: np.ndarray
    collapsing: dict[str, np.ndarray]
    steady: dict[str, np.ndarray]
    crossed: np.ndarray
    rises: bool
    dropped: int
    left_out: Mapping[str, str] = {}

    @property
    def has_crossed(self) -> np.ndarray:
        """[collapsing chain] whether it crosses within its records."""
        return self.crossed < len(self.generations)

    @property
    def crossings(self) -> np.ndarray:
        """[collapsing chain] the generation of the crossing, nan without one."""
        places = np.minimum(self.crossed, len(self.generations) - 1)
        return np.where(self.has_crossed, self.generations[places], np.nan)

    @property
    def steady_count(self) -> int:
        """How many chains do not collapse."""
        return len(next(iter(self.steady.values())))


def watched_chains(
    collapsing: Records,
    steady: Records | None,
    loss: str,
    threshold: float,
    relative: bool,
    metrics: Iterable[str] | None,
    set_size: int,
) -> Watched:
    """The chains of two runs; arguments as in `early_warning`.

    Raises:
        InputError: if a metric is unknown, the runs have no generations in common, or no chain
            crosses.
    """
    real("threshold", threshold)
    run = _chains_of("collapsing", collapsing, set_size)
    other = None if steady is None else _chains_of("steady", steady, set_size)
    names = _names(run, other, loss, metrics)
    generations = run.generations
    if other is not None:
        generations = np.intersect1d(generations, other.generations)
    if len(generations) < 2:
        raise InputError(
            f"{run.name}{f' and {other.name}' if other else ''} recorded "
            f"{len(generations)} of the same generations; an alarm needs two or more"
        )
    mine = _at(run, names, generations)
    rises = _rises(mine[loss], loss, threshold, relative, run.name)
    crossed = _crossed(mine[loss], threshold, relative, rises)
    if other is None:
        steady_of = {name: values[crossed == len(generations)] for name, values in mine.items()}
        dropped = 0
    else:
        theirs = _at(other, names, generations)
        stays = _crossed(theirs[loss], threshold, relative, rises) == len(generations)
        dropped = int(np.sum(~stays))
        if not stays.any():
            raise InputError(
                f"steady is {other.name}, all of whose {len(stays)} chains cross {loss} = "
                f"{threshold:g}; give chains that do not collapse"
            )
        steady_of = {name: values[stays] for name, values in theirs.items()}
    if (crossed == len(generations)).all():
        low, high = np.nanmin(mine[loss]), np.nanmax(mine[loss])
        raise InputError(
            f"threshold is {threshold:g}, which no chain of {run.name} crosses by generation "
            f"{generations[-1]} ({loss} goes from {low:.4g} to {high:.4g}); give one in between"
        )
    left_out = _left_out(run, other) if metrics is None else {}
    return Watched(loss, generations, mine, steady_of, crossed, rises, dropped, left_out)


def _chains_of(what, run, set_size) -> Recorded:
    found = recorded(run)
    if found.axes:
        raise InputError(
            f"{what} is {found.name}, a grid over {', '.join(found.axes)}; give one run, as a "
            "folder of one setting"
        )
    if not found.metrics:
        raise InputError(
            f"{what} is {found.name}, which kept statistics over chains alone; an alarm is one of "
            "each chain (cj.simulate, or keep chains)"
        )
    if set_size > 1:
        return found._replace(metrics=in_sets(found.metrics, set_size, found.name))
    return found


def _names(run, other, loss, metrics):
    """The loss and the metrics that are watched, of those that both runs recorded."""
    there = [
        name
        for name, values in run.metrics.items()
        if values.ndim == 2
        and (other is None or (name in other.metrics and other.metrics[name].ndim == 2))
    ]
    asked = [metrics] if isinstance(metrics, str) else metrics
    for what, name in [("loss", loss), *(("metrics", name) for name in asked or ())]:
        if name not in there:
            raise InputError(
                f"{what} is {name!r}, which the runs did not record as one number a generation"
                f"{did_you_mean(name, there)}; they have {', '.join(there) or 'none'}"
            )
    return list(dict.fromkeys([loss, *(there if asked is None else asked)]))


def _left_out(run, other):
    """Why metrics of the runs are not watched, by name."""
    runs = [("collapsing", run), *([] if other is None else [("steady", other)])]
    found = {}
    for name in dict.fromkeys(name for _, one in runs for name in one.metrics):
        lacking = [which for which, one in runs if name not in one.metrics]
        if lacking:
            found[name] = f"as the {lacking[0]} run did not record them"
        elif any(one.metrics[name].ndim != 2 for _, one in runs):
            found[name] = "as they are arrays"
    return found


def _at(run, names, generations):
    places = np.searchsorted(run.generations, generations)
    return {name: run.metrics[name][:, places] for name in names}


def _rises(values, loss, threshold, relative, name):
    """Whether the threshold lies above the first losses."""
    first = values[:, 0][np.isfinite(values[:, 0])]
    if not len(first):
        raise InputError(f"loss is {loss!r}, which is not finite at the first record of {name}")
    if relative and np.any(first <= 0):
        raise InputError(
            f"relative is True, and {loss} of {name} begins at {first.min():.4g}; a ratio needs "
            "losses above 0"
        )
    middle = 1.0 if relative else float(np.median(first))
    if threshold == middle:
        raise InputError(
            f"threshold is {threshold:g}, at which {loss} of {name} begins; give one above or below"
        )
    return threshold > middle


def _crossed(values, threshold, relative, rises):
    """The place [chain] of the first loss beyond the threshold, or how many there are."""
    if relative:
        values = values / values[:, :1]
    with np.errstate(invalid="ignore"):
        beyond = values >= threshold if rises else values <= threshold
    return np.where(beyond.any(1), np.argmax(beyond, axis=1), values.shape[1])
