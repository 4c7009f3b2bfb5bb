"""The folder of a run, from whose files every figure can be drawn again.

Its files are config.json, environment.json, made_of.json, metrics.jsonl, metrics.csv, results.nc,
samples/, checkpoints/ and figures/. While a generation is computed, unfinished/ contains the files
from which a killed run resumes (`collapse_jax.runs.scratch`). JSON files contain numbers that are
not finite as the strings "NaN", "Infinity" and "-Infinity"; `RunFolder.rows` returns them as
numbers.
"""

import collections
import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from collapse_jax.errors import InputError, first_line
from collapse_jax.runs import distributed, made_of, strict_json
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.environment import check_numbers, environment
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

    Every file is written under a temporary name, then renamed. In a job of several processes, only
    process 0 writes.
    """

    def __init__(self, path: str | os.PathLike, part: tuple[int | str, ...] = ()):
        """Stores the path of a folder; no file is read or written.

        Args:
            path: The folder, which need not exist; `~` is the home folder.
            part: Numbers of the chains to compute, or the name of another part of the run, if other
                calls compute the other parts; () is all.
        """
        self.path, self.part = made_of.expanded(path), part
        self.figures = self.path / "figures"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.unfinished = self.path / "unfinished"
        if part:
            self.unfinished /= "_".join(["chains", *map(str, part)])
        self._locks = []
        # Whether its settings were held against those of a call.
        self.opened = False

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        config: Settings,
        needed_bytes: int = 0,
        part: tuple[int | str, ...] = (),
        *,
        inputs: Mapping[str, Any] | None = None,
        say: Callable[[str], object] = print,
    ) -> "RunFolder":
        """Creates and locks the folder of a run, or opens the folder of the same run.

        Args:
            path: The folder.
            config: The settings of the run; they are written to config.json.
            needed_bytes: Disk space that the run needs.
            part: As for the class.
            inputs: Entries of `runs.made_of`: hashes of the inputs of the run.
            say: Called with a line if versions or devices differ from those with which the folder
                was made, or if an older version made the folder.

        Returns:
            The open folder, which stays locked as long as the object exists.

        Raises:
            InputError: If the folder cannot be written, its disk has less space left, it is not a
                run folder, its run has other settings, inputs or options of JAX (the message names
                them), or another process uses it.
        """
        folder = cls(path, part)
        distributed.on_first(lambda: folder._open(config, needed_bytes, inputs or {}, say))
        folder.opened = True
        return folder

    def _open(self, config, needed_bytes, inputs, say):
        self._check(config, inputs)
        nearest = None
        try:
            nearest = self._nearest()
            free = shutil.disk_usage(nearest).free
            if free < needed_bytes:
                raise InputError(
                    f"{self.path} has {free / 2**30:.1f} GiB left, but this run needs about "
                    f"{needed_bytes / 2**30:.1f}; choose another --out or free some space"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path, self.part) as self._locks:
                is_new = not (self.path / "config.json").is_file()
                if not is_new:
                    # Again: another part may have made it meanwhile.
                    self._check_settings(config, inputs)
                    config = grown(self.config(), config)
                self.write_text("config.json", strict_json.dumps(as_dict(config), indent=2) + "\n")
                self.keep_environment(say)
                self._keep_inputs(inputs, (lambda line: None) if is_new else say)
                self.figures.mkdir(exist_ok=True)
        except OSError as error:
            self._remove_empty_below(nearest)
            raise InputError(
                f"{self.path} cannot be written ({error.strerror}); choose another --out or free "
                "some space"
            ) from None

    def check(self, config: Settings, inputs: Mapping[str, Any] | None = None) -> None:
        """Raises the `InputError` that `open` would raise, without writing anything."""
        distributed.on_first(lambda: self._check(config, inputs or {}))

    def keep_environment(self, say: Callable[[str], object] = print) -> None:
        """Writes environment.json: the present environment, and under "earlier" the former ones.

        Args:
            say: Called with a line if versions or devices differ from before.

        Raises:
            InputError: If the folder was made with options of JAX that give other numbers.
        """
        before = self._environment()
        for line in check_numbers(before, str(self.path)):
            say(line)
        now = environment()
        if before is not None:
            earlier = before.pop("earlier", [])
            now["earlier"] = [*(earlier if isinstance(earlier, list) else [earlier]), before]
        self.write_text("environment.json", strict_json.dumps(now, indent=2) + "\n")

    def keep_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Saves the hashes of a run's inputs, or compares them with the saved ones.

        Args:
            inputs: Entries of `runs.made_of`.

        Raises:
            InputError: If an input has changed; the message names it.
        """

        def keep():
            made_of.refuse_changed(self.path, inputs)
            self._keep_inputs(inputs, lambda line: None)

        distributed.on_first(keep)

    def _environment(self):
        path = self.path / "environment.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return self._numbers_of_checkpoints()
        except (OSError, ValueError, RecursionError) as error:
            raise damaged(path, first_line(error, 200)) from None
        if not isinstance(values, dict):
            raise damaged(path, "it is not an object")
        return values

    def _numbers_of_checkpoints(self):
        """The environment in the newest checkpoint of some chain; None without a checkpoint."""
        for chain in sorted(self.checkpoints.glob("*")):
            steps = [int(path.name) for path in chain.glob("*") if path.name.isdecimal()]
            with contextlib.suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
                path = chain / str(max(steps)) / "checksums" / "metadata"
                return dict(json.loads(path.read_text(encoding="utf-8"))["numbers"])
        return None

    def _keep_inputs(self, inputs, say):
        new = made_of.unknown(self.path, inputs)
        if new:
            say(
                f"{self.path} was started without hashes of its inputs; those of {', '.join(new)} "
                "are saved from now on"
            )
            kept = made_of.read(self.path) or {}
            made_of.write(self.path, kept | {name: inputs[name] for name in new})

    def _check(self, config, inputs):
        try:
            if (self.path / "config.json").is_file():
                self._check_settings(config, inputs)
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

    def _check_settings(self, config, inputs):
        saved = self.config()
        if type(saved) is not type(config):
            raise InputError(
                f"{self.path} holds a run of another kind ({saved.command}); choose another --out"
            )
        differing = differing_fields(saved, config, self.moved(config, inputs))
        if differing:
            raise InputError(
                f"{self.path} holds a run with other settings ({'; '.join(differing)}); "
                "choose another --out"
            )
        check_numbers(self._environment(), str(self.path))
        made_of.refuse_changed(self.path, inputs)

    def moved(self, config: Settings, inputs: Mapping[str, Any] | None = None) -> list[str]:
        """Returns the fields whose paths may differ, because their contents are compared instead.

        Args:
            config: The settings of a run.
            inputs: Entries of `runs.made_of`; without them, a field counts if the folder has
                hashes with which its contents can be compared later.
        """
        kept = (made_of.read(self.path) or {}).keys()
        return [
            field
            for field, name in config.paths.items()
            if name in kept and (not inputs or name in inputs)
            if made_of.expanded(getattr(config, field) or "").exists()
        ]

    def lock(self) -> None:
        """Locks the folder against other processes for as long as this object exists.

        Incomplete files of a killed process are removed.

        Raises:
            InputError: If another process uses the folder, or it cannot be written.
        """

        def keep_locks():
            try:
                with locked(self.path, self.part) as self._locks:
                    pass
            except OSError as error:
                raise InputError(
                    f"{self.path} cannot be written ({error.strerror}); choose another folder, or "
                    "free some space"
                ) from None

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
        """Returns the settings in config.json, as the dataclass of their command.

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
        """Returns the records so far: one per chain and generation, or per step of a pretraining.

        Args:
            *needed: Names of numbers that every record must have.

        Raises:
            InputError: If the file cannot be read, or contains anything else.
        """
        return list(self.each_row(*needed))

    def last_row(self, *needed: str) -> dict | None:
        """Returns the last of `rows` without loading the others; None if there is none."""
        last = collections.deque(self.each_row(*needed), maxlen=1)
        return last[0] if last else None

    def each_row(self, *needed: str) -> Iterator[dict]:
        """Yields the records of `rows` one by one, without loading them all."""
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
            rows: A list, which is then sorted by chain and generation; or an iterator over sorted
                rows with the same names, of which one at a time is in memory.
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
        """Returns the data set of results.nc; None if the file does not exist yet.

        Raises:
            InputError: If it is damaged.
        """
        path = self.path / "results.nc"
        return read_results(path) if path.is_file() else None

    def write_results(self, data: "xarray.Dataset") -> None:
        """Writes or replaces results.nc, with its origin among the attributes.

        These are `settings` (config.json) and `packages` (versions) as JSON, and `git_commit`.
        """
        if distributed.is_first():
            write_results(self.path / "results.nc", data.assign_attrs(self._made_with()))

    def _made_with(self) -> dict[str, str]:
        """Name -> text, as far as the files are there."""
        found = {}
        with contextlib.suppress(OSError, ValueError):
            text = (self.path / "config.json").read_text(encoding="utf-8")
            found["settings"] = json.dumps(json.loads(text))
        with contextlib.suppress(OSError, ValueError):
            text = (self.path / "environment.json").read_text(encoding="utf-8")
            environment = json.loads(text)
            found["packages"] = json.dumps(environment.get("packages"))
            found["git_commit"] = environment.get("git_commit") or "not known"
        return found
