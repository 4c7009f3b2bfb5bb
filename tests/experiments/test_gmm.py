"""The notebook experiment on Gaussian mixtures, at a tiny size.

What it computes, keeps, prints and draws.
"""

import importlib

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.slow
def test_it_computes_once_prints_and_draws(tmp_path, monkeypatch, root, capsys):
    monkeypatch.syspath_prepend(root / "experiments")
    module = importlib.import_module("shumailov2024_gmm")
    monkeypatch.setattr(module, "SCATTERS", (0, 4))
    monkeypatch.setitem(module.SCALES, "mini", (20,))
    module.main("mini", 4, 3, tmp_path)
    said = capsys.readouterr().out
    assert "| 20 |  |" in said
    for name in ("distance", "scatter"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 10_000
    with np.load(tmp_path / "distances_20.npz") as held:
        assert held["generations"].tolist() == [0, 1, 2, 3, 4]
        assert held["factors_of"].shape == (3, 5, 2, 2, 2)
        distance = np.median(np.exp(held["log_squared_l2_to_first"][:, -1]))
        deviations = np.median(held["component_deviations"][:, -1], axis=0)
    assert f"| {distance:.3g} (" in said and f"| {deviations[0]:.3g}, {deviations[1]:.3g} |" in said
    monkeypatch.setattr(module, "process", None)  # nothing is computed again
    module.main("mini", 4, 3, tmp_path)
    with pytest.raises(SystemExit, match="holds another run"):
        module.main("mini", 5, 3, tmp_path)


def test_published_values_belong_to_the_full_scale(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")
    module = importlib.import_module("shumailov2024_gmm")
    assert set(module.SCALES["mini"]) < set(module.SCALES["full"]) == set(module.PUBLISHED)
    made = module.process(500).estimator
    assert {"squared_l2", "log_squared_l2"} <= set(made.distances)
