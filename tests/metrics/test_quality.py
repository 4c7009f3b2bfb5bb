"""Precision, recall, density, coverage against scikit-learn; sliced Wasserstein against SciPy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import collapse_jax as cj
from collapse_jax.app.commands.simulation import process_of
from collapse_jax.app.config.simulate import SimulateConfig
from collapse_jax.errors import InputError
from collapse_jax.metrics import against, precision_recall, sliced_wasserstein

pytestmark = pytest.mark.usefixtures("quick_compile")
RNG = np.random.default_rng(6)
REAL = RNG.normal(size=(150, 3)).astype(np.float32)
# Narrower, shifted, of another number; and one that is far from all.
MADE = (0.5 * RNG.normal(size=(110, 3)) + [0.8, 0, 0]).astype(np.float32)
MADE[0] = 50


@pytest.mark.parametrize("k", [1, 5])
def test_manifolds_are_those_of_scikit_learns_neighbours(k):
    neighbours = pytest.importorskip("sklearn.neighbors")

    def reach(x):
        nearest = neighbours.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x)
        return nearest.kneighbors()[0][:, -1]  # of each to the others

    def inside(x, centres, radii):
        """[x, centres]"""
        apart = neighbours.NearestNeighbors(n_neighbors=len(centres)).fit(centres)
        distance, place = apart.kneighbors(x)
        found = np.empty((len(x), len(centres)), bool)
        np.put_along_axis(found, place, distance <= radii[place], 1)
        return found

    in_real = inside(MADE.astype(float), REAL, reach(REAL.astype(float)))
    in_made = inside(REAL.astype(float), MADE, reach(MADE.astype(float)))
    found = precision_recall(MADE, REAL, k)
    exact = in_real.any(1), in_made.any(1), in_real.sum(1) / k, in_real.any(0)
    np.testing.assert_allclose(found, [part.mean() for part in exact], rtol=1e-6)
    assert 0 < found.precision < 1 and 0 < found.recall < found.precision


@pytest.mark.parametrize("counts", [(150, 110), (90, 90), (1, 7)])
def test_sliced_wasserstein_is_scipys_on_each_line(counts):
    x, y = REAL[: counts[0]], MADE[: counts[1]]
    key = jax.random.key(3)
    along = np.asarray(jax.random.normal(key, (20, 3)), float)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    exact = np.mean([stats.wasserstein_distance(x @ one, y @ one) for one in along])
    found = sliced_wasserstein(x, y, order=1, directions=20, key=key)
    assert float(found) == pytest.approx(exact, rel=1e-5)
    # Order 2 by quantiles on a line fine enough for both.
    levels = (np.arange(2 * counts[0] * counts[1]) + 0.5) / (2 * counts[0] * counts[1])
    a, b = (np.quantile(z @ along.T, levels, axis=0, method="inverted_cdf") for z in (x, y))
    found = sliced_wasserstein(x, y, directions=20, key=key)
    assert float(found) == pytest.approx(np.sqrt(((a - b) ** 2).mean()), rel=1e-5)


def test_one_dimension_has_one_direction_and_images_count_by_pixels():
    assert float(sliced_wasserstein(REAL[:, :1], MADE[:, :1], order=1)) == pytest.approx(
        stats.wasserstein_distance(REAL[:, 0], MADE[:, 0]), rel=1e-5
    )
    images = RNG.random((30, 2, 2)).astype(np.float32)
    same = precision_recall(images, images[::-1])
    assert [float(part) for part in (same.precision, same.recall, same.coverage)] == [1, 1, 1]
    assert float(sliced_wasserstein(images, images[::-1])) < 1e-6
    flat = [x.reshape(30, 4) for x in (images, images**2)]
    assert float(sliced_wasserstein(images, images**2)) == float(sliced_wasserstein(*flat))


@pytest.mark.parametrize("scale", [2.0**-83, 2.0**83])
def test_the_scale_of_points_changes_no_share(scale):
    """Squares of distances would be 0 or inf in float32."""
    plain, scaled = ((MADE * one, REAL * one) for one in (np.float32(1), np.float32(scale)))
    np.testing.assert_array_equal(precision_recall(*scaled), precision_recall(*plain))
    ratio = float(sliced_wasserstein(*scaled)) / float(sliced_wasserstein(*plain))
    assert ratio == pytest.approx(scale, rel=1e-5)
    (recall,) = against(scaled[1], lambda key, params, n: params, ["recall"], draws=110)
    assert float(recall.of_params(scaled[0])) == float(precision_recall(*plain).recall)
    # The model has run away by more than a float's square holds.
    far = MADE * np.float32(1e30)
    assert float(recall.of_params(far)) == float(precision_recall(far, scaled[1]).recall)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_points_that_are_not_finite_have_no_share(broken):
    made = MADE.copy()
    made[3, 1] = broken
    assert np.isnan(jax.jit(precision_recall)(made, REAL)).all()  # where none can be refused
    for call in (
        lambda: precision_recall(made, REAL),
        lambda: sliced_wasserstein(REAL, made),
        lambda: against(made, lambda key, params, n: params),
        lambda: against(["a"] * 9, lambda key, params, n: params),
    ):
        with pytest.raises(InputError, match=r"nan or infinite|an array of numbers"):
            call()


def test_a_collapsed_model_is_precise_and_recalls_nothing():
    """Points that are all one real point lie in its ball, and have none of their own."""
    made = np.repeat(REAL[:1], 40, 0)
    found = precision_recall(made, REAL)
    assert float(found.precision) == 1 and float(found.recall) == pytest.approx(1 / 150)
    assert 0 < float(found.coverage) < 0.1


def test_the_tail_is_what_lies_beyond_nine_tenths_of_the_real_points():
    """Of the real points a tenth; of normal ones the exact share; of runaway points all."""
    real = RNG.normal(size=(1000, 1)).astype(np.float32)
    (tail,) = against(real, lambda key, params, n: params, ["tail_share"], draws=1000)
    share = jax.jit(tail.of_params)
    assert float(share(real)) == pytest.approx(0.1)
    radius, mean = np.quantile(np.abs(real - real.mean()), 0.9), real.mean()
    draws = RNG.normal(size=(1000, 1)).astype(np.float32)
    for deviation in (0.5, 2.0):
        exact = stats.norm.sf(radius - mean, scale=deviation)
        exact += stats.norm.cdf(-radius - mean, scale=deviation)
        error = np.sqrt(exact * (1 - exact) / 1000)
        assert abs(float(share(deviation * draws)) - exact) < 4 * error + 1e-3
    assert float(share(real * 1e30)) == 1 and np.isnan(float(share(real * np.nan)))
    assert "tail_share" not in {one.name for one in against(real, tail.sample)}


def test_metrics_of_any_family():
    """Of a Gaussian family's models: one that has collapsed is found in real balls and no more."""
    family = cj.estimators.gaussian(dim=2)
    precision, recall = against(REAL[:, :2], family.sample, ("precision", "recall"), draws=90)
    assert (precision.__name__, recall.__name__) == ("precision", "recall")
    both = jax.jit(lambda state: (precision(state), recall(state)))
    found = {}
    for deviation in (1.0, 0.01):
        params = cj.estimators.gaussian_params([0.0, 0.0], deviation**2 * np.eye(2))
        found[deviation] = [float(part) for part in both(State(params))]
        drawn = family.sample(jax.random.key(0), params, 90)
        exact = precision_recall(drawn, REAL[:, :2])
        assert found[deviation] == [float(exact.precision), float(exact.recall)]
    assert found[0.01][1] < 0.05 < 0.5 < found[1.0][1] and found[0.01][0] == 1


class State(NamedTuple):
    """What a metric sees of a generation."""

    params: object


def test_the_command_line_knows_them_by_name():
    """Of a model that is the real law: not the same points, though their keys are fixed."""
    config = SimulateConfig(family="kde", metrics=("variance", "precision"), sample_size=30)
    process = process_of(config.resolve())
    assert "recall" not in process.metrics
    params = process.parts.source.params
    precision = float(jax.jit(process.metrics["precision"])(params))
    assert 0.5 < precision < 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: precision_recall(REAL, MADE[:, :2]), r"shape \[3\], and real ones \[2\]"),
        (lambda: precision_recall(REAL[:3], REAL), "k is 3 with 3 points"),
        (lambda: precision_recall(REAL, REAL, k=0), "k is 0"),
        (lambda: sliced_wasserstein(REAL, REAL[:0]), "empty; both must have at least one"),
        (lambda: sliced_wasserstein(REAL, REAL, order=3), "order is 3"),
        (lambda: sliced_wasserstein(REAL, REAL, directions=0), "directions is 0"),
        (lambda: against(REAL, None), "sample is None"),
        (lambda: against(REAL, jnp.sin, "fid"), "names is 'fid'; it must be one of precision"),
        (lambda: against(REAL[:3], jnp.sin), "k is 3 with 3 points"),
        (lambda: against(1.0, jnp.sin), r"real is 1.0; it must be points \[m, ...\]"),
        (lambda: against(REAL, jnp.sin, draws=1), "draws is 1"),
    ],
)
def test_what_means_nothing_is_refused(call, words):
    with pytest.raises(InputError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
