"""A stranger's family is recorded, drawn and tabled by what it brings with it, as ours are."""

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console
from scipy import special

from collapse_jax import estimators
from collapse_jax.app import laws
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.commands.simulation import process_of
from collapse_jax.app.commands.tables import chains_table
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.plots import chains, grid, style
from collapse_jax.errors import InputError
from collapse_jax.estimators import ClosedForms, registry

pytestmark = pytest.mark.usefixtures("quick_compile")
CONFIG = SimulateConfig(
    family="decay", options=("mean=3",), sample_size=20, generations=3, chains=50
)


def decay(mean: float = 2.0, unit: str = "s"):
    """Waiting times in some unit."""
    return estimators.exponential()


def example():
    return decay(), estimators.exponential_params(2.0)


def means(setting, generation):
    if setting.workflow != {"workflow": "replace"}:
        return {}
    drift = special.digamma(setting.sample_size) - np.log(setting.sample_size)
    return {
        "mean": np.full(np.shape(generation), float(setting.options["mean"])),
        "log_mean": np.log(setting.options["mean"]) + (np.asarray(generation) + 1) * drift,
    }


LAWS = ClosedForms(
    means,
    chains_for_means=lambda setting, generation, error: {"mean": np.full(len(generation), 1e9)},
    real=lambda options: (decay(), estimators.exponential_params(options["mean"])),
)
PARTS = {"example": example, "metrics": ("log_mean", "mean"), "laws": LAWS}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})
    registry.register("decay", decay, label="decay of mean {mean}", **PARTS)


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120)


def test_table_and_figure(tmp_path, console, monkeypatch):
    folder = run_simulate(CONFIG, tmp_path / "run", console)
    config = folder.config()
    assert config.metrics == ("log_mean", "mean")
    console.print(chains_table(folder.last_row(), config.resolve()))
    table = console.file.getvalue()
    assert "decay of mean 3, replace, M = 20, 50 chains" in table
    (row,) = {line for line in table.splitlines() if line.startswith("│ mean")}
    *_, exact, z = (cell.strip() for cell in row.split("│")[2:-1])
    assert exact == "3" and abs(float(z)) < 4

    drawn = []
    monkeypatch.setattr(style, "save", lambda figure, *_: drawn.append(figure))
    chains.draw(folder, config, folder.results())
    labels = [{line.get_label() for line in axis.lines} for axis in drawn[0].axes]
    assert [{"exact mean", "mean of 50 chains"} <= panel for panel in labels] == [True, False]
    assert "exact mean" in labels[1]  # where `chains_for_means` asks for more chains


def test_defaults_are_options_too():
    process = process_of(dataclasses.replace(CONFIG, options=()).resolve())
    assert process.parts.source.params == estimators.exponential_params(2.0)


def test_phase_diagram(tmp_path, console, monkeypatch):
    config = dataclasses.replace(
        CONFIG, sample_size=(5, 8), workflow=("replace", "accumulate"), metrics=("mean",)
    )
    folder = run_simulate(config, tmp_path / "run", console)
    drawn = []
    monkeypatch.setattr(style, "save", lambda figure, *_: drawn.append(figure))
    grid.draw(folder, folder.config(), folder.results())
    assert drawn[0].get_suptitle().startswith("decay mean=3, 50 chains per point")


def test_label():
    assert laws.label(CONFIG) == "decay of mean 3"
    given = dataclasses.replace(CONFIG, options=("unit=ms",))
    assert laws.label(given) == "decay of mean 2.0 unit=ms"
    registry._REGISTERED["decay"] = registry.family("decay")._replace(label="{nothing}")
    assert laws.label(given) == "decay unit=ms"
    assert laws.label(SimulateConfig(dim=2, ddof=0)) == "Gaussian d=2, ddof=0"
    assert laws.label(SimulateConfig(family="categorical")) == "10 categories"


def test_a_family_that_is_not_installed_any_more():
    gone = dataclasses.replace(CONFIG, family="gone")
    assert laws.expected_means(gone, np.arange(3)) == {} and laws.label(gone) == "gone mean=3"


def test_entry_points_bring_the_same(monkeypatch):
    decay.laws, decay.metrics = LAWS, ["mean"]
    monkeypatch.setattr(registry, "_REGISTERED", {})
    point = type("Point", (), {"name": "theirs", "value": "theirs:decay", "load": lambda _: decay})
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [point()])
    theirs = registry.family("theirs")
    assert theirs.laws is LAWS and theirs.metrics == ("mean",) and theirs.label == ""
    config = dataclasses.replace(CONFIG, family="theirs")
    np.testing.assert_array_equal(laws.expected_means(config, np.arange(2))["mean"], [3, 3])
    decay.metrics = "mean"
    with pytest.raises(InputError, match="metrics of 'theirs' is 'mean'; it must be a tuple"):
        registry.family("theirs")
    del decay.laws, decay.metrics


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"label": 3}, "label of 'other' is 3; it must be a format string"),
        ({"label": "{"}, "label of 'other' is '\\{'; it must be a format string"),
        ({"metrics": "mean"}, "metrics of 'other' is 'mean'; it must be a tuple of names"),
        ({"laws": means}, "laws of 'other' is <function means.*cj.estimators.ClosedForms"),
    ],
)
def test_register_refuses(part, message):
    with pytest.raises(InputError, match=message):
        registry.register("other", decay, **part)


LAW_FAULTS = {
    "one generation": (
        lambda setting, generation: {"mean": 3.0},
        ["for 'mean'", "float64[]", "[2]"],
    ),
    "text": (lambda setting, generation: {"mean": ["a", "b"]}, ["for 'mean'", "numbers [2]"]),
    "no dict": (lambda setting, generation: np.ones(2), ["float64[2]", "a dict of arrays"]),
    "None": (lambda setting, generation: None, ["gave None", "a dict of arrays"]),
    "an error": (lambda setting, generation: 1 / 0, ["ZeroDivisionError"]),
    "one argument": (lambda setting: {}, ["TypeError"]),
}


@pytest.mark.parametrize("name", LAW_FAULTS)
@pytest.mark.parametrize("form", ["means", "quantiles", "chains_for_means"])
def test_closed_forms_of_the_wrong_shape_are_one_line_before_any_work(tmp_path, form, name):
    function, words = LAW_FAULTS[name]
    given = function
    if form != "means" and name != "one argument":
        given = lambda setting, generation, more: function(setting, generation)  # noqa: E731
    broken = LAWS._replace(means=lambda setting, generation: {})._replace(**{form: given})
    registry.register("decay", decay, **PARTS | {"laws": broken})
    with pytest.raises(InputError) as caught:
        run_simulate(CONFIG, tmp_path / "run", Console(file=io.StringIO()))
    text = str(caught.value)
    assert text.startswith(f"{form} of the closed forms of 'decay'") and "\n" not in text
    expected = [word.replace("numbers [2]", "numbers [") for word in words if word != "[2]"]
    assert all(word in text for word in [*expected, "test_families_of_others.py"]), text
    assert not (tmp_path / "run").exists()
