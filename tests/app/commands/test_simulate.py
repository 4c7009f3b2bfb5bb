"""`collapse-jax simulate`: the run folder, resuming, and which closed form judges which chain."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from collapse_jax.app.commands import chains as chains_run
from collapse_jax.app.commands.simulate import run_simulate
from collapse_jax.app.commands.tables import summary_rows
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.laws import expected_means, expected_quantiles
from collapse_jax.app.plots import draw_run
from collapse_jax.drivers.simulate_summary import summary_chunks
from collapse_jax.drivers.trace import Trace
from collapse_jax.errors import InputError
from collapse_jax.runs import folder as run_folder
from collapse_jax.runs import results
from collapse_jax.runs.atomic import atomic
from collapse_jax.runs.checkpoint import Checkpoints
from collapse_jax.runs.folder import RunFolder

SMALL = SimulateConfig(sample_size=20, generations=6, chains=50, chunk=2)


@pytest.fixture(autouse=True)
def saved_at_once(monkeypatch):
    """Every chunk, and not what came within a second."""
    monkeypatch.setattr(chains_run, "RECORDS_SAVE_SECONDS", 0.0)


@pytest.fixture
def console(tmp_path):
    with open(tmp_path / "console.txt", "w", encoding="utf-8") as file:
        yield Console(file=file, width=120)


def test_folder_holds_everything_and_agrees_with_itself(tmp_path, console):
    folder = run_simulate(SMALL, tmp_path / "run", console)
    names = {path.name for path in folder.path.iterdir()}
    assert {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "metrics.csv",
        "results.nc",
        "checkpoints",
        "figures",
    } <= names
    assert {path.name for path in folder.figures.iterdir()} == {"chains.png", "chains.pdf"}
    results, rows = folder.results(), folder.rows()
    assert results["variance"].dims == ("chain", "generation") and results["variance"].shape == (
        50,
        7,
    )
    assert [row["generation"] for row in rows] == list(range(7))
    np.testing.assert_allclose(
        [row["variance_median"] for row in rows], np.median(results["variance"], axis=0), rtol=1e-6
    )
    assert json.loads((folder.path / "config.json").read_text())["metrics"] == [
        "mean",
        "variance",
        "log_variance",
    ]


def test_interrupted_run_goes_on_and_gives_the_same_numbers(tmp_path, console, monkeypatch):
    whole = run_simulate(SMALL, tmp_path / "whole", console).results()

    class Killed(Exception):
        pass

    original = Checkpoints.save

    def save_then_die(self, generation, *rest):
        original(self, generation, *rest)
        if generation == 4:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save_then_die)
    with pytest.raises(Killed):
        run_simulate(SMALL, tmp_path / "cut", console)
    started = []
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, generation, *rest: started.append(generation)
    )
    resumed = run_simulate(SMALL, tmp_path / "cut", console).results()
    assert started == [6]
    for name in whole:
        np.testing.assert_array_equal(resumed[name], whole[name])


@pytest.mark.parametrize("when", ["results.nc", "metrics.csv", "metrics.jsonl"])
def test_cut_off_between_the_last_chunk_and_the_last_record(tmp_path, console, monkeypatch, when):
    """Everything is saved then, and the next call has but the records to write."""
    whole = run_simulate(SMALL, tmp_path / "whole", console)

    class Killed(Exception):
        pass

    @contextlib.contextmanager
    def killed(path, sync=False):
        with atomic(path, sync) as temporary:
            yield temporary
            if path.name == when:
                raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(results if when == "results.nc" else run_folder, "atomic", killed)
        run_simulate(SMALL, tmp_path / "cut", console)
    resumed = run_simulate(SMALL, tmp_path / "cut", console)
    assert resumed.results().identical(whole.results()) and resumed.rows() == whole.rows()
    assert {path.name for path in resumed.path.iterdir()} == {
        path.name for path in whole.path.iterdir()
    }


def test_more_generations_extend_a_finished_run(tmp_path, console):
    short = run_simulate(SMALL, tmp_path / "run", console).results()
    longer = run_simulate(
        dataclasses.replace(SMALL, generations=9), tmp_path / "run", console
    ).results()
    assert longer["variance"].shape == (50, 10)
    np.testing.assert_array_equal(longer["variance"][:, :7], short["variance"])


def test_other_settings_in_the_folder_are_refused_by_name(tmp_path, console):
    run_simulate(SMALL, tmp_path / "run", console)
    with pytest.raises(InputError, match="sample_size: 20 there, 30 here"):
        run_simulate(dataclasses.replace(SMALL, sample_size=30), tmp_path / "run", console)


def test_plot_draws_from_the_files_alone(tmp_path, console):
    folder = run_simulate(SMALL, tmp_path / "run", console)
    for path in folder.figures.iterdir():
        path.unlink()
    drawn = draw_run(RunFolder(tmp_path / "run"))
    assert [path.name for path in drawn] == ["chains.png"] and drawn[0].read_bytes().startswith(
        b"\x89PNG"
    )
    with pytest.raises(InputError, match="is not a run folder"):
        draw_run(RunFolder(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("family", "workflow"),
    [
        pytest.param(
            family,
            workflow,
            marks=()
            if (family == "gaussian") == (workflow in ("accumulate", "mix"))
            else pytest.mark.slow,
        )
        for family in ("gaussian", "categorical")
        for workflow in ("replace", "accumulate", "accumulate_subsample", "mix")
    ],
)
def test_chains_agree_with_the_closed_form_they_are_drawn_against(
    family, workflow, tmp_path, console
):
    shares = {"alpha": 0.5, "beta": 0.3, "gamma": 0.2} if workflow == "mix" else {}
    divisor = {"ddof": 0} if family == "gaussian" else {}
    config = SimulateConfig(
        family=family,
        workflow=workflow,
        sample_size=10,
        generations=3,
        chains=4_000,
        **divisor,
        **shares,
    )
    results = run_simulate(config, tmp_path / "run", console).results()
    name = "variance" if family == "gaussian" else "heterozygosity"
    values = results[name].values.astype(float)
    z = (values.mean(axis=0) - expected_means(config, np.arange(4))[name]) / (
        values.std(axis=0, ddof=1) / np.sqrt(len(values))
    )
    assert np.abs(z).max() < 4


def test_quantiles_are_known_for_one_dimension_under_replace_only():
    assert set(expected_quantiles(SMALL, np.arange(3), [0.5])) == {"log_variance", "variance"}
    assert expected_quantiles(dataclasses.replace(SMALL, dim=2), np.arange(3), [0.5]) == {}
    assert (
        expected_quantiles(dataclasses.replace(SMALL, workflow="accumulate"), np.arange(3), [0.5])
        == {}
    )


def test_shares_without_mix_are_refused():
    with pytest.raises(InputError, match="give --workflow mix"):
        dataclasses.replace(SMALL, workflow="replace", gamma=0.1).check()
    assert dataclasses.replace(SMALL, gamma=0.1).resolved().workflow == "mix"


def test_summary_row_is_mean_and_quantiles_of_scalars():
    trace = Trace({"a": np.arange(101.0)[:, None], "vector": np.zeros((101, 1, 3))}, np.array([7]))
    assert list(summary_rows(trace)) == [
        {
            "generation": 7,
            "a_mean": 50.0,
            "a_std": np.std(np.arange(101), ddof=1),
            "a_q05": 5.0,
            "a_median": 50.0,
            "a_q95": 95.0,
        }
    ]


def test_a_summary_holds_what_the_chains_give(tmp_path, console):
    settings = dataclasses.replace(SMALL, record="2")
    chains = run_simulate(settings, tmp_path / "chains", console)
    summary = run_simulate(
        dataclasses.replace(settings, keep="summary"), tmp_path / "summary", console
    )
    assert [row["generation"] for row in summary.rows()] == [0, 2, 4, 6]
    for row, wanted in zip(summary.rows(), chains.rows(), strict=True):
        assert {name: row[name] for name in row if "_q" in name} == {
            name: wanted[name] for name in wanted if "_q" in name
        }
        assert row == pytest.approx(wanted, rel=1e-12)
    assert (summary.checkpoints / "chains" / "6").is_dir(), "more generations go on from there"
    results = summary.results()
    np.testing.assert_allclose(
        results["variance_mean"], chains.results()["variance"].mean("chain"), rtol=1e-6
    )
    assert results["variance_quantile"].dims == ("generation", "quantile")
    assert summary.path.joinpath("figures", "chains.png").is_file()


def test_a_summary_that_is_cut_off_goes_on_with_the_same_numbers(tmp_path, console, monkeypatch):
    settings = dataclasses.replace(SMALL, keep="summary", generations=6, chunk=2)
    whole = run_simulate(settings, tmp_path / "whole", console)
    begun = []

    class Killed(Exception):
        pass

    def cut_off(process, key, plan):
        begun.append(plan.after and plan.after[0])
        for number, part in enumerate(summary_chunks(process, key, plan)):
            if number == 3 - len(begun):
                raise Killed
            yield part

    monkeypatch.setattr(chains_run, "SAVE_SECONDS", 0)
    monkeypatch.setattr(chains_run, "summary_chunks", cut_off)
    for _ in range(2):
        with pytest.raises(Killed):
            run_simulate(settings, tmp_path / "cut", console)
    monkeypatch.setattr(chains_run, "summary_chunks", summary_chunks)
    resumed = run_simulate(settings, tmp_path / "cut", console)
    assert begun == [None, 2]
    assert resumed.results().identical(whole.results()) and resumed.rows() == whole.rows()
    longer = run_simulate(
        dataclasses.replace(settings, generations=9), tmp_path / "cut", console
    ).results()
    np.testing.assert_array_equal(
        longer["variance_quantile"][:7], whole.results()["variance_quantile"]
    )


def test_quantiles_of_collapsed_chains_are_no_nan():
    values = np.full((8, 1), -np.inf)
    values[:2] = 1.0
    (row,) = summary_rows(Trace({"log_variance": values}, np.array([0])))
    assert (
        row["log_variance_median"] == row["log_variance_q05"] == -np.inf
        and row["log_variance_q95"] == 1.0
    )


def test_more_memory_than_allowed_is_refused_before_anything_is_written(tmp_path, console):
    with pytest.raises(InputError, match=r"memory_limit is 0.001 GiB.*keep=summary"):
        run_simulate(
            dataclasses.replace(SMALL, chains=10_000, generations=100, memory_limit=0.001),
            tmp_path / "run",
            console,
        )
    assert not (tmp_path / "run").exists()


def test_other_families_start_from_their_example(tmp_path, console):
    config = SimulateConfig(
        family="kde", options=("dim=2", "bandwidth=0.2"), sample_size=20, generations=3, chains=10
    )
    folder = run_simulate(config, tmp_path / "run", console)
    assert folder.config().metrics == ("variance", "log_variance", "bandwidth")
    results = folder.results()
    np.testing.assert_allclose(results["bandwidth"], 0.2, rtol=1e-6)
    # the example: four points of variances 3.6875 and 3.25, and a kernel of deviation 0.5; 20
    # points of that, and one of 0.2
    expected = 0.95 * ((3.6875 + 3.25) / 2 + 0.25) + 0.04
    found = results["variance"][:, 0].values
    assert abs(found.mean() - expected) < 4 * found.std(ddof=1) / np.sqrt(10)
    grid = run_simulate(dataclasses.replace(config, sample_size=(5, 8)), tmp_path / "grid", console)
    assert grid.results()["variance_mean"].sizes["sample_size"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "gausian"}, "family is 'gausian'; it must be one of categorical, "),
        ({"family": "causal_lm"}, "family 'causal_lm' has no example to start from"),
        (
            {"family": "kde", "options": ("width=3",)},
            "options width=3: missing a required argument: 'dim'; kde takes dim, bandwidth",
        ),
        ({"family": "kde", "options": ("3",)}, "options has '3'; it must be NAME=VALUE"),
        ({"options": ("dim=2",)}, "options have dim=2, which is a separate option; give --dim 2"),
        ({"family": "kde", "options": ("dim=0",)}, "dim is 0; it must be an integer of at least 1"),
        (
            {"family": "gaussian_copula", "options": ("columns=3",)},
            r"options columns=3: the params have 4 columns, the family has 3; .* or give --data$",
        ),
        (
            {"family": "flow_matching", "options": ("dim=1",)},
            "options dim=1: the params have 2 coordinates, the family has 1; without --data the",
        ),
    ],
)
def test_other_families_refuse(tmp_path, console, settings, message):
    with pytest.raises(InputError, match=message):
        run_simulate(SimulateConfig(**settings), tmp_path / "run", console)
    assert not (tmp_path / "run").exists()
