"""Covariances kept as U diag(exp(2 s)) U^T, against NumPy in float64.

Both forms, dead directions, scales beyond any float.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.numerics import factored

pytestmark = pytest.mark.usefixtures("quick_compile")
DIMS = [1, 3, 12, 13, 20]

times_triangle = jax.jit(factored.times_triangle)
times_vector = jax.jit(factored.times_vector)
pooled = jax.jit(factored.pooled, static_argnums=3)
decomposed = jax.jit(factored.decomposed, static_argnums=1)


def lower(rng, dim, size=0.4):
    return np.tril(size * rng.normal(size=(dim, dim)), -1) + np.eye(dim)


def model(rng, dim, dead=()):
    """(s, U) in NumPy float64; the directions `dead` have no variance."""
    log_scale, factor = 0.5 * rng.normal(size=dim), lower(rng, dim)
    log_scale[list(dead)] = -np.inf
    factor[:, list(dead)] = np.eye(dim)[:, list(dead)]
    return log_scale, factor


def given(log_scale, factor):
    """The same in the form that the functions take."""
    dim = len(log_scale)
    return factored.from_arrays(jnp.asarray(log_scale, jnp.float32), dim), factored.from_matrix(
        jnp.asarray(factor, jnp.float32), dim
    )


def taken(result, dim):
    """(s, U) of a result, in NumPy float64; the form is the one that `dim` asks for."""
    log_scale, factor = result
    assert (
        isinstance(log_scale, tuple)
        == isinstance(factor, tuple)
        == (dim <= factored.LARGEST_WRITTEN_OUT)
    )
    log_scale, factor = (
        np.asarray(leaf, np.float64)
        for leaf in (factored.as_vector(log_scale), factored.as_matrix(factor, dim))
    )
    assert np.isfinite(factor).all() and not np.isnan(log_scale).any()
    np.testing.assert_array_equal(np.triu(factor), np.eye(dim))
    assert not np.tril(factor, -1)[:, log_scale == -np.inf].any(), (
        "a direction without variance has nothing below its one"
    )
    return log_scale, factor


def covariance(log_scale, factor):
    return (factor * np.exp(2 * log_scale)) @ factor.T


def assert_close(found, want, rtol=1e-5):
    np.testing.assert_allclose(found, want, rtol=rtol, atol=rtol * max(np.abs(want).max(), 1e-300))


@pytest.mark.parametrize("dim", DIMS)
def test_both_forms_hold_the_same_matrix(dim):
    log_scale, factor = model(np.random.default_rng(0), dim)
    vector, entries = given(log_scale, factor)
    np.testing.assert_array_equal(factored.as_vector(vector), log_scale.astype(np.float32))
    np.testing.assert_array_equal(factored.as_matrix(entries, dim), factor.astype(np.float32))
    if dim <= factored.LARGEST_WRITTEN_OUT:
        places = [factored.place(i, j) for i in range(dim) for j in range(i)]
        assert places == list(range(len(entries))) == list(range(dim * (dim - 1) // 2))


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("shift", [0.0, -300.0, 300.0])
def test_times_triangle_is_the_product(dim, shift):
    rng = np.random.default_rng(dim)
    log_scale, factor = model(rng, dim)
    log_diagonal, below = model(rng, dim)
    result = times_triangle(*given(log_scale + shift, factor), *given(log_diagonal, below))
    found = taken(result, dim)
    product = (factor * np.exp(log_scale)) @ (below * np.exp(log_diagonal))
    np.testing.assert_allclose(found[0], log_scale + log_diagonal + shift, rtol=1e-6, atol=1e-5)
    # at 300 the logarithms themselves are rounded to 3e-5
    assert_close(found[1], product / np.diag(product), rtol=1e-5 if shift == 0 else 3e-4)


@pytest.mark.parametrize(
    ("dim", "dead", "dead_triangle"),
    [(1, [], [0]), (3, [1], []), (3, [], [1]), (12, [2, 5], [5, 11]), (14, [0, 7], [3])],
)
def test_times_triangle_of_dead_directions(dim, dead, dead_triangle):
    rng = np.random.default_rng(dim)
    log_scale, factor = model(rng, dim, dead)
    log_diagonal, below = model(rng, dim, dead_triangle)
    found = taken(times_triangle(*given(log_scale, factor), *given(log_diagonal, below)), dim)
    np.testing.assert_array_equal(
        np.flatnonzero(found[0] == -np.inf), sorted({*dead, *dead_triangle})
    )
    if not dead:
        root = (factor * np.exp(log_scale)) @ (below * np.exp(log_diagonal))
        assert_close(covariance(*found), root @ root.T)
    # a direction that was dead stays so, and those that live have what they had without it
    left = [i for i in range(dim) if i not in dead]
    inner = covariance(*found)[np.ix_(left, left)]
    root = (factor * np.exp(log_scale))[np.ix_(left, left)] @ (below * np.exp(log_diagonal))[
        np.ix_(left, left)
    ]
    assert_close(inner, root @ root.T)


@pytest.mark.parametrize("dim", [2, 13])
def test_directions_far_apart_stay_finite(dim):
    """The later directions of a chain collapse faster: their scales drift apart without end."""
    rng = np.random.default_rng(0)
    _, factor = model(rng, dim)
    apart = -300.0 * np.arange(dim)
    for log_scale in (apart, apart[::-1]):
        found = taken(times_triangle(*given(log_scale, factor), *given(*model(rng, dim))), dim)
        assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(
        taken(times_triangle(*given(apart, factor), *given(*model(rng, dim))), dim)[1],
        factor,
        rtol=1e-6,
    )


@pytest.mark.parametrize("dim", DIMS)
def test_times_vector_is_the_product(dim):
    rng = np.random.default_rng(dim)
    log_scale, factor = model(rng, dim, dead=[dim // 2] if dim > 1 else [])
    z = rng.normal(size=dim)
    vector = factored.from_arrays(jnp.asarray(z, jnp.float32), dim)
    found = np.asarray(factored.as_vector(times_vector(*given(log_scale, factor), vector)))
    assert_close(found, factor @ (np.exp(log_scale) * z))
    narrow = factored.as_vector(times_vector(*given(log_scale - 300, factor), vector))
    np.testing.assert_array_equal(narrow, np.zeros(dim))


def parts_of(rng, dim, dead=()):
    weights = rng.dirichlet([2.0, 2, 2])
    return [(weight, *model(rng, dim, dead)) for weight in weights]


def pool(parts, shift, shift_weight, dim):
    made = [(jnp.float32(weight), *given(log_scale, factor)) for weight, log_scale, factor in parts]
    return taken(
        pooled(
            made,
            factored.from_arrays(jnp.asarray(shift, jnp.float32), dim),
            jnp.float32(shift_weight),
            dim,
        ),
        dim,
    )


@pytest.mark.parametrize("dim", DIMS)
def test_pooled_is_the_sum(dim):
    rng = np.random.default_rng(dim)
    # a part of no weight is no part, however large it is
    parts, huge, shift = (
        parts_of(rng, dim)[:2],
        (0.0, np.full(dim, 200.0), lower(rng, dim)),
        rng.normal(size=dim),
    )
    want = sum(weight * covariance(*one) for weight, *one in parts) + 0.2 * np.outer(shift, shift)
    assert_close(covariance(*pool([*parts, huge], shift, 0.2, dim)), want)


@pytest.mark.parametrize("dim", [1, 3, 13])
@pytest.mark.parametrize("scale", [-300.0, 300.0])
def test_pooled_of_scales_beyond_any_float(dim, scale):
    rng = np.random.default_rng(dim)
    parts = parts_of(rng, dim)
    moved = [(weight, log_scale + scale, factor) for weight, log_scale, factor in parts]
    wanted = pool(parts, np.zeros(dim), 0.2, dim)
    for shift, shift_weight in ((np.zeros(dim), 0.2), (np.full(dim, 5.0), 0.0)):
        found = pool(moved, shift, shift_weight, dim)
        np.testing.assert_allclose(found[0], wanted[0] + scale, rtol=1e-6, atol=1e-3)
        assert_close(found[1], wanted[1], rtol=2e-3)
    # next to a shift that counts, only the larger of the two is left
    shift = np.linspace(1, 2, dim)
    found = pool(moved, shift, 0.2, dim)
    if scale < 0:
        np.testing.assert_allclose(found[0], [np.log(0.2) / 2] + [-np.inf] * (dim - 1), atol=1e-5)
        assert_close(found[1][:, 0], shift)
    else:
        np.testing.assert_allclose(found[0], wanted[0] + scale, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("dim", [1, 3, 13])
def test_pooled_of_little_shifts_and_of_nothing(dim):
    dead = [(0.5, *model(np.random.default_rng(0), dim, range(dim)))] * 2
    nothing = pool(dead, np.zeros(dim), 0.25, dim)
    assert (nothing[0] == -np.inf).all() and (nothing[1] == np.eye(dim)).all()
    # 1e-37 is near the smallest normal float: over it, exp(-log) is still one
    little = pool(dead, np.full(dim, 1.2e-37), 0.25, dim)
    np.testing.assert_allclose(little[0][0], np.log(0.6e-37), rtol=1e-6)
    assert (little[0][1:] == -np.inf).all()
    narrow = [(weight, np.full(dim, -110.0), np.eye(dim)) for weight, _, _ in dead]
    np.testing.assert_allclose(pool(narrow, np.zeros(dim), 0.25, dim)[0], -110, rtol=1e-6)


@pytest.mark.parametrize("dim", DIMS)
def test_decomposed_is_the_covariance(dim):
    root = np.random.default_rng(4).normal(size=(dim, dim + 3))
    wanted = (root @ root.T).astype(np.float32).astype(np.float64)
    found = taken(decomposed(jnp.asarray(wanted, jnp.float32), dim), dim)
    triangle = np.linalg.cholesky(wanted)
    np.testing.assert_allclose(
        found[1] * np.exp(found[0]), triangle, rtol=2e-3, atol=1e-4 * triangle.max()
    )
    assert_close(covariance(*found), wanted)


@pytest.mark.parametrize("dim", [5, 14])
@pytest.mark.parametrize("rank", [0, 1, 3])
def test_decomposed_of_singular_matrices(dim, rank):
    rng = np.random.default_rng(5)
    root = rng.normal(size=(dim, max(rank, 1))) * (rank > 0)
    wanted = (root @ root.T).astype(np.float32)
    log_scale, factor = taken(factored.limited(*decomposed(jnp.asarray(wanted), dim), rank), dim)
    np.testing.assert_allclose(
        covariance(log_scale, factor), wanted, atol=1e-4 * max(np.abs(wanted).max(), 1e-30)
    )
    assert np.isfinite(log_scale).sum() == rank
    # what rounding leaves is small without being told the rank
    alone = taken(decomposed(jnp.asarray(wanted), dim), dim)[0]
    assert np.sum(np.exp(alone) > 1e-3 * np.exp(alone.max(initial=0))) == rank
    # an empty direction in the middle
    apart = np.diag([2.0, 0, 3, *np.ones(dim - 3)])
    log_scale, factor = taken(decomposed(jnp.asarray(apart, jnp.float32), dim), dim)
    np.testing.assert_allclose(np.exp(log_scale), np.sqrt(np.diag(apart)), rtol=1e-6)
    np.testing.assert_array_equal(factor, np.eye(dim))


@pytest.mark.parametrize("dim", [3, 13])
def test_limited_keeps_the_first_living_directions(dim):
    log_scale, factor = model(np.random.default_rng(1), dim, dead=[0])
    for rank in range(dim + 1):
        found = taken(factored.limited(*given(log_scale, factor), rank), dim)
        kept = np.arange(dim) <= rank
        np.testing.assert_allclose(found[0], np.where(kept, log_scale, -np.inf), rtol=1e-6)
        np.testing.assert_allclose(
            found[1], np.where(kept | np.eye(dim, dtype=bool), factor, 0), rtol=1e-6
        )


@pytest.mark.parametrize("dim", [1, 2, 13, 14, 20])
def test_strictly_lower_uses_no_number_twice(dim):
    asked = []

    def draw(i, size):
        asked.append(size)
        return (
            (1 + i * size * size + jnp.arange(size * size, dtype=jnp.uint32))
            .reshape(size, size)
            .astype(jnp.float32)
        )

    square = np.asarray(factored.strictly_lower(draw, dim))
    below = square[np.tril_indices(dim, -1)]
    assert len(np.unique(below)) == len(below) == dim * (dim - 1) // 2 and (below > 0).all()
    assert not np.triu(square).any()
    # a whole square has dim^2
    assert below.max(initial=0) <= 2 * asked[0] ** 2 <= (dim + 1) ** 2 / 2


def test_a_triangle_of_normal_numbers_has_independent_entries(assert_mean):
    @jax.jit
    @jax.vmap
    def triangle(key):
        return factored.strictly_lower(
            lambda i, size: jax.random.normal(jax.random.fold_in(key, i), (size, size)), 5
        )

    drawn = np.asarray(triangle(jax.random.split(jax.random.key(0), 4000)), np.float64)[
        :, *np.tril_indices(5, -1)
    ]
    assert_mean(drawn[:, :, None] * drawn[:, None, :], np.eye(10))


def test_half_log_of_known_and_traced_numbers():
    for value in (0, 2, 0.25):
        want = -np.inf if value == 0 else np.log(value) / 2
        np.testing.assert_allclose(
            [factored.half_log(value), factored.half_log(jnp.float32(value))], want, rtol=1e-6
        )
