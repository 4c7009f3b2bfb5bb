"""Models that are drawn from their posterior, refitted to their own draws (workflow 'replace').

Drawing a model from its posterior and data from the model in turn is Gibbs sampling of both. A
proper prior is therefore the stationary distribution of the chain, for every family and every
sample size: the chain forgets the data, but the models keep the spread of the prior. With an
improper prior the chain has no stationary distribution. All formulas are derived.

Estimates: 'sample' draws from the posterior, 'mean' and 'mode' take its mean and its mode,
'maximum_likelihood' has no prior.

References:
    Liu, Wong and Kong 1994 (data augmentation as a Markov chain); Diaconis, Khare and Saloff-Coste
    2008 (eigenvalues of such samplers in exponential families).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .ancestry import as_generation, as_sample_size
from .categorical import as_probabilities

ESTIMATES = ("sample", "mean", "mode", "maximum_likelihood")


def expected_heterozygosity(
    generation: ArrayLike,
    sample_size: ArrayLike,
    probabilities: ArrayLike,
    prior: ArrayLike,
    *,
    sampled: bool = True,
) -> np.ndarray:
    """Expected H = 1 - sum_k p_k^2 of the generation-g model with a Dirichlet(prior) prior.

    Derived, with A = sum a, F = sum p^2, m = sum a p. Counts of M draws from p have E c = M p and
    E c^2 = M p + M (M - 1) p^2. The posterior's second moment is (a + c)(a + c + 1) / ((A + M)
    (A + M + 1)), so E F' = (sum a^2 + A + 2 M + 2 M m + M (M - 1) F) / ((A + M)(A + M + 1)). Its
    mean has E F' = (sum a^2 + M + 2 M m + M (M - 1) F) / (A + M)^2. Both have E m' = (sum a^2 + M
    m) / (A + M).

    With prior 0, H falls by (M - 1) / (M + 1) each time if sampled: 1 - 1 / M of the multinomial
    times M / (M + 1) of the Dirichlet. The mean is then maximum likelihood, with 1 - 1 / M alone.

    Args:
        sample_size: M, an int.
        probabilities: Of the population, [K].
        prior: a, one number or [K], at least 0.
        sampled: Whether p is drawn from the posterior; else it is the posterior's mean.
    """
    generation = as_generation(generation)
    probabilities = as_probabilities(probabilities)
    a = as_prior(prior, probabilities.size)
    size, total = int(as_sample_size(sample_size)), np.sum(a)
    divisor = (total + size) * (total + size + 1) if sampled else (total + size) ** 2
    constant = np.sum(a**2) + (total + 2 * size if sampled else size)
    same, towards = np.sum(probabilities**2), a @ probabilities
    result = np.empty(generation.shape)
    for step in range(int(np.max(generation, initial=0)) + 1):
        same = (constant + 2 * size * towards + size * (size - 1) * same) / divisor
        towards = (np.sum(a**2) + size * towards) / (total + size)
        result[generation == step] = 1 - same
    return result


def stationary_heterozygosity(
    sample_size: ArrayLike, prior: ArrayLike, *, sampled: bool = True
) -> float:
    """The limit of `expected_heterozygosity` for any population: a float.

    Derived: p ~ Dirichlet(a) has E p^2 = a (a + 1) / (A (A + 1)), the fixed point of the recursion
    if sampled, for every M. For the mean it is the fixed point with m = sum a^2 / A. Small equal
    priors give about A (1 - 1 / K), twice of which is the scaled mutation rate.

    Args:
        sample_size: M, an int; irrelevant if sampled.
        prior: a [K], at least 0, not all 0.
    """
    a = as_prior(prior, np.size(prior))
    size, total = int(as_sample_size(sample_size)), np.sum(a)
    if total == 0:
        raise ValueError("prior must not be 0 in all categories")
    if sampled:
        return float(1 - np.sum(a * (a + 1)) / (total * (total + 1)))
    towards = np.sum(a**2) / total
    constant = np.sum(a**2) + size + 2 * size * towards
    return float(1 - constant / ((total + size) ** 2 - size * (size - 1)))


def heterozygosity_rate(
    sample_size: ArrayLike, prior_total: float, *, sampled: bool = True
) -> float:
    """Factor by which H approaches its limit per generation, once m is at its limit: a float.

    M (M - 1) / ((A + M)(A + M + 1)) if sampled, else M (M - 1) / (A + M)^2. These are the second
    eigenvalues of the chain of p; the first is M / (A + M) for both.
    """
    size = float(as_sample_size(sample_size))
    second = prior_total + size + (1 if sampled else 0)
    return size * (size - 1) / ((prior_total + size) * second)


def gaussian_moments(
    generation: ArrayLike,
    sample_size: ArrayLike,
    *,
    mean: float = 0.0,
    strength: float = 0.0,
    shape: float = -0.5,
    scale: float = 0.0,
    estimate: str = "sample",
    population_mean: float = 0.0,
    population_variance: float = 1.0,
) -> np.ndarray:
    """Expected variance of the generation-g model, and of (its mean - `mean`)^2, in one dimension.

    Derived, with k = strength, n = M, r = n / (k + n), D^2 = (mean of the model - m0)^2. The
    posterior's scale is b' = b + S / 2 + k r (x - m0)^2 / 2 of the sample's mean x and scatter S,
    with E S = (n - 1) v and E (x - m0)^2 = D^2 + v / n. The variance is b' / (shape + n / 2 - 1) in
    the mean, drawn or not, b' / (shape + n / 2 + 3 / 2) at the mode. D^2 becomes r^2 (x - m0)^2,
    and v' / (k + n) more if drawn: a linear recursion of (v, D^2).

    With the reference prior the expected variance of a drawn model grows by the factor (n - 1) / (n
    - 3) per generation (infinite up to n = 3), although its median does not move. For maximum
    likelihood the factor is (n - 1) / n.

    Args:
        sample_size: M, an int.
        mean, strength, shape, scale: The prior, as in `estimators.normal_inverse_gamma`; not used
            by 'maximum_likelihood'.
        estimate: One of `ESTIMATES`.

    Returns:
        float64 [2] + generation.shape; inf from the first generation on at which the posterior mean
        of the variance is infinite.
    """
    generation = as_generation(generation)
    size = int(as_sample_size(sample_size))
    if estimate not in ESTIMATES:
        raise ValueError(f"estimate must be one of {ESTIMATES}, got {estimate!r}")
    if estimate == "maximum_likelihood":
        mean, strength, scale, divisor = 0.0, 0.0, 0.0, size / 2
    else:
        _check_prior(strength, scale)
        divisor = shape + size / 2 + (1.5 if estimate == "mode" else -1)
    pull = size / (strength + size)
    noise = 1 / (strength + size) if estimate == "sample" else 0.0
    variance, apart = float(population_variance), float(population_mean - mean) ** 2
    result = np.empty((2, *generation.shape))
    for step in range(int(np.max(generation, initial=0)) + 1):
        of_mean = apart + variance / size
        scatter = scale + (size - 1) * variance / 2 + strength * pull * of_mean / 2
        variance = scatter / divisor if divisor > 0 else np.inf
        apart = pull**2 * of_mean + noise * variance
        result[:, generation == step] = np.array([[variance], [apart]])
    return result


def log_variance_walk(
    sample_size: ArrayLike, *, shape: float = -0.5, estimate: str = "sample"
) -> tuple[float, float]:
    """(drift, variance) of the log variance per generation, with strength and scale 0 and dim 1.

    Derived: the log variance is a random walk whose steps are log chi^2_{M-1}, of the sample, less
    log chi^2_{M + 2 shape}, of the posterior, or less the logarithm of the divisor of the scatter.
    The reference prior has shape -1/2: the two chi variables have the same distribution, so there
    is no drift, the step is symmetric, the median never moves, and the variance is 2 psi'((M - 1) /
    2), twice that of maximum likelihood, which drifts by psi((M - 1) / 2) - log(M / 2).

    Args:
        sample_size: M >= 2, an int.
        estimate: One of `ESTIMATES`.
    """
    size = int(as_sample_size(sample_size))
    half = (size - 1) / 2
    drift, variance = special.digamma(half), special.polygamma(1, half)
    if estimate == "sample":
        drift -= special.digamma(shape + size / 2)
        return float(drift), float(variance + special.polygamma(1, shape + size / 2))
    divisors = {"mean": shape + size / 2 - 1, "mode": shape + size / 2 + 1.5}
    divisors["maximum_likelihood"] = size / 2
    if estimate not in divisors:
        raise ValueError(f"estimate must be one of {ESTIMATES}, got {estimate!r}")
    return float(drift - np.log(divisors[estimate])), float(variance)


def log_determinant_drift(sample_size: ArrayLike, dim: int, *, shape: float = -0.5) -> float:
    """Drift of log det Sigma per generation of drawn models, with strength and scale 0: a float.

    Derived (Bartlett): the sum over j < dim of psi((M - 1 - j) / 2) - psi((M + 2 shape - j) / 2).
    Jeffreys's independence prior, shape -1/2, has none in any dimension.

    Args:
        sample_size: M > dim and M + 2 shape > dim - 1, an int.
        dim: Dimensions, at least 1.
    """
    size, j = int(as_sample_size(sample_size)), np.arange(dim)
    after = special.digamma((size + 2 * shape - j) / 2)
    return float(np.sum(special.digamma((size - 1 - j) / 2) - after))


def stationary_variance_law(*, strength: float, shape: float, scale: float) -> tuple[float, float]:
    """(shape, scale) of the stationary inverse-gamma distribution of a drawn variance, dim 1.

    It is the prior itself. With strength 0 the mean has no stationary distribution, and the prior
    of the variance that corresponds to posteriors of shape + M / 2 after M - 1 degrees of freedom
    has shape + 1 / 2. Derived.

    Raises:
        ValueError: Unless both are above 0; otherwise no stationary distribution exists.
    """
    _check_prior(strength, scale)
    shape = shape + 0.5 if strength == 0 else shape
    if not (shape > 0 and scale > 0):
        raise ValueError(f"the prior is improper: shape {shape}, scale {scale}; both must be > 0")
    return float(shape), float(scale)


def _check_prior(strength, scale):
    if not (0 <= strength < np.inf and 0 <= scale < np.inf):
        raise ValueError(f"strength and scale must be finite and >= 0, got {strength}, {scale}")


def as_prior(prior: ArrayLike, categories: int) -> np.ndarray:
    """A Dirichlet prior as float64 [K].

    Raises:
        ValueError: Unless it is one number or [K], finite and at least 0.
    """
    array = np.asarray(prior, dtype=np.float64)
    if array.shape not in ((), (categories,)) or not np.all((array >= 0) & (array < np.inf)):
        raise ValueError("prior must be one number or [K], finite and at least 0")
    return np.broadcast_to(array, (categories,)).copy()
