"""Texts on a figure are what is written, whatever it is."""

import warnings

import matplotlib
import numpy as np
import pytest

from collapse_jax.app.plots import reproduce, style
from collapse_jax.app.reproduce.compare import Comparison
from collapse_jax.app.reproduce.entries import Entry
from collapse_jax.runs.folder import RunFolder

NAMES = [
    "a$b$c",
    r"x$\\frac{$y",
    "$",
    "$$",
    r"a\$b$",
    "100% of_that & {this} ~ ^ #1",
    r"\\input{/etc/passwd}",
    "\x1b[2J\u202eback\r\x00",
    "<b>|`*",
]


@pytest.mark.parametrize("tex", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_read_as_a_formula(name, tex, tmp_path):
    """Titles, labels and legends; also where the user's own settings draw every text by TeX."""
    shown = name.translate({ord(c): repr(c)[1:-1] for c in "\x1b\u202e\r\x00"})
    with matplotlib.rc_context({"text.usetex": tex}):
        fig, axes = style.figure()
        axis = axes[0, 0]
        axis.plot([1, 2], [1, 2], label=f"curve {name}")
        axis.set_title(name)
        axis.set_xlabel(name)
        axis.set_ylabel(f"{name}\nsecond line")
        axis.legend(title=name)
        fig.suptitle(name)
        style.literal(fig)
        style.literal(fig)  # twice is once
    wanted = [shown, shown, f"{shown}\nsecond line", shown, shown, f"curve {shown}"]
    texts = [axis.title, axis.xaxis.label, axis.yaxis.label, fig.texts[0]]
    texts += [axis.get_legend().get_title(), *axis.get_legend().get_texts()]
    for text, line in zip(texts, wanted, strict=True):
        assert text.get_text() == line and not text.get_usetex() and not text.get_parse_math()


def test_names_on_ticks_and_formulas_of_our_own(tmp_path):
    fig, axes = style.figure()
    axis = axes[0, 0]
    axis.plot([0, 1], [1, 1e4])
    axis.set_yscale("log")
    axis.set_xticks([0, 1], list(map(style.tick_name, ["$a$b_$\\frac{", "x\x1b"])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph would be one
        path = style.save(fig, RunFolder(tmp_path), "ticks")
    assert path.stat().st_size > 5000
    names = [text._preprocess_math(text.get_text()) for text in axis.get_xticklabels()]
    assert names == [(r"$a$b_$\frac{", False), (r"x\x1b", False)]
    assert any("10^{" in text.get_text() for text in axis.get_yticklabels())


@pytest.mark.parametrize("name", ["../../out", "a/b", "/tmp/out", "a\x1b[2J\n", "..\\out"])
def test_a_figure_lies_in_its_folder(name, tmp_path):
    """The name of a metric, which a run folder from elsewhere may hold, is part of a file's."""
    folder = RunFolder(tmp_path / "deep" / "run")
    path = style.save(style.figure(1, 1, 1, 1)[0], folder, f"phase_{name}")
    assert path.parent == folder.figures and path.is_file() and "\x1b" not in path.name
    assert {file.parent for file in tmp_path.rglob("*.p*")} == {folder.figures}


def test_a_plot_of_a_result(tmp_path):
    at, ours = np.array(["$a$\\frac{", "b\x1b[2J"]), np.array([1.0, 2.0])
    one = Comparison("$x_{", at, ours, ours, ours, ours, 0.5, "")
    entry = Entry("x", *["$\\y_{"] * 11, check=None)._replace(log="")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reproduce.draw(tmp_path / "x.png", entry, [one]).is_file()
