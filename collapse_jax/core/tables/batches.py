"""What every kind of file gives: chosen columns, in batches of rows."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from collapse_jax.errors import InputError, did_you_mean


class Wanted(NamedTuple):
    """What is asked of a file.

    columns: names in their order; () for all.
    target: the column that comes last; "" for none.
    categories: columns that hold categories whatever they look like.
    """

    columns: tuple[str, ...]
    target: str
    categories: tuple[str, ...]

    def chosen(self, there: Sequence[str]) -> list[int]:
        """The places of the columns to read among those that a file has.

        Raises:
            InputError: For a name that is missing or stands there twice, and a target among the
                columns.
        """
        if self.target and self.target in self.columns:
            raise InputError(
                f"the target {self.target!r} is among the columns; leave it out of them"
            )
        names = [*(self.columns or (name for name in there if name != self.target))]
        names += [self.target] if self.target else []
        for name in (*names, *self.categories):
            if name not in there:
                raise InputError(
                    f"there is no column {name!r}; it has {_listed(there)}"
                    f"{did_you_mean(name, there)}"
                )
            if there.count(name) > 1:
                raise InputError(
                    f"{there.count(name)} columns are called {name!r}; give each a name of its own"
                )
        unread = [name for name in self.categories if name not in names]
        if unread:
            raise InputError(
                f"categories has {unread[0]!r}, which is not among the columns that are read"
            )
        if not names or (self.target and len(names) == 1):
            raise InputError("no column is left to read")
        return [there.index(name) for name in names]


class Batch(Protocol):
    """Some rows."""

    size: int

    def missing(self) -> Sequence[np.ndarray]:
        """[columns] of bool [size], where no value is."""
        ...

    def shown(self, column: int, row: int) -> str:
        """What stands in a cell without a value: "is empty"."""
        ...

    def add(self, kept: np.ndarray | None, rows: np.ndarray) -> None:
        """Appends the rows to the columns; kept: bool [size], None for all; rows: their numbers."""
        ...


class Batches(Protocol):
    """A file that is open.

    names: of its columns.
    is_default: whether nobody chose them.
    width: numbers of a row.
    """

    names: tuple[str, ...]
    is_default: bool
    width: int

    def __iter__(self) -> Iterator[Any]:
        """Its batches, in order."""
        ...

    def values(self) -> tuple[np.ndarray, tuple[tuple[str, ...] | None, ...]]:
        """(values, categories) of all rows that were added."""
        ...


class Columns(NamedTuple):
    """Columns that are read one by one; most kinds of file have these."""

    names: tuple[str, ...]
    columns: tuple[Any, ...]

    def values(self) -> tuple[np.ndarray, tuple[tuple[str, ...] | None, ...]]:
        """(values float64 [N, C], categories [C]) of all rows that were added."""
        read = [column.column() for column in self.columns]
        return np.column_stack([values for values, _ in read]), tuple(one for _, one in read)


def _listed(names, most=12):
    shown = ", ".join(map(repr, names[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
