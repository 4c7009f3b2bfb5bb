"""The VAE experiment: its help, and a tiny run with all its files.

The run is resumed, and not mixed up with another.
"""

import importlib
import os
import subprocess
import sys

import pytest

from collapse_jax.errors import InputError
from collapse_jax.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("quick_compile")
SMALL = {
    "scale": "digits",
    "sample_size": 40,
    "capacity": 1,
    "latent": 2,
    "epochs": 1,
    "batch_size": 20,
}


@pytest.fixture
def script(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")
    return importlib.import_module("shumailov2024_vae")


def test_help(root):
    """Command, run time, published numbers; nothing heavy is imported for it."""
    file = root / "experiments" / "shumailov2024_vae.py"
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']\ntry:\n    runpy.run_path({str(file)!r}, "
        "run_name='__main__')\nfinally:\n    print('HEAVY', sorted({'jax', 'matplotlib', "
        "'flax'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0 and "HEAVY []" in done.stdout, done.stderr + done.stdout[-300:]
    for word in (
        "experiments/shumailov2024_vae.py --scale mini",
        "Run time:",
        "Published:",
        ".6736",
    ):
        assert word in done.stdout


@pytest.mark.slow
def test_a_tiny_run(tmp_path, script, capsys):
    """Figures, a table, one row a generation.

    The same again with more generations goes on; other settings are refused.
    """
    settings = {**SMALL, "out": str(tmp_path / "run"), "real_fraction": 0.25}
    script.main(script.Settings(**settings, seeds=1, generations=0))
    first = RunFolder(tmp_path / "run").rows()
    script.main(script.Settings(**settings, seeds=1, generations=1))
    folder = RunFolder(tmp_path / "run")
    assert [row["generation"] for row in folder.rows()] == [0, 1] and folder.rows()[0] == first[0]
    assert all(
        (folder.figures / f"{name}.png").stat().st_size > 5_000
        for name in ("samples", "latents", "deviation")
    )
    assert folder.results()["latent_means"].shape == (1, 2, 500, 2)
    before = (folder.figures / "deviation.png").read_bytes()
    script.main(script.Settings(**settings, seeds=1, generations=1, beside=settings["out"]))
    assert (folder.figures / "deviation.png").read_bytes() != before
    said = capsys.readouterr().out
    assert "ELBO of real test" in said and "0.6736" not in said
    with pytest.raises(InputError, match="latent: 2 there, 3 here"):
        script.main(script.Settings(**{**settings, "latent": 3}, seeds=1))
    with pytest.raises(InputError, match="holds no results of a run"):
        script.main(script.Settings(**settings, beside=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match="sample_size is 2000, but digits has 1500 images"):
        script.main(
            script.Settings(**{**settings, "sample_size": 2000, "out": str(tmp_path / "other")})
        )


def test_scales(script):
    """Mini is the published network with fewer images and channels; full leaves nothing out."""
    full, mini = (script.Settings(scale=scale).resolved() for scale in ("full", "mini"))
    changed = {name for name, value in vars(full).items() if value != getattr(mini, name)}
    assert changed == {"scale", "sample_size", "capacity", "seeds"}
    assert (
        full.sample_size,
        full.capacity,
        full.latent,
        full.epochs,
        full.batch_size,
        full.seeds,
    ) == (60_000, 64, 20, 30, 256, 5)
