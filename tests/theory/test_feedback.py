"""The transition of sharpened and renewed counts, held against iterating the map itself."""

import numpy as np
import pytest

from collapse_jax.theory import feedback


def iterate(law, power, share, rounds):
    """p' = share/K + (1 - share) p^power / sum p^power, many times."""
    for _ in range(rounds):
        sharp = law**power
        law = share / len(law) + (1 - share) * sharp / sharp.sum()
    return law


def entropy(law):
    return -np.sum(law * np.log(law))


def peaked(count):
    law = np.full(count, 1e-3)
    law[0] = 1
    return law / law.sum()


@pytest.mark.parametrize(("count", "share"), [(50, 0.2), (10, 0.2), (3, 0.5), (200, 0.05)])
def test_the_collapsed_branch_and_its_fold(count, share):
    fold, at_fold = feedback.fold(share, count)
    threshold = float(feedback.threshold(share))
    assert 1 < fold < threshold
    powers = [fold + 0.01, (fold + threshold) / 2, threshold, threshold + 0.2]
    exact = feedback.collapsed_entropy(powers, share, count)
    found = [entropy(iterate(peaked(count), power, share, 3000)) for power in powers]
    np.testing.assert_allclose(exact, found, rtol=1e-9)
    assert (exact < at_fold).all()
    # Below the fold nothing is left but the uniform law.
    gone = entropy(iterate(peaked(count), fold - 0.005, share, 20_000))
    assert gone == pytest.approx(np.log(count))
    assert np.isnan(feedback.collapsed_entropy(fold - 0.005, share, count))
    assert feedback.jump(share, count) == pytest.approx(1 - exact[2] / np.log(count))


def test_the_loop_is_the_integral_between_the_branches():
    fold, _ = feedback.fold(0.2, 50)
    # The entropy rises like a square root at the fold: equal steps of that root.
    roots = np.linspace(0, np.sqrt(1.25 - fold), 4001)
    missing = np.log(50) - feedback.collapsed_entropy(fold + roots**2, 0.2, 50)
    area = np.trapezoid(missing * 2 * roots, roots)
    assert feedback.loop_area(0.2, 50) == pytest.approx(area, rel=1e-6)


def test_two_categories_have_no_loop():
    assert feedback.fold(0.2, 2) == pytest.approx((1.25, np.log(2)))
    assert feedback.loop_area(0.2, 2) == 0
    found = [entropy(iterate(peaked(2), power, 0.2, 20_000)) for power in (1.24, 1.26, 1.5)]
    exact = feedback.collapsed_entropy([1.24, 1.26, 1.5], 0.2, 2)
    np.testing.assert_allclose(exact[1:], found[1:], rtol=1e-6)
    assert np.isnan(exact[0]) and found[0] == pytest.approx(np.log(2))


def test_the_uniform_law_loses_its_stability_at_the_threshold():
    law = np.full(50, 0.02) + 1e-7 * np.r_[1, -1, np.zeros(48)]
    for power in (0.7, 1.2, 1.25, 1.4):
        after = iterate(law, power, 0.2, 1)
        factor = (after[0] - after[1]) / (law[0] - law[1])
        assert factor == pytest.approx(float(feedback.uniform_eigenvalue(power, 0.2)), rel=1e-6)
    assert feedback.uniform_eigenvalue(feedback.threshold(0.2), 0.2) == pytest.approx(1)


def test_the_jump_without_real_data_is_the_published_one():
    """arXiv 2512.12381 has .698 and 2.73 nats of log 50: between shares of 0 and of .01."""
    limit = feedback.jump(0, 50)
    assert limit == pytest.approx(feedback.jump(1e-6, 50), abs=1e-5)
    assert feedback.jump(0.01, 50) < 0.698 < limit
    assert feedback.jump(0.003, 50) == pytest.approx(0.698, abs=5e-4)
    assert feedback.jump(0.003, 50) * np.log(50) == pytest.approx(2.73, abs=5e-3)
