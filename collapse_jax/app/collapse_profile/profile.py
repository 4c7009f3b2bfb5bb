"""`cj.profile`: a verdict for each of eight definitions of model collapse."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from collapse_jax.app.collapse_profile import scaling
from collapse_jax.app.collapse_profile.definitions import (
    DEFINITIONS,
    KEYS,
    RANGES,
    ROLES,
    Definition,
    default_threshold,
)
from collapse_jax.app.collapse_profile.disagreements import disagreements
from collapse_jax.app.collapse_profile.findings import (
    CANNOT_TELL,
    MET,
    STATISTICS,
    band_of,
    finding,
)
from collapse_jax.app.collapse_profile.growth import divergence
from collapse_jax.app.collapse_profile.result import Profile, Verdict
from collapse_jax.app.collapse_profile.roles import (
    Role,
    own_candidates,
    role_of,
    with_normal,
)
from collapse_jax.drivers.recorded import Recorded, Records, recorded
from collapse_jax.errors import InputError, did_you_mean, one_of, real

SIZE = "sample_size"


def profile(
    run: Records | Sequence[Records],
    *,
    thresholds: Mapping[str, float] | None = None,
    metrics: Mapping[str, Any] | None = None,
    truth: Mapping[str, float] | None = None,
    family: str = "",
    chains: int | None = None,
    at: Mapping[str, Any] | None = None,
    sample_sizes: Sequence[int] | None = None,
) -> Profile:
    """Returns a verdict for each of eight definitions of model collapse.

    Each definition is judged by one recorded metric, relative to generation 0 (the model that was
    fitted to real data) or to the real distribution; `app.collapse_profile.definitions` lists them.
    The mean over chains and the typical chain (the median) are both judged, with 95% intervals:
    Student's t for means, order statistics for medians.

    Args:
        run: a run folder or its path, a `Trace`, a `Summary`, an `xarray.Dataset`, or a dict of
            arrays [chain, generation]; a grid over sample sizes; or several runs that differ in
            their sample size.
        thresholds: definition -> number, in the unit that the table shows. The definitions are
            catastrophic, increase, divergence, diversity, scaling, modes, tails, hallucination.
        metrics: role -> name of a recorded metric, or (name, scale) with a scale of
            `definitions.SCALES`. Roles are loss, diversity, modes, tails, hallucination.
        truth: metric -> its value for the real distribution, used instead of generation 0. With
            mean and variance, and family "gaussian", the mass in the tails and outside, and a loss
            if none is recorded, are computed. For a Gaussian of `simulate` this is automatic.
        family: "gaussian" if mean and variance of a trace are those of a normal model.
        chains: the number of chains of a summary.
        at: for a grid, axis -> the value at which all definitions but the scaling law are judged;
            for sample sizes by default the largest.
        sample_sizes: the sample sizes of several runs whose settings are not known.

    Returns:
        A `Profile`: `str` is a table, `to_json()` has all numbers.

    Raises:
        InputError: for an object without records, and for names, thresholds or places that are
            unknown or would be ignored.

    References:
        Schaeffer et al. 2025, arXiv 2503.03150 (the eight definitions).
    """
    given = _checked_thresholds(thresholds)
    own, known = own_candidates(metrics), _checked_truth(truth)
    by_size, record = _runs(run, chains, at or {}, sample_sizes)
    record = _completed(record, family, known)
    by_size = {size: _completed(one, family, known) for size, one in by_size.items()}
    verdicts = _verdicts(record, by_size, own, known, given)
    return Profile(
        record.name, record.kind, record.chains, record.generations, verdicts,
        disagreements(verdicts),
    )  # fmt: skip


def _verdicts(record, by_size, own, truth, thresholds) -> tuple[Verdict, ...]:
    """All eight verdicts; a threshold for a definition that cannot be judged is refused."""
    roles = {role: role_of(role, record, own, truth) for role in ROLES}
    used = {role.metric for role in roles.values() if not isinstance(role, str)}
    for name in truth:
        if name not in used and not (name in ("mean", "variance") and "tail_mass" in used):
            raise InputError(
                f"truth has {name}, by which {record.name} is not judged; it is judged by "
                f"{', '.join(sorted(used)) or 'no metric'}{did_you_mean(name, used)}"
            )
    _refuse_crossed(roles["loss"], thresholds)
    verdicts = []
    for definition in DEFINITIONS:
        role, threshold = roles[definition.role], thresholds.get(definition.key)
        if definition.key == "scaling":
            verdict = _scaling(definition, by_size, own, truth, threshold)
        elif isinstance(role, str):
            verdict = Verdict(definition.key, definition.title, CANNOT_TELL, note=role)
        else:
            verdict = _verdict(definition, role, threshold, record)
        if threshold is not None and not verdict.metric:
            raise InputError(
                f"thresholds has {definition.key}, which cannot be judged for {record.name}: "
                f"{verdict.note}"
            )
        verdicts.append(verdict)
    return tuple(verdicts)


def _refuse_crossed(role, thresholds):
    """Raises `InputError` if a catastrophic rise would not count as a rise."""
    if isinstance(role, str):
        return
    any_rise, catastrophic = (
        thresholds.get(key, default_threshold(key, role.scale))
        for key in ("increase", "catastrophic")
    )
    if any_rise > catastrophic:
        raise InputError(
            f"thresholds: increase is {any_rise:g}, above catastrophic, which is {catastrophic:g} "
            f"{'' if 'catastrophic' in thresholds else 'by default '}({role.scale.unit}); the "
            "threshold of increase must not exceed that of catastrophic"
        )


def _verdict(definition: Definition, role: Role, given: float | None, record: Recorded) -> Verdict:
    """One definition by its metric."""
    threshold = default_threshold(definition.key, role.scale) if given is None else given
    if np.isnan(threshold):
        return Verdict(
            definition.key, definition.title, CANNOT_TELL,
            note=f"{role.metric} is a metric of another kind ({role.scale.unit})",
        )  # fmt: skip
    first = role.series.median().number[role.place]
    if role.scale.kind == "level" and role.truth is None and first + threshold > 1:
        return Verdict(
            definition.key, definition.title, CANNOT_TELL, role.metric,
            note=f"after generation {record.generations[role.place]}, {role.metric} can lose at "
            f"most {max(1 - first, 0):.3g} of the mass, but the threshold is {threshold:g}",
        )  # fmt: skip
    found = {}
    for statistic in STATISTICS:
        if statistic == "mean" and not getattr(role.series, "has_mean", True):
            continue
        if definition.key == "divergence":
            found[statistic] = divergence(
                statistic, role.series, role.scale, threshold, record.generations
            )
        else:
            band = band_of(role.series, role.scale, statistic, role.place, role.truth)
            found[statistic] = finding(
                statistic, band, role.scale, threshold, record.generations, role.series.count
            )
    left_out = _left_out(role.series, record)
    note = "; ".join(one for one in (role.note, left_out) if one)
    return _if_resolved(_of(definition, role._replace(note=note), threshold, found), role)


def _if_resolved(verdict: Verdict, role: Role) -> Verdict:
    """The verdict; where one point or block changes a share by more than the threshold, a change
    of one of them, or of none, is no verdict.
    """
    if role.scale.kind != "level" or not role.points or 1 / role.points <= verdict.threshold:
        return verdict
    if verdict.verdict == MET and verdict.number > 1.5 / role.points:
        return verdict
    note = (
        f"{role.metric} is a share of {role.points} blocks, so it changes in steps of "
        f"{1 / role.points:.3g}, and the threshold is {verdict.threshold:g}"
    )
    note = "; ".join(one for one in (verdict.note, note) if one)
    return verdict._replace(verdict=CANNOT_TELL, first=None, until=None, note=note)


def _left_out(series, record):
    """A note on chains that are nan where others are not: they may have broken down."""
    missing = series.missing()
    if not missing.any():
        return ""
    since = record.generations[int(np.argmax(missing > 0))]
    return (
        f"up to {missing.max()} of {series.count} chains are nan from generation {since} on, and "
        "are left out there"
    )


def _of(definition, role, threshold, found):
    leading = found.get(definition.statistic) or next(iter(found.values()))
    notes = [role.note, leading.note]
    unit = role.scale.unit
    if role.scale.kind == "ratio" and role.truth is not None:
        unit = "x truth"
    if definition.key == "scaling":
        unit = "of the exponent"
    if definition.key == "divergence":
        unit = f"{role.scale.unit} a doubling"
    return Verdict(
        definition.key, definition.title, leading.verdict, role.metric, unit,
        threshold, role.scale.up, leading.statistic, leading.number, leading.low, leading.high,
        leading.level, leading.generation, leading.first, leading.until, found.get("mean"),
        found.get("median"), "; ".join(note for note in notes if note),
    )  # fmt: skip


def _scaling(definition, by_size, own, known, given):
    """The scaling law over the sizes that there are."""
    nothing = Verdict(definition.key, definition.title, CANNOT_TELL)
    if len(by_size) < scaling.FEWEST_SIZES:
        one = f"there is one, {next(iter(by_size))}" if len(by_size) == 1 else "none is known"
        have = f"there are {len(by_size)}" if len(by_size) > 1 else one
        return nothing._replace(
            note=f"an exponent needs runs with {scaling.FEWEST_SIZES} or more sample sizes, but "
            f"{have}; profile a grid (--sample-size 10,100,1000) or several runs"
        )
    roles = {size: role_of("loss", one, own, known) for size, one in by_size.items()}
    for role in roles.values():
        if isinstance(role, str):
            return nothing._replace(note=role)
    roles = {size: role for size, role in roles.items() if isinstance(role, Role)}
    names = {role.metric for role in roles.values()}
    generations = [one.generations for one in by_size.values()]
    if len(names) > 1 or any(not np.array_equal(generations[0], g) for g in generations):
        return nothing._replace(note="the runs record different losses or generations")
    if any(not role.series.count > 1 for role in roles.values()):
        return nothing._replace(
            note="one chain per size has no standard error, which an exponent needs; simulate more "
            "chains"
        )
    role = next(iter(roles.values()))
    threshold = default_threshold("scaling", role.scale) if given is None else given
    found = {}
    for statistic in STATISTICS:
        bands = [getattr(role.series, statistic)() for role in roles.values()]
        found[statistic] = scaling.change(statistic, list(roles), bands, threshold, generations[0])
    return _of(definition, role, threshold, found)


# --- what the runs are ----------------------------------------------------------------------------


def _runs(run: Any, chains, at, sizes):
    """({sample size: record}, the record that all but the scaling law is judged on)."""
    if isinstance(run, list | tuple) and not hasattr(run, "_asdict"):
        return _several(run, chains, at, sizes)
    if sizes is not None:
        raise InputError(
            f"sample_sizes is {sizes!r:.200}, but run is a single run; give sample_sizes for "
            "several runs only"
        )
    one: Any = run
    record = recorded(one, chains=chains)
    if record.axes:
        return _grid(record, at)
    if at:
        raise InputError(f"at is {dict(at)!r:.200}, but {record.name} is not a grid; leave it out")
    size = _size(record)
    return {} if size is None else {size: record}, record


def _several(runs, chains, at, sizes):
    if at:
        raise InputError(f"at is {dict(at)!r:.200}, but run is a list of runs; leave it out")
    if not runs:
        raise InputError("run is an empty list; give a run, or several")
    records = [recorded(one, chains=chains) for one in runs]
    found: list[Any] = [_size(one) for one in records] if sizes is None else list(sizes)
    if len(found) != len(records):
        raise InputError(
            f"sample_sizes has {len(found)} numbers for {len(records)} runs; give one for each"
        )
    for record, size in zip(records, found, strict=True):
        if record.axes:
            raise InputError(f"{record.name} is a grid; give it alone, and not in a list of runs")
        if size is None:
            raise InputError(f"the sample size of {record.name} is not known; give sample_sizes=")
        real("sample_sizes", size, above=0)
    if len(set(found)) < len(found):
        listed = ", ".join(map(str, found))
        raise InputError(f"the runs have sample sizes {listed}; they must differ")
    by_size = dict(sorted(zip(found, records, strict=True)))
    return by_size, by_size[max(by_size)]


def _grid(record, at):
    """Of a grid: the runs along its sample sizes, and one of them."""
    at = {
        one_of("at's axis", name, tuple(record.axes)): _on_axis(name, value, record.axes[name])
        for name, value in at.items()
    }
    free = {
        name: values
        for name, values in record.axes.items()
        if name not in at and name != SIZE and len(values) > 1
    }
    if free:
        words = " ".join(f"{name}={values[0]}" for name, values in free.items())
        known = "; ".join(
            f"{name} is one of {', '.join(map(str, values))}" for name, values in free.items()
        )
        raise InputError(f"{record.name} is a grid; give --at {words} ({known}), or at= in Python")
    others = {name: value for name, value in at.items() if name != SIZE}
    points = [
        (place, one)
        for place, one in record.points()
        if all(place[name] == value for name, value in others.items())
    ]
    if SIZE not in record.axes:
        one = points[0][1]
        size = _size(one)
        return {} if size is None else {size: one}, one
    by_size = {place[SIZE]: one for place, one in points}
    return dict(sorted(by_size.items())), by_size[at.get(SIZE, max(by_size))]


def _on_axis(name, value, values):
    """The value of an axis that equals the one given, whatever its type of number."""
    for known in values:
        if known == value and not isinstance(value, bool):
            return known
    words = ", ".join(map(str, values))
    raise InputError(f"--at {name}={value!s:.200} is not in the grid; {name} is one of {words}")


def _size(record):
    """The sample size in the settings; None if it is not known."""
    size = record.settings.get(SIZE, record.settings.get("train_blocks"))
    return size if isinstance(size, int | float) else None


def _completed(record, family, truth):
    """The record with the metrics that follow from mean and variance of a Gaussian.

    The real distribution of a Gaussian of `simulate` is the standard normal.
    """
    own = record.settings.get("family", "")
    if family:
        one_of("family", family, ("gaussian",))
        if own not in ("", family):
            raise InputError(f"family is {family!r}, but {record.name} is of {own}; leave it out")
        if own == "" and not {"mean", "variance"} <= set(truth):
            raise InputError(
                "family is 'gaussian', which has no effect without truth; give "
                "truth={'mean': ..., 'variance': ...}"
            )
        if not {"mean", "variance"} <= set(record.scalars()):
            raise InputError(
                f"family is 'gaussian', but {record.name} has no mean and variance of each chain; "
                "record both, or leave family out"
            )
    # Of a user's own data nothing says that they are normal.
    if own == "gaussian" and record.settings.get("dim") == 1 and not record.settings.get("data"):
        truth = {"mean": 0.0, "variance": 1.0} | dict(truth)
    return with_normal(record, family or own, truth)


def _checked_thresholds(thresholds):
    if thresholds is None:
        return {}
    if not isinstance(thresholds, Mapping):
        raise InputError(
            f"thresholds is {thresholds!r:.200}; it must be a dict, such as {{'diversity': 0.1}}"
        )
    given = list(thresholds.items())
    for name, _ in given:
        one_of("thresholds' definition", name, KEYS)
    return {name: real(f"thresholds[{name!r}]", value, **RANGES[name]) for name, value in given}


def _checked_truth(truth):
    if truth is None:
        return {}
    if not isinstance(truth, Mapping):
        raise InputError(
            f"truth is {truth!r:.200}; it must be a dict of metrics, such as {{'variance': 1.0}}"
        )
    return {name: real(f"truth[{name!r}]", value) for name, value in truth.items()}
