"""The experiments on families at tiny sizes.

They write what they promise, and refuse what has no meaning.
"""

import csv
import importlib

import pytest

from collapse_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(autouse=True)
def on_path(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")


def test_families_table(tmp_path, capsys):
    table = importlib.import_module("families")
    table.main(
        table.Settings(
            families="uniform", generations=200, sample_size=50, most_chains=200, out=str(tmp_path)
        )
    )
    rows = list(csv.DictReader((tmp_path / "families.csv").read_text().splitlines()))
    assert [(row["family"], row["workflow"]) for row in rows][:4] == [
        ("uniform", flow) for flow in table.FLOWS
    ]
    words = {(row["family"], row["workflow"]): row["verdict"] for row in rows}
    # the uniform's maximum falls by e^(-1/50) a generation, and is never beaten once it is kept
    assert words["uniform", "replace"] == "collapses" and words["uniform", "accumulate"] == "stays"
    assert "| uniform | maximum | collapses (0.0" in capsys.readouterr().out
    assert (tmp_path / "figures" / "families.png").stat().st_size > 5_000


def test_the_map_is_drawn_from_the_table(tmp_path, capsys, monkeypatch):
    """Word and ratio of every cell in both blocks; nothing is simulated."""
    table = importlib.import_module("families")
    monkeypatch.setattr(table, "measured", None)
    lines = ["family,workflow,measure,generation_0,generation_7,verdict"]
    lines += [
        f'"gaussian, ddof=0",{flow},variance,2.0,{last},stays'
        for flow, last in zip(table.FLOWS, (0.0, 1.9, 0.5, 3e9), strict=True)
    ]
    lines += [
        f"pareto,{flow},kl_real_to_model,0.5,{last},grows"
        for flow, last in zip(table.FLOWS, (0.5, 60.2, 1, 2), strict=True)
    ]
    (tmp_path / "families.csv").write_text("\n".join(lines) + "\n")
    drawn = []
    monkeypatch.setattr(
        "collapse_jax.app.plots.style.save",
        lambda made, folder, name: drawn.append(made) or tmp_path / f"{name}.png",
    )
    table.main(table.Settings(redraw=True, out=str(tmp_path)))
    assert capsys.readouterr().out.strip().endswith("families.png")
    first, second = ([text.get_text() for text in axis.texts] for axis in drawn[0].axes[:2])
    assert first == ["stays 0", "stays 0.95", "stays 0.25", "stays 1.50e9"]
    assert second == ["grows 1", "grows 120", "grows 2", "grows 4"]


@pytest.mark.parametrize(
    ("medians", "error", "word"),
    [
        ((1, 0.7, 0.4), False, "collapses"),
        ((1, 0.9, 0.8), False, "declines"),
        ((2, 2, 2.1), False, "stays"),
        ((1, 2, 3), False, "widens"),
        ((1, 2, 3), True, "grows"),
        ((1, 30, 31), True, "grows"),
        ((1, 2, 2.1), True, "bounded"),
    ],
)
def test_words(medians, error, word):
    table = importlib.import_module("families")
    assert table.verdict(table.Row(None, "variance", error), *medians) == word


def test_kernel_density_figures(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    script = importlib.import_module("kazdan2024_kde")
    for name, value in {
        "SHAPES": ("moons",),
        "FLOWS": ("replace",),
        "REAL": 200,
        "HELD_OUT": 20,
    }.items():
        monkeypatch.setattr(script, name, value)
    script.main(
        script.Settings(
            sample_sizes="5", bandwidths="0.5", chains=2, generations=3, out=str(tmp_path)
        )
    )
    assert {path.name for path in tmp_path.iterdir()} == {"loss.png", "points.png", "losses.csv"}
    rows = list(csv.DictReader((tmp_path / "losses.csv").read_text().splitlines()))
    assert len(rows) == 2 * 4 and {row["sample_size"] for row in rows} == {"5"}
    assert "median held-out loss" in capsys.readouterr().out


@pytest.mark.slow
def test_regression_figure(tmp_path, capsys):
    importlib.import_module("regression").main(tmp_path, chains=8, generations=2)
    assert (tmp_path / "figures" / "regression.png").is_file()
    assert "least squares, accumulate, one design" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "settings", "message"),
    [
        (
            "families",
            {"families": "gausian"},
            "families is 'gausian'; it must begin like some of gaussian; ",
        ),
        ("families", {"generations": 0}, "generations is 0; it must be at least 1"),
        (
            "kazdan2024_kde",
            {"sample_sizes": "ten"},
            "sample_sizes is 'ten'; it must be positive numbers",
        ),
        ("kazdan2024_kde", {"bandwidths": "0"}, "bandwidths is '0'; it must be positive numbers"),
        ("kazdan2024_kde", {"chains": 0}, "chains is 0; it must be at least 1"),
    ],
)
def test_bad_settings(script, settings, message):
    module = importlib.import_module(script)
    with pytest.raises(InputError, match=message):
        module.main(module.Settings(**settings))
