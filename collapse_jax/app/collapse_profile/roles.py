"""The recorded metric by which each definition is judged in a run, and its series."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from collapse_jax.app.collapse_profile.definitions import (
    CANDIDATES,
    NOTES,
    OF_MODELS,
    OWN_SCALE,
    RECORD,
    ROLES,
    SCALES,
    SCALES_OF_ROLE,
    Candidate,
    Scale,
)
from collapse_jax.app.collapse_profile.series import TRANSFORMS, Chains, Series, Summarised
from collapse_jax.drivers.recorded import Recorded
from collapse_jax.errors import InputError, did_you_mean, one_of

_PERPLEXITY = "perplexity"
# Ends of names that are those of losses.
_LOSSES = (_PERPLEXITY, "loss", "bits_per_byte", "log_likelihood", "log_prob")
# Shares of the blocks of a training set.
_OF_BLOCKS = ("share_above_real_90", "share_above_real_99")
# Shares of a normal truth: its tails, and where it has next to nothing.
TAIL, OUTSIDE = 0.01, 1e-4
# What mean and variance of a Gaussian give, and what to do where no chain was kept.
_ONE_RUN = "run one setting with --keep chains --metrics mean variance"
_OF_NORMAL = {
    "loss": "record a loss, as --metrics variance kl_real_to_model",
    "tails": _ONE_RUN,
    "hallucination": _ONE_RUN,
}


class Role(NamedTuple):
    """A metric that is used for a role.

    metric: its name.
    scale: how its number is computed.
    series: its transformed values over generations.
    place: the place of the reference generation, if `truth` is None.
    truth: the transformed value of the real distribution; None if it is not known.
    note: a note for the reader.
    points: the number of points or blocks of which it is a share; 0 if that is not known.
    """

    metric: str
    scale: Scale
    series: Series
    place: int
    truth: float | None
    note: str = ""
    points: int = 0


def own_candidates(metrics: Mapping[str, Any] | None) -> dict[str, Candidate]:
    """Returns role -> the user's metric for it, from the argument `metrics` of `cj.profile`.

    Raises:
        InputError: for an unknown role or scale, and for anything other than names.
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise InputError(
            f"metrics is {metrics!r:.200}; it must be a dict of roles, such as "
            "{'loss': 'my_metric'}"
        )
    found = {}
    for role, named in metrics.items():
        one_of("metrics' role", role, ROLES)
        name, scale = (named, None) if isinstance(named, str) else _pair(role, named)
        known = [one for one in CANDIDATES[role] if one.metric == _stem(name)]
        if scale is None and known:
            found[role] = known[0]._replace(metric=name)
        elif scale is None:
            found[role] = Candidate(name, _scale_by_name(role, name))
        else:
            found[role] = Candidate(name, scale)
    return found


def _scale_by_name(role, name):
    """How a metric is read that the table does not have for a role.

    Raises:
        InputError: where its name says that it is something else.
    """
    if name.endswith(_PERPLEXITY) and role == "loss":
        return _PERPLEXITY
    stem = _stem(name)
    others = [other for other in ROLES if any(one.metric == stem for one in CANDIDATES[other])]
    if not others and not (role != "loss" and name.endswith(_LOSSES)):
        return OWN_SCALE[role]
    scales = " or ".join(map(repr, SCALES_OF_ROLE[role]))
    raise InputError(
        f"metrics[{role!r}] is {name!r}, which is a metric of {' and '.join(others) or 'loss'}; if "
        f"it is used for {role} here, give its scale too: ({name!r}, SCALE) with {scales}"
    )


def _pair(role, named):
    if not (isinstance(named, tuple | list) and len(named) == 2 and all(map(_is_text, named))):
        raise InputError(
            f"metrics[{role!r}] is {named!r:.200}; it must be the name of a recorded metric, or "
            f"(name, scale) with one of the scales {', '.join(SCALES_OF_ROLE[role])}"
        )
    one_of(f"the scale of metrics[{role!r}]", named[1], SCALES_OF_ROLE[role])
    return named


def _stem(name):
    """The name in the table of a metric that is held against generation 0, or of many models."""
    start = next((start for start in OF_MODELS if name.startswith(start)), "")
    return name.removeprefix(start).removesuffix("_to_first")


def _is_text(value):
    return isinstance(value, str)


def role_of(
    role: str, record: Recorded, own: Mapping[str, Candidate], truth: Mapping[str, float]
) -> Role | str:
    """Returns the metric for a role; if there is none, a note on what to record.

    It is the first metric of the table that the run's first generation has, else the first that any
    generation has.

    Raises:
        InputError: for a user's metric that the run did not record as one number per generation.
    """
    found = _best(role, record, own, truth)
    if isinstance(found, str):
        return found
    of_models = [words for start, words in OF_MODELS.items() if found.metric.startswith(start)]
    notes = [NOTES.get(found.metric, ""), *(f"{found.metric} {words}" for words in of_models)]
    return found._replace(note="; ".join(one for one in (*notes, found.note) if one))


def _best(role, record, own, truth):
    if role in own:
        series = series_of(own[role].metric, record)
        if series is None:
            raise InputError(_not_recorded(role, own[role].metric, record))
        _refuse_negative(role, own[role], series)
        found, note = _role(own[role], series, record, truth), _other_reading(role, own[role])
        return found._replace(note="; ".join(one for one in (note, found.note) if one))
    there = []
    for candidate in CANDIDATES[role]:
        of_models = (f"{start}{candidate.metric}" for start in OF_MODELS)
        for name in (candidate.metric, f"{candidate.metric}_to_first", *of_models):
            series = series_of(name, record)
            if series is not None:
                there.append((candidate._replace(metric=name), series))
    if not there:
        arrays = [one.metric for one in CANDIDATES[role] if one.metric in record.metrics]
        if arrays:
            return (
                f"{arrays[0]} is recorded as an array per generation, but one number is needed; "
                f"give another metric (metrics={{{role!r}: NAME}})"
            )
        if role in _OF_NORMAL and _is_gaussian_without_chains(record):
            return (
                "it follows from mean and variance of each chain, and a grid or --keep summary "
                f"keeps only statistics over chains; {_OF_NORMAL[role]}"
            )
        return f"no recorded metric measures it; record {RECORD[role][record.kind]}"
    since_first = [(one, series) for one, series in there if _begins(series) == 0]
    # A loss that is infinite at once, as of a law with lost categories, tells nothing.
    finite = [(one, series) for one, series in since_first if one.scale == "finite"
              or np.isfinite(series.median().number[0])]  # fmt: skip
    candidate, series = (finite or since_first or there)[0]
    found, best = _role(candidate, series, record, truth), there[0][0].metric
    if candidate.metric == best or found.note:
        return found
    why = "is infinite" if since_first and since_first[0][0].metric == best else "is not recorded"
    note = f"{best} {why} at generation {record.generations[0]}; {candidate.metric} is used instead"
    return found._replace(note=note)


def _is_gaussian_without_chains(record):
    """Whether only the chains are missing for `with_normal`."""
    settings = record.settings
    one = settings.get("family") == "gaussian" and settings.get("dim") == 1
    return bool(one and record.statistics and not record.metrics and not settings.get("data"))


def _other_reading(role, candidate):
    """A note if the user gave another scale for a metric of the table."""
    stem, usual = _stem(candidate.metric), {}
    for other in ROLES:
        usual |= {one.scale: other for one in CANDIDATES[other] if one.metric == stem}
    if not usual or candidate.scale in usual:
        return ""
    words = " and ".join(f"{scale} ({other})" for scale, other in usual.items())
    return f"{candidate.metric} is read as {candidate.scale}, as given; by default it is {words}"


def _refuse_negative(role, candidate, series):
    """Raises `InputError` for ratios of negative numbers, except rounding (1e-5 of the largest)."""
    values = series.values if isinstance(series, Chains) else series.statistics.mean
    scale = SCALES[candidate.scale]
    if scale.kind != "ratio" or scale.transform != "same":
        return
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() < -1e-5 * np.abs(finite).max():
        raise InputError(
            f"metrics[{role!r}] is {candidate.metric!r}, whose smallest value is "
            f"{finite.min():.4g}; the scale {candidate.scale!r} is a ratio to its first value, so "
            f"values must be at least 0; give its scale, one of {', '.join(SCALES_OF_ROLE[role])}"
        )


def _role(candidate, series, record, truth):
    scale = SCALES[candidate.scale]
    place = max(_begins(series), 0)
    known = truth.get(candidate.metric, candidate.truth)
    if known is not None:
        given, known = known, float(TRANSFORMS[scale.transform](np.asarray(known, float)))
        if not np.isfinite(known) or (scale.kind == "ratio" and known <= 0):
            raise InputError(
                f"truth[{candidate.metric!r}] is {given!r}, but values are compared with it as "
                f"{scale.unit.replace('first', 'truth')}; it must be above 0"
            )
    note = ""
    if record.generations[place] and known is None:
        note = (
            f"{candidate.metric} is recorded from generation {record.generations[place]} on, and "
            "is compared with that generation, not with the model of real data"
        )
    points = record.settings.get("train_blocks") if candidate.metric in _OF_BLOCKS else 0
    transformed = series.transformed(scale.transform)
    return Role(candidate.metric, scale, transformed, place, known, note, points or 0)


def series_of(name: str, record: Recorded) -> Series | None:
    """A metric that is one number a generation; None where it is not there."""
    values = record.scalars().get(name)
    if values is not None and not np.isnan(values).all():
        return Chains(values)
    if name in record.statistics and record.statistics[name].mean.ndim == 1:
        return Summarised(record.statistics[name], record.levels, record.chains)
    return None


def _begins(series):
    """The first place with a number; -1 where there is none."""
    values = series.values if isinstance(series, Chains) else series.statistics.mean[None]
    known = ~np.isnan(values).all(0)
    return int(np.argmax(known)) if known.any() else -1


def _not_recorded(role, name, record):
    known = [*record.scalars(), *record.statistics]
    whole = f"metrics[{role!r}] is {name!r}, which {record.name} "
    if name in record.metrics:
        return f"{whole}records as arrays; it must be one number per generation"
    return f"{whole}does not record; it has {', '.join(known)}{did_you_mean(name, known)}"


def with_normal(record: Recorded, family: str, truth: Mapping[str, float]) -> Recorded:
    """Returns the record with metrics of a normal model, given a normal real distribution.

    tail_mass: mass of the model outside the central 99% of the real distribution.
    outside_mass: mass outside its central 99.99%.
    kl_real_to_model and squared_wasserstein2, if no loss is recorded.
    """
    metrics = record.scalars()
    if family != "gaussian" or not {"mean", "variance"} <= set(metrics) & set(truth):
        return record
    mean = (np.asarray(metrics["mean"], float) - truth["mean"]) / np.sqrt(truth["variance"])
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.sqrt(np.asarray(metrics["variance"], float) / truth["variance"])
        found = {
            name: _outside(mean, deviation, stats.norm.ppf(1 - share / 2))
            for name, share in (("tail_mass", TAIL), ("outside_mass", OUTSIDE))
        }
        if not any(one.metric in metrics for one in CANDIDATES["loss"]):
            ratio = (1 + mean**2) / deviation**2
            found["kl_real_to_model"] = (ratio - 1) / 2 + np.log(deviation)
            found["squared_wasserstein2"] = truth["variance"] * (mean**2 + (deviation - 1) ** 2)
    return record._replace(metrics={**found, **record.metrics})


def _outside(mean, deviation, limit):
    """The mass beyond +-limit of normal laws; of a point, whether it lies there."""
    mass = stats.norm.sf((limit - mean) / deviation) + stats.norm.cdf((-limit - mean) / deviation)
    return np.where(deviation > 0, mass, np.abs(mean) > limit)
