"""Random numbers of the points of a grid: named by settings, independent or common."""

import hashlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from collapse_jax import theory
from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process, process_grid
from collapse_jax.drivers import tiles
from collapse_jax.drivers.plan import Plan, check_plan
from collapse_jax.drivers.simulate import simulate_chunks
from collapse_jax.drivers.streams import names_of_points, point_key, words_of, words_of_points
from collapse_jax.drivers.summary import summarise_chunks
from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.exponential import ExponentialParams, exponential
from collapse_jax.estimators.gaussian import gaussian

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(5)


def process_at(settings):
    size = settings["sample_size"]
    return generational_process(
        gaussian(1),
        sources.normal([0.0], [[1.0]]),
        workflows.mix(1 - settings["gamma"], 0.0, settings["gamma"]),
        sample_size=lambda generation: size,
        largest_sample_size=1000,
    )


PROCESS = process_grid(process_at, {"sample_size": 100, "gamma": 0.1})


def grid_of(sizes, gammas):
    points = np.array(list(itertools.product(sizes, gammas)))
    return {
        "sample_size": points[:, 0].astype(np.int32),
        "gamma": points[:, 1].astype(np.float32),
    }


def key_data(keys):
    return np.asarray(jax.random.key_data(keys))


def test_a_point_is_named_by_its_settings_and_not_by_its_place():
    settings = {"b": np.array([1, 2, 1]), "a": np.array([0.1, -0.0, 0.1], np.float32)}
    exact = repr(float(np.float32(0.1)))
    assert names_of_points(settings) == [f"a={exact} b=1", "a=0 b=2", f"a={exact} b=1 again=1"]
    # Integers and floats of one value are one setting.
    assert names_of_points({"a": np.array([1.0, 2.5])}) == ["a=1", "a=2.5"]
    assert names_of_points({"a": np.array([1])}) == ["a=1"]
    # The next float is another point.
    near = np.nextafter(np.float32(0.1), np.float32(1))
    assert len(set(names_of_points({"a": np.array([0.1, near], np.float32)}))) == 2


def test_the_key_of_a_point_is_folded_from_a_hash_of_its_name():
    digest = hashlib.sha256(b"collapse_jax: point of a grid: a=1").digest()
    words = [int.from_bytes(digest[first : first + 4], "little") for first in (0, 4)]
    np.testing.assert_array_equal(words_of(["a=1"]), [words])
    by_hand = jax.random.fold_in(jax.random.fold_in(KEY, words[0]), words[1])
    np.testing.assert_array_equal(key_data(point_key(KEY, "a=1")), key_data(by_hand))
    assert words_of([]).shape == (0, 2)
    many = words_of([f"a={number}" for number in range(10_000)])
    assert len(np.unique(many, axis=0)) == 10_000


def test_keys_of_chains():
    """Common keys are those of one simulation, bit for bit; the others those of their point."""
    settings = {"size": np.array([7, 9])}
    chains, points = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    of_key = [key_data(jax.random.fold_in(KEY, chain)) for chain in (0, 1)]
    common = words_of_points("common", settings, None)
    batch = tiles.chain_batch(KEY, chains, settings, points, words=common)
    np.testing.assert_array_equal(key_data(batch.keys), of_key * 2)
    independent = words_of_points("independent", settings, None)
    batch = tiles.chain_batch(KEY, chains, settings, points, words=independent)
    wanted = [
        key_data(jax.random.fold_in(point_key(KEY, name), chain))
        for name in ("size=7", "size=9")
        for chain in (0, 1)
    ]
    np.testing.assert_array_equal(key_data(batch.keys), wanted)
    assert len(np.unique(np.concatenate([wanted, of_key]), axis=0)) == 6
    assert words_of_points("independent", None, None) is None


def test_wrong_streams_and_names_are_one_line():
    settings = {"size": np.array([7, 9])}
    with pytest.raises(InputError, match="streams is 'same'; it must be one of independent, comm"):
        words_of_points("same", settings, None)
    with pytest.raises(InputError, match="names are 1; they must be one for each of 2 points"):
        words_of_points("independent", settings, ["a"])
    with pytest.raises(InputError, match="names has 'a' twice"):
        words_of_points("independent", settings, ["a", "a"])
    with pytest.raises(InputError, match="streams"):
        check_plan(PROCESS, KEY, Plan(1, settings=grid_of([5], [0.5]), streams="own"))


def last_means(process, settings, streams, chains, generations):
    """(mean, std) of the variance over chains at the last generation, each [points]."""
    plan = Plan(generations, chains, ("variance",), generations, settings=settings, streams=streams)
    _, statistics = summarise_chunks(simulate_chunks(process, KEY, plan), chains)
    return [statistics["variance"][name][:, -1] for name in ("mean", "std")]


def test_errors_over_the_points_of_a_grid_are_independent():
    """z of the exact mean is standard normal over the points; with one stream it is one curve."""
    sizes, gammas = range(40, 340, 10), np.linspace(0.02, 1, 30)
    settings, chains, generations = grid_of(sizes, gammas), 400, 6
    exact = [
        theory.gaussian.expected_variance(
            generations, size, ddof=1, workflow="mix", alpha=1 - gamma, gamma=gamma
        )
        for size in sizes
        for gamma in gammas
    ]

    def z_and_likeness(streams):
        """z [900], and the correlation of neighbours along each axis."""
        mean, std = last_means(PROCESS, settings, streams, chains, generations)
        z = (mean - exact) / (std / np.sqrt(chains))
        table = z.reshape(30, 30)
        neighbours = (table[1:], table[:-1]), (table[:, 1:], table[:, :-1])
        return z, [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in neighbours]

    z, likeness = z_and_likeness("independent")
    points = len(z)
    assert abs(z.mean()) < 4 / np.sqrt(points)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * points)
    assert abs((z > 0).mean() - 0.5) < 4 * 0.5 / np.sqrt(points)
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-3
    assert np.abs(likeness).max() < 4 / np.sqrt(870)
    z, likeness = z_and_likeness("common")
    assert min(likeness) > 0.9 and scipy.stats.kstest(z, "norm").pvalue < 1e-3


def exponential_at(settings):
    return generational_process(
        exponential(),
        sources.population(exponential(), ExponentialParams(jnp.array(0.0))),
        workflows.replace(),
        sample_size=lambda generation: settings["sample_size"],
    )


def test_more_points_change_no_number_and_equal_points_are_repeats():
    process = process_grid(exponential_at, {"sample_size": 5})

    def means(sizes, streams="independent"):
        settings = {"sample_size": np.array(sizes, np.int32)}
        return last_means(process, settings, streams, 8, 3)[0]

    few, more = means([50, 100, 9]), means([100, 9, 50, 9])
    np.testing.assert_allclose(more[:3], few[[1, 2, 0]], rtol=2e-5)
    assert abs(more[3] / more[1] - 1) > 1e-3
    common = means([100, 9, 50, 9], "common")
    assert common[1] == common[3]


def test_nan_names_the_key_of_its_point():
    """Of a grid of one point, too."""

    def broken(settings):
        estimator = gaussian(1)

        def fit(key, params, data):
            params, info = estimator.fit(key, params, data)
            return jax.tree.map(lambda leaf: leaf * np.nan, params), info

        return generational_process(
            estimator._replace(fit=fit),
            sources.normal([0.0], [[1.0]]),
            workflows.replace(),
            sample_size=lambda generation: settings["sample_size"],
            largest_sample_size=5,
        )

    grid = process_grid(broken, {"sample_size": 5})
    first, second = words_of(["sample_size=5"])[0]
    words = rf"chain 0 at point 0 of the grid: .*fold_in\(key, {first}\), {second}\), 0\)"
    plan = Plan(1, metrics=(), settings={"sample_size": np.array([5], np.int32)})
    with pytest.raises(DivergenceError, match=words):
        list(simulate_chunks(grid, KEY, plan))
