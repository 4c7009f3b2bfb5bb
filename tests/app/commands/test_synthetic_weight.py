"""`collapse-jax simulate --synthetic-weight`: an axis of a grid, held by the exact recursion."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app import laws
from collapse_jax.app.commands.grid import programs
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.config import SimulateConfig
from collapse_jax.errors import InputError
from collapse_jax.theory import weights as theory

pytestmark = pytest.mark.usefixtures("quick_compile")
GRID = SimulateConfig(
    gamma=0.25,
    synthetic_weight=(0.0, 0.4, 1.0),
    sample_size=12,
    generations=4,
    chains=2000,
    ddof=0,
    metrics=("variance",),
)


def test_a_grid_over_the_weight(tmp_path):
    """One program for all but 1, which is the plain one; variances as in theory, |z| < 4."""
    assert len(list(programs(GRID.points()))) == 2
    with open(tmp_path / "console.txt", "w", encoding="utf-8") as file:
        results = run_simulate(GRID, tmp_path / "run", Console(file=file)).results()
    for w in GRID.axes()["synthetic_weight"]:
        point = results.sel(synthetic_weight=w)
        exact = 1 - theory.mixed_squared_error(np.arange(5), 12, 0.25, w, v2=-1.0)
        error = point["variance_std"] / np.sqrt(2000)
        assert np.all(np.abs(point["variance_mean"] - exact) < 4 * error), w


def test_what_a_weight_changes():
    """The names of its random numbers, and the closed forms; a weight of 1 changes neither."""
    light, plain = (dataclasses.replace(GRID, synthetic_weight=w) for w in (0.4, 1.0))
    assert plain.resolve().stream_name() == (
        "'gaussian' [] dim=1 ddof=0 mix sample_size=12 shares=0.75 0.0 0.25"
    )
    assert light.resolve().stream_name() == f"{plain.resolve().stream_name()} synthetic_weight=0.4"
    assert "variance" in laws.expected_means(plain, np.arange(3))
    assert laws.expected_means(light, np.arange(3)) == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"synthetic_weight": -0.5}, "synthetic_weight is -0.5"),
        ({"synthetic_weight": float("inf")}, "synthetic_weight is inf; it must be finite"),
        ({"synthetic_weight": 0.5, "gamma": 0.0}, "workflow replace, which has only synthetic"),
        ({"synthetic_weight": (0.5, 0.5)}, "synthetic_weight has 0.5 more than once"),
    ],
)
def test_bad_input_is_one_line(change, says):
    with pytest.raises(InputError, match=says) as error:
        dataclasses.replace(GRID, **change).check()
    assert "\n" not in str(error.value)
