"""The hash and the keys are those of `jax.random`, bit for bit; uniforms stay inside (0, 1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.random import bits
from collapse_jax.random.bits import (
    fold_in,
    key_words,
    packed,
    split,
    threefry2x32,
    uniform,
    unpacked,
    variate_words,
)
from collapse_jax.random.chi_square import log_chi_square

pytestmark = pytest.mark.usefixtures("quick_compile")
SEEDS = [0, 1, 2**31 - 1, 123456789]


def data(key):
    return np.asarray(jax.random.key_data(key))


@pytest.mark.parametrize(
    ("key", "count", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_threefry_gives_the_published_answers(key, count, expected):
    words = threefry2x32(*(jnp.uint32(word) for word in (*key, *count)))
    assert tuple(int(word) for word in words) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_threefry_gives_the_bits_of_jax_random(seed):
    key = jax.random.key(seed)
    hashed = threefry2x32(*key_words(key), jnp.uint32(0), jnp.arange(1000, dtype=jnp.uint32))
    np.testing.assert_array_equal(hashed[0] ^ hashed[1], jax.random.bits(key, (1000,), jnp.uint32))
    np.testing.assert_array_equal(
        variate_words(*key_words(key), jnp.arange(1000, dtype=jnp.uint32))[0], hashed[0]
    )


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_keys_are_those_of_jax_random(implementation):
    keys = jax.vmap(lambda seed: jax.random.key(seed, impl=implementation))(jnp.array(SEEDS))
    for key in keys:
        for number in (0, 1, 7, 2**31 - 1, 2**32 - 1):
            np.testing.assert_array_equal(
                data(fold_in(key, number)), data(jax.random.fold_in(key, number))
            )
            traced = jnp.asarray(number, jnp.uint32)
            np.testing.assert_array_equal(
                data(jax.jit(fold_in)(key, traced)), data(jax.random.fold_in(key, number))
            )
        for count in (1, 2, 5):
            ours, theirs = split(key, count), jax.random.split(key, count)
            assert [one.dtype for one in ours] == [key.dtype] * count
            np.testing.assert_array_equal(np.stack([data(one) for one in ours]), data(theirs))
    if implementation == "threefry2x32":  # rbg keys are other ones under vmap, in jax.random too
        numbers = jnp.arange(len(keys))
        folded = jax.jit(jax.vmap(fold_in))(keys, numbers)
        np.testing.assert_array_equal(
            data(folded), data(jax.vmap(jax.random.fold_in)(keys, numbers))
        )
        halves = jax.jit(
            jax.vmap(lambda key: jnp.stack([jax.random.key_data(one) for one in split(key, 3)]))
        )(keys)
        np.testing.assert_array_equal(
            halves, data(jax.vmap(lambda key: jax.random.split(key, 3))(keys))
        )


def test_a_packed_key_is_the_same_key():
    # Words whose bits are those of a signalling nan, a quiet one, an infinity and a denormal.
    words = np.array([0x7F800001, 0xFFC00123, 0x7F800000, 0x00000001, 0x80000000, 12345], np.uint32)
    keys = jax.random.wrap_key_data(jnp.stack([words, words[::-1]], axis=1))

    @jax.jit
    def through_a_loop(keys):
        def swapped(i, packs):
            return jax.vmap(lambda one: packed(bits._key(*key_words(unpacked(one))[::-1])))(packs)

        packs = jax.lax.fori_loop(0, 3, swapped, jax.vmap(packed)(keys))
        return jax.vmap(unpacked)(packs)

    np.testing.assert_array_equal(data(through_a_loop(keys)), data(keys)[:, ::-1])
    # Once: two swaps of the words would be none.
    once = jax.jit(jax.vmap(lambda key: unpacked(packed(key))))(keys)
    np.testing.assert_array_equal(data(once), data(keys))
    other = jax.random.key(3, impl="rbg")
    assert unpacked(packed(other)) is other


def test_words_that_a_key_was_made_of_are_forgotten_with_it():
    before = len(bits._words_of)
    key = fold_in(jax.random.key(1), 2)
    assert len(bits._words_of) == before + 1
    np.testing.assert_array_equal(jnp.stack(key_words(key)), data(key))
    del key
    assert len(bits._words_of) == before


def test_a_key_of_another_kind_draws(fit_of_reals, assert_fits):
    key = jax.random.key(3, impl="rbg")
    assert len({int(word) for word in key_words(key)}) == 2
    draws = log_chi_square(key, 2, (100_000,))
    assert_fits({"chi-square": fit_of_reals(draws, lambda x: -np.expm1(-np.exp(x) / 2))})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniforms_are_strictly_inside_the_unit_interval(dtype):
    with jax.enable_x64(dtype == "float64"):
        ends = np.concatenate(
            [np.arange(1000), 2**31 + np.arange(-500, 500), 2**32 - 1000 + np.arange(1000)]
        ).astype(np.uint32)
        low = {"float32": None, "float64": jnp.asarray(ends)}[dtype]
        u = np.asarray(uniform(jnp.asarray(ends), low))
        assert u.dtype == dtype
        assert (u > 0).all() and (u < 1).all()
        assert (np.diff(u) >= 0).all()
        # The grain of the bits near 0, of the type near 1.
        assert u[0] == 2.0 ** (-32 if low is None else -64)
        assert u[-1] == 1 - np.finfo(dtype).epsneg
        assert len(variate_words(*key_words(jax.random.key(0)), jnp.uint32(0))) == (
            1 if low is None else 2
        )


def test_uniforms_are_uniform(fit_of_reals, assert_fits):
    words = jax.jit(
        lambda key: variate_words(*key_words(key), jnp.arange(10**7, dtype=jnp.uint32), 5)[0]
    )(jax.random.key(8))
    u = np.asarray(jax.jit(uniform)(words))
    p_values = {
        "uniform": fit_of_reals(u, lambda x: x),
        "-log": fit_of_reals(-np.log(u), lambda x: -np.expm1(-x)),
    }
    assert_fits(
        p_values | {"next to each other": fit_of_reals((u[1::2] + u[::2]) % 1, lambda x: x)}
    )
    with pytest.raises(AssertionError):
        assert_fits({"too coarse": fit_of_reals(np.floor(u * 2**12) / 2**12, lambda x: x)})


@pytest.mark.parametrize(
    "key",
    [3, None, jax.random.PRNGKey(0), np.zeros(2, np.uint32), jax.random.split(jax.random.key(0))],
    ids=["a number", "None", "an old key", "words", "two keys"],
)
def test_what_is_no_key_is_one_line(key):
    for use in (key_words, lambda key: fold_in(key, 1), split):
        with pytest.raises(InputError, match=r"^key is .*one key, such as jax.random.key\(0\)"):
            use(key)
