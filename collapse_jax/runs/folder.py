"""A run is a folder: config.json, environment.json, metrics.jsonl, metrics.csv, results.nc,
samples/, checkpoints/, figures/.

While a generation is under way, unfinished/ holds what a killed run goes on from
(`collapse_jax.runs.scratch`).
"""

import contextlib
import csv
import dataclasses
import datetime
import errno
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys

import filelock
import numpy as np

from collapse_jax.app.config import config_from_dict, differing_fields
from collapse_jax.errors import InputError
from collapse_jax.runs import distributed
from collapse_jax.runs.atomic import LEFT_OVER, atomic

_LOCK, _PATIENCE = ".lock", 10.0
# What a run folder that is just being made may hold before its config.json.
_FIRST = (_LOCK, ".config.json.")
_SUM = "sha256"
_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "datasets",
    "tokenizers",
    "numpy",
    "collapse-jax",
)


class RunFolder:
    """The files of one run. Every write is whole: to a temporary name, then renamed; in a job of
    several processes process 0 writes.

    part: numbers of chains, where others may make the others beside; () for all of them.
    """

    def __init__(self, path, part: tuple[int, ...] = ()):
        self.path, self.part = pathlib.Path(path).expanduser(), part
        self.figures, self.samples, self.checkpoints = (
            self.path / "figures",
            self.path / "samples",
            self.path / "checkpoints",
        )
        self.unfinished = (
            self.path / "unfinished" / "_".join(["chains", *map(str, part)])
            if part
            else self.path / "unfinished"
        )
        self._locks = []

    @classmethod
    def open(cls, path, config, needed_bytes: int = 0, part: tuple[int, ...] = ()) -> "RunFolder":
        """The folder for a run with this configuration, or for a part of it: a new one, or one that
        holds the same run.

        Raises `InputError` when it cannot be written, its disk has less than `needed_bytes` left,
        it holds something else, a run whose settings differ (they are named), or one that another
        process is at work on.
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
                sizes = (
                    f"{free / 2**30:.1f} GiB left, and this run needs about "
                    f"{needed_bytes / 2**30:.1f}"
                )
                raise InputError(f"{self.path} has {sizes}; choose another --out or make room")
            self.path.mkdir(parents=True, exist_ok=True)
            with self._held():
                if (self.path / "config.json").is_file():
                    self._check_settings(
                        config
                    )  # again: another part may have begun the folder since
                    there = self.config()
                    config = dataclasses.replace(
                        config, **{name: _grown(there, config, name) for name in config.may_change}
                    )
                self.write_text("config.json", json.dumps(_with_command(config), indent=2) + "\n")
                self.write_text("environment.json", json.dumps(environment(), indent=2) + "\n")
                self.figures.mkdir(exist_ok=True)
        except OSError as error:
            self._remove_empty_below(nearest)
            raise InputError(
                f"{self.path} cannot be written ({error.strerror}); choose another --out "
                "or make room"
            ) from None

    def check(self, config) -> None:
        """What `open` refuses, found without writing anything."""
        distributed.on_first(lambda: self._check(config))

    def _check(self, config):
        try:
            if (self.path / "config.json").is_file():
                self._check_settings(config)
            elif self.path.exists() and (
                not self.path.is_dir()
                or any(not one.name.startswith(_FIRST) for one in self.path.iterdir())
            ):
                raise InputError(f"{self.path} exists and is no run folder; choose another --out")
            nearest = self._nearest()
            if (self.path / _LOCK).is_file():
                with RunFolder(self.path, self.part)._held():
                    pass
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read ({error.strerror}); choose another --out"
            ) from None
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(
                f"{self.path} cannot be written ({nearest} is no folder that may be "
                "written to); choose another --out"
            )

    def _check_settings(self, config):
        there = self.config()
        if type(there) is not type(config):
            raise InputError(
                f"{self.path} holds a run of another kind ({there.command}); choose another --out"
            )
        differing = differing_fields(there, config)
        if differing:
            raise InputError(
                f"{self.path} holds a run with other settings ({'; '.join(differing)}); "
                "choose another --out"
            )

    def lock(self) -> None:
        """Keeps other processes out for as long as this object lives, and clears away what a killed
        one left half-written.

        Raises `InputError` where another process is at work here.
        """

        def hold():
            with self._held():
                pass

        distributed.on_first(hold)

    @contextlib.contextmanager
    def _held(self):
        """Nobody else starts while this lasts; the locks of this folder, or of its part, stay."""
        whole, words = (
            self.path / _LOCK,
            f"{self.path} is in use by another process; wait until it ends, or choose "
            "another --out",
        )
        of_parts = sorted(self.path.glob(f"{_LOCK}_*"))
        if not self.part:
            self._locks = [_locked(whole, words)]
            for path in of_parts:
                _locked(path, words).release()
                path.unlink(missing_ok=True)
            for left in (*self.path.glob(LEFT_OVER), *self.path.glob(f"*/{LEFT_OVER}")):
                left.unlink(missing_ok=True)
            yield
            return
        # Others of the kind hold it for a moment only.
        whole = _locked(whole, words, seconds=_PATIENCE)
        try:
            chains = {number: self.path / f"{_LOCK}_{number}" for number in self.part}
            self._locks = [
                _locked(path, f"chain {number} of {words}") for number, path in chains.items()
            ]
            yield
        finally:
            whole.release()

    def _nearest(self):
        """The folder itself, or the nearest one above it that exists."""
        return next(
            folder for folder in (self.path, *self.path.absolute().parents) if folder.exists()
        )

    def _remove_empty_below(self, nearest):
        """Takes away the folders that were made on the way to this one, if they are empty."""
        for folder in (self.path, *self.path.absolute().parents):
            if nearest is None or folder == nearest:
                return
            with contextlib.suppress(OSError):
                folder.rmdir()

    def config(self):
        """The configuration in config.json, checked field by field."""
        path = self.path / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{self.path} is no run folder: it has no config.json") from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        return config_from_dict(values, str(path))

    def write_text(self, name: str, text: str) -> None:
        """One text file of the folder, replaced whole."""
        if not distributed.is_first():
            return
        with atomic(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def rows(self, *needed: str) -> list[dict]:
        """The records so far, one per chain and generation (or step of a pretraining).

        needed: names that each must have. Raises `InputError` for a file that cannot be read or
        holds anything else.
        """
        path = self.path / "metrics.jsonl"
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(path, error) from None
        for number, row in enumerate(rows, 1):
            if not _is_record(row, needed):
                names = ", ".join(needed) or "generation or step"
                raise _damaged(
                    path, f"line {number} is no record, an object with the numbers {names}"
                )
        return rows

    def write_rows(self, rows: list[dict]) -> None:
        """metrics.jsonl and metrics.csv, one row per chain and generation (or step of a
        pretraining), in that order.
        """
        rows = sorted(
            rows,
            key=lambda row: (
                row.get("chain", 0),
                row["generation"] if "generation" in row else row["step"],
            ),
        )
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text("metrics.csv", text.getvalue())
        # Last, for it is what says that a generation is recorded.
        self.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def results(self):
        """results.nc as an `xarray.Dataset`, loaded; None where there is none yet.

        Raises `InputError` where it cannot be read.
        """
        import xarray

        path = self.path / "results.nc"
        if not path.is_file():
            return None
        try:
            with xarray.open_dataset(path, engine="scipy") as data:
                data.load()
        except Exception as error:  # the reader trusts the file, and fails as it happens to
            raise _damaged(path, error) from None
        expected = data.attrs.pop(_SUM, None)  # files of older versions have none
        if expected is not None and expected != _sum_of(data):
            raise _damaged(path, "it is not what was written")
        return data

    def write_results(self, data) -> None:
        """results.nc from an `xarray.Dataset`."""
        if not distributed.is_first():
            return
        with atomic(self.path / "results.nc") as temporary:
            data.assign_attrs({_SUM: _sum_of(data)}).to_netcdf(temporary, engine="scipy")


def _locked(path, words, seconds=0.0):
    """A lock that goes when its last owner does.

    Raises `InputError` with these words where another process has it.
    """
    lock = filelock.FileLock(path, is_singleton=True)
    try:
        with contextlib.suppress(NotImplementedError):  # a Python without locks
            lock.acquire(timeout=seconds)
    except filelock.Timeout:
        raise InputError(words) from None
    except OSError as error:
        # Some network file systems have no locks; there the user is trusted to start one process.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return lock


def results_of(arrays: dict[tuple[int, int], dict[str, np.ndarray]]):
    """An `xarray.Dataset` [chain, generation, ...] of the arrays of each (chain, generation);
    shorter ones are padded with nan.
    """
    import xarray

    chains = sorted({chain for chain, _ in arrays})
    generations = sorted({generation for _, generation in arrays})
    variables = {}
    for name in sorted({name for one in arrays.values() for name in one}):
        parts = {at: np.asarray(one[name]) for at, one in arrays.items() if name in one}
        ndim = max(part.ndim for part in parts.values())
        shape = tuple(max(part.shape[axis] for part in parts.values()) for axis in range(ndim))
        whole = np.full(
            (len(chains), len(generations), *shape), np.nan, np.float32 if ndim else np.float64
        )
        for (chain, generation), part in parts.items():
            where = (
                chains.index(chain),
                generations.index(generation),
                *(slice(0, size) for size in part.shape),
            )
            whole[where] = part
        variables[name] = (
            ("chain", "generation", *(f"{name}_{axis}" for axis in range(ndim))),
            whole,
        )
    return xarray.Dataset(variables, coords={"chain": chains, "generation": generations})


def _is_record(row, needed):
    if not isinstance(row, dict) or not ("generation" in row or "step" in row):
        return False
    counts = [row[name] for name in ("chain", "generation", "step") if name in row]
    numbers = [row.get(name) for name in needed]
    return all(type(one) is int and one >= 0 for one in counts) and all(
        type(one) in (int, float) for one in numbers
    )


def environment() -> dict:
    """What a reader needs to run this again: versions, devices, the git commit, the command, the
    time.
    """
    import jax

    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [str(device) for device in jax.devices()],
        "processes": jax.process_count(),
        "jax_enable_x64": bool(jax.config.jax_enable_x64),
        "packages": versions,
        "git_commit": _git_commit(),
    }


def _git_commit():
    here = pathlib.Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def _sum_of(data):
    """A hash of the names, shapes and values of a data set; the same after a NetCDF file, which
    narrows integers and turns bytes round.
    """
    digest = hashlib.sha256()
    for name in sorted(map(str, data.variables)):
        values = data[name].values
        digest.update(f"{name} {data[name].dims} {values.shape}".encode())
        if values.dtype.kind == "f":
            values = values.astype(values.dtype.newbyteorder("="))
        elif values.dtype.kind in "iub":
            values = values.astype(np.int64)
        else:
            values = np.frombuffer("\0".join(map(str, values.ravel())).encode(), np.uint8)
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _damaged(path, error):
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return InputError(
        f"{path} is damaged ({reason}); delete it, and the command of the run writes it again"
    )


def _grown(there, here, name):
    """The larger of two numbers; of settings that are words, the one said now."""
    values = getattr(there, name), getattr(here, name)
    return values[1] if isinstance(values[1], str) else max(values)


def _with_command(config):
    return {"command": config.command} | dataclasses.asdict(config)
