"""What a value is made of: the same for the same code, another for any other number in it."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.runs.contents import arrays_in, contents


def made(k):
    """name -> something that holds the number k in a place of its own."""

    class Params(NamedTuple):
        a: object

        def scaled(self):
            return self.a * k

    class Model:
        z = k

        def __init__(self):
            self.weights = np.ones(3) * k

        @functools.cached_property
        def computed_once(self):
            return k

        def __call__(self, x):
            return x * self.weights

    def scaled(x, by=k):
        return x * by

    @jax.custom_jvp
    def custom(x):
        return x * k

    custom.defjvp(lambda p, t: (custom(*p), t[0]))
    model = Model()
    return {
        "a class": Params,
        "an object": model,
        "a method": model.__call__,
        "a partial": functools.partial(scaled, k),
        "vmap": jax.vmap(scaled),
        "jit": jax.jit(scaled),
        "grad": jax.grad(lambda x: x * k),
        "a custom derivative": custom,
        "a lambda in a lambda": lambda x: (lambda y: scaled(y))(x),
        "a cached function": functools.lru_cache(scaled),
        "a dictionary": {"a": [1, (2, k)]},
        "a set": {k, "a", "b"},
        "a generator of numbers": np.random.default_rng(k),
        "a key": jax.random.key(k),
        "a number of NumPy": np.float32(k),
        "two of them": (np.int64(1), np.float64(k)),
        "vectorize": np.vectorize(scaled),
        "an object array": np.array([k, None], object),
    }


@pytest.mark.parametrize("name", made(1))
def test_any_number_in_it_counts(name):
    one = contents(made(1)[name], name)
    assert one == contents(made(1)[name], name) != contents(made(2)[name], name)
    assert one.fixed != "unread"


def test_what_is_computed_once_and_docstrings_do_not_count():
    model = made(1)["an object"]
    before = contents(model)
    assert model.computed_once == 1 and contents(model) == before

    def one(x):
        """Doubles."""
        return 2 * x

    doubles = one

    def one(x):
        """Gives twice as much,
        on another line."""
        return 2 * x

    assert contents(one) == contents(doubles)


def test_what_contains_itself_ends():
    one, other = [1], {}
    one.append(one)
    other["me"] = other

    def recursive(x):
        return recursive(x - 1) if x else one, other

    assert contents(recursive) == contents(recursive)
    assert contents(recursive).fixed != "unread"


def test_what_cannot_be_looked_at_stops_nothing():
    class Shy:
        def __getattribute__(self, name):
            raise RuntimeError("no")

    assert contents(Shy()).fixed == contents(Shy()).fixed


def test_arrays_that_a_function_draws_from():
    x, y = jnp.arange(3.0), np.arange(4)

    def within():
        return y

    def sample():
        return x, within

    hashes = arrays_in(sample, {})
    assert len(set(hashes)) == 2
    y[0] = 5
    assert len(set(hashes) & set(arrays_in(sample, {}))) == 1
