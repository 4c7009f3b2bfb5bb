"""Reads the data file of a simulation once, splits its rows, and makes its entry of
made_of.json."""

import contextlib
import contextvars
import functools
import hashlib
import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.laws import given_options
from collapse_jax.app.own_data.points import Points, check_for_family, points_of
from collapse_jax.core.tables.read import Reading, read_file
from collapse_jax.core.tables.table import held_out_rows
from collapse_jax.drivers.streams import point_key
from collapse_jax.errors import InputError
from collapse_jax.estimators.registry import family
from collapse_jax.runs import made_of

# What the key of the split is folded with, so that no chain has it.
_SPLIT = "held-out rows of a file"
# File -> its state when it was first looked at; None where it is looked at each time.
_STATES: contextvars.ContextVar[dict | None] = contextvars.ContextVar("_STATES", default=None)


class DataKey(NamedTuple):
    """How a file is read, and the state of the file.

    state: the file's modification time, size and inode number. memory_limit: that of the
        simulation. All others: see `DataSettings`.
    """

    state: tuple[int, int, int]
    data: str
    columns: tuple[str, ...]
    target: str
    categories: tuple[str, ...]
    missing: str
    intercept: bool
    held_out: float
    split_seed: int
    memory_limit: float

    @classmethod
    def of(cls, settings: SimulateConfig) -> "DataKey":
        """Returns the key of the current file; raises `InputError` if there is none."""
        states = _STATES.get()
        states = {} if states is None else states
        if settings.data not in states:
            states[settings.data] = _state_of(settings.data)
        state = states[settings.data]
        return cls(state, *(getattr(settings, name) for name in cls._fields[1:]))

    def settings(self, **others: Any) -> SimulateConfig:
        """Settings of a simulation with this data."""
        return SimulateConfig(**dict(list(self._asdict().items())[1:]), **others)


def _state_of(data):
    try:
        found = made_of.expanded(data).stat()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"data is {data!r}, which cannot be read ({why})") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


class OwnData(NamedTuple):
    """The data of a simulation.

    points: all points, in the form that the family takes.
    train, test: numbers of the training points, and of the held-out points.
    rows: number of rows in the file.
    dropped: number of rows that were left out because of a missing value.
    checksum: SHA-256 of the file.
    """

    points: Points
    train: np.ndarray
    test: np.ndarray
    rows: int
    dropped: int
    checksum: str


def own_data(settings: SimulateConfig) -> OwnData:
    """Returns the data of a simulation; an unchanged file is read only once.

    Raises:
        InputError: For a file that cannot be read, or whose columns the family does not take.
    """
    check_for_family(settings, settings.family, family(settings.family).factory)
    length = given_options(settings).get("block_length")
    return _own_data(DataKey.of(settings), settings.family, length)


def entry(settings: SimulateConfig) -> dict[str, Any]:
    """Returns the entry of made_of.json: hashes of the columns, number of rows, held-out rows."""
    data = own_data(settings)
    x, names = data.points.x, data.points.columns
    parts = {f"column {names[0]!r}": x}
    if x.ndim == 2 and x.shape[1] == len(names):
        parts = {f"column {name!r}": x[:, place] for place, name in enumerate(names)}
    contents = {name: _hash(values) for name, values in parts.items()}
    contents |= {
        "number of rows": str(data.rows),
        "rows left out": str(data.dropped),
        "held-out rows": f"{len(data.test)} {_hash(data.test)}",
        "categories": _hash_of_texts(data.points.labels),
    }
    of_columns = zip(names, data.points.more.get("categories", ()), strict=False)
    contents |= {f"categories of {name!r}": _hash_of_texts(own) for name, own in of_columns if own}
    return {"data": {"where": settings.data, "contents": contents}}


@contextlib.contextmanager
def held_still() -> Iterator[None]:
    """Within this context a file is read only once, so that later changes of it have no effect."""
    token = _STATES.set({})
    try:
        yield
    finally:
        _STATES.reset(token)


@functools.lru_cache(1)
def _reading(data: DataKey) -> tuple[Reading, str]:
    """(content of the file, its SHA-256)."""
    path = made_of.expanded(data.data)
    try:
        reading = read_file(
            *(path, data.columns, data.target, data.categories),
            missing=data.missing,
            memory_limit=data.memory_limit,
        )
    except InputError as error:
        raise InputError(_as_options(str(error))) from None
    checksum = made_of.of_files([path], path.parent)[path.name]
    if _state_of(data.data) != data.state:
        raise InputError(
            f"{data.data} changed while it was read; wait until it has been written completely"
        )
    return reading, checksum


@functools.lru_cache(2)
def _own_data(data: DataKey, name: str, block_length: Any) -> OwnData:
    # The table is the same whatever is held out.
    reading, checksum = _reading(data._replace(intercept=True, held_out=0.0, split_seed=0))
    given = {} if block_length is None else {"block_length": block_length}
    try:
        points = points_of(reading, data.settings(), name, family(name).factory, given)
        count = len(points.x)
        train, test = np.arange(count), np.arange(0)
        if data.held_out > 0:
            key = point_key(jax.random.key(data.split_seed), _SPLIT)
            train, test = held_out_rows(count, data.held_out, key)
    except InputError as error:
        raise InputError(f"{data.data}: {error}") from None
    rows = len(reading.rows) + reading.dropped
    return OwnData(points, train, test, rows, reading.dropped, checksum)


def _as_options(text):
    """The arguments of `cj.read_data` in an error text as options of the command line."""

    def quoted(found):
        name = re.sub(r'\\(["\\])', r"\1", found[2])
        return f"--{found[1]} {shlex.quote(name)}"

    text = re.sub(r'\b(categories|columns)=\["((?:[^"\\]|\\.)*)"\]', quoted, text)
    return text.replace('missing="drop"', "--missing drop").replace("(columns=)", "(--columns)")


def _hash(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _hash_of_texts(texts):
    return _hash(np.array(list("\0".join(texts).encode()), np.uint8))
