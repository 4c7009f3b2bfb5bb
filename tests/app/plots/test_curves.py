"""cj.plots on an Axes of the caller's: what is drawn is what the records hold."""

import matplotlib
import numpy as np
import pytest
import xarray
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from scipy import stats

import collapse_jax as cj
from collapse_jax.app.table import table

GENERATIONS, CHAINS = 7, 60


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(CHAINS, GENERATIONS)).cumsum(1)


@pytest.fixture
def axis():
    return Figure().subplots()


def _line(axis, label):
    (line,) = [line for line in axis.get_lines() if line.get_label() == label]
    return line.get_ydata()


def test_median_band_and_theory(values, axis):
    theory = np.arange(GENERATIONS) * 0.1
    drawn = cj.plots.trajectories({"width": values}, "width", axis, theory=theory)
    assert drawn is axis
    np.testing.assert_allclose(_line(axis, "median"), np.median(values, 0))
    np.testing.assert_allclose(_line(axis, "exact"), theory)
    band, interval = (found.get_paths()[0].vertices for found in axis.collections)
    at_last = [part[part[:, 0] == GENERATIONS - 1][:, 1] for part in (band, interval)]
    low, high = np.quantile(values[:, -1], (0.05, 0.95), method="nearest")
    np.testing.assert_allclose([at_last[0].min(), at_last[0].max()], [low, high])
    exact = stats.quantile_test(values[:, -1], q=0, p=0.5).confidence_interval(0.95)
    np.testing.assert_allclose([at_last[1].min(), at_last[1].max()], exact)


def test_several_runs_have_their_names(values, axis):
    runs = {"one": cj.Trace({"width": values}, np.arange(GENERATIONS)), "two": {"width": -values}}
    cj.plots.trajectories(runs, "width", axis, centre="mean", band=None)
    np.testing.assert_allclose(_line(axis, "one"), values.mean(0))
    np.testing.assert_allclose(_line(axis, "two"), -values.mean(0))


def test_a_summary_has_the_quantiles_that_it_kept(axis):
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    quantile = np.arange(3.0)[:, None] + np.array(levels)
    data = xarray.Dataset(
        {
            "width_mean": ("generation", np.arange(3.0)),
            "width_std": ("generation", np.ones(3)),
            "width_quantile": (("generation", "quantile"), quantile),
        },
        coords={"generation": range(3), "quantile": levels},
    )
    cj.plots.trajectories(data, "width", axis)
    np.testing.assert_allclose(_line(axis, "median"), np.arange(3) + 0.5)
    with pytest.raises(
        cj.InputError, match=r"^band has 0\.1; .* 0\.05, 0\.25, 0\.5, 0\.75, 0\.95$"
    ):
        cj.plots.trajectories(data, "width", axis, band=(0.1, 0.9))


@pytest.mark.parametrize("swapped", [False, True])
def test_cells_of_a_phase_diagram_lie_where_their_settings_are(axis, swapped):
    shape = (3, 4, 5, 2)  # M, gamma, chain, generation
    data = xarray.Dataset(
        {"width": (("M", "gamma", "chain", "generation"), np.arange(120.0).reshape(shape))},
        coords={"M": [10, 20, 30], "gamma": [0.1, 0.2, 0.3, 0.4], "generation": [0, 9]},
    )
    names = {"x": "M", "y": "gamma"} if swapped else {}
    cj.plots.phase(data, "width", axis, **names)
    (cells,) = [found for found in axis.collections if isinstance(found, QuadMesh)]
    expected = np.median(np.arange(120.0).reshape(shape)[..., -1], axis=2)
    drawn = np.asarray(cells.get_array()).reshape(expected.T.shape if swapped else expected.shape)
    np.testing.assert_allclose(drawn, expected.T if swapped else expected)
    assert ("sample" in axis.get_xlabel() or axis.get_xlabel() == "M") == swapped
    assert axis.get_title() == "generation 9"


def test_bad_input_has_a_line(values, axis):
    for call, words in (
        (lambda: cj.plots.trajectories({"width": values}, "depth", axis), "metric is 'depth'; .*"),
        (
            lambda: cj.plots.trajectories({"width": values}, "width", axis, theory=[1.0]),
            r"theory has shape \[1\]; .* \[7\]",
        ),
        (
            lambda: cj.plots.trajectories({"width": values}, "width", axis, centre="mode"),
            "centre.*",
        ),
        (
            lambda: cj.plots.trajectories({"width": values}, "width", axis, band=(0.9, 0.1)),
            r"band is \(0\.9, 0\.1\); .*",
        ),
        (lambda: cj.plots.phase({"width": values}, "width", axis), "data vary by no setting; .*"),
        (
            lambda: table({"width": values}, generation=99),
            "generation is 99; recorded are 0 to 6.*",
        ),
    ):
        with pytest.raises(cj.InputError, match=f"^{words}"):
            call()


def test_figures_of_language_models_take_run_folders_alone(values, axis):
    trace = cj.Trace({"width": values}, np.arange(GENERATIONS))
    for draw in (cj.plots.perplexity, cj.plots.histograms):
        for given in (trace, 5):
            with pytest.raises(cj.InputError, match=r"^run is \w+; it must be a run folder of"):
                draw(given, axis)


def test_without_axes_the_current_ones_are_taken(values):
    with matplotlib.rc_context({"backend": "agg"}):
        from matplotlib import pyplot

        figure, axis = pyplot.subplots()
        try:
            assert cj.plots.trajectories({"width": values}, "width") is axis
        finally:
            pyplot.close(figure)


def test_a_table_says_how_many_chains_carry_the_mean(values):
    widths = np.full((CHAINS, GENERATIONS), 1e-30)
    widths[0] = 1.0  # one chain has all
    found = {row.metric: row for row in cj.table({"width": values, "one": widths})}
    row = found["width"]
    exact = stats.quantile_test(values[:, -1], q=0, p=0.5).confidence_interval(0.95)
    np.testing.assert_allclose([row.low, row.high], exact)
    assert row.median == np.median(values[:, -1])
    np.testing.assert_allclose(row.error, stats.sem(values[:, -1]))
    np.testing.assert_allclose(found["one"].carried_by, 1)
    equal = cj.table({"width": np.ones((CHAINS, 2))})[0]
    np.testing.assert_allclose(equal.carried_by, CHAINS)
    text = str(cj.table({"width": values[:1]}))
    assert text.splitlines()[1].split()[:3] == ["width", "6", "1"]  # one chain has no interval


def test_a_table_of_a_grid_has_the_rows_of_each_of_its_points(values):
    rate = xarray.DataArray([0.0, 0.5], dims="rate", name="rate")
    one = xarray.DataArray(values, dims=("chain", "generation"))
    grid = xarray.Dataset({"width": one * (1 + rate)}, coords={"rate": rate})
    for row, scale in zip(cj.table(grid), (1, 1.5), strict=True):
        assert row.settings == (("rate", scale - 1),)
        alone = cj.table({"width": values * scale})[0]
        assert row._replace(settings=()) == alone
        last = values[:, -1] * scale
        np.testing.assert_allclose([row.median, row.error], [np.median(last), stats.sem(last)])
    lines = str(cj.table(grid)).splitlines()
    assert lines[0].split()[:2] == ["rate", "metric"]
    assert lines[2].split()[:2] == ["0.5", "width"]
    means = xarray.Dataset({f"width_{kind}": ("generation", [0.0]) for kind in ("mean", "std")})
    means["width_quantile"] = (("generation", "quantile"), [[0.0]])
    with pytest.raises(cj.InputError, match="no metric of single chains; it already contains"):
        cj.table(means)
