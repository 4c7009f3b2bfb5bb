"""Keys of chains by NumPy are those of JAX, and several threads compile a program once."""

import concurrent.futures
import threading

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.drivers import sharded
from collapse_jax.drivers.host_keys import folded_on_host


def test_keys_are_those_of_jax():
    key = jax.random.key(7)
    first = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    second = np.array([5, 2**32 - 1, 0, 3], np.uint32)
    found = folded_on_host(key, first, second)
    wanted = jax.vmap(lambda i, j: jax.random.fold_in(jax.random.fold_in(key, i), j))(first, second)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(wanted))


def test_threads_that_call_a_program_together_trace_it_once():
    traced, together = [], threading.Barrier(4)

    def function(x):
        traced.append(threading.get_ident())
        return jnp.cumsum(x) + 1

    program = sharded.compiled(function)

    def call(_):
        together.wait(timeout=60)
        return np.asarray(sharded.called(program, np.arange(5.0, dtype=np.float32)))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(4)))
    assert len(traced) == 1
    assert all((result == np.cumsum(np.arange(5.0)) + 1).all() for result in results)
    sharded.called(program, np.arange(6.0, dtype=np.float32))
    assert len(traced) == 2
