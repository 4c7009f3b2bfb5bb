"""The figures of a language-model run, from made-up results.

What is drawn equals what the results hold.
"""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection

from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm import context_words, window_words
from collapse_jax.app.plots import draw_run, style
from collapse_jax.app.plots.language_model import perplexity_figure, title
from collapse_jax.app.plots.perplexities import histogram_3d_figure, histogram_figure, shared_bins
from collapse_jax.app.plots.text import tails_figure, variety_figure
from collapse_jax.runs.folder import RunFolder
from collapse_jax.runs.results import results_of

SEEDS, GENERATIONS, SEQUENCES = 3, 4, 400
OLD = ("test_perplexity", "train_perplexity_first", "pretrained_test_perplexity")


@pytest.fixture(scope="module")
def results():
    """Perplexities that move to the left and grow a tail.

    The last generation of the last seed is not there yet.
    """
    rng = np.random.default_rng(0)
    arrays = {}
    for seed in range(SEEDS):
        for generation in range(GENERATIONS):
            values = 1 + np.exp(
                3.5 - 0.4 * generation + (0.5 + 0.2 * generation) * rng.standard_normal(SEQUENCES)
            )
            numbers = {f"distinct_{n}": 0.2 * n - 0.02 * generation for n in (1, 2, 3, 4)} | {
                "test_perplexity": 34 + 20 * (generation > 0) + rng.random(),
                "vocabulary_in_use": 900 - 100 * generation + seed,
                "share_below_real_10": 0.1 + 0.1 * generation + 0.01 * seed,
                "share_above_real_90": 0.1,
                "share_above_real_99": 0.01,
            }
            if generation == 0:
                numbers["pretrained_test_perplexity"] = 115.0
            numbers["test_perplexity_mean"] = 10 + numbers["test_perplexity"]
            arrays[seed, generation] = {
                "train_perplexity_first": values,
                "train_perplexity_own": values[::-1] / 2 + 0.5,
            } | {name: np.asarray(value) for name, value in numbers.items()}
    del arrays[SEEDS - 1, GENERATIONS - 1]
    return results_of(arrays)


def run_folder(path, results):
    folder = RunFolder(path)
    folder.write_text(
        "config.json", json.dumps({"command": "lm"} | dataclasses.asdict(LMConfig(seeds=SEEDS)))
    )
    folder.write_results(results)
    return folder


def test_every_figure_is_drawn_from_the_folder(results, tmp_path):
    names = ["perplexity", "histogram", "histogram_own", "histogram_3d", "tails", "variety"]
    drawn = draw_run(run_folder(tmp_path, results))
    assert [path.name for path in drawn] == [f"{name}.png" for name in names]
    assert all(
        path.stat().st_size > 5000 and path.with_suffix(".pdf").stat().st_size > 5000
        for path in drawn
    )
    assert len(list((tmp_path / "figures").iterdir())) == 2 * len(names)


def test_a_run_without_the_new_columns_draws_what_it_can(results, tmp_path):
    drawn = draw_run(run_folder(tmp_path, results[list(OLD)].sel(chain=[0])))
    assert [path.stem for path in drawn] == ["perplexity", "histogram", "histogram_3d"]


def test_histograms_are_shares_on_one_axis(results):
    figures = {
        name: histogram_figure(results, f"train_perplexity_{name}", "") for name in ("first", "own")
    }
    bins = shared_bins(results)
    np.testing.assert_allclose(np.diff(np.log10(bins)), 1 / 25)
    for name, made in figures.items():
        (axis,) = made.axes
        assert axis.get_xscale() == "log" and axis.get_xlim() == (bins[0], bins[-1])
        assert [text.get_text() for text in axis.get_legend().get_texts()] == [
            "0 (real text)",
            "1",
            "2",
            "3",
        ]
        for generation, curve in enumerate(axis.patches):
            values = results[f"train_perplexity_{name}"].sel(generation=generation).values
            values = values[np.isfinite(values)]
            assert values.size == SEQUENCES * (SEEDS - (generation == GENERATIONS - 1))
            share, edges, _ = curve.get_data()
            np.testing.assert_array_equal(edges, bins)
            assert share.sum() == pytest.approx(1)
            inner = slice(1, -1)  # the outermost bins also hold what lies beyond
            np.testing.assert_allclose(
                share[inner],
                [np.mean((values >= a) & (values < b)) for a, b in itertools.pairwise(bins)][inner],
            )


def test_one_sequence_does_not_stretch_the_axis(results):
    far = results.copy(deep=True)
    far["train_perplexity_first"][0, 0, 0] = 1e30
    bins, share = (
        shared_bins(far),
        histogram_figure(far, "train_perplexity_first", "").axes[0].patches[0].get_data()[0],
    )
    assert (
        bins[-1] < 1e5 and share.sum() == pytest.approx(1) and share[-1] >= 1 / (SEEDS * SEQUENCES)
    )


def test_equal_perplexities_still_have_bins():
    one = results_of({(0, 0): {"train_perplexity_first": np.full(5, 10.0)}})
    assert (
        histogram_figure(one, "train_perplexity_first", "").axes[0].patches[0].get_data()[0].sum()
        == 1
    )


def test_in_space_the_generations_lie_behind_each_other(results):
    flat = histogram_figure(results, "train_perplexity_first", "").axes[0]
    made = histogram_3d_figure(results, "train_perplexity_first", "")
    axis = made.axes[0]
    assert len(axis.collections) == GENERATIONS
    made.draw_without_rendering()
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert "10" in labels and all(
        10**tick == pytest.approx(float(label))
        for tick, label in zip(axis.get_xticks(), labels, strict=True)
    )
    assert axis.get_xlim() == pytest.approx(np.log10(flat.get_xlim()))
    assert axis.get_zlim()[1] > max(curve.get_data()[0].max() for curve in flat.patches)
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # generation 0 at the back


def test_seeds_are_lines_with_their_mean_and_band(results):
    axis = perplexity_figure(results, "", "released-code").axes[0]
    values = results["test_perplexity"].values
    lines = [line.get_ydata() for line in axis.lines]
    np.testing.assert_array_equal(lines[:SEEDS], values)
    mean, deviation = np.nanmean(values, 0), np.nanstd(values, 0, ddof=1)
    np.testing.assert_allclose(lines[SEEDS], mean)
    (band,) = [one for one in axis.collections if isinstance(one, FillBetweenPolyCollection)]
    corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert {
        (g, round(m + s * d, 6))
        for g, m, d in zip(range(GENERATIONS), mean, deviation, strict=True)
        for s in (-1, 1)
    } <= corners
    assert lines[-1][0] == 115


def test_the_perplexity_is_that_of_the_protocol_and_says_so(results):
    """Older runs have one of the two, which is then shown under its own name."""
    mean, total = "mean over blocks (paper)", "exp of the mean loss (released code)"
    both = results.assign(pretrained_test_perplexity_mean=results["pretrained_test_perplexity"] * 2)
    for data, protocol, column, words, before, of_before in (
        (both, "paper", "test_perplexity_mean", mean, 230, ""),
        (both, "released-code", "test_perplexity", total, 115, ""),
        (results, "paper", "test_perplexity_mean", mean, 115, f", {total}"),
        (results[list(OLD)], "paper", "test_perplexity", total, 115, ""),
    ):
        axis = perplexity_figure(data, "", protocol).axes[0]
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), data[column].values[0])
        assert axis.get_ylabel() == f"perplexity on the real test text,\n{words}"
        assert axis.lines[-1].get_ydata()[0] == before
        (label,) = [text.get_text() for text in axis.get_legend().get_texts()][1:]
        assert label == f"before fine-tuning: {before}{of_before}"


def test_gain_and_entropy_have_panels_of_their_own(results):
    """Below the perplexity, as they were recorded; the gain in percent, with 0 and 100 marked."""
    shape = results["test_perplexity"] * 0
    more = results.assign(
        gain_lost=shape + 0.1 * results["generation"],
        test_entropy=shape + 3,
        example_entropy=shape + 2 - 0.1 * results["generation"],
        test_perplexity_strided=results["test_perplexity"] / 2,
    )
    made = perplexity_figure(more, "t", "paper", context_words(64), window_words((256, 64)))
    top, gain, entropy = made.axes
    assert top.get_ylabel() == (
        "perplexity on the real test text,\nmean over blocks (paper),\n"
        "each token after at most 63 others"
    )
    legend = [text.get_text() for text in top.get_legend().get_texts()]
    assert legend == [
        "block by block",
        "strided, exp of the mean loss,\neach token after 192 to 255 others",
        "before fine-tuning: 115, exp of the mean loss (released code)",
    ]
    strided = [line.get_ydata() for line in top.lines]
    np.testing.assert_array_equal(strided[SEEDS + 1], more["test_perplexity_strided"].values[0])
    np.testing.assert_allclose(gain.lines[SEEDS].get_ydata(), [0, 10, 20, 30])
    assert [line.get_ydata()[0] for line in gain.lines[-2:]] == [0, 100]
    assert [text.get_text() for text in entropy.get_legend().get_texts()] == [
        "on the real test text",
        "on its own text",
    ]
    np.testing.assert_allclose(entropy.lines[-1].get_ydata(), [2, 1.9, 1.8, 1.7])
    assert len(perplexity_figure(results, "t").axes) == 1


def test_blocks_say_their_length_in_every_title():
    assert title(LMConfig(block_length=32)).endswith("blocks of 32 tokens")


def test_what_the_newest_model_wrote_is_dotted(results):
    """Beside the whole training set, as the mean over seeds; generation 0 has none."""
    newest = results["vocabulary_in_use"].where(results["generation"] > 0) / 2
    tails = results["share_below_real_10"].where(results["generation"] > 0) * 3
    apart = results.assign(newest_vocabulary_in_use=newest, newest_share_below_real_10=tails)
    for made, values in ((variety_figure(apart, "t"), newest), (tails_figure(apart, "t"), tails)):
        dotted = [line for axis in made.axes for line in axis.lines if line.get_linestyle() == ":"]
        assert len(dotted) == 1 and dotted[0].get_xdata().tolist() == [1, 2, 3]
        np.testing.assert_allclose(dotted[0].get_ydata(), values.mean("chain").values[1:])
        assert "dotted: what the newest model wrote" in made.get_suptitle()
    assert "dotted" not in variety_figure(results, "t").get_suptitle()


@pytest.mark.parametrize(
    ("changes", "begin"),
    [
        ({"preset": "fig1c"}, "10% real text kept, 10 epochs"),
        ({"real_fraction": 0.004, "beta": 0.125}, "0.4% real text kept, 12.5% of the previous set"),
        # Whole batches of 8 of 40 blocks, and blocks of 16, are other shares than the asked one.
        (
            {"preset": "fig1c", "real_kept": "batches", "batch_size": 8, "train_blocks": 40},
            "20% real text kept, 10 epochs",
        ),
        ({"real_fraction": 0.1, "train_blocks": 16}, "12.5% real text kept, 5 epochs"),
        ({"real_blocks": 1200}, "1,200 blocks of real text kept, 5 epochs"),
        ({"real_tokens": 64, "control": "kept"}, "64 tokens of real text kept, control: kept, 5"),
        ({"workflow": "accumulate", "control": "real"}, "accumulate, control: real, 5 epochs"),
    ],
)
def test_titles_say_what_is_kept_and_which_control_it_is(changes, begin):
    assert title(LMConfig(**changes)).startswith(begin)


def test_a_band_stays_on_a_log_axis():
    axes = style.figure()[1]
    axes[0, 0].set_yscale("log")
    style.seeds(axes[0, 0], [0, 1], [[1.0, 2.0], [100.0, 2.0]], "C0")  # mean 50.5, deviation 70
    assert axes[0, 0].collections[0].get_paths()[0].vertices[:, 1].min() == pytest.approx(0.8)


def test_panels_hold_the_columns_that_are_there(results):
    made = variety_figure(results, "settings")
    shown = [axis for axis in made.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == [
        "different n-grams / n-grams",
        "vocabulary in use",
    ]
    assert [text.get_text() for text in shown[0].get_legend().get_texts()] == [
        "n = 4",
        "n = 3",
        "n = 2",
        "n = 1",
    ]  # as the lines lie
    np.testing.assert_allclose(shown[1].lines[-1].get_ydata(), [901, 801, 701, 600.5])
    assert variety_figure(results[list(OLD)], "") is None


def test_tails_are_drawn_against_the_real_share(results):
    made = tails_figure(results, "settings")
    assert len(made.axes) == 3
    np.testing.assert_allclose(made.axes[0].lines[SEEDS].get_ydata(), [0.11, 0.21, 0.31, 0.405])
    assert [axis.lines[-1].get_ydata()[0] for axis in made.axes] == [0.1, 0.1, 0.01]
    assert tails_figure(results[list(OLD)], "") is None
