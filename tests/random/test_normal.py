"""Normal variates against SciPy: the whole quantile function, and draws far into the tails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from collapse_jax.random import normal as module
from collapse_jax.random.bits import key_words, variate_words
from collapse_jax.random.normal import normal, normal_array, normal_vector, normals

KEY = jax.random.key(21)


def test_the_quantile_has_the_precision_of_float32():
    v = np.concatenate(
        [np.geomspace(2.0**-32, 1, 400_001), 1 - np.geomspace(2.0**-24, 0.5, 200_001)]
    ).astype(np.float32)
    v = np.unique(v[v < 1])
    exact = 2**0.5 * special.erfcinv(v.astype(float))
    assert np.abs(np.asarray(jax.jit(module._size)(v)) / exact - 1).max() < 3e-7  # 2.2e-7 measured


def test_the_quantile_has_the_precision_of_float64():
    with jax.enable_x64(True):
        high, low = jax.random.bits(KEY, (2, 10_000), jnp.uint32)
        z = np.asarray(jax.jit(normal)(high, low))
        v = (np.asarray(high >> 1).astype(float) * 2.0**32 + np.asarray(low) + 0.5) * 2.0**-63
        sign = np.where(np.asarray(high) & 1, 1, -1)
        assert z.dtype == np.float64
        np.testing.assert_allclose(z, -sign * special.ndtri(v / 2), rtol=1e-12)


def test_larger_quantiles_are_larger(word_at):
    q = np.unique(
        np.concatenate(
            [
                np.arange(10**5),
                np.linspace(0, 2**32 - 1, 10**6).astype(np.int64),
                2**32 - 1 - np.arange(10**5),
            ]
        )
    )
    z = np.asarray(jax.jit(normal)(word_at(q)))
    assert np.diff(z).min() > -1e-6
    np.testing.assert_array_equal(z, -np.asarray(jax.jit(normal)(word_at(2**32 - 1 - q))))
    assert 6.2 < z.max() < 6.4


def test_the_law(fit_of_reals, fit_of_means, assert_fits):
    z = np.asarray(
        jax.jit(
            lambda key: normal(*variate_words(*key_words(key), jnp.arange(10**7, dtype=jnp.uint32)))
        )(KEY)
    )
    assert_fits(
        {
            "law": fit_of_reals(z, special.ndtr),
            "variance": fit_of_means(z**2, 1),
            "kurtosis": fit_of_means(z**4, 3),
        }
    )
    sum_of_uniforms = np.random.default_rng(0).random((12, 10**6), np.float32).sum(0) - 6
    for biased in (sum_of_uniforms, z * 1.003, z + 0.003):
        with pytest.raises(AssertionError):
            assert_fits({"law": fit_of_reals(biased, special.ndtr)})


def test_the_tails_beyond_five_sigma(assert_fits):
    edges = np.array([4.0, 4.5, 5.0, 5.5])
    draws, rounds = 10**7, 10

    @jax.jit
    def exceeding(key):
        def count(i):
            z = normal(*variate_words(*key_words(key), jnp.arange(draws, dtype=jnp.uint32), i))
            return jnp.stack(
                [
                    jnp.stack([jnp.sum(z > edge), jnp.sum(z < -edge)])
                    for edge in edges.astype(np.float32)
                ]
            )

        return jax.lax.map(count, jnp.arange(rounds, dtype=jnp.uint32)).sum(0)

    seen = np.asarray(exceeding(jax.random.key(5)))
    expected = special.ndtr(-edges) * draws * rounds
    p_values = {}
    for edge, counts, mean in zip(edges, seen, expected, strict=True):
        for side, count in zip(("above", "below"), counts, strict=True):
            p_values[f"{side} {edge}"] = min(
                1.0, 2 * min(stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean))
            )
    assert seen[2].min() > 10  # 29 are expected beyond 5 on each side
    assert_fits(p_values)


@pytest.mark.slow
def test_lists_vectors_and_arrays_hold_the_same_variates(assert_fits, fit_of_covariances):
    keys = jax.random.split(KEY, 20_000)
    for count in (4, 9):
        listed = np.stack(jax.jit(jax.vmap(lambda key, count=count: normals(key, count)))(keys))
        vectors = np.asarray(
            jax.jit(jax.vmap(lambda key, count=count: normal_vector(key, count), out_axes=-1))(keys)
        )
        arrays = np.asarray(
            jax.jit(jax.vmap(lambda key, count=count: normal_array(key, (count,))))(keys)
        )
        np.testing.assert_array_equal(listed, vectors)
        np.testing.assert_array_equal(arrays.T, vectors)
        np.testing.assert_allclose(normal_vector(keys[3], count), vectors[:, 3], rtol=1e-6)
        np.testing.assert_array_equal(
            normal_array(KEY, (2, 3), 4).ravel(), normal_array(KEY, (10,))[4:]
        )
        assert_fits(fit_of_covariances(arrays, np.zeros(count), np.eye(count)))


@pytest.mark.parametrize("count", [2, 3, 9])
def test_two_of_a_list_share_a_hash(count):
    keys = jax.random.split(jax.random.key(8), 3)
    lists = jax.jit(jax.vmap(lambda key: jnp.stack(normals(key, count))))(keys)
    for key, drawn in zip(keys, lists, strict=True):
        # `fold_in` of i gives the two words of hash number i.
        hashes = [jax.random.key_data(jax.random.fold_in(key, i)) for i in range(5)]
        words = jnp.concatenate(hashes)[:count]
        np.testing.assert_allclose(drawn, normal(words), rtol=1e-6)
