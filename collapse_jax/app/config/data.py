"""Settings of real data out of a file, in the place of a family's own real distribution."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from collapse_jax.app.config.checks import LARGEST_SEED, at_least, at_most
from collapse_jax.errors import InputError
from collapse_jax.runs.settings import Settings


@dataclasses.dataclass(frozen=True)
class DataSettings(Settings):
    """Real data of one's own."""

    paths: ClassVar[Mapping[str, str]] = {"data": "data"}

    data: str = ""
    """A file of real data, which takes the place of the family's own: CSV, TSV (also .gz), parquet,
    npy or npz. Its rows are drawn without replacement, and docs/own-data.md says what each family
    wants."""
    columns: tuple[str, ...] = ()
    """Names of the columns to read, in this order; by default all."""
    target: str = ""
    """Of a regression: the column that the others explain."""
    categories: tuple[str, ...] = ()
    """Columns that are read as categories whatever they hold, as codes with leading zeros."""
    missing: Literal["refuse", "drop"] = "refuse"
    """refuse: a missing value is an error. drop: rows with one are left out."""
    intercept: bool = True
    """Of a regression: a column of ones before the others."""
    held_out: float = 0.0
    """The share of rows that no generation sees. held_out_log_prob, the mean log-probability of
    such a row under each generation's model, is then recorded, and of linear_regression
    held_out_squared_error too."""
    split_seed: int = 0
    """Which rows are held out. It is no part of `seed`: runs of several seeds have one split."""

    def check_data(self) -> None:
        """Raises `InputError` for the first setting of the data whose value means nothing."""
        at_least(self, 0, "split_seed")
        at_most(self, LARGEST_SEED, "split_seed")
        if not 0 <= self.held_out < 1:
            raise InputError(
                f"held_out is {self.held_out}; it must be a share of the rows, at least 0 and "
                "below 1"
            )
        if self.split_seed != 0 and self.held_out == 0:
            raise InputError(
                f"split_seed is {self.split_seed}, and no rows are held out; give --held-out 0.2"
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
        """What names the data among points of a grid: how they are read, and not where they lie."""
        given = {name: getattr(self, name) for name in self.data_defaults()}
        changed = (
            f"{name}={value!r}"
            for name, value in given.items()
            if value != self.data_defaults()[name]
        )
        return " ".join([" data", *changed]) if self.data else ""
