"""Settings of real data from a file, which replaces the real distribution of a family."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from collapse_jax.app.config.checks import LARGEST_SEED, at_least, at_most
from collapse_jax.errors import InputError
from collapse_jax.runs.settings import Settings


@dataclasses.dataclass(frozen=True)
class DataSettings(Settings):
    """Your own real data."""

    paths: ClassVar[Mapping[str, str]] = {"data": "data"}

    data: str = ""
    """A file of real data, which replaces the real distribution of the family: CSV, TSV (also .gz),
    parquet, npy or npz. Its rows are drawn without replacement. docs/own-data.md lists the columns
    that each family needs."""
    columns: tuple[str, ...] = ()
    """Names of the columns to read, in this order; by default all columns."""
    target: str = ""
    """For a regression: the column of responses, which the other columns explain."""
    categories: tuple[str, ...] = ()
    """Columns to read as categories even if they contain numbers, such as codes with leading
    zeros."""
    missing: Literal["refuse", "drop"] = "refuse"
    """refuse: a missing value is an error. drop: rows with a missing value are left out."""
    intercept: bool = True
    """For a regression: whether to add a column of ones before the others."""
    held_out: float = 0.0
    """The share of rows that are held out: no generation is trained on them. The metric
    held_out_log_prob is then recorded, the mean log-probability of a held-out row under each
    generation's model. linear_regression also records held_out_squared_error."""
    split_seed: int = 0
    """Seed of the choice of held-out rows. It does not depend on `seed`: runs with different seeds
    have the same split."""

    def check_data(self) -> None:
        """Raises `InputError` for the first invalid setting of the data."""
        at_least(self, 0, "split_seed")
        at_most(self, LARGEST_SEED, "split_seed")
        if not 0 <= self.held_out < 1:
            raise InputError(
                f"held_out is {self.held_out}; it must be a share of the rows, at least 0 and "
                "below 1"
            )
        if self.split_seed != 0 and self.held_out == 0:
            raise InputError(
                f"split_seed is {self.split_seed}, but no rows are held out; give --held-out 0.2"
            )
        for name, default in self.data_defaults().items():
            value = getattr(self, name)
            if not self.data and value != default:
                shown = " ".join(value) if isinstance(value, tuple) else value
                raise InputError(f"{name} is {shown} without data; give --data FILE")

    @staticmethod
    def data_defaults() -> dict:
        """The default of each of these settings but `data`."""
        fields = dataclasses.fields(DataSettings)
        return {field.name: field.default for field in fields if field.name != "data"}

    def data_name(self) -> str:
        """The name of the data in the stream of a grid point: how the file is read, without its
        path."""
        given = {name: getattr(self, name) for name in self.data_defaults()}
        changed = (
            f"{name}={value!r}"
            for name, value in given.items()
            if value != self.data_defaults()[name]
        )
        return " ".join([" data", *changed]) if self.data else ""
