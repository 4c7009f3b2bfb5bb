"""Kernels over chains: however a sampler is mapped, each chain gets what it would get alone;
nothing is compiled twice.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.random.chains_last import chains_last
from collapse_jax.random.chi_square import log_chi_square, log_gamma
from collapse_jax.random.multinomial import multinomial
from collapse_jax.random.normal import normal_vector

pytestmark = pytest.mark.usefixtures("quick_compile")
KEYS = jax.random.split(jax.random.key(51), 6)
WEIGHTS = jnp.array([[1, 2, 3], [0, 5, 1], [4, 0, 0], [2, 2, 2], [9, 1, 0], [1, 1, 1]], jnp.float32)
SAMPLERS = {
    "normal_vector": (lambda key, weights: normal_vector(key, 5), 0),
    "log_chi_square": (lambda key, weights: log_chi_square(key, 5, (2, 3)), 1e-6),
    "log_gamma": (lambda key, weights: log_gamma(key, weights, (2, 3)), 1e-6),
    "multinomial": (lambda key, weights: multinomial(key, 30, weights), 0),
    "individuals": (lambda key, weights: multinomial(key, 30, weights, method="individuals"), 0),
}


@pytest.mark.parametrize(("sampler", "rounding"), SAMPLERS.values(), ids=SAMPLERS)
def test_however_it_is_mapped_each_chain_is_as_alone(sampler, rounding):
    single = jax.jit(sampler)
    expected = np.stack([single(key, weights) for key, weights in zip(KEYS, WEIGHTS, strict=True)])
    close = functools.partial(np.testing.assert_allclose, rtol=rounding, atol=rounding)
    close(jnp.moveaxis(jax.jit(jax.vmap(sampler, (0, -1), -1))(KEYS, WEIGHTS.T), -1, 0), expected)
    folded = jax.jit(jax.vmap(jax.vmap(sampler, out_axes=1), (0, 0)))(
        KEYS.reshape(2, 3), WEIGHTS.reshape(2, 3, 3)
    )
    close(jnp.moveaxis(folded, 2, 1).reshape(expected.shape), expected)
    # Keys along one axis, parameters along the other: each is shared by many chains.
    crossed = jax.jit(jax.vmap(jax.vmap(sampler, (0, None)), (None, 0)))(KEYS, WEIGHTS)
    close(np.stack([crossed[i, i] for i in range(6)]), expected)
    close(crossed[1, 4], single(KEYS[4], WEIGHTS[1]))


def test_without_jit_it_is_the_same():
    np.testing.assert_array_equal(
        multinomial(KEYS[0], 30, WEIGHTS[0]),
        jax.jit(multinomial)(KEYS[0], jnp.int32(30), WEIGHTS[0]),
    )
    np.testing.assert_array_equal(
        jax.vmap(lambda key: normal_vector(key, 5))(KEYS)[2], normal_vector(KEYS[2], 5)
    )


@chains_last
def sums(a, b, *, scale):
    sums.traces += 1
    return [scale * a + b, jnp.sum(b, axis=0)]


sums.traces = 0


def test_a_kernel_gets_the_chains_on_its_last_axis():
    a, b = jnp.arange(4.0), jnp.arange(12.0).reshape(4, 3)
    first, second = jax.vmap(lambda a, b: sums(a, b, scale=2))(a, b)
    np.testing.assert_array_equal(first, 2 * a[:, None] + b)
    np.testing.assert_array_equal(second, b.sum(1))
    shapes = jax.eval_shape(lambda a, b: sums(a, b, scale=2), jnp.float32(1), jnp.ones(3))
    assert [one.shape for one in shapes] == [(3,), ()]


def test_nothing_is_compiled_twice():
    arguments = (jnp.float32(1), jnp.ones(3))
    sums(*arguments, scale=3)
    traces = sums.traces
    for _ in range(3):
        sums(*arguments, scale=3)
    assert sums.traces == traces
    sums(*arguments, scale=4)
    assert sums.traces > traces


def test_a_jitted_caller_is_compiled_once():
    calls = []

    @jax.jit
    def draw(key, n):
        calls.append(n)
        return multinomial(key, n, WEIGHTS[0])

    for i, n in enumerate((1, 10, 1000)):
        assert int(draw(KEYS[i], jnp.int32(n)).sum()) == n
    assert len(calls) == 1
