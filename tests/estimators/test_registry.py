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


def test_what_is_not_given_again_stays():
    register("newcomer", newcomer, example=tuple, label="one of us", metrics=["mean"])
    register("newcomer", newcomer)
    assert family("newcomer") == Family(newcomer, tuple, "one of us", ("mean",))
    register("newcomer", newcomer, label="another")
    assert family("newcomer") == Family(newcomer, tuple, "another", ("mean",))


def test_a_family_is_taken_as_entry_points_take_it():
    whole = Family(newcomer, tuple, "one of us", ("mean",))
    register("newcomer", whole)
    assert family("newcomer") == whole
    register("newcomer", whole, label="another")
    assert family("newcomer") == whole._replace(label="another")
    register("newcomer", Family(newcomer))
    assert family("newcomer") == Family(newcomer)


def with_options(scale=1.0, **more):
    """Takes anything."""


def with_one(scale=1.0):
    """Takes one."""


@pytest.mark.parametrize(
    ("factory", "parts", "words"),
    [
        (newcomer, {"metrics": 3}, ["metrics of 'one' is 3", "tuple of names"]),
        (newcomer, {"metrics": {"mean": len}}, ["metrics of 'one' is {", "tuple of names"]),
        (newcomer, {"label": "{nope}"}, ["'nope' must be an option", "which has none"]),
        (with_one, {"label": "{scal}"}, ["'scal' must be", "did you mean 'scale'"]),
        (with_one, {"label": "{}"}, ["'' must be an option", "scale"]),
        (with_one, {"label": "{scale.x}"}, ["'scale.x' must be an option"]),
        (newcomer, {"example": 3}, ["example of 'one' is 3"]),
        (newcomer, {"laws": estimators.ClosedForms(3)}, ["means of the laws of 'one' is 3"]),
        (Family(3), {}, ["factory of 'one' is 3"]),
        (Family(newcomer, label=3), {}, ["label of 'one' is 3"]),
    ],
)
def test_what_register_refuses_of_a_family(factory, parts, words):
    with pytest.raises(InputError) as caught:
        register("one", factory, **parts)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "one" not in families()


def test_labels_hold_options():
    register("one", with_one, label="scale {scale:g} {{of}} it")
    register("another", with_options, label="{anything}")


def test_register_refuses():
    with pytest.raises(
        InputError,
        match=r"name 'gaussian' is taken by collapse_jax.estimators.gaussian.family.gaussian; "
        r"choose another",
    ):
        register("gaussian", newcomer)
    with pytest.raises(InputError, match="name is 'a b'; it must consist of letters"):
        register("a b", newcomer)
    with pytest.raises(InputError, match="factory of 'other' is 3; it must be a function"):
        register("other", 3)
    with pytest.raises(InputError) as caught:
        family("gausian")
    assert str(caught.value).startswith("family is 'gausian'; it must be one of categorical, ")
    assert str(caught.value).endswith("(did you mean 'gaussian'?)")


class Point:
    """An entry point as installed packages have it."""

    def __init__(self, name, loaded):
        self.name, self.value, self._loaded = name, f"package:{name}", loaded

    def load(self):
        if isinstance(self._loaded, BaseException):
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


class Unreadable:
    """An object that cannot be asked for anything."""

    def __call__(self):
        """Nothing."""

    def __getattr__(self, name):
        raise RuntimeError(f"no {name} here")


# Entry point -> what its module gives or raises, and the reason that is told.
BROKEN = {
    "missing": (ImportError("no module named theirs"), "no module named theirs"),
    "misspelt": (SyntaxError("invalid syntax"), "SyntaxError: invalid syntax"),
    "leaves": (SystemExit("bye"), "SystemExit: bye"),
    "fails": (RuntimeError(), "RuntimeError: RuntimeError"),
    "three": (3, "the object is 3; it must be a Family, or a function"),
    "nothing": (None, "the object is None; it must be a Family, or a function"),
    "of_three": (Family(3), "the object is 3; it must be a Family, or a function"),
    "labelled": (
        Family(newcomer, label="{nope}"),
        "label of 'labelled' is '{nope}'; 'nope' must be",
    ),
    "measured": (Family(newcomer, metrics=3), "metrics of 'measured' is 3"),
    "example": (Family(newcomer, example=3), "example of 'example' is 3"),
    "lawless": (Family(newcomer, laws=tuple), "laws of 'lawless' is <class 'tuple'>"),
    "unreadable": (Unreadable(), "RuntimeError: no example here"),
    "a b": (newcomer, "its name must consist of letters"),
    "gaussian": (newcomer, "the name is taken by a built-in family"),
    "fine": (newcomer, "the name is taken by another entry point"),
}


@pytest.fixture
def installed(monkeypatch):
    """A package whose family is fine, and one broken package for each of `BROKEN`."""
    points = [Point("fine", newcomer)] + [
        Point(name, loaded) for name, (loaded, _) in BROKEN.items()
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)


def test_one_broken_package_takes_no_other_family_with_it(installed):
    assert list(families()) == [*estimators.FAMILIES, "fine"]
    reasons = registry.broken()
    assert len(reasons) == len(BROKEN)
    for name, (_, reason) in BROKEN.items():
        key = f"{name} (package:{name})" if name in ("gaussian", "fine") else name
        assert reasons[key].startswith(
            f"family {name!r} of the entry point package:{name} cannot be loaded: {reason}"
        )
        if key == name:
            with pytest.raises(InputError) as caught:
                family(name)
            assert str(caught.value) == reasons[name]
    assert family("gaussian") is estimators.FAMILIES["gaussian"]
    assert family("fine") == Family(newcomer)
    register("newcomer", newcomer)
    assert family("newcomer") == Family(newcomer)


def test_ours_are_found_without_loading_a_package(monkeypatch):
    def entry_points(group):
        raise AssertionError("asked for the packages")

    register("newcomer", newcomer)
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert family("kde") is estimators.FAMILIES["kde"] and family("newcomer").factory is newcomer


def test_damaged_metadata_leaves_ours(monkeypatch):
    def entry_points(group):
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "invalid start byte")

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert list(families()) == list(estimators.FAMILIES)
    (reason,) = registry.broken().values()
    assert "UnicodeDecodeError" in reason


def test_the_command_names_each_broken_package_once(installed, capsys):
    main(["families"])
    printed = capsys.readouterr().out
    for name, (_, reason) in BROKEN.items():
        lines = [
            line
            for line in printed.splitlines()
            if line.startswith(f"not available: family {name!r} ") and reason in line
        ]
        assert len(lines) == 1, name
    assert all(f"{name}(" in printed for name in [*estimators.FAMILIES, "fine"])


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
    assert str(estimators.gaussian(2)).startswith("gaussian(dim=2, ddof=1, by='law',")
    design = np.ones((4, 3))
    named = str(estimators.linear_regression(3, noise=0.5, design=design)).splitlines()[0]
    assert "dim=3, noise=0.5, method='ordinary'" in named and "design=float64[4, 3]" in named
    for name, known in estimators.FAMILIES.items():
        if known.example:
            assert repr(known.example()[0]).startswith(f"{name}("), name
