"""Projections by quadrature, against closed forms, SciPy's integrals and scikit-learn's EM."""

import numpy as np
import pytest
from scipy import integrate, stats

from collapse_jax.theory import mixture_projection

TRUTH = ([0.6, 0.2, 0.2], [-1.5, 1.2, 3.0], [1.0, 0.5, 0.5])


def density(x, mixture=TRUTH):
    return sum(w * stats.norm.pdf(x, m, s) for w, m, s in zip(*mixture, strict=True))


def test_log_density():
    x = np.linspace(-6, 6, 25)
    np.testing.assert_allclose(
        mixture_projection.log_density(TRUTH, x), np.log(density(x)), rtol=1e-12
    )
    assert np.isfinite(mixture_projection.log_density(TRUTH, [-400.0, 400.0])).all()


def test_moments():
    mean = integrate.quad(lambda x: x * density(x), -15, 15, epsabs=1e-12, points=[-1.5, 1.2, 3])[0]
    variance = integrate.quad(
        lambda x: (x - mean) ** 2 * density(x), -15, 15, epsabs=1e-12, points=[-1.5, 1.2, 3]
    )[0]
    np.testing.assert_allclose(mixture_projection.moments(TRUTH), (mean, variance), rtol=1e-9)


def test_kl_of_gaussians():
    """The closed form, for many models at once, narrow and far ones too."""
    means, deviations = np.array([0.3, 0.0, -5.0, 2.0]), np.array([1.0, 2.0, 0.05, 1e-3])
    found = mixture_projection.kl(
        ([1.0], [0.3], [1.0]), (np.ones((4, 1)), means[:, None], deviations[:, None])
    )
    exact = np.log(deviations) + (1 + (0.3 - means) ** 2) / (2 * deviations**2) - 0.5
    np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-13)


def test_kl_of_mixtures():
    model = ([0.5, 0.5, 0.0], [-1.0, 2.0, 0.0], [1.2, 1.0, 1.0])
    exact = integrate.quad(
        lambda x: density(x) * np.log(density(x) / density(x, model)),
        -12,
        14,
        epsabs=1e-12,
        points=[-1.5, 1.2, 3],
    )[0]
    np.testing.assert_allclose(mixture_projection.kl(TRUTH, model), exact, rtol=1e-8)
    assert mixture_projection.kl(TRUTH, TRUTH) == 0
    with pytest.raises(ValueError, match="positive"):
        mixture_projection.kl(TRUTH, ([1.0], [0.0], [0.0]))


def test_the_family_is_paid_once():
    """KL to any Gaussian is that to the projection, plus that of two Gaussians."""
    mean, variance = np.array([0.0, 1.0, -3.0]), np.array([0.5, 4.0, 9.0])
    first, second = mixture_projection.kl_to_gaussian(TRUTH, mean, variance)
    whole = mixture_projection.kl(
        TRUTH, (np.ones((3, 1)), mean[:, None], np.sqrt(variance)[:, None])
    )
    np.testing.assert_allclose(first + second, whole, rtol=1e-10)
    own_mean, own_variance = mixture_projection.moments(TRUTH)
    np.testing.assert_allclose(
        mixture_projection.kl_to_gaussian(TRUTH, own_mean, own_variance)[1], 0, atol=1e-15
    )


def test_population_em():
    """Fixed at the truth; its steps never raise KL.

    At the end no mixture of two nearby is closer.
    """
    pair = ([0.6, 0.4], [-1.5, 2.0], [1.0, 0.7])
    for moved, stayed in zip(mixture_projection.population_em(pair, pair, 5), pair, strict=True):
        np.testing.assert_allclose(moved, stayed, rtol=1e-12)
    start = ([0.5, 0.5], [-0.5, 0.5], [2.0, 2.0])
    path = [
        mixture_projection.kl(TRUTH, mixture_projection.population_em(TRUTH, start, steps))
        for steps in (0, 1, 2, 5, 20, 400)
    ]
    assert (np.diff(path) < 0).all()
    best = np.concatenate(mixture_projection.population_em(TRUTH, start, 600))
    rng = np.random.default_rng(0)
    for _ in range(20):
        near = best + 1e-3 * rng.standard_normal(6)
        near[1] = 1 - near[0]
        assert mixture_projection.kl(TRUTH, tuple(near.reshape(3, 2))) > path[-1]
