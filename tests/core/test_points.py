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


def test_subsamples_do_not_depend_on_where_the_empty_slots_are():
    """The same points, at the front or with empty slots among them, give the same choice."""
    x = np.arange(10.0, 19.0)
    front = holding(np.concatenate([x, np.full(5, -1.0)]), [1] * 9 + [0] * 5)
    places = [1, 2, 4, 5, 6, 8, 10, 12, 13]
    spread, weight = np.full(14, -1.0), np.zeros(14)
    spread[places], weight[places] = x, 1
    apart = holding(spread, weight)
    draw = jax.jit(jax.vmap(points.subsample, in_axes=(0, None, None, None)), static_argnums=3)
    keys = jax.random.split(jax.random.key(0), 500)
    for n in (4, 9):
        want, found = draw(keys, front, n, 9), draw(keys, apart, n, 9)
        np.testing.assert_array_equal(found.weight, want.weight)
        filled = np.asarray(want.weight) > 0
        assert (filled.sum(1) == n).all(), "fewer points in silence"
        np.testing.assert_array_equal(np.asarray(found.x)[filled], np.asarray(want.x)[filled])
    # Chains that differ in where their points are, in one program.
    both = Dataset(*(jnp.stack(leaves) for leaves in zip(front, apart, strict=True)))
    found = jax.jit(jax.vmap(lambda data: points.subsample(keys[0], data, 4, 4)))(both)
    np.testing.assert_array_equal(found.x[0], found.x[1])
    assert (
        jax.grad(lambda x: points.subsample(keys[0], Dataset(x, apart.weight), 4, 4).x.sum())(
            apart.x
        ).sum()
        == 4
    )


def test_a_workflow_that_pools_sets_with_empty_slots_gets_all_its_points(laplace):
    """Sets of 2 of 6 slots, pooled: 4 points behind and among empty slots, all to be drawn."""
    import collapse_jax as cj

    def next_set(key, first, supply, n):
        pooled = supply.merge(first, supply.model(key, n))
        return first, supply.subsample(key, pooled, 2 * n)

    flow = cj.Workflow("pooled", lambda supply, data: data, next_set)
    process = cj.generational_process(
        laplace,
        cj.sources.dataset(np.arange(1.0, 9.0)),
        flow,
        sample_size=lambda generation: 2,
        largest_sample_size=6,
    )

    def weights(key):
        return process.step(key, process.init(key)[0])[1].data.weight

    assert float(jax.jit(weights)(jax.random.key(0)).sum()) == 4


@pytest.mark.parametrize("n", [0, 1, 7, 20, 30])
def test_marking_what_is_chosen_chooses_what_comparing_does(n, monkeypatch):
    data = holding(np.arange(40.0), np.arange(40) % 4 > 0)

    def chosen(slots):
        def of_key(key):
            return points.subsample(key, data, n, slots)

        return jax.vmap(of_key)(jax.random.split(jax.random.key(1), 50))

    compared = chosen(30)
    monkeypatch.setattr(points, "_COMPARED", 0)
    jax.tree.map(np.testing.assert_array_equal, chosen(30), compared)
    assert all(len(set(row)) == n for row in np.asarray(compared.x)[:, :n].tolist())


def test_no_points_of_any():
    data = holding([[1, 2], [3, 4]], [1, 1])
    assert points.subsample(jax.random.key(0), data, 0, 0).x.shape == (0, 2)
