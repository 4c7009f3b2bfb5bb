"""What a process is made of, as its run folder keeps it, and how another process differs.

This is the description of a process: family, workflow, real data, sizes and key, and the metrics.
Hashes of the files that a command reads are kept by `runs.made_of`.
"""

import contextlib
import functools
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.core.types import Measures, Process, Runtime
from collapse_jax.errors import InputError
from collapse_jax.runs import distributed, made_of
from collapse_jax.runs.contents import arrays_in, contents
from collapse_jax.runs.folder import RunFolder

# Parts of a process, and what an error calls them.
# Ends of what holds the members of an ecosystem's workflow, by place.
_ECOSYSTEM = {
    "init.0.0": "workflow or publication of a model",
    "init.0.1": "coupling",
    "init.0.2": "random_counts",
}
_PARTS = {
    "family": "the family",
    "workflow": "the workflow",
    "source": "the real data",
    "step": "init or step",
    "remember_first": "remember_first",
}
# Code is compared where nothing but the user's changed.
_VERSIONS = ("jax", "flax", "collapse-jax")
_LONGEST = 300
# Generations whose sizes are noted; a run of more takes days.
_MOST_SIZES = 100_000


def described(
    process: Process,
    key: jax.Array,
    last_generation: int,
    measure: Mapping[str, Callable],
    known: dict | None = None,
    *,
    with_code: bool = True,
) -> dict[str, Any]:
    """What the numbers of a run come from, as JSON values.

    Args:
        process: The process.
        key: Of the run.
        last_generation: Sizes that are a function are noted up to here.
        measure: Name -> metric; what each is made of.
        known: As for `runs.contents`.
        with_code: Whether the code of family, workflow and metrics counts.
    """
    known = {} if known is None else known
    estimator, source, workflow, size, remember_first = process.parts
    # What is measured changes no model; how it is run changes no number.
    bare = estimator._replace(measures=Measures(), runtime=Runtime())
    parts = {
        "family": (estimator.name, bare),
        "workflow": (workflow.name, workflow),
        "source": (_source_words(source), _without_points(source)),
        "step": ("", _own_steps(process)),
        "remember_first": (str(remember_first), remember_first),
    }
    parts, measure = (parts, measure) if with_code else ({}, {})
    found = {name: (words, contents(value, name, known)) for name, (words, value) in parts.items()}
    measured = {name: contents(metric, name, known) for name, metric in measure.items()}
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "versions": {name: _version(name) for name in _VERSIONS},
        "packages": {k: v for _, made in found.values() for k, v in sorted(made.packages.items())},
        "key": [str(jax.random.key_impl(key)), np.asarray(jax.random.key_data(key)).tolist()],
        "sizes": _sizes(size, last_generation, estimator.traceable),
        "data": _data(source, known),
        "parts": {name: [words, *made[:2]] for name, (words, made) in found.items()},
        "metrics": {name: ["", *made[:2]] for name, made in measured.items()},
    }


@contextlib.contextmanager
def held(
    folder: RunFolder,
    process: Process,
    key: jax.Array,
    last_generation: int,
    measure: Mapping[str, Callable],
    say: Callable[[str], object],
) -> Iterator[None]:
    """Holds a process against what a folder was made of, and keeps what it is made of.

    A folder that was opened with the settings of a command knows its process by them; key, sizes
    and real data are held against it alone.

    Args:
        folder: Locked by this process.
        process, key, last_generation, measure: As for `described`.
        say: Called with a line about a folder of an older version, or of other versions.

    Raises:
        InputError: If the folder was made by another process or by a command, or under options of
            JAX that give other numbers.
    """
    describe = functools.partial(
        described, process, key, last_generation, measure, {}, with_code=not folder.opened
    )
    before = describe()
    distributed.on_first(lambda: _enter(folder, before, say))
    try:
        yield
    finally:
        # Not together with others of a job, one of which may just have ended, and not in the place
        # of a folder that was moved meanwhile.
        if not folder.opened and distributed.is_first() and folder.path.is_dir():
            _keep(folder, before, describe())


def _enter(folder, before, say):
    if not folder.opened and (folder.path / "config.json").is_file():
        raise InputError(
            f"folder is '{folder.path}', which contains the run of a command (config.json); give "
            "another path"
        )
    saved = made_of.read(folder.path)
    if saved is not None and "process" in saved:
        refuse_another(saved["process"], before, str(folder.path))
    elif folder.checkpoints.is_dir() and not folder.opened:
        say(
            f"{folder.path} was begun without a description of its process, and is trusted to hold "
            "this one; it is described from now on"
        )
    if not folder.opened:
        folder.keep_environment(say)
    _keep(folder, before, before)


def _keep(folder, before, after):
    saved = made_of.read(folder.path) or {}
    kept = together(saved.get("process"), before, after)
    if kept != saved.get("process"):
        made_of.write(folder.path, saved | {"process": kept})


def refuse_another(saved: object, given: Mapping, where: str) -> None:
    """Raises `InputError` if a folder was made by another process; the line says what differs.

    Args:
        saved: What `described` gave when the folder was made.
        given: What it gives now.
        where: The folder.
    """
    try:
        differing = list(_differing(saved, given))
        renamed = list(_other_metrics(saved, given))
    except (AttributeError, TypeError, KeyError, ValueError, IndexError, OverflowError):
        raise InputError(
            f"{where} is damaged (the description of its process is missing); choose another folder"
        ) from None
    if differing:
        raise InputError(
            f"{where} holds a run of another process ({'; '.join(differing)}); choose another "
            "folder, or delete this one"
        )
    if renamed:
        raise InputError(
            f"{where} has values of another function as metric {renamed[0]!r}; give your function "
            "another name (its __name__)"
        )


def together(saved: Mapping | None, before: Mapping, after: Mapping) -> dict[str, Any]:
    """What a folder keeps of a process after a run.

    What the run itself changed (a list that a function appends to) tells nothing of the process,
    and is not compared from then on.

    Args:
        saved: What was kept, or None.
        before: What `described` gave before the run.
        after: What it gives after it.
    """
    kept = dict(before if saved is None else saved)
    for kind in ("parts", "metrics"):
        entries = dict(before[kind]) | dict(kept[kind])
        for name, entry in entries.items():
            now = dict(after[kind].get(name, entry)[2])
            was = dict(before[kind].get(name, entry)[2])
            changing = {k: None if now.get(k) != was.get(k) else v for k, v in entry[2].items()}
            entries[name] = [*entry[:2], changing]
        kept[kind] = entries
    if before["sizes"][0] > kept["sizes"][0]:
        kept["sizes"] = before["sizes"]
    return kept


def differences(saved: Mapping, given: Mapping) -> list[str]:
    """Words for each way in which what `described` gave twice differs; metrics come last."""
    renamed = (f"metric {name!r} is another function" for name in _other_metrics(saved, given))
    return [*_differing(saved, given), *renamed]


def _differing(saved, given):
    """Words for each difference."""
    if saved["key"] != given["key"]:
        yield f"the key is {_key_words(saved['key'])} there, {_key_words(given['key'])} here"
    yield from _sizes_differing(saved["sizes"], given["sizes"])
    same_code = all(saved[name] == given[name] for name in ("python", "versions"))
    parts, others = saved["parts"], given["parts"]
    for name, words in _PARTS.items():
        if name not in others or name not in parts:
            if name == "source" and _other_data(saved, given):
                yield f"{words} has other values"
            continue
        (old_words, old, _), (new_words, new, _) = parts[name], others[name]
        changed = _changed(parts[name], others[name])
        if old_words != new_words:
            yield f"{words} is {old_words:.{_LONGEST}} there, {new_words:.{_LONGEST}} here"
        elif name == "source" and _other_data(saved, given):
            yield f"{words} has other values"
        elif same_code and old != new:
            yield f"{words} has the same name, and other code, options or values"
        elif same_code and changed:
            what = _member(changed[0], saved["parts"])
            yield f"{words} has another {what:.{_LONGEST}}"
    for name, version in saved["packages"].items():
        here = given["packages"].get(name, version)
        if here != version:
            yield f"the package {name} has version {version} there, {here} here"


def _member(name, parts):
    """What a part of a process is called where a function holds it without a name."""
    if parts.get("family", [""])[0].startswith("ecosystem of"):
        return next((what for end, what in _ECOSYSTEM.items() if name.endswith(end)), name)
    return name


def _other_data(saved, given):
    own = "collapse-jax"
    return saved["versions"].get(own) == given["versions"][own] and saved["data"] != given["data"]


def _other_metrics(saved, given):
    """Names that stand for other functions than there."""
    if any(saved[name] != given[name] for name in ("python", "versions")):
        return
    for name in saved["metrics"].keys() & given["metrics"].keys():
        old, new = saved["metrics"][name], given["metrics"][name]
        if old[1] != new[1] or _changed(old, new):
            yield name


def _changed(old, new):
    """Places where both know a value, and not the same one."""
    there, here = dict(old[2]), dict(new[2])
    return [k for k, v in there.items() if v is not None and here.get(k) not in (None, v)]


def _sizes(size: Any, last_generation, traceable):
    """[last generation, [[first generation, size], ...]] of runs of equal sizes."""
    if not callable(size):
        return [last_generation, [[0, int(size)]]]
    last_generation, of = min(last_generation, _MOST_SIZES), cast(Callable[[Any], Any], size)
    if traceable:
        sizes = jax.vmap(lambda g: jnp.asarray(of(g), jnp.int32))(jnp.arange(last_generation + 1))
        values = np.asarray(sizes).tolist()
    else:
        values = [int(of(generation)) for generation in range(last_generation + 1)]
    runs = [
        [generation, value]
        for generation, value in enumerate(values)
        if generation == 0 or value != values[generation - 1]
    ]
    return [last_generation, runs]


def _sizes_differing(saved, given):
    last = min(saved[0], given[0])
    old, new = ([run for run in runs if run[0] <= last] for _, runs in (saved, given))
    if old != new:
        first = min(
            generation
            for generation, _ in old + new
            if _size_at(old, generation) != _size_at(new, generation)
        )
        there, here = _size_at(old, first), _size_at(new, first)
        yield f"sample_size is {there} there, {here} here in generation {first}"


def _size_at(runs, generation):
    return [size for first, size in runs if first <= generation][-1]


def _data(source, known):
    """Hashes of the real data: the population's parameters, or the arrays that are drawn from."""
    made = contents(source.params, known=known)
    return [made.fixed, dict(made.changing), source.size, arrays_in(source.sample, known)]


def _without_points(source):
    """The source, but for a fixed data set: its points are told by `_data`."""
    return source if source.points is None else source._replace(sample=None)


def _source_words(source):
    return "a population" if source.size is None else f"a data set of {source.size:,} points"


def _own_steps(process):
    """`init` and `step` where they are not those that the parts make."""
    steps = (process.init, process.step)
    owners = [getattr(step, "__self__", None) for step in steps]
    are_made = all(getattr(owner, "parts", None) == process.parts for owner in owners)
    return () if are_made else steps


def _key_words(key):
    return f"{key[0]} {key[1]}"[:_LONGEST]


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
