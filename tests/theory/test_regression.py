"""Regressions on generated labels against NumPy simulations and published numbers."""

import numpy as np
import pytest

from collapse_jax.theory import regression as theory

SIZE, DIM, NOISE = 20, 4, 0.7
WEIGHTS = np.array([1.0, -2.0, 0.5, 0.0])


def simulate(
    runs,
    size,
    dim,
    weights,
    generations,
    noise=NOISE,
    workflow="replace",
    design="fresh",
    penalty=0.0,
    gamma=0.0,
    seed=0,
):
    """Test error [runs, generations + 1] by points alone.

    gamma is the share of rows that the real model labels, chosen row by row.
    """
    rng = np.random.default_rng(seed)
    fixed = design if isinstance(design, np.ndarray) else rng.normal(size=(runs, size, dim))
    fitted, errors = np.broadcast_to(weights, (runs, dim)), []
    rows, labels = np.zeros((runs, 0, dim)), np.zeros((runs, 0))
    for _ in range(generations + 1):
        x = (
            rng.normal(size=(runs, size, dim))
            if isinstance(design, str) and design == "fresh"
            else np.broadcast_to(fixed, (runs, size, dim))
        )
        real = rng.random((runs, size)) < gamma
        y = np.where(real, x @ weights, np.einsum("rnd,rd->rn", x, fitted)) + noise * rng.normal(
            size=(runs, size)
        )
        keep = workflow == "accumulate"
        rows, labels = (
            (np.concatenate([rows, x], 1), np.concatenate([labels, y], 1)) if keep else (x, y)
        )
        cross = np.einsum("rnd,rn->rd", rows, labels)
        gram = np.swapaxes(rows, 1, 2) @ rows + penalty * rows.shape[1] * np.eye(dim)
        inverse = np.linalg.pinv(gram, hermitian=True, rcond=1e-10)
        fitted = np.einsum("rij,rj->ri", inverse, cross)
        errors.append(((fitted - weights) ** 2).sum(-1))
    return np.stack(errors, 1)


@pytest.mark.parametrize("design", ["fresh", "same"])
@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
def test_least_squares(workflow, design, assert_mean):
    errors = simulate(4000, SIZE, DIM, WEIGHTS, 4, workflow=workflow, design=design)
    assert_mean(
        errors,
        theory.expected_test_error(
            np.arange(5), SIZE, DIM, noise=NOISE, workflow=workflow, design=design
        ),
    )


@pytest.mark.parametrize(("dim", "gamma"), [(4, 0.25), (4, 0.6), (1, 0.1)])
def test_mix_with_fresh_real_data(dim, gamma, assert_mean):
    errors = simulate(6000, SIZE, dim, WEIGHTS[:dim], 5, gamma=gamma)
    assert_mean(
        errors,
        theory.expected_test_error(
            np.arange(6), SIZE, dim, noise=NOISE, workflow="mix", gamma=gamma
        ),
    )


@pytest.mark.parametrize("real", [1, 5, 19])
def test_contraction_of_a_fixed_number_of_real_rows(real, assert_mean):
    rng = np.random.default_rng(real)
    x = rng.normal(size=(20_000, SIZE, DIM))
    model = x[:, : SIZE - real]
    shrink = np.linalg.solve(np.swapaxes(x, 1, 2) @ x, np.swapaxes(model, 1, 2) @ model)
    want = theory.real_data_contraction(SIZE, DIM, real / SIZE, random_counts=False)
    assert_mean((shrink**2).sum((1, 2)) / DIM, want)


@pytest.mark.parametrize(
    ("workflow", "design"), [("replace", "fresh"), ("replace", "same"), ("accumulate", "same")]
)
def test_least_norm_of_fewer_points_than_features(workflow, design, assert_mean):
    weights = np.arange(12) / 10
    errors = simulate(3000, 6, 12, weights, 4, workflow=workflow, design=design)
    law = {
        "noise": NOISE,
        "squared_norm": weights @ weights,
        "workflow": workflow,
        "design": design,
    }
    assert_mean(errors, theory.minimum_norm_test_error(np.arange(5), 6, 12, **law))


@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
@pytest.mark.parametrize(("size", "penalty"), [(8, 0.0), (8, 0.3), (3, 0.0), (3, 0.1)])
def test_one_design(workflow, size, penalty, assert_mean):
    design = np.random.default_rng(5).normal(size=(size, DIM))
    errors = simulate(
        3000, size, DIM, WEIGHTS, 4, workflow=workflow, design=design, penalty=penalty
    )
    assert_mean(
        errors,
        theory.design_test_error(
            np.arange(5), design, WEIGHTS, noise=NOISE, penalty=penalty, workflow=workflow
        ),
    )


def test_one_design_under_another_covariance():
    """The exact variance of ordinary least squares, noise^2 tr(C (X'X)^-1), by hand."""
    design, root = np.random.default_rng(6).normal(size=(2, 9, 3))
    covariance = root.T @ root
    want = 2 * NOISE**2 * np.trace(covariance @ np.linalg.inv(design.T @ design))
    found = theory.design_test_error(1, design, WEIGHTS[:3], noise=NOISE, covariance=covariance)
    assert found == pytest.approx(want, rel=1e-10)


@pytest.mark.slow
def test_ridge_in_high_dimension():
    """100 features are near the limit: 4 standard errors, and 1% for terms of order 1/d."""
    weights = np.ones(100) / 10
    errors = simulate(80, 200, 100, weights, 3, penalty=0.2)
    want = theory.limiting_ridge_test_error(np.arange(4), 0.5, 0.2, noise=NOISE)
    allowed = 4 * errors.std(0) / np.sqrt(len(errors)) + 0.01 * want
    assert (np.abs(errors.mean(0) - want) < allowed).all() and (allowed < 0.1 * want).all()


def test_limits():
    far = np.array([20_000])
    for design in ("same", "fresh"):
        law = {"workflow": "accumulate", "design": design}
        assert theory.expected_test_error(far, 50, 10, **law)[0] == pytest.approx(
            theory.limiting_test_error(50, 10, **law), rel=1e-4
        )
    assert theory.limiting_test_error(50, 10, design="same") / theory.expected_test_error(
        0, 50, 10
    ) == pytest.approx(np.pi**2 / 6)
    mixed = {"workflow": "mix", "design": "fresh", "gamma": 0.1}
    assert theory.expected_test_error(500, 50, 10, **mixed) == pytest.approx(
        theory.limiting_test_error(50, 10, **mixed), rel=1e-6
    )
    assert theory.limiting_test_error(50, 10, workflow="replace") == np.inf
    assert theory.real_data_contraction(50, 10, 0.0) == pytest.approx(
        1
    ) and theory.real_data_contraction(50, 10, 1.0) == pytest.approx(0)
    assert 1 / theory.variance_ratio(10**5) == pytest.approx(theory.efficiency_limit(), rel=1e-4)


def test_too_few_points_have_no_finite_mean():
    assert theory.expected_test_error([0, 3], 11, 10).tolist() == [np.inf, np.inf]
    assert np.isfinite(theory.expected_test_error(0, 12, 10))
    assert theory.minimum_norm_test_error(2, 9, 10) == np.inf


@pytest.mark.parametrize(
    ("p", "published"), [(0.60, 0.800), (0.72, 0.624), (0.78, 0.372), (0.85, 0.220)]
)
def test_verified_labels(p, published):
    """The table of Feng et al.'s setting (d = 100, n = 4000, mu = 1, phi = .9, psi = .3).

    A simulation of it follows.
    """
    formula = theory.verified_classifier_accuracy(
        4000, 100, 1.0, error_rate=p, keeps_correct=0.9, keeps_wrong=0.3
    )
    assert formula == pytest.approx(published, abs=1e-3)
    rng, accuracies = np.random.default_rng(0), []
    for _ in range(30):
        side = rng.choice([-1, 1], 4000)
        x = rng.normal(size=(4000, 100))
        x[:, 0] += side
        wrong = rng.random(4000) < p
        kept = rng.random(4000) < np.where(wrong, 0.3, 0.9)
        w = (np.where(wrong, -side, side) * kept) @ x
        accuracies.append(
            0.5 * (1 + np.sign(w[0]) * (2 * _normal_cdf(abs(w[0]) / np.linalg.norm(w)) - 1))
        )
    assert np.mean(accuracies) == pytest.approx(formula, abs=0.02)


def _normal_cdf(value):
    from scipy import stats

    return stats.norm.cdf(value)


def test_the_threshold_of_verification():
    threshold = theory.verified_error_threshold(0.9, 0.3)
    below, above = (
        theory.verified_classifier_accuracy(
            10**9, 100, 1.0, error_rate=threshold + by, keeps_correct=0.9, keeps_wrong=0.3
        )
        for by in (-0.01, 0.01)
    )
    assert (
        threshold == pytest.approx(0.75)
        and below == pytest.approx(0.8413, abs=1e-3)
        and above == pytest.approx(0.1587, abs=1e-3)
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: theory.expected_test_error(0, 20, 4, workflow="accumulate_subsample"),
        lambda: theory.expected_test_error(0, 20, 4, workflow="mix", design="same", gamma=0.1),
        lambda: theory.expected_test_error(0, 20, 4, gamma=0.1),
        lambda: theory.expected_test_error(0, 20, 0),
        lambda: theory.limiting_test_error(20, 4, design="old"),
        lambda: theory.minimum_norm_test_error(0, 12, 12),
        lambda: theory.minimum_norm_test_error(0, 6, 12, workflow="accumulate"),
        lambda: theory.design_test_error(0, np.ones((4, 2)), np.ones(3)),
        lambda: theory.limiting_ridge_test_error(0, 0.5, 0.0),
        lambda: theory.variance_ratio(0, workflow="mix"),
        lambda: theory.verified_classifier_accuracy(10, 2, 1.0, error_rate=1.5),
    ],
)
def test_bad_arguments(call):
    with pytest.raises(ValueError):
        call()


def test_squared_error_of_a_logistic_fit_is_the_trace_of_the_inverse_information():
    weights = np.array([0.5, -1.0, 0.2])
    x = np.random.default_rng(0).normal(size=(400_000, 3))
    p = 1 / (1 + np.exp(-x @ weights))
    information = (x * (p * (1 - p))[:, None]).T @ x / len(x)
    expected = np.trace(np.linalg.inv(information))
    assert theory.logistic_squared_error(np.linalg.norm(weights), 3) == pytest.approx(
        expected, rel=0.01
    )
    # without weights every label is a coin, and the information is I / 4
    assert theory.logistic_squared_error(1e-6, 3) == pytest.approx(12)
    with pytest.raises(ValueError, match="norm"):
        theory.logistic_squared_error(0.0, 3)


@pytest.mark.parametrize("p", [0.3, 0.55])
def test_exact_accuracy_of_the_mean_classifier(p):
    """40 points of 4 features, 2 * 10^4 simulated fits, |z| < 4.

    The formula for many points and features.
    """
    rng, chains = np.random.default_rng(3), 20_000
    labels = np.where(rng.random((chains, 40)) < p, -1, 1)
    weights = rng.standard_normal((chains, 4)) / np.sqrt(40)
    weights[:, 0] += 0.8 * labels.mean(1)
    accuracy = _normal_cdf(0.8 * weights[:, 0] / np.linalg.norm(weights, axis=1))
    expected = theory.expected_classifier_accuracy(40, 4, 0.8, error_rate=p)
    assert abs(accuracy.mean() - expected) < 4 * accuracy.std() / np.sqrt(chains)
    large = theory.verified_classifier_accuracy(4000, 100, 1.0, error_rate=p)
    assert theory.expected_classifier_accuracy(4000, 100, 1.0, error_rate=p) == pytest.approx(
        large, abs=3e-3
    )
    with pytest.raises(ValueError):
        theory.expected_classifier_accuracy(40, 1, 0.8, error_rate=p)
