"""Every formula of docs/theory-formulas.md, written again as it stands there, against its function.

The numbers on the left are plain NumPy and SciPy, read off the page.
"""

import math
import pathlib
import re

import numpy as np
import pytest
from scipy import integrate, special, stats

from collapse_jax import theory

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "theory-formulas.md"
psi, psi1 = special.digamma, lambda x: special.polygamma(1, x)
Phi, phi = stats.norm.cdf, stats.norm.pdf
# Generation, points, categories and a schedule of points.
G, M, K = 3, 12, 4
MS = np.array([12, 9, 15, 7])
P = np.array([0.4, 0.3, 0.2, 0.1])
Q, V, LAM, W = 0.3, 2.5, 0.4, 1.7
H0 = 1 - np.sum(P**2)
COUNTS = np.arange(M + 1)
T = stats.binom.pmf(COUNTS[None], M, COUNTS[:, None] / M)


def b(q, size=M):
    return stats.binom.pmf(np.arange(size + 1), size, q)


def law(q, g=G):
    return b(q) @ np.linalg.matrix_power(T, g)


def iterate(step, start, times=G):
    for _ in range(times):
        start = step(start)
    return start


def with_replacement(n, c):
    return 1 / n + (1 - 1 / n) * c


def coalescence(step):
    return iterate(step, 0.0)


def kept_real(n=4, s=9):
    c, size = 0.0, n
    for _ in range(G):
        c = (s * (s - 1) * with_replacement(size, c) + 2 * s) / ((n + s) * (n + s - 1))
        size = n + s
    return (1 - 1 / size) * (1 - c)


def drift(d, c, sizes):
    return sum(
        psi((m - j) / 2) + np.log(2 / (m - c)) for m in sizes for j in range(1, d + 1)
    ) / d  # fmt: skip


def c4(m):
    return np.sqrt(2 / (m - 1)) * special.gamma(m / 2) / special.gamma((m - 1) / 2)


def denoised(k=0.9, a=0.2):
    f, d = k * (1 - 1 / M) * V, V / M
    for _ in range(G):
        v = (1 - a) * f + a * V + a * (1 - a) * d
        f, d = k * (1 - 1 / M) * v, (1 - a) ** 2 * d + v / M
    return f


def log_variance_of_pool(c):
    def mean(t):
        nodes = stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, M - 1)
        offset = stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, 1) * t / (t + 1)
        return np.mean(np.log1p((nodes[:, None] + offset[None, ::7]) / (t * M - c)))

    first = np.log(V) + psi((M - 1) / 2) + np.log(2) - np.log((G + 1) * M - c)
    return first + sum(mean(t) for t in range(1, G + 1))


def survival(k):
    return iterate(lambda s: 1 - np.exp(-s), 1.0, k - 1)


def smoothed(kappa=0.5):
    w = M / (M + K * kappa)
    return w, lambda h: w**2 * (1 - 1 / M) * h + (1 - w**2) * (1 - 1 / K)


def smoothed_pair(kappa=0.5):
    m, v, w = Q, 0.0, M / (M + K * kappa)
    for _ in range(G + 1):
        v = w**2 * (v + (m * (1 - m) - v) / M)
        m = w * m + (1 - w) / K
    return m, v


def forward_kl(d=2, c=1):
    f = (MS - c) / (MS - d - 2)
    error = sum(np.prod(f[i:]) / MS[i] for i in range(G + 1))
    return d / 2 * (np.prod(f) + error - 1 + drift(d, c, MS))


def families_apart(coupling):
    f = np.eye(2) / M
    for _ in range(G):
        c = coupling @ f @ coupling.T
        f = np.where(np.eye(2, dtype=bool), with_replacement(M, c), c)
    return f


def same_row(m, d):
    return ((m * d - 2) / (m - d - 1) + 2) / (m + 2)


def until_one(m=M):
    rows = np.zeros((m + 1, m + 1))
    rows[1, 1] = 1
    for a in range(1, m):
        for k in range(1, a + 2):
            rows[a + 1, k] = rows[a, k] * k / m + rows[a, k - 1] * (m - k + 1) / m
    t = np.zeros(m + 1)
    for a in range(2, m + 1):
        t[a] = (1 + rows[a, :a] @ t[:a]) / (1 - rows[a, a])
    return rows, t[m]


def polya(n=5, g=G):
    found = np.zeros(n + g + 1)
    begun = b(Q, n)
    found[0], found[-1] = begun[0], begun[-1]
    for j in range(1, n):
        for k in range(j, j + g + 1):
            beta = special.beta(k, n + g - k) / special.beta(j, n - j)
            found[k] += begun[j] * math.comb(g, k - j) * beta
    return found


def weighted(n=5, m=8, w=0.6, v2=-1.0):
    u = w * m / (n + w * m)
    step = lambda a: (1 - u) ** 2 / n + u**2 * (a + (1 + v2 * a) / m)  # noqa: E731
    limit = ((1 - u) ** 2 / n + u**2 / m) / (1 - u**2 * (1 + v2 / m))
    return iterate(step, 1 / (n + m)), limit


def mixed_points(n=5, m=8, v2=1.0):
    u = m / (n + m)
    step = lambda a: 1 / (n + m) + u**2 * a + u * v2 * a / (n + m)  # noqa: E731
    return iterate(step, 1 / 10)


A, R = theory.ancestry, theory.regression
a_width = W**2 / (1 + W**2)
G2 = 1 - (1 - LAM) ** 2
PRIOR = np.array([0.5, 1.0, 2.0, 0.3])
EIG = np.array([2.0, 1.0, 0.5])
RELAX = (1 - LAM) ** 2 * (1 - 1 / M) + (1 - LAM) * (1 - 1.0) / M
KERNEL = W**2
rewards = np.array([0.1, 0.9, 0.4, 0.2])
r_sub = (1 + np.sqrt(12 * M - 3)) / (2 * M), (1 - np.sqrt(12 * M - 3)) / (2 * M)
ONCE = 0.7**2 * 2 / (M - 3)
MIX = (np.array([0.3, 0.7]), np.array([-1.0, 1.0]), np.array([0.5, 0.8]))
MIX_MEAN = np.sum(MIX[0] * MIX[1])
MIX_VAR = np.sum(MIX[0] * (MIX[2] ** 2 + (MIX[1] - MIX_MEAN) ** 2))
ALARM = 0.1 + special.zeta(0.5) / np.sqrt(2 * np.pi) * np.sqrt(0.09 / M)
SHARE = 0.6
harmonic = np.cumsum(1 / np.arange(1, M + 1)) / np.arange(1, M + 1)


def error_of_exponential(m=2.0):
    e = 0.0
    for size in MS:
        e += (m**2 + e) / size
    return e


# Name -> (the page's formula, what the function says).
CHECKS = {
    "absorption.fixed_probability": lambda f: (law(Q)[M], f(G, M, Q)),
    "absorption.absorption_probability": lambda f: (sum(law(p)[M] for p in P), f(G, M, P)),
    "absorption.expected_samplings_until_absorption": lambda f: (
        1 + b(Q)[1:-1] @ np.linalg.solve(np.eye(M - 1) - T[1:-1, 1:-1], np.ones(M - 1)),
        f(M, Q),
    ),
    "absorption.diffusion_samplings_until_fixation": lambda f: (
        -2 * M * np.sum((1 - P) * np.log(1 - P)),
        f(M, P),
    ),
    "ancestry.pair_coalescence": lambda f: (
        iterate(lambda c: with_replacement(M, c), 0.0),
        f(G, M),
    ),
    "ancestry.retention": lambda f: (
        (1 - 1 / M) * (1 - iterate(lambda c: with_replacement(M, c), 0.0)),
        f(G, M),
    ),
    "ancestry.reused_real_retention": lambda f: (
        (1 - 1 / M)
        * (
            1
            - coalescence(
                lambda c: (1 - LAM) ** 2 * with_replacement(M, c) + 2 * LAM * (1 - LAM) / M
            )
        ),
        f(G, M, LAM),
    ),
    "ancestry.kept_real_retention": lambda f: (kept_real(), f(G, 4, 9)),
    "ancestry.mixture_of_distributions_heterozygosity": lambda f: (
        iterate(lambda h: (0.8**2 - 0.5**2 / M) * h + (1 - 0.8**2) * H0, H0, G + 1),
        f(G, M, alpha=0.5, beta=0.3, gamma=0.2, population_heterozygosity=H0),
    ),
    "bayesian.stationary_heterozygosity": lambda f: (
        1 - np.sum(PRIOR * (PRIOR + 1)) / (PRIOR.sum() * (PRIOR.sum() + 1)),
        f(M, PRIOR),
    ),
    "bayesian.heterozygosity_rate": lambda f: (
        M * (M - 1) / ((2.0 + M) * (3.0 + M)),
        f(M, 2.0),
    ),
    "bayesian.log_variance_walk": lambda f: (
        (
            psi((M - 1) / 2) - psi(M / 2 + 0.3),
            psi1((M - 1) / 2) + psi1(M / 2 + 0.3),
        ),
        f(M, shape=0.3),
    ),
    "bayesian.log_determinant_drift": lambda f: (
        sum(psi((M - 1 - j) / 2) - psi((M + 0.6 - j) / 2) for j in range(3)),
        f(M, 3, shape=0.3),
    ),
    "bootstrapping.expected_squared_error": lambda f: (
        (0.25 * (0.25 * 3 + 0.5 * V / 5) + 0.5 * V / 9),
        f([5, 9], 0.5, first=3.0, variance=V)[-1],
    ),
    "bootstrapping.best_sizes": lambda f: (
        100 * 0.5 ** (3 - np.arange(1, 4)) / (0.25 + 0.5 + 1),
        f(100, 3, 0.5),
    ),
    "categorical.expected_heterozygosity": lambda f: (
        (
            H0 * np.prod(1 - 1 / MS),
            H0 * np.prod(1 - 1 / (np.arange(1, G + 2) ** 2 * M)),
        ),
        (f(G, MS, P), f(G, M, P, workflow="accumulate")),
    ),
    "categorical.count_distribution": lambda f: (law(Q), f(G, M, Q)),
    "categorical.loss_probability": lambda f: (law(Q)[0], f(G, M, Q)),
    "categorical.eventual_loss_probability": lambda f: (1 - Q, f(Q)),
    "categorical.expected_support": lambda f: (sum(1 - law(p)[0] for p in P), f(G, M, P)),
    "categorical.expected_missing_mass": lambda f: (
        sum(p * law(p)[0] for p in P),
        f(G, M, P),
    ),
    "categorical.expected_distinct_in_sample": lambda f: (np.sum(1 - (1 - P) ** M), f(M, P)),
    "categorical.probability_variance": lambda f: (
        Q * (1 - Q) * (1 - A.retention(G, M, workflow="accumulate")),
        f(G, M, Q, workflow="accumulate"),
    ),
    "categorical.expected_squared_distance": lambda f: (
        H0 * (1 - A.retention(G, M, workflow="accumulate")),
        f(G, M, P, workflow="accumulate"),
    ),
    "categorical.smoothed_heterozygosity": lambda f: (
        iterate(smoothed()[1], H0, G + 1),
        f(G, M, P, 0.5),
    ),
    "categorical.smoothed_heterozygosity_limit": lambda f: (
        (1 - smoothed()[0] ** 2) * (1 - 1 / K) / (1 - smoothed()[0] ** 2 * (1 - 1 / M)),
        f(M, K, 0.5),
    ),
    "categorical.expected_reverse_kl": lambda f: (
        np.sum(special.entr(P)) - sum(law(p) @ special.entr(COUNTS / M) for p in P),
        f(G, M, P),
    ),
    "denoising.kept_variance": lambda f: (
        np.cos(np.pi / 40) ** 40,
        f(20, sampler="ddim"),
    ),
    "denoising.expected_variance": lambda f: (
        denoised(),
        f(G, M, kept=0.9, variance=V, fresh=0.2),
    ),
    "distribution_mixture.limit": lambda f: (
        V * (1 - 0.8**2) / (1 - 0.8**2 + 0.5**2 / M),
        f(M, alpha=0.5, beta=0.3, gamma=0.2, ddof=0, variance=V)[0],
    ),
    "drifting_verifier.diffusion_rate": lambda f: (
        a_width / M * (0.3 / (0.3 * a_width + 1 - a_width)) ** 2,
        f(M, W, 0.3),
    ),
    "drifting_verifier.settled_bias": lambda f: (
        2 * (1 - a_width) / (0.3 * a_width + 1 - a_width),
        f(W, 0.3, 2.0),
    ),
    "drifting_verifier.refitted_width_log_variance": lambda f: (
        G * np.log(a_width) + (G + 1) * (psi((M - 1) / 2) - np.log((M - 1) / 2)),
        f(G, M, W),
    ),
    "exponential_families.expected_squared_mean_error": lambda f: (
        error_of_exponential(),
        f(G, MS, 2.0, (0.0, 0.0, 1.0)),
    ),
    "exponential_families.expected_variance": lambda f: (
        4 + error_of_exponential(),
        f(G, MS, 2.0, (0.0, 0.0, 1.0)),
    ),
    "exponential_families.exponential_expected_log_mean": lambda f: (
        np.log(V) + np.sum(psi(MS) - np.log(MS)),
        f(G, MS, mean=V),
    ),
    "exponential_families.exponential_log_mean_std": lambda f: (
        np.sqrt(np.sum(psi1(MS))),
        f(G, MS),
    ),
    "exponential_families.exponential_second_moment": lambda f: (
        V**2 * np.prod(1 + 1 / MS),
        f(G, MS, mean=V),
    ),
    "exponential_families.pareto_expected_shape": lambda f: (
        V * np.prod(MS / (MS - 1)),
        f(G, MS, shape=V),
    ),
    "exponential_families.uniform_expected_log_maximum": lambda f: (
        np.log(V) - np.sum(1 / MS),
        f(G, MS, maximum=V),
    ),
    "exponential_families.uniform_log_maximum_cdf": lambda f: (
        integrate.quad(lambda t: t**G * np.exp(-t), M * (np.log(V) - 0.6), np.inf)[0]
        / math.factorial(G),
        f(0.6, G, M, maximum=V),
    ),
    "exponential_families.uniform_expected_power": lambda f: (
        V**2 * np.prod(MS / (MS + 2)),
        f(G, MS, 2, maximum=V),
    ),
    "exponential_families.poisson_absorption_probability": lambda f: (
        np.exp(-M * 0.2 * survival(G + 1)),
        f(G, M, 0.2),
    ),
    "exponential_families.bernoulli_sum_distribution": lambda f: (
        b(Q)
        @ np.linalg.matrix_power(np.stack([b(0.6 * j / M + LAM * Q) for j in range(M + 1)]), G),
        f(G, M, Q, workflow="mix", gamma=LAM),
    ),
    "feedback.uniform_eigenvalue": lambda f: (0.6 * 1.3, f(1.3, 0.4)),
    "feedback.threshold": lambda f: (1 / 0.6, f(0.4)),
    "feedback.loop_area": lambda f: (
        integrate.quad(
            lambda s: (np.log(20) - theory.feedback.collapsed_entropy(_power(s), 0.2, 20)) * 2 * s
            * (1.25 - theory.feedback.fold(0.2, 20)[0]),
            0, 1, epsabs=1e-5,
        )[0],
        f(0.2, 20),
    ),
    "gaussian.expected_variance": lambda f: (V, f(G, MS, ddof=1, variance=V)),
    "gaussian.expected_squared_mean_error": lambda f: (
        (V * (1 - np.prod(1 - 1 / MS)), V * np.sum(1 / MS)),
        (f(G, MS, ddof=0, variance=V), f(G, MS, ddof=1, variance=V)),
    ),
    "gaussian.expected_standard_deviation": lambda f: (
        np.sqrt(V) * np.prod(np.sqrt((MS - 1) / MS) * c4(MS)),
        f(G, MS, ddof=0, variance=V),
    ),
    "gaussian.expected_log_variance": lambda f: (
        np.log(V) + drift(3, 0, MS),
        f(G, MS, ddof=0, dim=3, variance=V),
    ),
    "gaussian.log_variance_std": lambda f: (
        np.sqrt(sum(psi1((m - j) / 2) for m in MS for j in (1, 2, 3))) / 3,
        f(G, MS, dim=3),
    ),
    "gaussian.accumulate_variance_limit": lambda f: (
        V * np.sin(np.pi / np.sqrt(M)) / (np.pi / np.sqrt(M)),
        f(M, ddof=0, variance=V),
    ),
    "gaussian.accumulate_subsample_variance_limit": lambda f: (
        V * (1 - 1 / M) * special.gamma(2 - 1 / M)
        / (special.gamma(2 - r_sub[0]) * special.gamma(2 - r_sub[1])),
        f(M, ddof=0, variance=V),
    ),
    "gaussian.fresh_real_limit": lambda f: (
        V * (1 - 1 / M) * G2 / (1 - (1 - 1 / M) * (1 - LAM) ** 2),
        f(M, LAM, ddof=0, variance=V)[0],
    ),
    "gaussian.second_moment_boundary": lambda f: (
        2 / (2 * M + 1 + np.sqrt(4 * M**2 + 1)),
        f(M),
    ),
    "gaussian_divergence.expected_cross_entropy_under_population": lambda f: (
        3 / 2 * (np.log(2 * np.pi * V) + 1 + np.sum(1 / MS)),
        f(G, MS, ddof=1, dim=3, variance=V),
    ),
    "gaussian_divergence.expected_entropy": lambda f: (
        3 / 2 * (np.log(2 * np.pi * np.e) + np.log(V) + drift(3, 1, MS)),
        f(G, MS, ddof=1, dim=3, variance=V),
    ),
    "gaussian_divergence.expected_reverse_kl": lambda f: (
        3 / 2 * (1 + np.sum(1 / MS) - 1 - drift(3, 1, MS)),
        f(G, MS, ddof=1, dim=3),
    ),
    "gaussian_divergence.expected_forward_kl": lambda f: (
        forward_kl(),
        f(G, MS, ddof=1, dim=2),
    ),
    "gaussian_divergence.early_kl": lambda f: (
        3 * 6 / 4 * np.sum(1 / MS),
        f(G, MS, dim=3),
    ),
    "genealogy.expected_reach": lambda f: (
        [0.6**3, 0.4 * 0.6**2, 0.4 * 0.6, 0.4],
        f(G, workflow="mix", gamma=0.4),
    ),
    "genealogy.expected_real_age": lambda f: (
        0.6 + 0.6**2 + 0.6**3,
        f(G, workflow="mix", gamma=0.4),
    ),
    "genealogy.kingman_expected_common_ancestor_age": lambda f: (
        2 * M * (1 - 1 / 5),
        f(M, 5),
    ),
    "genealogy.kingman_largest_family": lambda f: (
        theory.genealogy.kingman_ancestors_distribution(G, M) @ harmonic,
        f(G, M),
    ),
    "interventions.biased_expected_log_variance": lambda f: (
        drift(2, 1, MS) + G * np.log(0.9),
        f(G, MS, 0.9, ddof=1, dim=2),
    ),
    "interventions.neutral_sampling_bias": lambda f: (
        np.exp(-drift(2, 1, [M])),
        f(M, ddof=1, dim=2),
    ),
    "interventions.smoothed_moments": lambda f: (
        smoothed_pair(),
        f(G, M, Q, 0.5, K),
    ),
    "interventions.curated_gaussian": lambda f: (
        (
            (0.5 / V + G * 0.2) / (1 / V + G / W**2),
            1 / (1 / V + G / W**2),
        ),
        f(G, mean=0.5, variance=V, slope=0.2, width=W),
    ),
    "interventions.curated_probabilities": lambda f: (
        P * np.exp(G * rewards) / np.sum(P * np.exp(G * rewards)),
        f(G, P, rewards),
    ),
    "interventions.curated_expected_precision": lambda f: (
        iterate(lambda p: (M - 1) / (M - 3) * (p + 1 / W**2), (M - 1) / (M - 3) / V),
        f(G, M, W, variance=V),
    ),
    "interventions.mean_contraction": lambda f: (
        2 / 3 / 1.5,
        f(2.0, correction=0.5),
    ),
    "interventions.real_share_after_detection": lambda f: (
        0.4 * 0.9 / (0.4 * 0.9 + 0.6 * 0.2),
        f(0.4, 0.8, 0.1),
    ),
    "interventions.temperature_real_share_boundary": lambda f: ((0.3, 0.0), f([0.7, 1.2])),
    "islands.identity_by_descent": lambda f: (
        families_apart(np.array([[0.7, 0.2], [0.1, 0.6]])),
        f(G, M, [[0.7, 0.2], [0.1, 0.6]]),
    ),
    "islands.linear_model_growth": lambda f: (
        ONCE / 3 / (1 - (1 - 1 / 3) * same_row(M, 2)),
        f(M, 2, 3, noise=0.7),
    ),
    "kernel_density.expected_variance": lambda f: (
        iterate(lambda s: (1 - 1 / M) * (s + KERNEL), (1 - 1 / M) * V) + KERNEL,
        f(G, M, bandwidth=W, variance=V),
    ),
    "kernel_density.widening_boundary": lambda f: (np.sqrt(V / (M - 1)), f(M, V)),
    "kernel_density.limiting_variance": lambda f: (
        V + W**2 * (1 - 0.6 ** (G + 1)) / 0.4,
        f(G, W, 0.4, V),
    ),
    "kernel_density.limiting_characteristic": lambda f: (
        0.4 * 0.8 * np.exp(-0.3) / (1 - 0.6 * np.exp(-0.3)),
        f([[1.0]], [0.8], np.sqrt(0.6), 0.4),
    ),
    "kernel_support.mass_outside": lambda f: (
        2 * integrate.quad(lambda u: Phi(-u / 0.3), 0, 1)[0],
        f(0.3),
    ),
    "known_variance.expected_squared_mean_error": lambda f: (
        (V * np.sum(1 / MS), V / M * np.sum(1 / np.arange(1, G + 2) ** 2)),
        (f(G, MS, variance=V), f(G, M, variance=V, workflow="accumulate")),
    ),
    "known_variance.kept_real_squared_mean_error": lambda f: (
        V / 4 + V * 9 / 13**2 * (1 - (9 / 13) ** (2 * G)) / (1 - (9 / 13) ** 2),
        f(G, 4, 9, variance=V),
    ),
    "known_variance.fresh_real_limit": lambda f: (
        V / (M * LAM * (2 - LAM) - LAM * (1 - LAM)),
        f(M, LAM, variance=V),
    ),
    "known_variance.expected_total_variation": lambda f: (
        integrate.quad(
            lambda m: (2 * Phi(abs(m) / (2 * np.sqrt(V))) - 1) * phi(m, scale=np.sqrt(0.7)),
            -9, 9, points=[0],
        )[0],
        f(0.7, variance=V),
    ),
    "lead_times.log_variance_lead": lambda f: (
        (
            np.log(5) / -drift(1, 1, [M]),
            np.sqrt(np.log(5) * psi1((M - 1) / 2) / (-drift(1, 1, [M])) ** 3),
        ),
        f(M, 0.5, 0.1, ddof=1),
    ),
    "lead_times.diffusion_fixation_lead": lambda f: (
        -2 * M * (ALARM * np.log(ALARM) + (1 - ALARM) * np.log(1 - ALARM)),
        f(M, 0.1),
    ),
    "lineages.occupancy_matrix": lambda f: (until_one()[0][1:, 1:], f(M)),
    "lineages.loss_probability": lambda f: (
        theory.lineages.living_ancestors_distribution(G, M)
        @ (1 - Q) ** np.arange(1, M + 1),
        f(G, M, Q),
    ),
    "lineages.expected_generations_until_one_ancestor": lambda f: (until_one()[1], f(M)),
    "lineages.branching_survival": lambda f: (survival(G + 1), f(G)),
    "lineages.survival_bounds": lambda f: (
        (
            1 - np.exp(-M * 0.01 * survival(4)),
            1 - (1 - 3 * M * 0.01**2 - 12 * 0.01) * np.exp(-M * 0.01 * survival(4)),
        ),
        f(G, M, 0.01),
    ),
    "log_chi.c4": lambda f: (c4(M), f(M)),
    "log_chi.log_chi_mean": lambda f: (
        integrate.quad(lambda x: np.log(x) * stats.chi.pdf(x, 5), 0, 30)[0],
        f(5),
    ),
    "log_chi.log_chi_variance": lambda f: (psi1(2.5) / 4, f(5)),
    "lyapunov.lyapunov_exponents": lambda f: (
        [(psi((M - j) / 2) + np.log(2 / (M - 1))) / 2 for j in (1, 2, 3)],
        f(M, 3, ddof=1),
    ),
    "lyapunov.log_condition_rate": lambda f: (psi((M - 1) / 2) - psi((M - 3) / 2), f(M, 3)),
    "mixture_projection.moments": lambda f: ((MIX_MEAN, MIX_VAR), f(MIX)),
    "mixture_projection.kl_to_gaussian": lambda f: (
        theory.mixture_projection.kl(MIX, ([1.0], [0.3], [np.sqrt(V)])),
        sum(f(MIX, 0.3, V)),
    ),
    "monte_carlo.relative_variance_of_variance": lambda f: (
        np.prod(1 + 2 / (MS - 1)) - 1,
        f(G, MS),
    ),
    "monte_carlo.runs_for_expected_variance": lambda f: (
        (np.prod(1 + 2 / (MS - 1)) - 1) / 0.05**2,
        f(G, MS, 0.05),
    ),
    "monte_carlo.standard_deviation_tail_bound": lambda f: (
        1.5 / 2 * np.exp(-np.sum(1 / (4 * MS))),
        f(2.0, G, MS, standard_deviation=1.5),
    ),
    "real_batches.rate": lambda f: ((0.6, 1.0), f([0.3, 0.8])),
    "real_batches.limit": lambda f: (1 / 0.6, f(0.8)),
    "regression.expected_test_error": lambda f: (
        (
            (G + 1) * ONCE,
            0.49 * 2 * sum(1 / (i * (i * M - 3)) for i in range(1, G + 2)),
        ),
        (f(G, M, 2, noise=0.7), f(G, M, 2, noise=0.7, workflow="accumulate")),
    ),
    "regression.limiting_test_error": lambda f: (
        0.49 * 2 / 3 * (psi(1) - psi(1 - 3 / M)),
        f(M, 2, noise=0.7),
    ),
    "regression.minimum_norm_test_error": lambda f: (
        (1 - (5 / 9) ** (G + 1)) * (2.0 + 0.49 * 5 / 3 / (1 - 5 / 9)),
        f(G, 5, 9, noise=0.7, squared_norm=2.0),
    ),
    "regression.variance_ratio": lambda f: (1 + 1 / 4 + 1 / 9 + 1 / 16, f(G)),
    "regression.efficiency_limit": lambda f: (6 / np.pi**2, f()),
    "regression.verified_classifier_accuracy": lambda f: (
        Phi(
            (0.9 * 0.7 - 0.2 * 0.3) * 4
            / np.sqrt((0.9 * 0.7 - 0.2 * 0.3) ** 2 * 4 + (0.9 * 0.7 + 0.2 * 0.3) * 10 / 50)
        ),
        f(50, 10, 2.0, error_rate=0.3, keeps_correct=0.9, keeps_wrong=0.2),
    ),
    "regression.verified_error_threshold": lambda f: (0.9 / 1.1, f(0.9, 0.2)),
    "schedules.relaxation_factor": lambda f: (
        (1 - LAM) ** 2 * (1 - 1 / M) + (1 - LAM) * 2 / M,
        f(M, LAM, v2=1.0),
    ),
    "schedules.half_life": lambda f: (np.log(2) / -np.log(RELAX), f(M, LAM)),
    "schedules.plateau": lambda f: (1 / (M * (1 - RELAX)), f(M, LAM)),
    "selection.kimura_takeover_probability": lambda f: (
        (1 - np.exp(-2 * M * 0.05 * 0.2)) / (1 - np.exp(-2 * M * 0.05)),
        f(0.2, M, 0.05),
    ),
    "selection.best_of_greatest": lambda f: (
        [
            P[rewards <= r].sum() ** 3 - P[rewards < r].sum() ** 3 for r in rewards
        ],
        f(3, P, rewards),
    ),
    "spending.expected_squared_error": lambda f: (
        mixed_points(),
        f([5] * G, [8] * G, first=10, v2=1.0)[-1],
    ),
    "subdivision.total_diversity": lambda f: (3 * (M - 1), f(3, M)),
    "subdivision.wright_fixation_index": lambda f: (
        1 / (1 + 2 * M * 0.1 * (3 / 2) ** 2),
        f(3, M, 0.1),
    ),
    "urns.polya_distribution": lambda f: (polya(), f(G, 5, Q)),
    "urns.ewens_number_of_kinds": lambda f: (
        sum(1.5 / (1.5 + i) for i in range(7)),
        f(1.5, 7),
    ),
    "urns.beta_of_immigration": lambda f: (
        (2 * M * LAM * Q, 2 * M * LAM * (1 - Q)),
        f(Q, M, LAM),
    ),
    "wasserstein.expected_squared_wasserstein2": lambda f: (
        V * (np.sum(1 / MS) + 1 + 1 - 2 * np.prod(c4(MS))),
        f(G, MS, ddof=1, variance=V),
    ),
    "wasserstein.early_squared_wasserstein2": lambda f: (
        (
            EIG.sum()
            + sum(x * y * (1 + (i == j)) / (x + y) for i, x in enumerate(EIG)
                  for j, y in enumerate(EIG)) / 2
        ) * np.sum(1 / MS),
        f(G, MS, EIG),
    ),
    "weights.expected_squared_error": lambda f: (weighted()[0], f(G, 5, 8, 0.6, v2=-1.0)),
    "weights.squared_error_limit": lambda f: (weighted()[1], f(5, 8, 0.6, v2=-1.0)),
    "weights.best_weight": lambda f: (
        (np.sqrt(0.625**2 + 4 * 0.625) - 0.625) / 2,
        f(5, 8),
    ),
    "weights.poisson_squared_error": lambda f: (
        np.exp(-(0.7**2) / 2) * (4 - 0.7**2 / (1 + 0.7**2)),
        f(0.7, 4),
    ),
    "wrong_labels.expected_test_error": lambda f: (
        2.0**2 * (SHARE**2 + SHARE * (1 - SHARE) * same_row(M, 2)) + ONCE,
        f(M, 2, SHARE, 2.0, noise=0.7),
    ),
    "wrong_labels.floor": lambda f: (SHARE**2 * 4, f(SHARE, 2.0)),
    "zipf.tail_mass": lambda f: (special.zeta(1.7, 5) / special.zeta(1.7), f(4, 1.7)),
    "zipf.heterozygosity": lambda f: (
        1 - special.zeta(3.4) / special.zeta(1.7) ** 2,
        f(1.7),
    ),
    "zipf.expected_missing_mass": lambda f: (
        np.sum(zipf() * (1 - zipf()) ** 30),
        f(30, 1.2, num_categories=50),
    ),
    "zipf.expected_distinct": lambda f: (
        np.sum(1 - (1 - zipf()) ** 30),
        f(30, 1.2, num_categories=50),
    ),
    "zipf.missing_mass_asymptote": lambda f: (
        special.zeta(1.7) ** (-1 / 1.7) * special.gamma(1 - 1 / 1.7) / 1.7
        * 1000 ** -(1 - 1 / 1.7),
        f(1000, 1.7),
    ),
    "zipf.distinct_asymptote": lambda f: (
        special.zeta(1.7) ** (-1 / 1.7) * special.gamma(1 - 1 / 1.7) * 1000 ** (1 / 1.7),
        f(1000, 1.7),
    ),
    "zipf.effective_sample_size": lambda f: (1000 * survival(G + 1), f(G, 1000)),
}  # fmt: skip


def zipf():
    weights = np.arange(1, 51) ** -1.2
    return weights / weights.sum()


def _power(s):
    """From the fold to the threshold; its square takes away the root at the fold."""
    least = theory.feedback.fold(0.2, 20)[0]
    return least + (1.25 - least) * s**2


def _named():
    return re.findall(r"^### (\w+)\.(\w+)$", PAGE.read_text(encoding="utf-8"), re.M)


def test_every_formula_is_that_of_its_function():
    """All but one are compared to 1e-8; quadratures of the page's integrals say less."""
    apart = []
    for name, check in CHECKS.items():
        module, function = name.split(".")
        page, code = check(getattr(getattr(theory, module), function))
        error = 1e-5 if name == "feedback.loop_area" else 1e-8
        if not np.allclose(page, code, rtol=error, atol=1e-12):
            apart.append((name, page, code))
    assert not apart


def test_accumulated_log_variance():
    """Its two chi-squares by their quantiles, to a thousandth."""
    code = theory.accumulation.expected_log_variance(G, M, ddof=1, variance=V)
    assert log_variance_of_pool(1) == pytest.approx(code, abs=1e-3)


def test_the_page_has_every_module_and_every_formula_is_checked():
    names = [".".join(pair) for pair in _named()]
    assert set(names) == {*CHECKS, "accumulation.expected_log_variance"}
    assert {module for module, _ in _named()} == set(theory.__all__)
    indexed = re.findall(r"^\[(\w+)\]\(#(\w+)\)", PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(anchor for _, anchor in indexed) == sorted(
        name.replace(".", "").lower() for name in names
    )
