"""A simulation called inside a JAX program is one line that says what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import sources, workflows
from collapse_jax.core.tracing import inside_a_program, real_or_traced
from collapse_jax.errors import InputError

KEY = jax.random.key(5)


def process_at(bias=1.0):
    family = cj.estimators.gaussian(1, sampling_bias=bias)
    source = sources.normal([0.0], [[1.0]])
    return cj.generational_process(family, source, workflows.replace(), sample_size=5)


def simulated(process, key, tmp_path):
    return cj.simulate(process, key, generations=2, metrics="mean")["mean"].sum()


def summarised(process, key, tmp_path):
    summary = cj.simulate_summary(process, key, generations=2, chains=2, metrics="mean")
    return summary.mean["mean"].sum()


def run(process, key, tmp_path):
    return cj.run(process, key, generations=2, folder=tmp_path / "run", metrics="mean")[
        "mean"
    ].sum()


INSIDE = {
    "jit": lambda of: jax.jit(lambda key: of(1.0, key))(KEY),
    "jit of nothing": lambda of: jax.jit(lambda: of(1.0, KEY))(),
    "vmap of keys": lambda of: jax.vmap(lambda key: of(1.0, key))(jax.random.split(KEY, 2)),
    "vmap of settings": lambda of: jax.vmap(lambda bias: of(bias, KEY))(jnp.ones(2)),
    "grad": lambda of: jax.grad(lambda bias: of(bias, KEY))(1.0),
    "scan": lambda of: jax.lax.scan(lambda c, key: (c, of(1.0, key)), 0, jax.random.split(KEY, 2)),
    "eval_shape": lambda of: jax.eval_shape(lambda key: of(1.0, key), KEY),
}


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("driver", [simulated, summarised, run])
def test_inside_a_program(inside, driver, tmp_path):
    with pytest.raises(InputError, match=r"inside jit, vmap, grad.*process\.step") as caught:
        INSIDE[inside](lambda bias, key: driver(process_at(bias), key, tmp_path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_outside_of_one():
    seen = []
    jax.jit(lambda x: jax.debug.callback(lambda: seen.append(inside_a_program())))(1.0)
    jax.effects_barrier()
    with jax.enable_x64(True), jax.disable_jit():
        assert seen == [False] and not inside_a_program()


def test_a_traced_number_out_of_its_range_is_nan():
    """As `errors.real` refuses a known one."""
    values = jnp.array([-1.0, 0.0, 0.5, 1.0, 2.0, jnp.inf, jnp.nan])
    sound = {
        ("at_least", "at_most"): [False, True, True, True, False, False, False],
        ("above", "below"): [False, False, True, False, False, False, False],
    }
    for limits, wanted in sound.items():
        ends = dict(zip(limits, (0, 1), strict=True))
        found = jax.vmap(lambda value, ends=ends: real_or_traced("x", value, **ends))(values)
        np.testing.assert_array_equal(~np.isnan(found), wanted)
        np.testing.assert_array_equal(found[np.array(wanted)], values[np.array(wanted)])
        for value, is_sound in zip(values, wanted, strict=True):
            if is_sound:
                assert real_or_traced("x", value, **ends) == value
            else:
                with pytest.raises(InputError, match="x is"):
                    real_or_traced("x", value, **ends)
