"""Families by name: ours, registered ones, those of entry points; and `collapse-jax families`."""

import importlib.metadata

import numpy as np
import pytest

from collapse_jax import estimators
from collapse_jax.app.cli import main
from collapse_jax.app.commands.families import _tables
from collapse_jax.core.types import Family
from collapse_jax.errors import InputError
from collapse_jax.estimators import registry
from collapse_jax.estimators.registry import families, family, register


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})


def newcomer():
    """A newcomer."""


def test_register():
    register("newcomer", newcomer)
    register("newcomer", newcomer, example=tuple)
    assert families()["newcomer"] == family("newcomer") == Family(newcomer, tuple)
    assert list(families())[: len(estimators.FAMILIES)] == list(estimators.FAMILIES)


def test_register_refuses():
    with pytest.raises(
        InputError,
        match=r"name 'gaussian' is taken by collapse_jax.estimators.gaussian.gaussian; choose "
        r"another",
    ):
        register("gaussian", newcomer)
    with pytest.raises(InputError, match="name is 'a b'; it must be made of letters"):
        register("a b", newcomer)
    with pytest.raises(InputError, match="factory of 'other' is 3; it must be a function"):
        register("other", 3)
    with pytest.raises(InputError, match="family is 'gausian'; it must be one of categorical, "):
        family("gausian")


class Point:
    """An entry point as installed packages have it."""

    def __init__(self, name, loaded):
        self.name, self.value, self._loaded = name, f"package:{name}", loaded

    def load(self):
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def test_entry_points(monkeypatch):
    points = [
        Point("theirs", newcomer),
        Point("whole", Family(newcomer, tuple)),
        Point("gaussian", None),
    ]
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda group: points if group == "collapse_jax.families" else [],
    )
    found = families()
    assert found["theirs"] == Family(newcomer, None) and found["whole"] == Family(newcomer, tuple)
    assert found["gaussian"] is estimators.FAMILIES["gaussian"]
    points.append(Point("broken", ImportError("no module named theirs")))
    with pytest.raises(
        InputError,
        match="family 'broken' of the entry point package:broken cannot be loaded: no module "
        "named theirs",
    ):
        families()


def test_command_lists_all_with_their_sources(capsys):
    register("newcomer", newcomer)
    main(["families"])
    printed = capsys.readouterr().out
    for name in (
        *estimators.FAMILIES,
        "newcomer(",
        "replace()",
        "mix(alpha",
        "best_of(k",
        "detector(true_positive",
    ):
        assert name in printed
    assert "A newcomer." in printed and "arXiv 2404.01413" in printed


@pytest.mark.parametrize("title", ["workflows", "between"])
def test_everything_listed_has_a_source(title):
    rows = next(rows for name, rows in _tables().items() if name.startswith(title))
    for name, line, source in rows:
        assert line.endswith((".", ":")) and source, name


def test_a_family_prints_its_options():
    assert repr(estimators.gaussian(2)).startswith("gaussian(dim=2, ddof=1, by='law',")
    design = np.ones((4, 3))
    named = repr(estimators.linear_regression(3, noise=0.5, design=design)).splitlines()[0]
    assert "dim=3, noise=0.5, method='ordinary'" in named and "design=float64[4, 3]" in named
    for name, known in estimators.FAMILIES.items():
        if known.example:
            assert repr(known.example()[0]).startswith(f"{name}("), name
