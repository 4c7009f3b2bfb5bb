"""Closed forms for regressions whose labels the previous generation's fit made.

The linear model is y = x'w + noise * e with features x ~ N(0, I_d) (any covariance C for ordinary
least squares), T points a generation; test error is the excess risk E[(w_g - w)' C (w_g - w)].
Design "fresh": new features in every generation; "same": the same design in all, itself drawn once,
over which the expectation is also taken. With the same design "accumulate" repeats each row once a
generation. Here sample_size is T >= 1, and dim is d >= 1.

The papers' model-fitting iteration n is generation n - 1.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from .ancestry import as_generation, as_sample_size, check_mixture, fixed_mix_counts

DESIGNS = ("fresh", "same")


def expected_test_error(
    generation: ArrayLike,
    sample_size: ArrayLike,
    dim: int,
    *,
    noise: float = 1.0,
    workflow: str = "replace",
    design: str = "fresh",
    gamma: float = 0.0,
    random_counts: bool = True,
) -> np.ndarray:
    """Expected test error of ordinary least squares, in units of noise^2; inf for T <= d + 1.

    Replace: (g + 1) noise^2 d / (T - d - 1), either design. Accumulate, same design: noise^2 d / (T
    - d - 1) sum 1/i^2. Derived here: accumulate, fresh features: the pool's fit moves by S^-1 X'e,
    S the sum of i Wishart matrices, and E tr(S^-1 X'X S^-1) = E tr(S^-1) / i, so noise^2 d sum 1 /
    (i (i T - d - 1)), below the former. Mix: the error shrinks by `real_data_contraction` before
    noise^2 d / (T - d - 1) is added. No short exact form is known for "accumulate_subsample", where
    rows come back that earlier models were fitted to.

    Args:
        gamma: Under "mix" (beta = 0, fresh features) the share of fresh real data.
        random_counts: Whether the number of real points is binomial; else it is rounded
            (`ancestry.fixed_mix_counts`).

    References:
        Dohmatob et al. 2024 (replace); Gerstgrasser et al. 2024, Theorem 2 (accumulate).
    """
    generation, size = as_generation(generation), int(as_sample_size(sample_size))
    check_mixture(workflow, 1 - gamma, 0.0, gamma)
    _check(design, dim)
    if workflow == "accumulate_subsample" or (workflow == "mix" and design == "same"):
        raise ValueError(f"no closed form for workflow {workflow!r} with the {design} design")
    if size <= dim + 1:
        return np.full(generation.shape, np.inf)
    once = noise**2 * dim / (size - dim - 1)
    if workflow == "replace":
        return (generation + 1) * once
    rounds = np.arange(1, int(np.max(generation, initial=0)) + 2, dtype=np.float64)
    if workflow == "accumulate":
        terms = (
            1 / rounds**2
            if design == "same"
            else (size - dim - 1) / (rounds * (rounds * size - dim - 1))
        )
        return once * np.cumsum(terms)[generation]
    kept = real_data_contraction(size, dim, gamma, random_counts=random_counts)
    return once * np.array([np.sum(kept ** np.arange(i)) for i in rounds])[generation]


def limiting_test_error(
    sample_size: int,
    dim: int,
    *,
    noise: float = 1.0,
    workflow: str = "accumulate",
    design: str = "fresh",
    gamma: float = 0.0,
    random_counts: bool = True,
) -> float:
    """The limit of `expected_test_error` for generation -> infinity: a float, inf under "replace".

    Accumulate, same design: pi^2/6 times generation 0. Derived here: fresh features: noise^2 d / (d
    + 1) (digamma(1) - digamma(1 - (d + 1) / T)) by partial fractions; mix: generation 0 over 1 -
    contraction.

    References:
        Gerstgrasser et al. 2024 (accumulate, same design).
    """
    first = float(expected_test_error(0, sample_size, dim, noise=noise))
    check_mixture(workflow, 1 - gamma, 0.0, gamma)
    _check(design, dim)
    if workflow == "replace" or first == np.inf:
        return np.inf
    if workflow == "accumulate":
        if design == "same":
            return first * np.pi**2 / 6
        return float(
            noise**2
            * dim
            / (dim + 1)
            * (special.digamma(1) - special.digamma(1 - (dim + 1) / sample_size))
        )
    if workflow == "mix" and design == "fresh":
        left = 1 - real_data_contraction(sample_size, dim, gamma, random_counts=random_counts)
        return first / left if left > 0 else np.inf
    raise ValueError(f"no closed form for workflow {workflow!r} with the {design} design")


def real_data_contraction(
    sample_size: int, dim: int, gamma: float, *, random_counts: bool = True
) -> float:
    """What one generation of "mix" leaves of an earlier squared error, on average: in [0, 1].

    Of T > d + 1 rows with fresh features k are labelled by the model and T - k by the real one; the
    fit's error is then S^-1 G err + noise, S = G + (the real rows' Gram matrix), and the value is E
    tr(G S^-2 G) / d. Arguments as in `expected_test_error`.

    Derived here: U = S^-1/2 G S^-1/2 is a matrix beta independent of S; its second moments follow
    from those of U_11 (a beta) and of the determinant of two rows (a product of two), and E[tr(S)
    tr(S^-1)] from the independence of a Wishart matrix's trace and shape.
    """
    size = int(as_sample_size(sample_size))
    check_mixture("mix", 1 - gamma, 0.0, gamma)
    if size <= dim + 1:
        raise ValueError(f"sample_size must be above dim + 1 = {dim + 1}, got {size}")
    if random_counts:
        counts = np.arange(size + 1)
        chances = stats.binom.pmf(counts, size, 1 - gamma)
    else:
        counts, chances = np.array([fixed_mix_counts(size, 1 - gamma, 0.0, gamma)[0]]), np.ones(1)
    a, both = counts / 2, size / 2
    square = a * (a + 1) / (both * (both + 1))  # E U_11^2
    determinant = a * (a - 0.5) / (both * (both - 0.5))  # E (U_11 U_22 - U_12^2)
    off_diagonal = (square - determinant) / 3  # E U_12^2
    products = determinant + off_diagonal  # E U_11 U_22
    kept = products + off_diagonal * (1 + (size * dim - 2) / (size - dim - 1))
    return float(np.sum(chances * kept))


def minimum_norm_test_error(
    generation: ArrayLike,
    sample_size: ArrayLike,
    dim: int,
    *,
    noise: float = 1.0,
    squared_norm: float = 1.0,
    workflow: str = "replace",
    design: str = "fresh",
) -> np.ndarray:
    """Expected test error of the least-norm fit for T < d features N(0, I); inf for T = d - 1.

    Derived here: with r = T / d a generation keeps r of the fit's squared length and of its product
    with w, and adds noise^2 v, v = T / (d - T - 1). Fresh, n = g + 1: (1 - r^n) (|w|^2 + noise^2 v
    / (1 - r)), which ends at a fit of noise alone. Same: the row space is lost once, (1 - r) |w|^2
    + n noise^2 v; under accumulate sum 1/i^2 in the place of n.

    Args:
        squared_norm: |w|^2 of the real weights.
        workflow: "replace", and with the same design "accumulate".

    References:
        Dohmatob et al. 2024, section on T < d, the setting.
    """
    generation, size = as_generation(generation), int(as_sample_size(sample_size))
    _check(design, dim)
    if (
        size >= dim
        or workflow not in ("replace", "accumulate")
        or (workflow, design) == ("accumulate", "fresh")
    ):
        raise ValueError(
            f"no closed form for {size} points of {dim} features, workflow {workflow!r}, "
            f"{design} design"
        )
    once = (
        noise**2 * size / (dim - size - 1)
        if size < dim - 1
        else np.inf * noise**2
        if noise
        else 0.0
    )
    share, samplings = size / dim, generation + 1.0
    if design == "fresh":
        return (1 - share**samplings) * (squared_norm + once / (1 - share))
    if workflow == "accumulate":
        samplings = np.cumsum(
            1 / np.arange(1, int(np.max(generation, initial=0)) + 2, dtype=np.float64) ** 2
        )[generation]
    return (1 - share) * squared_norm + samplings * once


def design_test_error(
    generation: ArrayLike,
    design: ArrayLike,
    weights: ArrayLike,
    *,
    noise: float = 1.0,
    penalty: float = 0.0,
    workflow: str = "replace",
    covariance: ArrayLike | None = None,
) -> np.ndarray:
    """Expected test error given one design that every generation uses; exact for any T and d.

    The fit is (X'X + T penalty I)^-1 X'y (`accumulate`: the pool's, with its own count), and with
    penalty 0 the pseudo-inverse, which is both ordinary and least-norm. Derived here: in the
    singular directions of X the labels' part shrinks by a = s^2 / (s^2 + T penalty) in each fit;
    replace: u' = a u + noise z; accumulate: the mean label moves as u' = ((n - 1 + a) u + noise z)
    / n.

    Args:
        design: X [T, d].
        weights: The real ones [d].
        workflow: "replace" or "accumulate".
        covariance: That of the test features [d, d]; by default I.

    References:
        Gerstgrasser et al. 2024 (accumulate, a = 1).
    """
    generation = as_generation(generation)
    design, weights = np.asarray(design, float), np.asarray(weights, float)
    if (
        workflow not in ("replace", "accumulate")
        or penalty < 0
        or design.ndim != 2
        or weights.shape != design.shape[1:]
    ):
        raise ValueError(
            f"bad arguments: workflow {workflow!r}, penalty {penalty}, design "
            f"{design.shape}, weights {weights.shape}"
        )
    _, extents, directions = np.linalg.svd(design, full_matrices=False)
    alive = extents > max(design.shape) * np.finfo(float).eps * extents[0]
    extents, directions = extents[alive], directions[alive]
    shrunk = extents**2 + len(design) * penalty
    covariance = np.eye(len(weights)) if covariance is None else np.asarray(covariance, float)
    mean, errors = extents * (directions @ weights), []
    variance = np.full(len(extents), float(noise) ** 2)
    for n in range(1, int(np.max(generation, initial=0)) + 2):
        if n > 1:
            kept = (
                extents**2 / shrunk if workflow == "replace" else (n - 1 + extents**2 / shrunk) / n
            )
            mean = kept * mean
            variance = kept**2 * variance + noise**2 * (1 if workflow == "replace" else 1 / n**2)
        bias = directions.T @ (extents / shrunk * mean) - weights
        spread = np.einsum("ki,ij,kj->k", directions, covariance, directions)
        errors.append(
            bias @ covariance @ bias + np.sum(spread * variance * (extents / shrunk) ** 2)
        )
    return np.array(errors)[generation]


def limiting_ridge_test_error(
    generation: ArrayLike,
    ratio: float,
    penalty: float,
    *,
    noise: float = 1.0,
    squared_norm: float = 1.0,
) -> np.ndarray:
    """Test error of ridge regression under "replace" for T and d -> infinity at d / T = ratio.

    Fresh features N(0, I); the fit is (X'X + T penalty I)^-1 X'y. Derived here from the Stieltjes
    transform m of the Marchenko-Pastur law at -penalty: a generation keeps 1 - penalty m of the
    fit's product with w and 1 - 2 penalty m - penalty^2 m' of its squared length, and adds noise^2
    ratio (m + penalty m').

    Args:
        ratio: > 0.
        penalty: > 0.
        squared_norm: |w|^2 of the real weights.

    References:
        Dohmatob et al. 2024 (the deterministic equivalents).
    """
    generation = as_generation(generation)
    if not (ratio > 0 and penalty > 0):
        raise ValueError(f"ratio and penalty must be above 0, got {ratio} and {penalty}")
    b = 1 - ratio + penalty
    root = np.sqrt(b**2 + 4 * ratio * penalty)
    m = (root - b) / (2 * ratio * penalty)
    # m solves ratio penalty m^2 + b m - 1 = 0
    slope = -(ratio * m**2 + m) / root
    linear, quadratic = 1 - penalty * m, 1 - 2 * penalty * m - penalty**2 * slope
    added = noise**2 * ratio * (m + penalty * slope)
    product, square, errors = squared_norm, squared_norm, []
    for _ in range(int(np.max(generation, initial=0)) + 1):
        product, square = linear * product, quadratic * square + added
        errors.append(square - 2 * product + squared_norm)
    return np.array(errors)[generation]


def efficiency_limit() -> float:
    """6 / pi^2: variance of generation 0 over that of the limit under "accumulate".

    For every smooth exponential-family fit; for linear regression with the same design it is exact
    (`limiting_test_error`).

    References:
        Dey and Donoho 2024.
    """
    return 6 / np.pi**2


def variance_ratio(generation: ArrayLike, *, workflow: str = "accumulate") -> np.ndarray:
    """Variance of the fit over generation 0's for T -> infinity.

    g + 1 under "replace", sum over i <= g + 1 of 1/i^2 under "accumulate", for every smooth
    exponential-family fit, logistic regression among them.

    References:
        Dey and Donoho 2024.
    """
    generation = as_generation(generation)
    if workflow not in ("replace", "accumulate"):
        raise ValueError(f"workflow must be 'replace' or 'accumulate', got {workflow!r}")
    if workflow == "replace":
        return generation + 1.0
    return np.cumsum(
        1 / np.arange(1, int(np.max(generation, initial=0)) + 2, dtype=np.float64) ** 2
    )[generation]


def logistic_squared_error(norm: float, dim: int) -> float:
    """T times the expected squared error of logistic regression's weights, T -> infinity: a float.

    It is the trace of the inverse information, for features N(0, I), no intercept and no penalty.
    Standard: along w the information is E[p(1 - p) z^2], in the other directions E[p(1 - p)], p = 1
    / (1 + exp(-|w| z)) of a standard normal z.

    Args:
        norm: |w| > 0 of the real weights.
        dim: d features.
    """
    _check("fresh", dim)
    if not norm > 0:
        raise ValueError(f"norm must be above 0, got {norm!r}")
    z, weight = np.polynomial.hermite_e.hermegauss(200)
    slope = weight / weight.sum() * special.expit(norm * z) * special.expit(-norm * z)
    return float(1 / np.sum(slope * z**2) + (dim - 1) / np.sum(slope))


def verified_classifier_accuracy(
    sample_size: ArrayLike,
    dim: int,
    mu: float,
    *,
    error_rate: ArrayLike,
    keeps_correct: ArrayLike = 1.0,
    keeps_wrong: ArrayLike = 1.0,
) -> np.ndarray:
    """Accuracy of the Hebbian classifier on labels that are partly wrong and then verified.

    The classifier is sign(x'w), w = mean of y x; two classes N(+-m, I_d) with |m| = mu. Derived
    here: Phi(a mu^2 / sqrt(a^2 mu^2 + r d / n)), a = phi (1 - p) - psi p, r = phi (1 - p) + psi p,
    up to terms of order 1/n and 1/d.

    Args:
        sample_size: n points before verification.
        error_rate: p, of the labels before verification.
        keeps_correct: phi, the probability with which a right label is kept.
        keeps_wrong: psi, the probability with which a wrong one is.

    References:
        Feng et al. 2024, "Beyond model collapse", the setting.
    """
    if not (np.min(sample_size) > 0 and np.min(dim) > 0 and mu > 0):
        raise ValueError(f"sample_size, dim and mu must be above 0, got {sample_size}, {dim}, {mu}")
    p, phi, psi = (np.asarray(value, float) for value in (error_rate, keeps_correct, keeps_wrong))
    if any(np.any((value < 0) | (value > 1)) for value in (p, phi, psi)):
        raise ValueError(
            "error_rate, keeps_correct and keeps_wrong must be in [0, 1], got "
            f"{error_rate}, {keeps_correct}, {keeps_wrong}"
        )
    advantage, kept = phi * (1 - p) - psi * p, phi * (1 - p) + psi * p
    return special.ndtr(
        advantage * mu**2 / np.sqrt(advantage**2 * mu**2 + kept * dim / sample_size)
    )


def expected_classifier_accuracy(
    sample_size: int, dim: int, mu: float, *, error_rate: float
) -> float:
    """Exact expected accuracy of the classifier of `verified_classifier_accuracy`: a float.

    It is fitted to n points with this error rate; after verification put the number of points that
    were kept, and error rate psi p / (phi (1 - p) + psi p). Derived: with R right labels of n, w =
    (2R/n - 1) m + N(0, I/n); along m it is normal, its square across m chi^2_{d-1}/n. Summed over
    R, Gauss quadrature over the rest (the chi-square through its quantiles).

    Args:
        dim: d >= 2.
    """
    if not (sample_size >= 1 and dim >= 2 and mu > 0 and 0 <= error_rate <= 1):
        raise ValueError(
            f"bad arguments: sample_size {sample_size}, dim {dim}, mu {mu}, error_rate {error_rate}"
        )
    right = np.arange(sample_size + 1)
    chances = stats.binom.pmf(right, sample_size, 1 - error_rate)
    right, chances = right[chances > 1e-14], chances[chances > 1e-14]
    z, z_weights = np.polynomial.hermite_e.hermegauss(60)
    u, u_weights = np.polynomial.legendre.leggauss(200)
    across = stats.chi2.ppf((u + 1) / 2, dim - 1) / sample_size
    along = (2 * right / sample_size - 1)[:, None, None] * mu + z[:, None] / np.sqrt(sample_size)
    accuracy = special.ndtr(mu * along / np.sqrt(along**2 + across))
    return float(chances @ (accuracy @ u_weights / 2) @ z_weights / np.sqrt(2 * np.pi))


def verified_error_threshold(keeps_correct: float, keeps_wrong: float) -> float:
    """The error rate phi / (phi + psi) up to which the verified classifier beats chance.

    References:
        Feng et al. 2024.
    """
    return keeps_correct / (keeps_correct + keeps_wrong)


def _check(design, dim):
    if design not in DESIGNS:
        raise ValueError(f"design must be one of {DESIGNS}, got {design!r}")
    if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or dim < 1:
        raise ValueError(f"dim must be a whole number >= 1, got {dim!r}")
