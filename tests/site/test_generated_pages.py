"""The pages that docs/_site writes say what the registry and the committed table say."""

import re
import shlex

import pytest

from collapse_jax.app.commands import COMMANDS
from collapse_jax.app.reproduce import load_entries, own_folder


@pytest.fixture
def site_modules(root, monkeypatch):
    """The modules of docs/_site, which Sphinx imports by their short names."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(root / "docs" / "_site"))


def test_every_metric_of_a_family_has_a_formula(site_modules):
    import metric_formulas

    found = metric_formulas.offered()
    assert {"variance", "kl_model_to_real", "total_variation_city"} <= set(found)
    assert "gaussian" in found["variance"]["metrics"]
    # In one dimension alone.
    assert "gaussian" in found["total_variation"]["distances"]
    assert "vae" in found["latent_deviation"]["distances"]
    assert metric_formulas.without(found) == []
    assert metric_formulas.without({"nobody": {"metrics": ["gaussian"]}}) == ["nobody"]
    page = metric_formulas.page()
    for name in found:
        if not name.endswith(("_city", "_smokes", "_age", "_income")):
            assert f"### `{name}`\n\n$$" in page


def test_the_metrics_that_users_call_have_an_entry(site_modules):
    import reference

    names = reference.METRICS.split()
    assert {"held_out_log_prob", "against", "of_fit", "label", "effective_rank"} <= set(names)
    page = reference.PAGES["python"]()
    for name in names:
        assert f"### `cj.metrics.{name}`\n" in page


def test_the_site_shows_every_row_of_the_committed_table(site_modules, root):
    import published

    text = (root / "docs" / "reproduced" / "README.md").read_text(encoding="utf-8")
    entries = load_entries(own_folder())
    page = published.page(text, entries)
    ids = re.findall(r'<tbody id="([^"]+)"', page)
    assert ids == re.findall(r"^\| `([^`]+)`", text, re.M)
    for count, verdict in re.findall(r"(\d+) ([a-z][a-z ]+)[,.]", text.split("\n\n")[1]):
        shown = len(re.findall(rf'data-verdict="{verdict}"', page))
        assert verdict == "entries" or shown == int(count)
    for figure in re.findall(r'src="(figures/[^"]+)"', page):
        assert (root / "docs" / "reproduced" / figure).is_file()
    pages = published.code_pages(entries)
    for one in entries:
        assert f"\n## {one.id}\n" in pages[one.file.stem]
        assert f'"{one.id}"' in pages[one.file.stem]
    # All code is there, whatever stands between the entries.
    for file in {one.file for one in entries}:
        for line in filter(None, map(str.strip, file.read_text(encoding="utf-8").splitlines())):
            assert line in pages[file.stem]


def test_every_figure_has_the_command_that_makes_it(site_modules, root):
    import gallery

    page = gallery.page()
    for path in (root / "docs" / "figures").glob("*.png"):
        assert f"../figures/{path.name}" in page
        program, what, *_ = shlex.split(gallery.command(path.stem))
        if program == "python":
            assert (root / what).is_file()
        else:
            assert program == "collapse-jax"
            assert what in COMMANDS
    assert gallery.command("nobodys_figure") is None
