"""Values of a setting as they are typed: lists, ranges, and what is said of them."""

import numpy as np
import pytest

from collapse_jax.app.cli import main
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.config.ranges import read


def test_ranges_are_those_of_numpy():
    """To 12 digits, so that a value of a range is the one that is typed by hand."""
    np.testing.assert_allclose(read(float, "0:1:316").values, np.linspace(0, 1, 316), rtol=1e-11)
    log = read(float, "log:1e-3:10:41").values
    np.testing.assert_allclose(log, np.geomspace(1e-3, 10, 41), rtol=1e-11)
    assert read(float, "0:1:11").values == (*(float(f"0.{i}") for i in range(10)), 1.0)
    assert read(float, "0,log:0.01:1:3,5").values == (0, 0.01, 0.1, 1, 5)
    assert read(float, "3:1:3").values == (3, 2, 1)
    assert read(int, "5,20").values == (5, 20) and read(int, "7").values == (7,)
    sizes = read(int, "log:10:6000:316")
    wanted = np.unique(np.geomspace(10, 6000, 316).round().astype(int))
    assert sizes.values == tuple(wanted) and sizes.values[-1] == 6000
    assert sizes.note == (
        f"log:10:6000:316 has {len(wanted)} different whole numbers among 316; each is used once"
    )
    assert read(float, "0:1:3").note == ""
    for text in ("0:1:nan", "x"):
        with pytest.raises(ValueError, match=text):
            read(float, text)


def test_ranges_on_the_command_line(monkeypatch, capsys):
    """Values as in a list, and a line about sizes that are the same once they are rounded."""
    seen = []
    monkeypatch.setattr(
        "collapse_jax.app.commands.simulate.run_simulate",
        lambda config, *rest, **more: seen.append((config, rest[-1], more)),
    )
    words = "simulate --gamma 0:0.3:4 --sample-size log:2:8:9 --points 2/4 --dry-run"
    main(words.split())
    config, part, more = seen[0]
    assert config.gamma == (0.0, 0.1, 0.2, 0.3) and config.sample_size == (2, 3, 4, 5, 6, 7, 8)
    assert part == (2, 4) and more == {"dry_run": True}
    assert "log:2:8:9 has 7 different whole numbers among 9" in capsys.readouterr().out


def test_ranges_of_options_of_the_family():
    config = SimulateConfig(family="kde", grid=("bandwidth=0.1:0.3:3", "unit=1:1:2"))
    config.check()
    assert config.resolved().axes() == {"bandwidth": (0.1, 0.2, 0.3)}
    assert [point.options for point in config.points()][1] == ("unit=1", "bandwidth=0.2")
    listed = SimulateConfig(family="kde", grid=("bandwidth=0.1,0.2,0.3",), options=("unit=1",))
    for one, other in zip(config.points(), listed.points(), strict=True):
        assert one.stream_name() == other.stream_name()
