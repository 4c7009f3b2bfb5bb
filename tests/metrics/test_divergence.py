"""Pieces of divergences against extended precision."""

import jax.numpy as jnp
import numpy as np

from collapse_jax.metrics.divergence import entropy_beyond_line, exponential_beyond_line


def test_no_cancellation_and_no_nan():
    x = np.array([-90.0, -3, -0.6, -0.4, -1e-3, 0, 1e-6, 0.3, 0.6, 5], np.float32)
    wide = x.astype(np.longdouble)
    exact = np.where(
        np.abs(wide) < 1e-2, wide**2 / 2 * (1 + wide / 3 + wide**2 / 12), np.expm1(wide) - wide
    )
    np.testing.assert_allclose(
        exponential_beyond_line(jnp.asarray(x)), exact.astype(float), rtol=2e-6
    )
    np.testing.assert_array_equal(
        exponential_beyond_line(jnp.array([-jnp.inf, jnp.inf, 200.0])), np.inf
    )


def test_entropy_terms():
    rng = np.random.default_rng(0)
    p = np.exp(rng.uniform(-70, 8, 3000)).astype(np.float32)
    q = (
        p * np.exp(np.concatenate([rng.uniform(-1e-2, 1e-2, 1000), rng.uniform(-9, 9, 2000)]))
    ).astype(np.float32)
    wide, other = p.astype(np.longdouble), q.astype(np.longdouble)
    gap = (other - wide) / wide
    # p (gap - log(1 + gap)); in extended precision the cancellation at 1e-2 leaves 14 digits
    exact = wide * (gap - np.log1p(gap))
    telling = np.abs(gap) > 1e-4
    found = np.asarray(entropy_beyond_line(p, q), np.float64)
    np.testing.assert_allclose(found[telling], exact[telling].astype(float), rtol=5e-4)
    assert (found >= 0).all()
    corners = entropy_beyond_line(jnp.array([0, 0, 2.0, 1e-38]), jnp.array([0, 3.0, 0, 10]))
    np.testing.assert_allclose(corners, [0, 3, np.inf, 10])
