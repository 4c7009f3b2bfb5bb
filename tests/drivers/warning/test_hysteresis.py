"""Sweeps there and back: an exact law of the loop, and limits of areas that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.drivers.warning.loops import limit_of_areas, loop_area, verdict_of
from collapse_jax.drivers.warning.rates import Estimate
from collapse_jax.errors import InputError
from collapse_jax.theory import schedules

LENGTHS = np.array([50, 100, 200, 400, 800])


def bits(share):
    """Counts of two outcomes with a share of real ones."""
    family = cj.estimators.bernoulli()
    real = cj.sources.population(family, cj.estimators.bernoulli_params(0.5))
    return cj.generational_process(family, real, cj.workflows.mix(gamma=share), sample_size=20)


def test_a_loop_by_its_exact_law():
    """Diversity obeys a linear recursion in each generation's share: means and areas are exact."""
    chains, settle, lengths = 2000, 3, (5, 10, 20)
    found = cj.hysteresis(
        bits, jax.random.key(1), start=0.5, turn=0.1, metric="variance", sweeps=lengths,
        chains=chains, settle=settle,
    )  # fmt: skip
    for sweep, length in zip(found.sweeps, lengths, strict=True):
        g = np.arange(settle + 2 * length + 1)
        gamma = 0.5 - 0.4 * np.clip(1 - np.abs((g - settle) / length - 1), 0, 1)
        exact = 0.25 * schedules.retention(g, 20, gamma=gamma)[settle:]
        out, back = exact[: length + 1], exact[length:][::-1]
        for ours, error, law in (
            (sweep.out, sweep.out_error, out),
            (sweep.back, sweep.back_error, back),
        ):
            assert np.abs((ours - law) / error).max() < 4
        np.testing.assert_allclose(sweep.setting, gamma[settle : settle + length + 1], atol=1e-12)
        area = -np.trapezoid(out - back, sweep.setting)
        assert abs(sweep.area.value - area) < 4 * sweep.area.error
        assert area > 5 * sweep.area.error
    assert [row["generations"] for row in found.rows()] == [5, 10, 20]


def test_a_metric_that_is_nan_has_no_verdict():
    """nan areas would compare as smaller than none, and be called of first order."""
    with pytest.raises(InputError, match="is 'never', which is not finite throughout in any of"):
        cj.hysteresis(
            bits, jax.random.key(0), start=0.5, turn=0.1, metric=never, sweeps=(2, 3, 4), chains=3
        )


def never(state):
    """A metric that no generation has."""
    return jnp.full((), jnp.nan)


@pytest.mark.parametrize("power", [0.5, 2 / 3, 1.0])
def test_limits_of_areas(power):
    stays = [Estimate(0.3 + 0.5 * (n / 50) ** -power, 0.002) for n in LENGTHS]
    goes = [Estimate(-0.5 * (n / 50) ** -power, 0.002) for n in LENGTHS]
    limit = limit_of_areas(LENGTHS, stays)
    assert limit.low < 0.3 < limit.high and limit.low > 0
    assert verdict_of(limit, stays) == "first order"
    limit = limit_of_areas(LENGTHS, goes)
    assert limit.low < 0 < limit.high
    assert verdict_of(limit, goes) == ("continuous" if power > 0.6 else "undecided")
    exact = limit_of_areas(LENGTHS, [area._replace(error=0.0) for area in goes])
    assert exact.exponent == pytest.approx(power, abs=0.011)
    assert abs(exact.value) < 1e-2


def test_what_areas_do_not_decide():
    areas = [Estimate(value, 0.001) for value in (0.1, 0.5, 0.4)]
    limit = limit_of_areas(LENGTHS[:3], areas)
    assert limit.sweeps == 2 and verdict_of(limit, areas) == "undecided"
    noise = [Estimate(value, 0.01) for value in (0.02, -0.01, 0.005)]
    assert verdict_of(limit_of_areas(LENGTHS[:3], noise), noise) == "continuous"
    alone = [Estimate(0.3, np.nan) for _ in LENGTHS]  # of one chain: it may be noise
    assert verdict_of(limit_of_areas(LENGTHS, alone), alone) == "undecided"


def test_the_area_of_a_loop():
    setting = np.linspace(1, 3, 5)
    out, back = setting**2, np.ones(5)
    exact = np.trapezoid(out, setting) - 2
    assert loop_area(setting, out, back) == pytest.approx(exact)
    assert loop_area(setting[::-1], out[::-1], back) == pytest.approx(exact)


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("turn is 0.1, the same as start", {"turn": 0.1}),
        ("sweeps is .5, 10.; give three lengths", {"sweeps": (5, 10)}),
        ("sweeps is 1; it must be an integer of at least 2", {"sweeps": (1, 10, 20)}),
        ("gamma at generation 5 is 1.1; it must be in", {"turn": 1.1, "sweeps": (5, 6, 7)}),
        ("make is", {"make": 3}),
        ("make is 4; it must be what cj.generational_process gives", {"make": lambda share: 4}),
        ("metric 'varianc' is not offered", {"metric": "varianc"}),
        ("settle is -1", {"settle": -1}),
        ("sweeps is 50; it must be lengths", {"sweeps": 50}),
        ("sweeps is None; it must be lengths", {"sweeps": None}),
        ("sweeps is '50'; it must be lengths", {"sweeps": "50"}),
        ("sweeps is .2, 4.; give three", {"sweeps": (length for length in (2, 4))}),
        ("chains is 1; it must be an integer of at least 2", {"chains": 1}),
        ("make gives the same process at all settings", {"make": lambda share: bits(0.2)}),
    ],
)
def test_wrong_options(line, options):
    given = {"make": bits, "start": 0.1, "turn": 0.5, "metric": "variance", **options}
    make = given.pop("make")
    with pytest.raises(InputError, match=line):
        cj.hysteresis(make, jax.random.key(0), **given)
