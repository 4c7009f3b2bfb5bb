"""K models that read each other: identity by descent on islands with migration, and linear models.

Model k is trained in every generation on a separate set of M points. A share coupling[k, j] of them
is fresh draws of model j, and the rest of the row, 1 - sum(coupling[k]), is fresh real data. A
categorical model that is fitted by counting is then a Wright-Fisher population on island k,
coupling the migration between islands, and real data immigration from a continent that never
drifts.

All recursions here are derived. Two points that descend from one real draw agree; others are
independent real draws. For models i and j let F_ij be the probability that a draw of model i and
another draw of model j share a real ancestor. A draw of model j is a uniform choice among the M
points of its training set, so that with C_jj for two distinct points of that set

    F_jj = 1/M + (1 - 1/M) C_jj,        F_ij = C_ij for i != j,

and the points of the next sets are draws of the models that were read, or real ones:

    C'_ij = sum_ab P_ij(a, b) F_ab,

where P_ij(a, b) is the probability that a point of set i comes from model a and another one of set
j from model b. These are coupling[i, a] coupling[j, b] if the points choose their origins
independently (multinomial counts), and for i != j also with fixed counts n_ia over M; two points of
one set with fixed counts are drawn without replacement: n_ia (n_ib - [a = b]) / (M (M - 1)).

References:
    Wright 1931 and Maruyama 1970 for symmetric islands; the matrices here are derived.
"""

import numpy as np
from numpy.typing import ArrayLike

from .ancestry import as_generation, as_sample_size


def rounded_counts(coupling: ArrayLike, sample_size: int) -> np.ndarray:
    """Numbers of points [K, K] that each model (row) reads from each model (column).

    A convention of ours: the total number from all models is round(s M) for a row that sums to s.
    It is divided among the models, starting with the reader and continuing cyclically: the
    cumulative shares of the row over s, times the total, are rounded (ties to even).
    """
    coupling, size = as_coupling(coupling), int(as_sample_size(sample_size))
    counts = np.zeros(coupling.shape, np.int64)
    for reader, (own, row) in enumerate(zip(counts, coupling, strict=True)):
        cyclic = np.roll(np.arange(len(row)), -reader)
        sources = cyclic[row[cyclic] > 0]
        if len(sources):
            made = round(min(float(sum(row[sources].tolist())), 1.0) * size)
            until = np.cumsum(row[sources]) / np.sum(row[sources])
            ends = [round(float(share) * made) for share in until[:-1]]
            own[sources] = np.diff([0, *ends, made])
    return counts


def as_coupling(coupling: ArrayLike) -> np.ndarray:
    """`coupling` as a float64 array [K, K].

    Raises:
        ValueError: Unless it is square, its entries are at least 0, and its rows sum to at most 1.
    """
    array = np.asarray(coupling, np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not len(array):
        raise ValueError(f"coupling must be [K, K], got shape {array.shape}")
    if not (array >= 0).all() or (array.sum(1) > 1 + 1e-9).any():
        raise ValueError(
            f"coupling must have entries >= 0 and rows that sum to at most 1, got {array.tolist()}"
        )
    return array


def identity_by_descent(
    generation: ArrayLike, sample_size: int, coupling: ArrayLike, *, random_counts: bool = True
) -> np.ndarray:
    """F_ij [..., K, K]: P(a draw of model i and another of model j share a real ancestor).

    Args:
        generation: Whole numbers [...] >= 0; generation 0 is fitted to M real draws for each model.
        sample_size: M >= 1, of every model.
        coupling: [K, K].
        random_counts: Whether the counts are multinomial; else they are `rounded_counts`.
    """
    generation, size = as_generation(generation), int(as_sample_size(sample_size))
    coupling = as_coupling(coupling)
    models = len(coupling)
    counts = None if random_counts else rounded_counts(coupling, size)
    shares = coupling if counts is None else counts / size
    distinct, own = np.zeros((models, models)), np.eye(models, dtype=bool)
    values = np.empty((int(np.max(generation, initial=0)) + 1, models, models))
    for step in range(len(values)):
        # F of this generation, then C of the next.
        values[step] = np.where(own, 1 / size + (1 - 1 / size) * distinct, distinct)
        distinct = shares @ values[step] @ shares.T
        if counts is not None:
            for k, row in enumerate(counts):
                pairs = np.outer(row, row) - np.diag(row)
                distinct[k, k] = np.sum(pairs * values[step]) / max(size * (size - 1), 1)
    return values[generation]


def retention(
    generation: ArrayLike, sample_size: int, coupling: ArrayLike, *, random_counts: bool = True
) -> np.ndarray:
    """Expected diversity [..., K] of each model over that of the population: in [0, 1].

    The heterozygosity 1 - sum p^2 of categorical models fitted by counting, and the ddof = 0
    variance of Gaussians. Arguments as in `identity_by_descent`; 1 - F_kk.
    """
    same = identity_by_descent(generation, sample_size, coupling, random_counts=random_counts)
    return 1 - np.diagonal(same, axis1=-2, axis2=-1)


def pooled_retention(
    generation: ArrayLike, sample_size: int, coupling: ArrayLike, *, random_counts: bool = True
) -> np.ndarray:
    """Expected diversity [...] of the pool, in which every model contributes 1 / K of the points.

    The mean of `retention` is the diversity within models; the rest is between them. Two draws of
    the pool both come from model k with probability 1 / K^2. Arguments as in `identity_by_descent`.
    """
    same = identity_by_descent(generation, sample_size, coupling, random_counts=random_counts)
    return 1 - same.mean((-2, -1))


def mean_covariance(
    generation: ArrayLike, sample_size: int, coupling: ArrayLike, *, random_counts: bool = True
) -> np.ndarray:
    """Covariance [..., K, K] of the models' means, over the population's variance.

    The means are those of training points (for a categorical model, of any score of the outcome).
    Derived: the model's mean is the conditional expectation of a draw given the model. Two means
    therefore have the covariance of two draws, which is the variance of a real draw times the
    probability of a common ancestor.
    """
    return identity_by_descent(generation, sample_size, coupling, random_counts=random_counts)


def known_variance_covariance(
    generation: ArrayLike, sample_size: int, coupling: ArrayLike, *, random_counts: bool = True
) -> np.ndarray:
    """Covariance [..., K, K] of means of models with known variance, over that variance.

    Derived: a point of model a is its mean plus noise of variance 1, and a real point is noise
    alone. With A the shares of points V'_ij = sum_ab E[A_ia A_jb] V_ab + [i = j] / M. With
    multinomial counts E[A_ia A_ib] is c_ia c_ib + (c_ia [a = b] - c_ia c_ib) / M.

    Args:
        generation, sample_size, coupling, random_counts: As in `identity_by_descent`.
    """
    generation, size = as_generation(generation), int(as_sample_size(sample_size))
    coupling = as_coupling(coupling)
    shares = coupling if random_counts else rounded_counts(coupling, size) / size
    own = np.eye(len(coupling)) / size
    values, covariance = np.empty((int(np.max(generation, initial=0)) + 1, *coupling.shape)), own
    for step in range(len(values)):
        values[step] = covariance
        moved = shares @ covariance @ shares.T
        if random_counts:
            # What chance adds to a row's product with itself.
            spread = shares @ np.diag(covariance) - np.diagonal(moved)
            moved = moved + np.diag(spread) / size
        covariance = moved + own
    return values[generation]


def linear_model_errors(
    generation: ArrayLike,
    sample_size: int,
    dim: int,
    coupling: ArrayLike,
    *,
    noise: float = 1.0,
) -> np.ndarray:
    """E (w_i - w)'(w_j - w) [..., K, K] of K linear models that read each other's labels.

    Ordinary least squares on M rows of fresh standard normal features, labelled by the models that
    the coupling names, each row by an independently chosen model (multinomial counts), with noise.
    The diagonal is the test error of each model. The mean of all entries is the test error of the
    average of their weights. The result is inf for M <= dim + 1.

    Derived: with S = X'X the error of model i is e'_i = S^-1 sum_r x_r x_r' e_a(r) + S^-1 X' noise,
    where row r is labelled by model a(r), and e = 0 stands for the real weights. Rows of two models
    are independent, and E S^-1 x_r x_r' = I / M, so E e'_i . e'_j = sum_ab c_ia c_jb e_a . e_b.
    Within one model, two rows choose their labelling models independently, so that all pairs of
    rows together give |sum_a c_a e_a|^2. A row with itself adds q (sum_a c_a |e_a|^2 - |sum_a c_a
    e_a|^2), with q I = M E x'S^-2x x x'. A row is x = S^1/2 u with u independent of S, |u|^2 a beta
    variate, and the trace of a Wishart matrix is independent of its shape: q = ((M d - 2) / (M - d
    - 1) + 2) / (M + 2).

    References: The setting of Vu et al. 2025, arXiv 2505.21677 (we could not read its recursions).
    """
    generation, size = as_generation(generation), int(as_sample_size(sample_size))
    coupling = as_coupling(coupling)
    values = np.full((int(np.max(generation, initial=0)) + 1, *coupling.shape), np.inf)
    if size <= dim + 1:
        return values[generation]
    once = np.eye(len(coupling)) * noise**2 * dim / (size - dim - 1)
    same_row = ((size * dim - 2) / (size - dim - 1) + 2) / (size + 2)
    error = once
    for step in range(len(values)):
        values[step] = error
        moved = coupling @ error @ coupling.T
        spread = coupling @ np.diag(error) - np.diagonal(moved)
        error = moved + np.diag(spread) * same_row + once
    return values[generation]


def linear_model_growth(sample_size: int, dim: int, models: int, *, noise: float = 1.0) -> float:
    """Long-run growth of `linear_model_errors` per generation if K models read all equally.

    Derived: with o = noise^2 d / (M - d - 1), q as there and e of each model e = m + D, m the mean
    over all pairs, m' = m + (q D + o) / K and D' = (1 - 1/K)(q D + o), so that m grows by (o / K) /
    (1 - (1 - 1/K) q). One model alone adds o.

    Args:
        sample_size: M > dim + 1.
        dim: d.
        models: K >= 1.
        noise: Its standard deviation.
    """
    size = int(as_sample_size(sample_size))
    if size <= dim + 1:
        raise ValueError(f"sample_size must be above dim + 1 = {dim + 1}, got {size}")
    once = noise**2 * dim / (size - dim - 1)
    same_row = ((size * dim - 2) / (size - dim - 1) + 2) / (size + 2)
    return float(once / models / (1 - (1 - 1 / models) * same_row))
