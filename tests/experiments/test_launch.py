"""The launch examples: Bash that parses, and command lines that ours takes."""

import json
import os
import pathlib
import stat
import subprocess

import pytest

from collapse_jax.app import cli

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "launch"
# What stands in for the programs of a cluster: they run the command that they are given, once,
# here.
STANDINS = {
    "collapse-jax": 'python3 -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@" '
    '>> "$SEEN"',
    "srun": 'while [[ $1 == -* ]]; do shift; done; exec "$@"',
    "gcloud": 'for word in "$@"; do [[ $word == --command=* ]] && bash -c "${word#--command=}"; '
    "done; true",
}
TASKS = {"slurm_array.sh": range(10)}
WANTED = {"slurm_array.sh": 10, "slurm_multi_node.sh": 2, "several_gpus.sh": 7, "tpu_pod.sh": 1}


@pytest.fixture
def command_lines(tmp_path):
    """command_lines(script) -> what it gives to collapse-jax, task by task of an array."""
    for name, body in STANDINS.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def found(script):
        seen = tmp_path / "seen"
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SEEN": str(seen),
            "TPU": "t",
            "ZONE": "z",
            "OUT": "/out",
        }
        for task in TASKS.get(script, [0]):
            there = environment | {"SLURM_ARRAY_TASK_ID": str(task)}
            subprocess.run(
                ["bash", str(FOLDER / script)], env=there, cwd=tmp_path, check=True, timeout=60
            )
        return [json.loads(line) for line in seen.read_text().splitlines()]

    return found


def test_every_script_is_tested():
    assert {path.name for path in FOLDER.iterdir()} == set(WANTED)


@pytest.mark.parametrize("script", WANTED)
def test_a_script_is_bash_and_its_commands_are_ours(script, command_lines, monkeypatch):
    subprocess.run(["bash", "-n", str(FOLDER / script)], check=True, timeout=60)
    taken = []

    class Parsed(Exception):
        pass

    def joined(config, on):
        config.check()
        on.check()
        taken.append((config, on))
        raise Parsed

    monkeypatch.setattr(cli, "_joined", joined)
    lines = command_lines(script)
    for line in lines:
        with pytest.raises(Parsed):
            cli.main(line)
    assert len(taken) == len(lines) == WANTED[script]
    assert all(on.distributed for _, on in taken) == (
        script in ("slurm_multi_node.sh", "tpu_pod.sh")
    )
    after = lambda line, word: line[line.index(word) + 1] if word in line else ""  # noqa: E731
    folders = [(after(line, "--out"), after(line, "--only-seeds")) for line in lines]
    assert len(set(folders)) == len(folders), "two calls would do the same"
