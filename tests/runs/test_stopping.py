"""Ctrl-C and SIGTERM: the step is finished and saved, the exit code says what it was.

The same command then ends with the same numbers.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import collapse_jax as cj
from collapse_jax.app.cli import main
from collapse_jax.runs.stopping import Stop, Stopped

SIMULATE = ["simulate", "--sample-size", "20", "--chains", "50", "--chunk", "1", "--generations"]


def started(arguments):
    """A process of the command line in its own group."""
    code = f"from collapse_jax.app.cli import main; main({arguments!r})"
    environment = os.environ | {"COLUMNS": "200"}
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        "start_new_session": True,
        "env": environment,
    }
    return subprocess.Popen([sys.executable, "-u", "-c", code], **options)


def when_saved(folder, process, at_least, seconds=100):
    """Waits until so many checkpoints of chains are there."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and process.poll() is None:
        done = [
            int(path.name)
            for path in pathlib.Path(folder, "checkpoints", "chains").glob("[0-9]*")
            if path.name.isdigit()
        ]
        if done and max(done) >= at_least:
            return
        time.sleep(0.02)
    raise AssertionError(
        "nothing was saved: "
        f"{process.communicate()[0] if process.poll() is not None else 'still running'}"
    )


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_stopped_simulation_goes_on_with_the_same_numbers(tmp_path, number, code):
    out = tmp_path / "run"
    process = started([*SIMULATE, "100000", "--record", "20000", "--out", str(out)])
    when_saved(out, process, 0)
    process.send_signal(number)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == code, said
    assert (
        "stopping once what is under way is saved" in said
        and "the same command goes on from there" in said
        and "Traceback" not in said
    )
    main([*SIMULATE, "100000", "--record", "20000", "--out", str(out)])
    main([*SIMULATE, "100000", "--record", "20000", "--out", str(tmp_path / "whole")])
    ours, theirs = (cj.RunFolder(path).results() for path in (out, tmp_path / "whole"))
    assert ours.identical(theirs)


def test_a_first_signal_is_noted_and_a_second_interrupts():
    said = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped) as caught, Stop(said.append) as stop:
        stop.here()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested and len(said) == 1
        with pytest.raises(Stopped):
            stop.here()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        raise AssertionError("a second signal did not interrupt")
    assert caught.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is before
