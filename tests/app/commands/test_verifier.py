"""`collapse-jax simulate --verifier`: its options are axes of a grid, held by the exact moments."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

import collapse_jax as cj
from collapse_jax.app.commands.grid import programs, traceable_options
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.commands.simulation import key_of
from collapse_jax.app.config import SimulateConfig
from collapse_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")
GRID = SimulateConfig(
    family="gaussian_mean",
    verifier="centred:width=1.5,centre=1.0",
    grid=("verifier.refresh=0,0.3",),
    sample_size=10,
    generations=3,
    chains=1500,
    metrics=("squared_wasserstein2",),
)


def test_a_grid_over_an_option_of_the_verifier(tmp_path):
    """One program for all rates; a rate alone names the same random numbers."""
    points = GRID.points()
    traced = traceable_options(GRID.resolved())
    assert traced == ("verifier.refresh",)
    assert len(list(programs(points, traced))) == 1
    alone = dataclasses.replace(GRID, verifier=f"{GRID.verifier},refresh=0.3", grid=())
    assert alone.resolve().stream_name() == points[1].stream_name()
    assert "verifier" not in dataclasses.replace(GRID, verifier="", grid=()).resolve().stream_name()


@pytest.mark.slow
def test_the_points_are_the_process_of_python(tmp_path):
    """Each point has the numbers that `cj.verifiers` gives alone."""
    results = run_simulate(GRID, tmp_path / "run", Console(quiet=True)).results()
    family, params = cj.estimators.FAMILIES["gaussian_mean"].example()
    for refresh, point in zip((0.0, 0.3), GRID.points(), strict=True):
        judged = cj.verifiers.centred(1.5, centre=1.0, refresh=refresh)
        process = cj.generational_process(
            family,
            cj.sources.population(family, params),
            judged(cj.workflows.replace()),
            sample_size=10,
        )
        key = key_of(dataclasses.replace(point, streams="independent"))
        trace = cj.simulate(process, key, generations=3, chains=1500, metrics=GRID.metrics)
        np.testing.assert_allclose(
            results["squared_wasserstein2_mean"].sel({"verifier.refresh": refresh}),
            trace["squared_wasserstein2"].astype(float).mean(0),
            rtol=1e-5,
        )


@pytest.mark.slow
def test_a_detector_of_powers(tmp_path):
    """Squares are what tells a Gaussian from a narrower one (docs/verifiers.md)."""
    config = SimulateConfig(
        verifier="logistic:degree=2,examples=50",
        sample_size=50,
        generations=15,
        chains=200,
        metrics=("log_variance",),
    )
    medians = {}
    for name, one in {"with": config, "without": dataclasses.replace(config, verifier="")}.items():
        results = run_simulate(one, tmp_path / name, Console(quiet=True)).results()
        medians[name] = float(results["log_variance"][:, -1].median())
    assert medians["without"] < medians["with"] - 0.1


BAD = {
    r"verifier is 'centered:width=1'; it must be NAME.*did you mean 'centred'": {
        "verifier": "centered:width=1"
    },
    "centred has no option 'widht'.*did you mean 'width'": {"verifier": "centred:widht=1"},
    "verifier has width=wide; width must be a number": {"verifier": "centred:width=wide"},
    "verifier has every=1.5; every must be a whole number": {
        "verifier": "centred:width=1,every=1.5"
    },
    "centred needs a width": {"verifier": "centred"},
    "verifier has width more than once": {"verifier": "centred:width=1,width=2"},
    "verifier.refresh is given by both verifier and grid": {
        "verifier": "centred:width=1,refresh=0.5"
    },
    r"grid has 'verifier.refresh=0,0.3' without a verifier": {"verifier": ""},
    "centred has no numeric option 'rate'": {"grid": ("verifier.rate=0,1",)},
}


@pytest.mark.parametrize("says", BAD)
def test_bad_settings_are_one_line(says):
    with pytest.raises(InputError, match=says) as error:
        dataclasses.replace(GRID, **BAD[says]).check()
    assert "\n" not in str(error.value)


OUT_OF_RANGE = [
    {"verifier": "centred:width=-1", "grid": ()},
    {"verifier": "logistic:threshold=2", "grid": ()},
    {"grid": ("verifier.refresh=0,2",)},
]


def test_an_option_of_the_verifier_without_its_prefix_is_told_the_name(tmp_path):
    config = dataclasses.replace(GRID, grid=("refresh=0,0.3",))
    with pytest.raises(InputError, match=r"the verifier is verifier\.refresh$") as error:
        run_simulate(config, tmp_path / "run", Console(quiet=True))
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", OUT_OF_RANGE)
def test_options_out_of_range_are_one_line(change, tmp_path):
    config = dataclasses.replace(GRID, **change)
    with pytest.raises(InputError, match="verifier '") as error:
        run_simulate(config, tmp_path / "run", Console(quiet=True))
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
