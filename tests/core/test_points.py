"""Evidence made of points: buffers of fixed size and subsampling; p > 1e-4 at fixed keys."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import points
from collapse_jax.core.types import Dataset

pytestmark = pytest.mark.usefixtures("quick_compile")


def holding(x, weight):
    return Dataset(jnp.asarray(x), jnp.asarray(weight, jnp.float32))


def test_of_sample():
    x = jnp.arange(4.0)
    np.testing.assert_array_equal(points.of_sample(x).weight, [1, 1, 1, 1])
    np.testing.assert_array_equal(jax.jit(points.of_sample)(x, 3).weight, [1, 1, 1, 0])
    np.testing.assert_array_equal(points.of_sample(x, 0).weight, np.zeros(4))


def test_merge_and_compact_keep_filled_slots_in_order():
    a, b = holding([[1, 1], [2, 2], [3, 3]], [1, 0, 1]), holding([[4, 4], [5, 5]], [0, 1])
    merged = points.merge(a, b)
    assert merged.x.shape == (5, 2) and merged.weight.shape == (5,)
    np.testing.assert_array_equal(points.filled(merged), [[1, 1], [3, 3], [5, 5]])
    for slots in (3, 4, 8):
        packed = jax.jit(points.compact, static_argnums=1)(merged, slots)
        np.testing.assert_array_equal(packed.weight, [1, 1, 1] + [0] * (slots - 3))
        np.testing.assert_array_equal(packed.x[:3, 0], [1, 3, 5])
    np.testing.assert_array_equal(points.compact(merged, 2).x[:, 0], [1, 3])


def test_reserve_and_append_fill_a_buffer_without_gaps():
    pool = points.reserve(holding([1, 2, 3], [1, 1, 0]), 9)
    assert pool.x.shape == (9,) and pool.x.dtype == jnp.int32
    append = jax.jit(points.append)
    for block, weight in (([4, 5, 6], [1, 0, 1]), ([7, 8, 9], [0, 0, 0]), ([7, 8, 9], [0, 1, 1])):
        pool = append(pool, holding(block, weight))
        used = int(pool.weight.sum())
        np.testing.assert_array_equal(pool.weight, [1] * used + [0] * (9 - used))
    np.testing.assert_array_equal(points.filled(pool), [1, 2, 4, 6, 8, 9])
    wider = points.reserve(pool, 12)
    assert wider.x.shape == (12,)
    np.testing.assert_array_equal(points.filled(wider), points.filled(pool))


def test_append_keeps_the_points_own_type():
    pool = points.append(points.reserve(holding([1.5], [1]), 3), holding([2], [1]))
    assert pool.x.dtype == jnp.float32
    np.testing.assert_array_equal(points.filled(pool), [1.5, 2.0])


def subsamples(data, n, slots, chains=20_000):
    keys = jax.random.split(jax.random.key(0), chains)
    return jax.jit(jax.vmap(points.subsample, (0, None, None, None)), static_argnums=3)(
        keys, data, n, slots
    )


def test_subsample_draws_every_subset_equally_often(chi_square_p):
    data = points.reserve(holding(np.arange(5), np.ones(5)), 7)
    for n in (1, 2, 4):
        taken = subsamples(data, n, 4)
        np.testing.assert_array_equal(taken.weight, np.tile([1] * n + [0] * (4 - n), (20_000, 1)))
        subsets = list(itertools.combinations(range(5), n))
        code = np.sum(2 ** np.sort(taken.x[:, :n], axis=1), axis=1)
        observed = np.bincount(code, minlength=32)[
            [sum(2**i for i in subset) for subset in subsets]
        ]
        assert observed.sum() == 20_000, "a point was taken twice, or an empty slot"
        assert chi_square_p(observed, np.full(len(subsets), 1 / len(subsets))) > 1e-4


def test_subsample_of_everything_or_nothing():
    data = points.reserve(holding(np.arange(1, 7), np.ones(6)), 10)
    everything = subsamples(data, 6, 6, 100)
    np.testing.assert_array_equal(np.sort(everything.x, axis=1), np.tile(np.arange(1, 7), (100, 1)))
    assert not subsamples(data, 0, 6, 100).weight.any()


def test_the_choice_does_not_depend_on_the_size_of_the_buffer():
    data = holding(np.arange(6), np.ones(6))
    small, large = (subsamples(points.reserve(data, slots), 3, 4, 200) for slots in (6, 40))
    np.testing.assert_array_equal(small.x[:, :3], large.x[:, :3])
