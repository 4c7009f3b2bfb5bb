"""Different integers in random order: exact words, the law of small cases (p > 1e-4, |z| < 4)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.random.distinct import _scaled, distinct

pytestmark = pytest.mark.usefixtures("quick_compile")


def draws(n, size, chains, seed=0):
    keys = jax.random.split(jax.random.key(seed), chains)
    return np.asarray(jax.jit(jax.vmap(lambda key: distinct(key, n, size)))(keys))


@pytest.mark.parametrize("size", [1, 2, 3, 200_000, 2**31 - 1])
def test_two_words_are_scaled_as_python_integers_are(size):
    words = np.random.default_rng(0).integers(0, 2**32, (2, 1000), np.uint64)
    words[:, :3] = [[0, 2**32 - 1, 2**32 - 1], [0, 2**32 - 1, 0]]
    want = [(((int(a) << 32) | int(b)) * size) >> 64 for a, b in words.T]
    np.testing.assert_array_equal(_scaled(*jnp.asarray(words, jnp.uint32), size), want)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_every_ordered_choice_of_five_has_one_probability(n, chi_square_p):
    found = draws(n, 5, 24_000)
    choices = list(itertools.permutations(range(5), n))
    code = found @ 5 ** np.arange(n)
    observed = np.bincount(code, minlength=5**n)[[np.dot(c, 5 ** np.arange(n)) for c in choices]]
    assert observed.sum() == 24_000, "an integer came twice"
    assert chi_square_p(observed, np.full(len(choices), 1 / len(choices))) > 1e-4


def test_large_choices_repeat_nothing_and_reach_everything():
    n, size, chains = 200, 1000, 400
    found = draws(n, size, chains)
    assert all(len(set(row)) == n for row in found)
    assert found.min() == 0 and found.max() == size - 1
    # How often an integer is in: Binomial(chains, n / size), over integers summing to chains * n.
    often = np.bincount(found.ravel(), minlength=size)
    spread = chains * n / size * (1 - n / size)
    z = (np.sum((often - chains * n / size) ** 2) / spread - size) / np.sqrt(2 * size)
    assert abs(z) < 4
    # Two given integers are both in with n (n - 1) / (size (size - 1)).
    inside = np.zeros((chains, size), bool)
    np.put_along_axis(inside, found, True, axis=1)
    pairs = np.sum(inside[:, 0::2] & inside[:, 1::2])
    share = n * (n - 1) / (size * (size - 1))
    assert abs(pairs - chains * size / 2 * share) < 4 * np.sqrt(chains * size / 2 * share)
    # The order is random: the mean of the first equals that of the last, (size - 1) / 2.
    error = np.sqrt((size**2 - 1) / 12 / chains)
    assert abs(found[:, 0].mean() - (size - 1) / 2) < 4 * error
    assert abs(found[:, -1].mean() - (size - 1) / 2) < 4 * error


def test_the_first_of_many_are_what_they_are_alone():
    key = jax.random.key(7)
    whole = np.asarray(distinct(key, 100, 130))
    assert len(set(whole)) == 100
    for n in (63, 65):
        np.testing.assert_array_equal(distinct(key, n, 130), whole[:n])


def test_the_smallest_and_the_largest_sets():
    assert distinct(jax.random.key(0), 1, 1).tolist() == [0]
    assert sorted(distinct(jax.random.key(0), 5, 5).tolist()) == list(range(5))
    found = draws(3, 2**31 - 1, 1000)
    assert (found >= 0).all() and abs(found.mean() / 2**30 - 1) < 4 / np.sqrt(3 * 3000)
