"""The rows and arrays of all chains and generations of a run, and the files made of them."""

import pathlib
import re
import time
from collections.abc import Callable

import numpy as np

from collapse_jax.drivers.labels import Provenance, with_labels
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import DamagedError, InputError
from collapse_jax.metrics.labels import Label, label_of
from collapse_jax.runs import distributed
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.results import results_of

# What a record holds: numbers, or nothing.
_SCALARS = int | float | None
# Records are written with every generation, until more than this many are there. All of them are
# written each time, so that from then on it is after every 50th part of them is new, ...
_WRITTEN_EACH_TIME = 50
# ... or after so many seconds, if that is also 20 times what it takes.
_LONGEST_BEHIND_SECONDS, _TIMES_ITS_COST = 1.0, 20
_CHAIN_FOLDER = re.compile(r"chain_(0|[1-9][0-9]{0,8})")


class Book:
    """Enters generations as they are saved, and writes the records of a run folder.

    folder: the run folder; of one with a part nothing is written.
    publish: (chain, generation, arrays), writes files of its own for each generation.
    published_only: names that stay out of results.nc.
    say: (line), for news of a damaged checkpoint.
    label: (name) -> its label in results.nc.
    """

    def __init__(
        self,
        folder: RunFolder,
        publish: Callable[[int, int, dict], None],
        published_only: tuple[str, ...],
        say: Callable[[str], None],
        label: Callable[[str], Label] = label_of,
    ):
        self._folder, self._publish, self._say, self._label = folder, publish, say, label
        self._left_out = {"chain", "generation", "seconds", *published_only}
        # (chain, generation) -> its row, and its arrays with the scalars of the row.
        self._rows, self._arrays = {}, {}
        # Generations that the written records lack, or whether they lack something else.
        self._behind = 0
        # When they were written last, and how long that took.
        self._written, self._seconds = time.monotonic(), 0.0

    def checkpoints_of(self, chain: int) -> pathlib.Path:
        """The folder of a chain's checkpoints."""
        return self._folder.checkpoints / f"chain_{chain}"

    def catch_up(self) -> None:
        """Enters every saved generation, and publishes what a crash or a part left unrecorded.

        Of a run folder with a part, those of its own chains. A generation whose records are
        damaged is set aside.
        """
        in_results = self._in_results()
        rows = self._folder.rows("chain", "generation") if in_results[0] else []
        recorded = {(row["chain"], row["generation"]) for row in rows}
        recorded = {
            place for place in recorded if place[0] in in_results[0] and place[1] in in_results[1]
        }
        chains = [
            int(path.name.removeprefix("chain_"))
            for path in self._folder.checkpoints.glob("chain_*")
            if path.is_dir() and _CHAIN_FOLDER.fullmatch(path.name)
        ]
        distributed.barrier()  # before any process goes on and makes more
        if self._folder.part:
            chains = [chain for chain in self._folder.part if chain in chains]
        missed = []
        for chain in sorted(chains):
            for generation, arrays in self._enter_saved(chain):
                if (chain, generation) not in recorded:
                    missed.append((chain, generation, arrays))
        if missed and not self._folder.part:
            for entry in missed:
                self._publish(*entry)
            self._write()

    def _in_results(self):
        """The chains and the generations in results.nc; where it is damaged, it is made again."""
        try:
            data = self._folder.results()
            coordinates = [] if data is None else [data["chain"], data["generation"]]
        except (InputError, KeyError):
            coordinates = []
        return [set(values.values.tolist()) for values in coordinates] or [set(), set()]

    def _enter_saved(self, chain):
        """Enters all saved generations of a chain: (generation, arrays) of each."""
        entered = []
        checkpoints = Checkpoints(self.checkpoints_of(chain), say=self._say)
        for generation in checkpoints.generations():
            try:
                entered.append((generation, self._enter_one(chain, generation, checkpoints)))
            except DamagedError as error:
                checkpoints.set_aside(generation, error)
        checkpoints.close()
        return entered

    def _enter_one(self, chain, generation, checkpoints):
        """Enters a saved generation; its arrays."""
        row, arrays = checkpoints.restore_record(generation)
        place = (row.get("chain"), row.get("generation"))
        if place != (chain, generation) or not all(
            isinstance(value, _SCALARS) for value in row.values()
        ):
            raise DamagedError(
                f"checkpoint {checkpoints.folder / str(generation)} is damaged (its record is not "
                f"that of chain {chain}, generation {generation})"
            )
        self._enter(chain, generation, row, arrays)
        return arrays

    def has(self, chain: int, generation: int, checkpoints: Checkpoints) -> bool:
        """Whether a generation is saved; one that came after `catch_up` is entered now.

        Args:
            chain: Its chain.
            generation: Its number.
            checkpoints: Those of the chain.
        """
        if generation not in checkpoints.generations():
            return False
        if (chain, generation) not in self._rows:
            try:
                arrays = self._enter_one(chain, generation, checkpoints)
            except DamagedError as error:
                checkpoints.set_aside(generation, error)
                return False
            if not self._folder.part:
                self._publish(chain, generation, arrays)
                self._write()
        return True

    def names(self, chain: int, generation: int) -> set[str]:
        """What is recorded of a generation that was entered."""
        return {*self._rows[chain, generation], *self._arrays[chain, generation]}

    @property
    def left_out(self) -> set[str]:
        """Names that stay out of results.nc."""
        return self._left_out

    def add(self, chain: int, generation: int, scalars: dict, arrays: dict) -> None:
        """Enters what was measured of a generation later; `close` writes it."""
        self._rows[chain, generation] |= scalars
        more = {name: np.asarray(value) for name, value in scalars.items()} | arrays
        self._arrays[chain, generation] |= more
        self._behind += 1

    def close(self) -> None:
        """Writes the records if something was added."""
        if self._behind and not self._folder.part:
            self._write()

    def end(self) -> None:
        """Writes the records after an error, unless the folder was moved or deleted meanwhile."""
        if self._folder.checkpoints.is_dir():
            self.close()

    def row(self, chain: int, generation: int) -> dict:
        """The row of a generation that was entered."""
        return self._rows[chain, generation]

    def _enter(self, chain, generation, row, arrays):
        scalars = {name: np.asarray(value) for name, value in row.items() if value is not None}
        self._rows[chain, generation] = row
        self._arrays[chain, generation] = {
            name: value for name, value in (scalars | arrays).items() if name not in self._left_out
        }

    def publish(self, chain: int, generation: int, row: dict, arrays: dict) -> None:
        """Enters a generation, writes its own files, and at times the records of all.

        What is not yet written is in the checkpoints: `close` writes it, or the next `catch_up`.
        """
        self._enter(chain, generation, row, arrays)
        if not self._folder.part:
            self._publish(chain, generation, arrays)
            self._behind += 1
            if self._is_due():
                self._write()

    def _is_due(self):
        """Whether the records are to be written: in all they take time in proportion to them."""
        waited = time.monotonic() - self._written
        longest = max(_LONGEST_BEHIND_SECONDS, _TIMES_ITS_COST * self._seconds)
        return self._behind * _WRITTEN_EACH_TIME >= len(self._rows) or waited >= longest

    def _write(self):
        began = time.monotonic()
        results = results_of(self._arrays)
        self._folder.write_results(with_labels(results, self._labels(results)))
        self._folder.write_rows(list(self._rows.values()))
        self._behind, self._written = 0, time.monotonic()
        self._seconds = self._written - began

    def trace(self, chains: int, generations: int) -> Trace:
        """The first chains, up to a generation."""
        entries = {
            (chain, generation): arrays
            for (chain, generation), arrays in self._arrays.items()
            if chain < chains and generation <= generations
        }
        data = results_of(entries)
        arrays = {str(name): variable.values for name, variable in data.data_vars.items()}
        labelled = Provenance(labels=self._labels(arrays))
        return Trace(arrays, data["generation"].values, provenance=labelled)

    def _labels(self, names):
        return {str(name): self._label(str(name)) for name in names}
