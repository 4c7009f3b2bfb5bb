"""A table of real data: numbers, and categories as codes, with the names of both."""

from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from collapse_jax.core.tables.labels import labelled
from collapse_jax.errors import InputError, one_key, real

if TYPE_CHECKING:
    import xarray

# What a column of truth values has as categories, so that its codes are the numbers 0 and 1.
TRUTH_VALUES = ("false", "true")


class Table(NamedTuple):
    """Rows of named columns. `cj.read_data` reads one from a file.

    values: float64 [N, C], one column for each name; for categories, their codes 0, 1, ... An array
        with more than two axes is [N, ...], with one name for all of it.
    names: [C].
    categories: [C], for each column None if it contains numbers, else its categories: code k is
        `categories[column][k]`. Whole numbers and words have ascending categories. Booleans have
        ("false", "true").
    """

    values: np.ndarray
    names: tuple[str, ...]
    categories: tuple[tuple[str, ...] | None, ...]

    def __repr__(self) -> str:
        kinds = [
            f"{name} ({'numbers' if labels is None else f'{len(labels)} categories'})"
            for name, labels in zip(self.names[:8], self.categories, strict=False)
        ]
        more = f" and {len(self.names) - 8} more" if len(self.names) > 8 else ""
        return f"table of {self.rows:,} rows: {', '.join(kinds)}{more}"

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.values)

    @property
    def numbers(self) -> np.ndarray:
        """Returns the values as numbers [N, C]; booleans become 0 and 1.

        Raises:
            InputError: If a column contains categories.
        """
        for name, categories in zip(self.names, self.categories, strict=True):
            if categories not in (None, TRUTH_VALUES):
                raise InputError(
                    f"column {name!r} contains categories such as {categories[0]!r}; it must "
                    "contain numbers"
                )
        return self.values

    @property
    def codes(self) -> np.ndarray:
        """Returns the codes of the categories, int32 [N] for one column, else [N, C].

        Raises:
            InputError: If a column contains numbers.
        """
        for name, categories in zip(self.names, self.categories, strict=True):
            if categories is None:
                raise InputError(
                    f"column {name!r} contains numbers instead of categories; read it with "
                    f"categories=[{name!r}]"
                )
        codes = self.values.astype(np.int32)
        return codes[:, 0] if len(self.names) == 1 else codes

    def take(self, rows: np.ndarray) -> "Table":
        """Returns the table of some rows, chosen by their numbers or by a boolean mask."""
        return self._replace(values=self.values[rows])

    def labelled(self, results: "xarray.Dataset", intercept: bool = False) -> "xarray.Dataset":
        """Returns the results of a simulation of this data, with its names as coordinates.

        The entries of `probabilities` and `probabilities_COLUMN` get the names of the categories;
        those of `mean` and, without the last column, those of `weights` get the names of the
        columns.

        Args:
            results: the result of `Trace.to_xarray`.
            intercept: whether a column of ones was inserted before the others.
        """
        categories = (self.categories[0] or ()) if len(self.names) == 1 else ()
        first = ("intercept",) if intercept else ()
        features = (*first, *self.names[:-1])
        return labelled(results, self.names, features, categories, self._by_column())

    def _by_column(self):
        return {
            name: labels
            for name, labels in zip(self.names, self.categories, strict=True)
            if labels is not None
        }

    def split(self, held_out: float, key: jax.Array) -> "tuple[Table, Table]":
        """Returns (training rows, held-out rows), split at random, in the order of the file.

        Args:
            held_out: the share of rows that are held out, above 0 and below 1; rounded to rows,
                with at least one row in each part.
            key: one typed key that is used for nothing else.

        Raises:
            InputError: For a share outside (0, 1), an invalid key, or fewer than two rows.
        """
        train, test = held_out_rows(self.rows, held_out, key)
        return self.take(train), self.take(test)


def held_out_rows(rows: int, held_out: float, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ascending numbers of (training rows, held-out rows); see `Table.split`."""
    share = real("held_out", held_out, above=0)
    if not share < 1:
        raise InputError(f"held_out is {share}; it must be a share of the rows below 1")
    one_key("key", key)
    if rows < 2:
        raise InputError(f"the data has {rows} row; a held-out part needs at least 2")
    count = min(max(round(share * rows), 1), rows - 1)
    with jax.ensure_compile_time_eval():
        order = np.asarray(jax.random.permutation(key, rows))
    return np.sort(order[count:]), np.sort(order[:count])
