"""Texts as points: against SciPy's distances, and the package mauve-text."""

import importlib.util
import sys
import types

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from collapse_jax.errors import InputError
from collapse_jax.metrics.embeddings import embedding_diversity, has_mauve, mauve_score


def test_diversity_is_the_mean_of_scipys_pairwise_distances():
    points = np.random.default_rng(0).normal(size=(40, 7)) + 0.5
    assert embedding_diversity(points) == pytest.approx(pdist(points, "cosine").mean(), rel=1e-12)
    assert embedding_diversity([[1, 0], [0, 2]]) == pytest.approx(1)
    assert embedding_diversity([[1, 0], [-3, 0]]) == pytest.approx(2)
    assert embedding_diversity(np.ones((5, 3))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (np.ones((1, 3)), r"points have shape \(1, 3\)"),
        (np.ones(3), r"points have shape \(3,\)"),
        (np.array([[1.0, 0], [0, 0]]), "points: number 1 has length 0.0"),
        (np.array([[np.nan, 0], [1, 0]]), "points: number 0 has length nan"),
    ],
)
def test_what_has_no_direction_is_refused(points, says):
    with pytest.raises(InputError, match=says):
        embedding_diversity(points)


def test_mauve_is_given_the_real_points_first(monkeypatch):
    """By a stand-in for the package, which keeps what it is given."""
    given = {}

    def compute_mauve(**arguments):
        given.update(arguments)
        return types.SimpleNamespace(mauve=0.25)

    fake = types.SimpleNamespace(compute_mauve=compute_mauve)
    monkeypatch.setitem(sys.modules, "mauve", fake)
    real, made = np.eye(3), 2 * np.eye(3)
    assert mauve_score(made, real, seed=4) == 0.25
    assert np.array_equal(given["p_features"], real) and np.array_equal(given["q_features"], made)
    assert given["seed"] == 4 and not given["verbose"]
    with pytest.raises(InputError, match="real_points have shape"):
        mauve_score(made, real[:1])


@pytest.mark.skipif(importlib.util.find_spec("mauve") is None, reason="needs mauve-text")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mauve_of_equal_and_of_distant_points(capfd):
    rng = np.random.default_rng(0)
    real = rng.normal(size=(60, 5)) + 1
    assert has_mauve() and mauve_score(real, real) == pytest.approx(1)
    assert mauve_score(-real, real) < 0.1
    assert "clustering" not in capfd.readouterr().err
