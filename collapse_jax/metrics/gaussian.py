"""Metrics of Gaussians and distances between them, accurate also for collapsed chains.

They take log scales, so that nothing underflows. A model is (mean [d, chains], log_scale [d,
chains], factor [d, d, chains]) with covariance U diag(exp(2 s)) U^T, U the factor (unit lower
triangular) and s the log scale, -inf in a direction without variance. Results are [chains], or [d,
chains].
"""

import jax
import jax.numpy as jnp
from jax import Array

from collapse_jax.metrics.divergence import exponential_beyond_line
from collapse_jax.metrics.jacobi import (
    enough_sweeps,
    in_blocks,
    log_singular_values,
    normalised,
    orthogonalised,
)

# Offsets off the support of a singular model that are below this many roundings of what they were
# computed from count as none.
_ROUNDINGS = 64

# (mean [d, chains], log_scale [d, chains], factor [d, d, chains]).
Model = tuple[Array, Array, Array]


def mean(mean: Array, log_scale: Array, factor: Array) -> Array:
    """The mean [d], [] for d = 1."""
    return mean if len(mean) > 1 else mean[0]


def log_scale(mean: Array, log_scale: Array, factor: Array) -> Array:
    """The log scales s [d]: exp(2 s_j) is the variance of coordinate j given those before it."""
    return log_scale


def log_determinant(mean: Array, log_scale: Array, factor: Array) -> Array:
    """Log-determinant of the covariance; -inf once a direction has no variance left."""
    return 2 * jnp.sum(log_scale, axis=0)


def log_variance(mean: Array, log_scale: Array, factor: Array) -> Array:
    """Log-determinant / d."""
    return log_determinant(mean, log_scale, factor) / len(log_scale)


def entropy(mean: Array, log_scale: Array, factor: Array) -> Array:
    """Differential entropy in nats; -inf once a direction has no variance left."""
    return (
        len(log_scale) * (1 + jnp.log(2 * jnp.pi)) + log_determinant(mean, log_scale, factor)
    ) / 2


def trace(mean: Array, log_scale: Array, factor: Array) -> Array:
    """Trace of the covariance; 0 below the smallest float."""
    return jnp.sum((factor * jnp.exp(log_scale)) ** 2, axis=(0, 1))


def variance(mean: Array, log_scale: Array, factor: Array) -> Array:
    """Trace / d."""
    return trace(mean, log_scale, factor) / len(log_scale)


def log_trace(mean: Array, log_scale: Array, factor: Array) -> Array:
    """Log of the trace, accurate also if the trace itself underflows; -inf without variance."""
    lengths = normalised(jnp.swapaxes(factor, 0, 1), log_scale)[1]
    unit = _finite(jnp.max(lengths, axis=0))
    return 2 * unit + jnp.log(jnp.sum(jnp.exp(2 * (lengths - unit)), axis=0))


def effective_rank(mean: Array, log_scale: Array, factor: Array) -> Array:
    """exp(entropy of the normalised eigenvalues): from 1 to d, independent of the scale.

    0 without variance.

    References:
        Roy and Vetterli 2007.
    """
    logs = _relative_log_eigenvalues(log_scale, factor)
    largest = jnp.max(logs, axis=0)
    relative = jnp.exp(logs - _finite(largest))
    shares = relative / jnp.maximum(jnp.sum(relative, axis=0), 1)
    return jnp.where(
        largest > -jnp.inf, jnp.exp(jnp.sum(jax.scipy.special.entr(shares), axis=0)), 0
    )


def log_condition_number(mean: Array, log_scale: Array, factor: Array) -> Array:
    """Log of the largest over the smallest eigenvalue of the covariance.

    inf once a direction has no variance left.
    """
    logs = _relative_log_eigenvalues(log_scale, factor)
    smallest = jnp.min(logs, axis=0)
    return jnp.where(smallest > -jnp.inf, jnp.max(logs, axis=0) - _finite(smallest), jnp.inf)


def condition_number(mean: Array, log_scale: Array, factor: Array) -> Array:
    """Largest over smallest eigenvalue of the covariance.

    inf above the largest float and once a direction has no variance left.
    """
    return jnp.exp(log_condition_number(mean, log_scale, factor))


def squared_wasserstein2(model: Model, real: Model) -> Array:
    """Squared Wasserstein-2 distance.

    |mean - mean_0|^2 + tr(S + S_0 - 2 (S_0^1/2 S S_0^1/2)^1/2).
    """
    size, relative = _wasserstein2(model, real)
    return (size * relative) ** 2


def wasserstein2(model: Model, real: Model) -> Array:
    """Wasserstein-2 distance, accurate also if its square underflows."""
    size, relative = _wasserstein2(model, real)
    return size * relative


def kl_model_to_real(model: Model, real: Model) -> Array:
    """KL(model || real) in nats.

    inf where either has no variance in a direction of the other's.
    """
    return _kl(model, real)


def kl_real_to_model(model: Model, real: Model) -> Array:
    """KL(real || model) in nats.

    inf where either has no variance in a direction of the other's, and above the largest float.
    """
    return _kl(real, model)


def total_variation(model: Model, real: Model) -> Array:
    """Total variation distance in one dimension; it is 1 between a point mass and any other model.

    From the two points where the densities cross.
    """
    (mean, log_scale, _), (mean_0, log_scale_0, _) = model, real
    mean, log_scale, mean_0, log_scale_0 = mean[0], log_scale[0], mean_0[0], log_scale_0[0]
    widest = jnp.maximum(log_scale, log_scale_0)
    # In units of the wider density, and of its mean: the narrower has mean `offset` and scale
    # exp(-log_ratio). Beyond these bounds the distance is 1 in any float.
    log_ratio = jnp.where(widest > -jnp.inf, jnp.abs(log_scale - log_scale_0), 0)
    log_ratio = jnp.minimum(log_ratio, 1e6)
    apart = jnp.abs(mean - mean_0)
    offset = jnp.where(apart > 0, jnp.exp(jnp.minimum(jnp.log(apart) - widest, jnp.log(1e4))), 0)
    ratio, a = jnp.exp(-log_ratio), -jnp.expm1(-2 * log_ratio)
    # The narrower is the larger where a y^2 - 2 b y - c < 0, y in its own units.
    b, c = ratio * offset, offset**2 + 2 * log_ratio
    larger = b + jnp.sqrt(b**2 + a * c)
    same = larger == 0
    larger = jnp.where(same, 1, larger)
    right, left = jnp.where(a > 0, larger / jnp.where(a > 0, a, 1), jnp.inf), -c / larger
    cdf = jax.scipy.special.ndtr
    difference = cdf(right) - cdf(left) - (cdf(offset + ratio * right) - cdf(offset + ratio * left))
    return jnp.where(same, 0, jnp.clip(difference, 0, 1))


def _relative_log_eigenvalues(log_scale, factor):
    """Logs of the covariance's eigenvalues [d] in units of its scale, unordered.

    Each is accurate however far apart they are.
    """
    if len(log_scale) == 1:
        return jnp.where(log_scale > -jnp.inf, 0, -jnp.inf)
    relative = log_scale - _finite(jnp.max(log_scale, axis=0))
    return 2 * in_blocks(log_singular_values, jnp.swapaxes(factor, 0, 1), relative)


def _wasserstein2(model, real):
    """(size, distance / size) with a size that keeps the second in range."""
    model, real = _broadcast(model, real)
    (mean, log_scale, factor), (mean_0, log_scale_0, factor_0) = model, real
    columns, lengths = normalised(jnp.swapaxes(factor, 0, 1), log_scale)
    columns_0, lengths_0 = normalised(jnp.swapaxes(factor_0, 0, 1), log_scale_0)
    unit = _finite(jnp.maximum(jnp.max(lengths, axis=0), jnp.max(lengths_0, axis=0)))
    between = in_blocks(
        _squared_between_roots, columns, columns_0, lengths - unit, lengths_0 - unit
    )
    offset = mean - mean_0
    log_offset = jnp.log(jnp.max(jnp.abs(offset), axis=0))
    log_size = _finite(jnp.maximum(unit, log_offset))
    apart = jnp.sum(jnp.exp(2 * (jnp.log(jnp.abs(offset)) - log_size)), axis=0)
    return jnp.exp(log_size), jnp.sqrt(apart + between * jnp.exp(2 * (unit - log_size)))


def _squared_between_roots(columns, columns_0, log_scale, log_scale_0):
    """min |A - A_0 O|^2 over rotations O, for roots A and A_0: their part of the squared distance.

    O is the rotation in the polar decomposition of A_0^T A, so that the two roots are subtracted
    entry by entry: no cancellation of traces, and an error in O counts only as its square.
    """
    root, root_0 = columns * jnp.exp(log_scale)[:, None], columns_0 * jnp.exp(log_scale_0)[:, None]
    largest = _finite(jnp.max(log_scale_0, axis=0))
    product = _products(columns_0 * jnp.exp(log_scale_0 - largest)[:, None], columns)
    left, logs, right = orthogonalised(
        product, log_scale + largest, sweeps=enough_sweeps(len(product), triangular=False)
    )
    # Where one has nothing along a direction of the other's, what is found there is rounding, not
    # orthogonal to the rest.
    aligned = jnp.abs(jnp.einsum("krc,lrc->klc", left, left, precision="highest"))
    found_before = (logs[:, None] <= logs) & ~jnp.eye(len(logs), dtype=bool)[..., None]
    partner = (logs > -jnp.inf) & (jnp.max(jnp.where(found_before, aligned, 0), axis=1) < 0.01)
    # Of each pair of directions, in the coordinates of the data: what the model and the real
    # distribution have there.
    ours, theirs = (
        _combinations(root, right),
        _combinations(root_0, jnp.where(partner[:, None], left, 0)),
    )
    distance = jnp.sum((ours - theirs) ** 2, axis=(0, 1))
    # What the real distribution has where it found no partner.
    missing = jnp.sum(root_0**2, axis=(0, 1)) - jnp.sum(theirs**2, axis=(0, 1))
    return distance + jnp.where(jnp.all(partner, axis=0), 0, jnp.maximum(missing, 0))


def _products(a, b):
    """a^T b of matrices [column, row, chains]."""
    return jnp.einsum("irc,jrc->jic", a, b, precision="highest")


def _combinations(columns, weights):
    """The columns' sums with each column of weights."""
    return jnp.einsum("jrc,kjc->krc", columns, weights, precision="highest")


def _kl(p, q):
    """KL(p || q) = |W|^2/2 - d/2 - log det W + |w|^2/2.

    W = A_q^-1 A_p, lower triangular, and w = A_q^-1 (mean_p - mean_q).
    """
    (mean_p, log_scale_p, factor_p), (mean_q, log_scale_q, factor_q) = _broadcast(p, q)
    dim = len(mean_p)
    # The mean is a column more, of scale one.
    columns = jnp.concatenate([factor_p, (mean_p - mean_q)[:, None]], axis=1)
    bounds = jnp.concatenate(
        [jnp.abs(factor_p), (jnp.abs(mean_p) + jnp.abs(mean_q))[:, None]], axis=1
    )
    columns, bounds = _solved(factor_q, columns, bounds)
    scales = jnp.concatenate([log_scale_p, jnp.zeros_like(log_scale_p[:1])])
    off_diagonal = jnp.arange(dim)[:, None] != jnp.arange(dim + 1)
    dead = log_scale_q == -jnp.inf
    nothing = jnp.abs(columns) <= jnp.where(
        dead[:, None], _ROUNDINGS * jnp.finfo(columns.dtype).eps * bounds, 0
    )
    some = off_diagonal[..., None] & ~nothing & (scales > -jnp.inf)
    exponent = jnp.where(some, jnp.log(jnp.abs(columns)) + scales - log_scale_q[:, None], -jnp.inf)
    gap = jnp.where(dead, jnp.inf, 2 * (log_scale_p - _finite(log_scale_q)))
    diagonal = jnp.where(dead & (log_scale_p == -jnp.inf), 0, exponential_beyond_line(gap))
    return (jnp.sum(diagonal, axis=0) + jnp.sum(jnp.exp(2 * exponent), axis=(0, 1))) / 2


def _solved(factor, columns, bounds):
    """U^-1 columns, with bounds on the magnitudes that entered each entry."""
    dim = len(factor)
    below = jnp.where((jnp.arange(dim)[:, None] > jnp.arange(dim))[..., None], factor, 0)

    def step(k, carry):
        columns, bounds = carry
        by = jax.lax.dynamic_index_in_dim(below, k, axis=1)
        row = jax.lax.dynamic_index_in_dim(columns, k, axis=0)
        return columns - by * row, bounds + jnp.abs(by * row)

    return jax.lax.fori_loop(0, dim - 1, step, (columns, bounds))


def _broadcast(one, other):
    chains = jnp.broadcast_shapes(one[1].shape[-1:], other[1].shape[-1:])
    return (
        tuple(jnp.broadcast_to(array, (*array.shape[:-1], *chains)) for array in model)
        for model in (one, other)
    )


def _finite(logarithm):
    """The same, but the most negative float for -inf, so that differences to it are no nan."""
    return jnp.maximum(logarithm, jnp.finfo(logarithm.dtype).min)
