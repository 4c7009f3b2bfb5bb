"""The wheel does what the checkout does, wherever it is installed."""

import os
import subprocess
import sys
import zipfile

import pytest

COMMANDS = (["families"], ["reproduce", "--list"], ["simulate", "--help-all"])
RUN = "from collapse_jax.app.cli import main; main()"


@pytest.mark.slow
def test_the_wheel_has_every_command_and_entry(root, tmp_path):
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    for target in ("wheel", "sdist"):
        subprocess.run([*build, "-t", target], cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    for words in COMMANDS:
        texts = []
        for package in (tmp_path / "installed", root):
            done = subprocess.run(
                [sys.executable, "-c", RUN, *words],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(package)},
                check=True,
                capture_output=True,
                text=True,
            )
            texts.append(done.stdout)
        assert texts[0] == texts[1] != ""
