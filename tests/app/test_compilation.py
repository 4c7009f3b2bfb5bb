"""`cj.cache`: compiled programs on disk for scripts."""

import os
import pathlib
import subprocess
import sys

import pytest

from collapse_jax import InputError, cache
from collapse_jax.app.compilation import default_folder

# A program that JAX compiles before and after `cj.cache`; it prints how often each was compiled.
SCRIPT = """
import sys
import jax, jax.numpy as jnp
import collapse_jax as cj
from jax._src import monitoring

hits = []
monitoring.register_event_listener(lambda event, **_: hits.append(event))
jax.jit(lambda x: x - 1)(jnp.zeros(3))
cj.cache(*sys.argv[1:])
jax.jit(lambda x: jnp.sin(x) + 1)(jnp.zeros(3))
print(sum(event == "/jax/compilation_cache/cache_hits" for event in hits))
"""


def test_programs_are_found_again_by_another_process(tmp_path):
    folder = tmp_path / "new" / "programs"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "default")

    def hits(*arguments, **more):
        return int(
            subprocess.run(
                [sys.executable, "-c", SCRIPT, *arguments],
                env=environment | more,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
        )

    first = hits(str(folder))
    # The environment names the folder too.
    second = hits(JAX_COMPILATION_CACHE_DIR=str(folder))
    assert list(folder.iterdir())
    assert first == 0 and second >= 1


@pytest.mark.parametrize("folder", ["", 3, b"x"])
def test_what_is_no_folder_is_refused(folder):
    with pytest.raises(InputError, match=r"^folder is .*must be the name of a folder"):
        cache(folder)


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        cache(tmp_path / "file" / "programs")
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_the_default_is_the_folder_of_the_command_line(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder().parent == pathlib.Path(tmp_path) / "collapse_jax"
