"""Mass outside by quadrature and by simulated lineages."""

import numpy as np
import pytest
from scipy import integrate, stats

from collapse_jax.theory import kernel_support


def test_mass_outside_is_the_integral():
    for deviation in (0.02, 0.3, 4.0):
        outside, _ = integrate.quad(
            lambda u, s=deviation: stats.norm.cdf(-u / s) + stats.norm.sf((1 - u) / s), 0, 1
        )
        assert kernel_support.mass_outside(deviation) == pytest.approx(outside, rel=1e-6)
    assert kernel_support.mass_outside(0.0) == 0


def test_blurs_of_small_generations_by_hand():
    np.testing.assert_allclose(kernel_support.blurs_distribution(2), [0, 0, 0, 1])
    kept = kernel_support.blurs_distribution(1, workflow="accumulate")
    np.testing.assert_allclose(kept, [0, 1 / 2, 1 / 2])
    kept = kernel_support.blurs_distribution(2, workflow="accumulate")
    np.testing.assert_allclose(kept, [0, 1 / 3, 1 / 3 + 1 / 6, 1 / 6])


@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
def test_simulated_kernel_estimates(workflow):
    rng, chains, size, width = np.random.default_rng(2), 20_000, 4, 0.1
    pool = rng.random((chains, size))
    for g in range(4):
        points = pool if workflow == "accumulate" else pool[:, -size:]
        outside = (stats.norm.cdf(-points / width) + stats.norm.sf((1 - points) / width)).mean(1)
        exact = kernel_support.expected_mass_outside(g, width, workflow=workflow)
        assert abs(outside.mean() - exact) < 4 * outside.std() / np.sqrt(chains)
        place = rng.integers(points.shape[1], size=(chains, size))
        new = np.take_along_axis(points, place, 1) + width * rng.normal(size=(chains, size))
        pool = np.concatenate([pool, new], 1)
