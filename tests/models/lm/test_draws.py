"""The same words as `jnp.argmax` and `jax.random.categorical`, which are the definition."""

import jax
import numpy as np

from collapse_jax.models.lm.draws import best_word, random_word, threefry_bits


def rows():
    """Scores with ties, words that are excluded, rows of one word, and nan."""
    scores = np.random.default_rng(0).integers(-3, 4, (200, 300)).astype(np.float32)
    scores[:, ::7] = -np.inf
    scores[0], scores[1, 5:] = -np.inf, -np.inf
    scores[2, 40:44], scores[3, 299] = np.nan, np.nan
    return scores


def test_the_best_word_is_the_first_of_the_largest_or_the_first_nan():
    scores = rows()
    found = np.asarray(jax.jit(best_word)(scores))
    np.testing.assert_array_equal(found, np.argmax(scores, axis=-1))
    assert found[2] == 40 and found[0] == 0


def test_a_random_word_is_that_of_jax_random_categorical():
    scores, keys = rows()[4:], jax.random.split(jax.random.key(3), 196)
    found = jax.jit(random_word)(keys, scores)
    wanted = jax.jit(jax.vmap(jax.random.categorical))(keys, scores)
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(np.asarray(found))) > 50


def test_random_bits_are_those_of_jax():
    keys = jax.random.split(jax.random.key(1), 3)
    wanted = jax.vmap(lambda key: jax.random.bits(key, (257,)))(keys)
    np.testing.assert_array_equal(threefry_bits(keys, 257), wanted)


def test_keys_of_another_generator_draw_what_jax_draws():
    keys = jax.random.split(jax.random.key(1, impl="rbg"), 4)
    found = jax.jit(random_word)(keys, np.zeros((4, 50), np.float32))
    wanted = jax.jit(jax.vmap(jax.random.categorical))(keys, np.zeros((4, 50), np.float32))
    np.testing.assert_array_equal(found, wanted)
