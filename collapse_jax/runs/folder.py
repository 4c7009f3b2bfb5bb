"""A run is a folder of files, from which every figure can be drawn again.

config.json, environment.json, metrics.jsonl, metrics.csv, results.nc, samples/, checkpoints/ and
figures/. While a generation is computed, unfinished/ holds what a killed run resumes from
(`collapse_jax.runs.scratch`). JSON files hold numbers that are not finite as the texts "NaN",
"Infinity" and "-Infinity", which `RunFolder.rows` gives back as numbers.
"""

import collections
import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

from collapse_jax.errors import InputError, first_line
from collapse_jax.runs import distributed, strict_json
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.environment import environment
from collapse_jax.runs.locks import LOCK, locked
from collapse_jax.runs.results import damaged, read_results, write_results
from collapse_jax.runs.rows import read_rows, write_rows
from collapse_jax.runs.settings import Settings, as_dict, differing_fields, from_dict, grown

if TYPE_CHECKING:
    import xarray

# What a new run folder may hold before its config.json.
_FIRST = (LOCK, ".config.json.")


class RunFolder:
    """The files of one run.

    Every file is written under a temporary name, then renamed. In a job of several processes
    process 0 writes.
    """

    def __init__(self, path: str | os.PathLike, part: tuple[int, ...] = ()):
        """Names the files of a folder, and neither reads nor writes any.

        Args:
            path: The folder, which need not exist; `~` is the home folder.
            part: Numbers of the chains to compute, while other calls may compute others; () is all.
        """
        self.path, self.part = pathlib.Path(path).expanduser(), part
        self.figures = self.path / "figures"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.unfinished = self.path / "unfinished"
        if part:
            self.unfinished /= "_".join(["chains", *map(str, part)])
        self._locks = []

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        config: Settings,
        needed_bytes: int = 0,
        part: tuple[int, ...] = (),
    ) -> "RunFolder":
        """Makes the folder of a run, or goes on with the one that holds the same run, and locks it.

        Args:
            path: The folder.
            config: The settings of the run; they are written to config.json.
            needed_bytes: Disk space that the run needs.
            part: As for the class.

        Raises:
            InputError: If the folder cannot be written, its disk has less space left, it holds
                something else or a run with other settings (the text names them), or another
                process works on it.
        """
        folder = cls(path, part)
        distributed.on_first(lambda: folder._open(config, needed_bytes))
        return folder

    def _open(self, config, needed_bytes):
        self._check(config)
        nearest = None
        try:
            nearest = self._nearest()
            free = shutil.disk_usage(nearest).free
            if free < needed_bytes:
                raise InputError(
                    f"{self.path} has {free / 2**30:.1f} GiB left, and this run needs about "
                    f"{needed_bytes / 2**30:.1f}; choose another --out or free some space"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path, self.part) as self._locks:
                if (self.path / "config.json").is_file():
                    self._check_settings(config)  # again: another part may have made it meanwhile
                    config = grown(self.config(), config)
                self.write_text("config.json", strict_json.dumps(as_dict(config), indent=2) + "\n")
                about = strict_json.dumps(environment(), indent=2)
                self.write_text("environment.json", f"{about}\n")
                self.figures.mkdir(exist_ok=True)
        except OSError as error:
            self._remove_empty_below(nearest)
            raise InputError(
                f"{self.path} cannot be written ({error.strerror}); choose another --out or free "
                "some space"
            ) from None

    def check(self, config: Settings) -> None:
        """Raises the `InputError` that `open` would raise, without writing anything."""
        distributed.on_first(lambda: self._check(config))

    def _check(self, config):
        try:
            if (self.path / "config.json").is_file():
                self._check_settings(config)
            elif self.path.exists() and not self._may_become_a_run():
                raise InputError(
                    f"{self.path} exists and is not a run folder; choose another --out"
                )
            nearest = self._nearest()
            if (self.path / LOCK).is_file():
                with locked(self.path, self.part):
                    pass
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read ({error.strerror}); choose another --out"
            ) from None
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(
                f"{self.path} cannot be written ({nearest} is not a folder with write permission); "
                "choose another --out"
            )

    def _may_become_a_run(self):
        return self.path.is_dir() and all(
            file.name.startswith(_FIRST) for file in self.path.iterdir()
        )

    def _check_settings(self, config):
        saved = self.config()
        if type(saved) is not type(config):
            raise InputError(
                f"{self.path} holds a run of another kind ({saved.command}); choose another --out"
            )
        differing = differing_fields(saved, config)
        if differing:
            raise InputError(
                f"{self.path} holds a run with other settings ({'; '.join(differing)}); "
                "choose another --out"
            )

    def lock(self) -> None:
        """Keeps other processes out for as long as this object lives.

        Files that a killed process left half written are removed.

        Raises:
            InputError: If another process works on the folder.
        """

        def keep_locks():
            with locked(self.path, self.part) as self._locks:
                pass

        distributed.on_first(keep_locks)

    def _nearest(self):
        """The folder itself, or the nearest one above it that exists."""
        return next(
            folder for folder in (self.path, *self.path.absolute().parents) if folder.exists()
        )

    def _remove_empty_below(self, nearest):
        """Removes the folders that were made on the way to this one, if they are empty."""
        for folder in (self.path, *self.path.absolute().parents):
            if nearest is None or folder == nearest:
                return
            with contextlib.suppress(OSError):
                folder.rmdir()

    def config(self) -> Settings:
        """The settings in config.json, as the dataclass of their command.

        Raises:
            InputError: If the file is missing or damaged, or a field is wrong.
        """
        path = self.path / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{self.path} is not a run folder: it has no config.json") from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        return from_dict(values, str(path), of_folder=True)

    def write_text(self, name: str, text: str) -> None:
        """Writes or replaces one text file of the folder."""
        if distributed.is_first():
            with atomic(self.path / name) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def rows(self, *needed: str) -> list[dict]:
        """The records so far: one per chain and generation, or per step of a pretraining.

        Args:
            *needed: Names of numbers that every record must have.

        Raises:
            InputError: If the file cannot be read, or holds anything else.
        """
        return list(self._each_row(needed))

    def last_row(self, *needed: str) -> dict | None:
        """The last of `rows`, none of the others held in memory; None if there is none."""
        last = collections.deque(self._each_row(needed), maxlen=1)
        return last[0] if last else None

    def _each_row(self, needed):
        path = self.path / "metrics.jsonl"
        try:
            yield from read_rows(path, needed)
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            raise damaged(path, first_line(error)) from None

    def write_rows(self, rows: Iterable[dict]) -> None:
        """Writes the records to metrics.jsonl and metrics.csv.

        Args:
            rows: A list, which is sorted by chain and generation; or an iterator over rows of the
                same names in that order, of which no more than one is held in memory.
        """
        if not distributed.is_first():
            return
        if isinstance(rows, list):
            rows = sorted(
                rows, key=lambda row: (row.get("chain", 0), row.get("generation", row.get("step")))
            )
        # metrics.jsonl gets its name last: it tells that a generation is recorded.
        with (
            atomic(self.path / "metrics.jsonl") as records,
            atomic(self.path / "metrics.csv") as table,
        ):
            write_rows(records, table, rows)

    def results(self) -> "xarray.Dataset | None":
        """results.nc, loaded; None if it does not exist yet.

        Raises:
            InputError: If it is damaged.
        """
        path = self.path / "results.nc"
        return read_results(path) if path.is_file() else None

    def write_results(self, data: "xarray.Dataset") -> None:
        """Writes or replaces results.nc."""
        if distributed.is_first():
            write_results(self.path / "results.nc", data)
