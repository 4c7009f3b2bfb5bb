"""What is a step function of its arguments raises where it is differentiated, and only there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.random.binomial import binomial
from collapse_jax.random.chi_square import gamma, log_chi_square
from collapse_jax.random.derivatives import step_function
from collapse_jax.random.multinomial import multinomial
from collapse_jax.random.poisson import average_of_poissons, poisson

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(61)


def floors(x, other=1.0):
    """floor(x) + other^2, where floor(x) is known to be a step function of x."""
    return step_function(jnp.floor(x), x, "floors have none") + other**2


def scanned(x):
    return jax.lax.scan(lambda total, _: (total + floors(x), None), jnp.zeros(()), None, length=2)[
        0
    ]


DIFFERENTIATED = {
    "grad": lambda f: jax.grad(f)(2.5),
    "jvp": lambda f: jax.jvp(f, (2.5,), (1.0,)),
    "linearize": lambda f: jax.linearize(f, 2.5),
    "jacfwd": lambda f: jax.jacfwd(f)(2.5),
    "jacrev": lambda f: jax.jacrev(f)(2.5),
    "hessian": lambda f: jax.hessian(f)(2.5),
    "grad of jit": lambda f: jax.grad(jax.jit(f))(2.5),
    "jit of grad": lambda f: jax.jit(jax.grad(f))(2.5),
    "vmap of grad": lambda f: jax.vmap(jax.grad(f))(jnp.array([2.5, 3.5])),
    "grad of vmap": lambda f: jax.grad(lambda x: jax.vmap(f)(x).sum())(jnp.array([2.5, 3.5])),
    "grad of checkpoint": lambda f: jax.grad(jax.checkpoint(f))(2.5),
}


@pytest.mark.parametrize("how", DIFFERENTIATED)
@pytest.mark.parametrize("function", [floors, scanned])
def test_it_raises_however_it_is_differentiated(how, function):
    with pytest.raises(InputError, match="floors have none"):
        DIFFERENTIATED[how](function)


def test_it_is_silent_where_nothing_is_differentiated_through_it():
    assert float(floors(2.5, 3.0)) == float(jax.jit(floors)(2.5, 3.0)) == 11
    assert float(jax.grad(floors, argnums=1)(2.5, 3.0)) == 6
    np.testing.assert_array_equal(jax.vmap(floors)(jnp.array([2.5, 3.5])), [3, 4])
    # Of the values themselves a derivative passes.
    through = jax.grad(lambda x, y: step_function(x**2, y, "none"))
    assert float(jax.jit(through)(3.0, 1.0)) == 6


def test_a_program_is_the_same_with_it_and_without():
    def text(function):
        return jax.jit(function).lower(jnp.float32(2.5)).as_text()

    assert text(lambda x: step_function(jnp.floor(x), x, "none") + 1) == text(
        lambda x: jnp.floor(x) + 1
    )


COUNTED = {
    "binomial": lambda p: binomial(KEY, 10, p),
    "multinomial": lambda p: multinomial(KEY, 10, jnp.stack([p, 1 - p])),
    "individuals": lambda p: multinomial(KEY, 9, jnp.stack([p, 1 - p]), method="individuals"),
    "poisson": lambda p: poisson(KEY, p),
    "mean of poissons": lambda p: average_of_poissons(KEY, 3, p),
    "large mean of poissons": lambda p: average_of_poissons(KEY, 1000, p),
}


@pytest.mark.parametrize("name", COUNTED)
def test_counts_have_no_derivative(name):
    def total(p):
        return jnp.sum(COUNTED[name](p).astype(float))

    for differentiated in (
        lambda: jax.grad(total)(0.3),
        lambda: jax.grad(lambda p: jax.vmap(total)(p).sum())(jnp.array([0.3, 0.4])),
    ):
        with pytest.raises(InputError, match=r"counts are whole numbers|which outcome is drawn"):
            # Refused while it is traced: nothing is compiled.
            jax.eval_shape(differentiated)


@pytest.mark.parametrize("a", [0.7, 2.0, 9.5])
def test_gamma_variates_are_differentiated_in_their_shape(a):
    """E gamma_a = a and E log gamma_a = digamma(a), whose derivatives are 1 and trigamma(a)."""
    keys = jax.random.split(KEY, 4000)

    def both(a):
        x = jax.vmap(lambda key: gamma(key, a))(keys)
        return jnp.stack([x, jnp.log(x)])

    derivatives = np.asarray(jax.jit(lambda a: jax.jvp(both, (a,), (jnp.ones(()),))[1])(a))
    expected = [1.0, float(jax.scipy.special.polygamma(1, a))]
    z = (derivatives.mean(1) - expected) / derivatives.std(1, ddof=1) * np.sqrt(len(keys))
    assert np.abs(z).max() < 4, z


def test_floats_of_a_kernel_are_differentiated_alone_and_in_a_batch():
    def log_variate(dof):
        return log_chi_square(KEY, dof)

    alone = jax.jit(jax.grad(log_variate))(jnp.float32(12))
    together = jax.jit(jax.grad(lambda dof: jax.vmap(log_variate)(dof).sum()))(jnp.full(2, 12.0))
    difference = (log_variate(jnp.float32(12.5)) - log_variate(jnp.float32(11.5))).item()
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    np.testing.assert_allclose(alone, difference, rtol=0.02)
