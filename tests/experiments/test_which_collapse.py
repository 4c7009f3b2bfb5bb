"""The words of the table of eight definitions."""

import numpy as np
import pytest

import collapse_jax as cj


@pytest.fixture
def script(monkeypatch, root):
    monkeypatch.syspath_prepend(root / "experiments")
    import which_collapse

    return which_collapse


def test_a_cell_says_what_is_met_since_when(script):
    rng = np.random.default_rng(0)
    falling, rising = np.geomspace(1, 0.01, 17), np.linspace(1, 33, 17)
    noise = 1 + 0.01 * rng.normal(size=(20, 17))
    run = {"variance": falling * noise, "squared_wasserstein2": rising * noise}
    cells = script.cells(cj.profile(run))
    # 33 times the first loss, above 10 from generation 5 on (11); .01 of the variance, below half
    # from 3 on (.42); a straight line grows faster than a logarithm.
    assert cells[0].startswith("catastrophic 3") and cells[0].endswith(", 5")
    assert cells[2] == "met / met" and cells[3] == "met 0.01, 3"
    assert cells[4:] == ["", "", ""]


def test_rows_are_chosen_by_their_beginning(script):
    assert list(script.Settings(families="kde").rows()) == ["kde, h=0.5"]
    with pytest.raises(cj.InputError, match="families is 'x'"):
        script.Settings(families="x").check()
