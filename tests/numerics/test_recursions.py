"""Recursions in JAX against those of `theory` in float64, and their derivatives against it."""

import functools

import jax
import numpy as np
import pytest

from collapse_jax.numerics import recursions
from collapse_jax.theory import ancestry, exponential_families, gaussian, known_variance, spending
from collapse_jax.theory import weights as theory_of_weights

G, SIZE = 12, 30
AT = np.arange(G + 1)
SIZES = np.array([30, 12, 45, 30, 7, 60, 33, 30, 30, 80, 15, 20, 25])
SHARES = np.array([[0.5, 0.3, 0.2]] * G)
MIX = {"workflow": "mix", "alpha": 0.5, "beta": 0.3, "gamma": 0.2}
V2 = (-1.0, 0.0, 1.0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def quadratic(v2, **options):
    size = options.pop("size", SIZE)
    return exponential_families.expected_squared_mean_error(
        AT, size, 0.0, (1.0, 0.0, v2), **options
    )


def close(ours, exact):
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, exact, rtol=1e-12)


@pytest.mark.parametrize("v2", V2)
def test_errors_are_those_of_theory(v2):
    close(recursions.replace(SIZES * 1.0, v2=v2), quadratic(v2, size=SIZES))
    every = np.full(G + 1, SIZE * 1.0)
    close(recursions.accumulate(every, v2=v2), quadratic(v2, workflow="accumulate"))
    subsample = recursions.subsample(G + 1, SIZE, v2=v2)
    close(subsample, quadratic(v2, workflow="accumulate_subsample"))
    close(recursions.mix(SHARES, SIZE, v2=v2), quadratic(v2, **MIX))
    weighted = recursions.weighted(G, 10, 20, 0.4, first=SIZE, v2=v2)
    close(weighted, theory_of_weights.expected_squared_error(AT, 10, 20, 0.4, v2=v2))


@pytest.mark.parametrize("workflow", spending.WORKFLOWS)
@pytest.mark.parametrize("v2", V2)
def test_spending_is_that_of_theory(workflow, v2):
    rng = np.random.default_rng(3)
    real, made = rng.uniform(0, 20, (2, G))
    options = {"first": 9, "workflow": workflow, "v2": v2}
    close(
        recursions.spending(real, made, **options),
        spending.expected_squared_error(real, made, **options),
    )


def test_the_descent_is_1_minus_the_error_of_v2_minus_1():
    """Diversity that is left: heterozygosity, and the variance of ddof = 0."""
    close(1 - recursions.mix(SHARES, SIZE, v2=-1.0), ancestry.retention(AT, SIZE, **MIX))
    close(1 - recursions.replace(SIZES * 1.0, v2=-1.0), ancestry.retention(AT, SIZES))
    for name, ours in (
        ("accumulate", recursions.accumulate(np.full(G + 1, SIZE * 1.0), v2=-1.0)),
        ("accumulate_subsample", recursions.subsample(G + 1, SIZE, v2=-1.0)),
    ):
        close(1 - ours, ancestry.retention(AT, SIZE, workflow=name))
        close(1 - ours, gaussian.expected_variance(AT, SIZE, ddof=0, workflow=name))


def test_the_unbiased_gaussian():
    variance, error = recursions.unbiased(SHARES, SIZE)
    close(variance, gaussian.expected_variance(AT, SIZE, ddof=1, **MIX))
    close(error, gaussian.expected_squared_mean_error(AT, SIZE, ddof=1, **MIX))
    known = known_variance.expected_squared_mean_error(AT, SIZE, **MIX)
    assert np.all(error[1:] > 0) and error[0] == pytest.approx(known[0])


def test_derivatives_are_differences_of_theory():
    """By the size, a share, the weight, the points of one generation."""
    step = 1e-5

    def sloped(ours, exact, at):
        slope = (exact(at + step) - exact(at - step)) / (2 * step)
        assert jax.grad(ours)(at) == pytest.approx(float(slope), rel=1e-6)

    sloped(
        lambda w: recursions.weighted(G, 10, 20, w, first=SIZE)[-1],
        lambda w: theory_of_weights.expected_squared_error(G, 10, 20, w),
        0.4,
    )
    real, made = np.full(G, 5.0), np.full(G, 9.0)

    def spent(n, workflow):
        spending_of = jax.numpy.asarray(real).at[3].set(n)
        return recursions.spending(spending_of, made, first=9, workflow=workflow)[-1]

    def exactly_spent(n, workflow):
        spending_of = np.r_[real[:3], n, real[4:]]
        return spending.expected_squared_error(spending_of, made, first=9, workflow=workflow)[-1]

    for workflow in spending.WORKFLOWS:
        options = {"workflow": workflow}
        sloped(
            functools.partial(spent, **options), functools.partial(exactly_spent, **options), 4.0
        )

    def mixed(gamma):
        shares = jax.numpy.stack([1 - gamma, 0 * gamma, gamma])
        return recursions.mix(jax.numpy.broadcast_to(shares, (G, 3)), SIZE)[-1]

    sloped(mixed, lambda gamma: theory_of_weights.mixed_squared_error(G, SIZE, gamma, 1.0), 0.3)
