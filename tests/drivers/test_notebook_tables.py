"""Tables that a notebook shows: what is in them, and that names of metrics do no harm."""

import numpy as np

import collapse_jax as cj
from collapse_jax.core.html import html_table
from collapse_jax.drivers.estimate import Estimate
from collapse_jax.drivers.simulate_summary import Summary


def cells(html):
    return [row.split("</td>")[0] for row in html.split("<td>")[1:]]


def test_texts_are_escaped():
    html = html_table(("a<b",), [("<script>",)], "x & y", ["<note>"])
    assert html == (
        "<div><p>x &amp; y</p><table><tr><th>a&lt;b</th></tr><tr><td>&lt;script&gt;</td></tr>"
        "</table><p>&lt;note&gt;</p></div>"
    )


def test_a_trace_shows_medians_at_both_ends():
    scalars = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 2.0, 7.0]])
    trace = cj.Trace({"mean": scalars, "vector": np.zeros((3, 3, 2))}, np.array([0, 5, 9]))
    html = trace._repr_html_()
    assert cells(html) == ["mean", "[3, 3]", "2", "3", "vector", "[3, 3, 2]", "", ""]
    assert "median at 9" in html and "generations 0..9 (3 recorded)" in html
    assert cells(cj.Trace({}, np.zeros(0, int))._repr_html_()) == []


def test_a_summary_shows_its_last_generation():
    last = {"mean": np.array([0.0, 1.5])}
    levels = {"mean": np.array([[0.0, 0.0], [0.25, 2.0]])}
    summary = Summary(np.array([0, 4]), last, {"mean": np.array([0.0, 0.5])}, levels, (0.05, 0.95))
    html = summary._repr_html_()
    assert cells(html) == ["mean", "1.5", "0.5", "0.25", "2"] and "at generation 4" in html


def test_an_estimate_shows_its_rows():
    estimate = Estimate("a under b", 10, 5, 6, 2**20, None, 1.0, 2.0, 2**10)
    html = estimate._repr_html_()
    assert cells(html)[::2] == ["memory", "time", "records"] and "a under b: 10 chains" in html
    assert [line.split()[0] for line in repr(estimate).splitlines()[1:]] == cells(html)[::2]
