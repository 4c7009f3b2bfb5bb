"""Ctrl-C and SIGTERM: the step is finished and saved, the exit code says what it was.

The same command then ends with the same numbers.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

import collapse_jax as cj
from collapse_jax.app.cli import main
from collapse_jax.runs.stopping import Stop, Stopped

SIMULATE = ["simulate", "--sample-size", "20", "--chains", "50", "--chunk", "1", "--generations"]


# The process signals itself on its way: a run this short may be over before another one does.
SIGNALLED = """
import os
from collapse_jax.app.cli import main
from collapse_jax.app.commands import chains

def save_as_finished(parts, *rest, whole=chains.save_as_finished, **options):
    def passed_on():
        for at, part in parts:
            if at == {at}:
                os.kill(os.getpid(), {number})
            yield at, part
    whole(passed_on(), *rest, **options)

chains.save_as_finished = save_as_finished
main({arguments})
"""


def signalled(arguments, number, at):
    """What a process of the command line that gets a signal at generation `at` says at its end."""
    code = SIGNALLED.format(arguments=arguments, number=int(number), at=at)
    return subprocess.run(
        [sys.executable, "-u", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"COLUMNS": "200"},
        timeout=100,
    )


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_stopped_simulation_goes_on_with_the_same_numbers(tmp_path, number, code):
    out = tmp_path / "run"
    arguments = [*SIMULATE, "100000", "--record", "20000", "--out"]
    ended = signalled([*arguments, str(out)], number, 20000)
    assert ended.returncode == code, ended.stdout
    assert (
        "stopping once what is under way is saved" in ended.stdout
        and "the same command resumes the run" in ended.stdout
        and "Traceback" not in ended.stdout
    )
    saved = {path.name for path in (out / "checkpoints" / "chains").glob("[0-9]*")}
    assert "20000" in saved and "100000" not in saved
    main([*arguments, str(out)])
    main([*arguments, str(tmp_path / "whole")])
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
