"""Experiment trackers in addition to the run folder: TensorBoard, W&B, trackio.

A package is imported only if its tracker is asked for. Each seed is one run of the tracker, and the
seeds of a run folder form a group. The folder records what has been sent, so that a resumed run
sends nothing twice, and a finished run can still be sent.
"""

import contextlib
import importlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from collapse_jax.drivers.run import Watcher
from collapse_jax.errors import DamagedError, InputError, did_you_mean, first_line
from collapse_jax.runs import distributed
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder

# Where W&B and trackio put runs, unless their own variable of the environment names a project.
_PROJECT = "collapse-jax"
_BY_EPOCH = "_by_epoch"


class Writer(Protocol):
    """One run of a tracker."""

    def write(self, axis: str, step: int, values: Mapping[str, float]) -> None:
        """Sends numbers by name, at a step of an axis ("generation" or "epoch")."""

    def close(self) -> None:
        """Sends what is queued, and ends the run of the tracker."""


class _TensorBoard:
    """Event files in tensorboard/seed_N of the run folder."""

    def __init__(self, package, folder, seed, name, settings):
        self._writer = package.SummaryWriter(str(folder.path / "tensorboard" / f"seed_{seed}"))
        table = "\n".join(f"    {key}: {value}" for key, value in settings.items())
        self._writer.add_text("settings", table, 0)

    def write(self, axis, step, values):
        for name, value in values.items():
            self._writer.add_scalar(f"{axis}/{name}", value, step)
        self._writer.flush()

    def close(self):
        self._writer.close()


class _WandB:
    """A run of W&B, whose axes are generations and epochs."""

    def __init__(self, package, folder, seed, name, settings):
        folder.path.mkdir(parents=True, exist_ok=True)
        self._run = package.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            group=folder.path.name,
            name=f"{folder.path.name} seed {seed}",
            id=name,
            resume="allow",
            config=dict(settings),
            dir=str(folder.path),
        )
        for axis in ("generation", "epoch"):
            self._run.define_metric(axis)
            self._run.define_metric(f"{axis}/*", step_metric=axis)

    def write(self, axis, step, values):
        self._run.log({axis: step} | {f"{axis}/{name}": value for name, value in values.items()})

    def close(self):
        self._run.finish()


class _Trackio:
    """A run of trackio; its steps are generations or epochs."""

    def __init__(self, package, folder, seed, name, settings):
        self._package = package
        package.init(
            project=os.environ.get("TRACKIO_PROJECT", _PROJECT),
            group=folder.path.name,
            name=f"{folder.path.name} seed {seed} {name}",
            resume="allow",
            config=dict(settings),
        )

    def write(self, axis, step, values):
        named = {f"{axis}/{name}": value for name, value in values.items()}
        self._package.log(named, step=step)

    def close(self):
        self._package.finish()


# Name -> the package, and the writer.
TRACKERS: dict[str, tuple[str, Callable[..., Writer]]] = {
    "tensorboard": ("tensorboardX", _TensorBoard),
    "wandb": ("wandb", _WandB),
    "trackio": ("trackio", _Trackio),
}


def check_trackers(track: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the names of trackers; checks that each is known and installed.

    Raises:
        InputError: For the first that is unknown or not installed.
    """
    names = (track,) if isinstance(track, str) else tuple(track)
    for name in names:
        if name not in TRACKERS:
            raise InputError(
                f"track is {name!r}; it must be one or several of "
                f"{', '.join(TRACKERS)}{did_you_mean(name, TRACKERS)}"
            )
        package = TRACKERS[name][0]
        try:
            importlib.import_module(package)
        except ImportError:
            raise InputError(
                f"track is {name!r}, which needs the package {package}; run pip install "
                f"'collapse-jax[{name}]'"
            ) from None
    return names


@contextlib.contextmanager
def tracked(
    folder: RunFolder,
    settings: Mapping[str, Any],
    names: Sequence[str],
    watcher: Watcher,
    seed: int = 0,
) -> Iterator[Watcher]:
    """Yields a watcher that also sends every generation to trackers.

    Args:
        folder: The run folder.
        settings: The settings as config.json stores them.
        names: Names of `TRACKERS`; in a job of several processes only the first one sends.
        watcher: Called before the trackers. `say` gets a line about a tracker that fails; the run
            continues without it.
        seed: The first seed of this call; its tracker runs are opened immediately.

    Raises:
        InputError: If a tracker cannot be opened.
    """
    if not names or not distributed.is_first():
        yield watcher
        return
    trackers = _Trackers(folder, settings, names, watcher.say)
    try:
        trackers.begin(seed)

        def end(chain, generation, row):
            watcher.end(chain, generation, row)
            trackers.send(chain, generation, row)

        yield watcher._replace(end=end)
    finally:
        trackers.close()


class _Trackers:
    """The trackers of a run folder, with the runs of one seed open."""

    def __init__(self, folder, settings, names, say):
        self._folder, self._settings, self._names, self._say = folder, settings, names, say
        self._seed, self._writers = -1, {}
        # The run's name at the trackers, and the newest generation that each got.
        self._note: dict[str, Any] = {}

    def begin(self, seed):
        """Opens the runs of a seed; raises `InputError` for the first that does not open."""
        self.close()
        self._seed, self._note = seed, self._read_note(seed)
        for name in self._names:
            package, writer = TRACKERS[name]
            try:
                self._writers[name] = writer(
                    importlib.import_module(package),
                    self._folder,
                    seed,
                    self._note["name"],
                    self._settings,
                )
            except Exception as error:  # each package has errors of its own
                raise InputError(
                    f"track is {name!r}, which could not be opened ({first_line(error, 200)})"
                ) from None

    def send(self, seed, generation, row):
        """Sends a generation to the trackers that have not received it yet."""
        try:
            if seed != self._seed:
                self.begin(seed)
        except InputError as error:
            self._give_up(list(self._names), error)
        late = [name for name in self._writers if self._note["sent"].get(name, -1) < generation]
        if not late:
            return
        by_epoch = self._losses(seed, generation)
        for name in late:
            try:
                self._send_one(self._writers[name], generation, row, by_epoch)
                self._note["sent"][name] = generation
            except Exception as error:  # the network, a full disk there, ...
                self._give_up([name], error)
        self._write_note()

    def _send_one(self, writer, generation, row, by_epoch):
        values = {
            name: float(value)
            for name, value in row.items()
            if name not in ("chain", "generation") and isinstance(value, int | float)
        }
        # Epochs are counted on over the fits of all generations.
        epochs = max(map(len, by_epoch.values()), default=0)
        for epoch in range(epochs):
            losses = {name: float(values[epoch]) for name, values in by_epoch.items()}
            writer.write("epoch", generation * epochs + epoch, losses)
        writer.write("generation", generation, values)

    def _losses(self, seed, generation):
        """Training and validation loss of a fit by epoch; {} if they have been deleted."""
        folder = self._folder.checkpoints / f"chain_{seed}"
        if not (folder / str(generation)).is_dir():
            return {}
        try:
            with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
                _, arrays = checkpoints.restore_record(generation)
        except DamagedError:
            return {}
        return {
            name.removesuffix(_BY_EPOCH): values
            for name, values in arrays.items()
            if name.endswith(_BY_EPOCH)
        }

    def _give_up(self, names, error):
        for name in names:
            self._writers.pop(name, None)
        self._names = [name for name in self._names if name not in names]
        self._say(
            f"{', '.join(names)}: {first_line(error, 200)}; the run continues without it; the same "
            "command sends the rest later"
        )

    def close(self):
        """Ends the open runs."""
        for name, writer in self._writers.items():
            try:
                writer.close()
            except Exception as error:
                self._say(f"{name}: {first_line(error, 200)}")
        self._writers = {}

    def _note_file(self, seed):
        return self._folder.path / "tracked" / f"seed_{seed}.json"

    def _read_note(self, seed):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            note = json.loads(self._note_file(seed).read_text(encoding="utf-8"))
            sent = {str(name): int(newest) for name, newest in note["sent"].items()}
            return {"name": str(note["name"]), "sent": sent}
        return {"name": secrets.token_hex(4), "sent": {}}

    def _write_note(self):
        with atomic(self._note_file(self._seed)) as temporary:
            temporary.write_text(json.dumps(self._note, indent=1) + "\n", encoding="utf-8")
