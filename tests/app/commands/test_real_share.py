"""`simulate` with a real share, a temperature, kept real data, and options of a family as axes."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app.commands.grid import programs, traceable_options
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.commands.simulation import check_options, process_of
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.app.laws import expected_means
from collapse_jax.errors import InputError
from collapse_jax.theory import real_batches

SHARES = SimulateConfig(
    family="categorical", num_categories=4, workflow="accumulate", real_share=(0.0, 0.3, 1.0),
    sample_size=10, generations=5, chains=400, metrics=("heterozygosity",),
)  # fmt: skip


def test_a_grid_of_real_shares_against_its_law(tmp_path):
    """One program for what is traced, one for 0; each point within 4 standard errors."""
    groups = list(programs(SHARES.points()))
    assert [list(group.numbers) for group in groups] == [[0], [1, 2]]
    assert sorted(groups[1].settings) == ["real_share", "sample_size"]
    with open(tmp_path / "console.txt", "w", encoding="utf-8") as file:
        results = run_simulate(SHARES, tmp_path / "run", Console(file=file)).results()
    for place, share in enumerate(SHARES.real_share):
        point = SHARES.points()[place]
        exact = 0.75 * real_batches.retention(np.arange(6), 10, real_share=share)
        found = expected_means(point, np.arange(6))["heterozygosity"]
        np.testing.assert_allclose(found, exact, rtol=1e-12)
        mean, std = (results[f"heterozygosity_{kind}"].values[place] for kind in ("mean", "std"))
        assert (np.abs(mean - exact) < 4 * std / 20).all()


def test_the_gaussian_knows_its_law_too():
    config = SimulateConfig(workflow="accumulate_subsample", real_share=0.3, sample_size=10)
    exact, _ = real_batches.gaussian_moments(
        np.arange(4), 10, ddof=1, real_share=0.3, workflow="accumulate_subsample"
    )
    found = expected_means(config, np.arange(4))
    assert list(found) == ["variance"]
    np.testing.assert_allclose(found["variance"], exact, rtol=1e-12)
    hot = SimulateConfig(temperature=1.2, sample_size=10)
    assert expected_means(hot, np.arange(4)) == {}


def test_options_of_the_family_are_axes():
    """Each point has the stream that it has with --options; what the family cannot trace has a
    program for each value.
    """
    config = SimulateConfig(family="kde", grid=("bandwidth=0.1,0.20",), temperature=(1.0, 0.5))
    points = config.points()
    assert config.axes() == {"temperature": (1.0, 0.5), "bandwidth": (0.1, 0.2)}
    assert [point.options for point in points] == [
        ("bandwidth=0.1",), ("bandwidth=0.20",), ("bandwidth=0.1",), ("bandwidth=0.20",)
    ]  # fmt: skip
    alone = SimulateConfig(family="kde", options=("bandwidth=0.20",)).resolve()
    assert points[1].stream_name() == alone.stream_name()
    assert points[3].value_of("bandwidth") == 0.2 and points[3].value_of("temperature") == 0.5
    config = SimulateConfig(
        family="gaussian_mean", grid=("sampling=1,2",), sample_size=5, generations=2
    )
    with pytest.raises(InputError, match="gaussian_mean takes covariance"):
        check_options(config)
    config = dataclasses.replace(
        config, family="linear_regression", options=("dim=3", "method=ridge")
    )
    config = dataclasses.replace(config, grid=("penalty=0.1,0.2", "noise=0.5,1.0"))
    assert traceable_options(config) == ("penalty",)
    (one, two) = programs(config.points(), ("penalty",))
    assert sorted(one.settings) == ["penalty", "sample_size"]
    assert list(one.numbers) == [0, 2] and list(two.numbers) == [1, 3]


def test_names_of_workflows():
    config = SimulateConfig(workflow="keep_real", synthetic_ratio=2.5, temperature=0.5)
    assert process_of(config.resolve()).workflow.name == "tempered(0.5)(keep_real(2.5))"
    config = SimulateConfig(gamma=0.2, switch="50:workflow=accumulate,real_share=0.3")
    name = "switch(0: mix(0.8, 0, 0.2), 50: accumulate(0.3))"
    assert process_of(config.resolve()).workflow.name == name
    config = SimulateConfig(workflow="accumulate", real_share=0.3)
    assert process_of(config.resolve()).workflow.name == "accumulate(0.3)"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"real_share": 1.2}, "real_share is 1.2; it must be in [0, 1]"),
        (
            {"workflow": "replace"},
            "real_share is 0.3 with workflow replace, which ignores it; give",
        ),
        ({"temperature": 0.0}, "temperature is 0; it must be finite and above 0"),
        ({"synthetic_ratio": 2.0}, "synthetic_ratio is 2 with workflow accumulate, which ignores"),
        ({"grid": ("smoothing",)}, "grid has 'smoothing'; it must be NAME=VALUE,VALUE,..."),
        ({"grid": ("gamma=0.1,0.2",)}, "grid has gamma, which has its own option; give "),
        ({"grid": ("a=1,x",)}, "grid has 'a=1,x'; its values must be finite numbers, separated by"),
        ({"grid": ("a=1,2", "a=3")}, "a is given more than once by options and grid; give it once"),
        ({"grid": ("a=1,1",)}, "a has 1.0 more than once"),
        ({"switch": "50"}, "switch is '50'; it must be GENERATION:NAME=VALUE,..."),
        ({"switch": "5:gamma=.1", "generations": 4}, "switch is '5:gamma=.1'; it must be"),
        ({"switch": "5:gamma=1.1"}, "switch is '5:gamma=1.1': gamma is 1.1; it must be in [0, 1]"),
        ({"switch": "5:gamma=x"}, "switch is '5:gamma=x': could not convert"),
        ({"switch": "5:workflow=wrong"}, "switch is '5:workflow=wrong': workflow is 'wrong'; it"),
    ],
)
def test_bad_settings(change, says):
    config = dataclasses.replace(SHARES, real_share=0.3, **{"family": "kde", "num_categories": 10})
    with pytest.raises(InputError) as error:
        dataclasses.replace(config, **change).check()
    assert str(error.value).startswith(says)
