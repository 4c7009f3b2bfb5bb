"""The correlations of a Gaussian copula, from the ranks of numbers and of categories.

Each column is a step function, or the identity, of a latent standard normal Z. Its scores are S =
E[Z | column]. Two columns whose latent normals have correlation r have E[S T] = sum over m of r^m
c_m d_m, with the coefficients c_m = E[S He_m(Z)] / sqrt(m!) of Mehler's expansion. For numbers
without ties nearly all of it is c_1. Solved for r this is the polychoric correlation of categories
by the covariance of their scores. Derived here; Mehler 1866 for the expansion.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtri

# Terms of the expansion, and halvings of the interval of a correlation.
_TERMS, _HALVINGS = 48, 30
# Up to this probability a score is that of the middle, off by less than a thousandth.
_NEAR = 2.0**-8


def column(x: Array, weight: Array) -> tuple[Array, Array]:
    """(scores [n], coefficients [terms]) of a column of numbers, or of codes in their order.

    Equal values share their probability, so that a frequent number acts as a category.

    Args:
        x: [n].
        weight: [n], 0 for an empty slot.
    """
    order = jnp.argsort(jnp.where(weight > 0, x, jnp.inf))
    ordered, total = x[order], jnp.sum(weight)
    ends = jnp.concatenate([jnp.zeros(1, weight.dtype), jnp.cumsum(weight[order])])
    ends = jnp.clip(ends / jnp.where(total > 0, total, 1), 0, 1)
    filled = jnp.where(weight[order] > 0, ordered, jnp.inf)
    first = ends[jnp.searchsorted(filled, filled, side="left")]
    last = ends[jnp.searchsorted(filled, filled, side="right")]
    scores = jnp.where(weight[order] > 0, _scores(first, last), 0)
    cuts, density = _cuts(ends[1:-1])
    # Summed by parts, so that what differs little is not subtracted.
    rises = jnp.where(filled[1:] < jnp.inf, scores[1:] - scores[:-1], 0) * density

    def term(carry, m):
        """He_(m-2) and He_(m-1) over the roots of their factorials, and the coefficient of m."""
        before, now = carry
        after = (cuts * now - jnp.sqrt(m - 1) * before) / jnp.sqrt(m)
        return (now, after), jnp.sum(rises * now) / jnp.sqrt(m)

    start = jnp.zeros_like(cuts), jnp.ones_like(cuts)
    _, coefficients = jax.lax.scan(term, start, jnp.arange(1, _TERMS + 1, dtype=cuts.dtype))
    return jnp.zeros_like(scores).at[order].set(scores), coefficients


def _cuts(ends):
    """(quantiles, normal densities there) of probabilities; (0, 0) at 0 and 1."""
    inside = (ends > 0) & (ends < 1)
    cuts = jnp.where(inside, ndtri(jnp.where(inside, ends, 0.5)), 0)
    return cuts, jnp.where(inside, jnp.exp(-(cuts**2) / 2) / jnp.sqrt(2 * jnp.pi), 0)


def _scores(first, last):
    """E[Z | Z between the quantiles of two probabilities]; of near ones the middle's quantile."""
    share = last - first
    density, above = _cuts(first)[1], _cuts(last)[1]
    exact = (density - above) / jnp.where(share > 0, share, 1)
    tiny = jnp.finfo(share.dtype).eps
    middle = ndtri(jnp.clip((first + last) / 2, tiny, 1 - tiny))
    return jnp.where(share > _NEAR, exact, middle)


def correlations(scores: Array, weight: Array, coefficients: Array) -> Array:
    """Latent correlations [D, D], pair by pair; 0 with a column of one value.

    Args:
        scores: [n, D].
        weight: [n].
        coefficients: [D, terms].
    """
    total = jnp.sum(weight)
    products = jnp.matmul((scores * weight[:, None]).T, scores, precision="highest")
    products = products / jnp.where(total > 0, total, 1)
    pairs = coefficients[:, None, :] * coefficients[None, :, :]  # [D, D, terms]

    def halved(_, ends):
        low, high = ends
        middle = (low + high) / 2
        value = jnp.zeros_like(middle)
        for m in range(_TERMS - 1, -1, -1):
            value = middle * (value + pairs[..., m])
        above = value > products
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    start = -jnp.ones_like(products), jnp.ones_like(products)
    low, high = jax.lax.fori_loop(0, _HALVINGS, halved, start)
    found = jnp.where(pairs[..., 0] > 0, (low + high) / 2, 0)
    return jnp.where(jnp.eye(len(found), dtype=bool), 1, (found + found.T) / 2)


def root_of(correlation: Array) -> Array:
    """A root [D, D] of the nearest valid correlation matrix: rows of length 1, R = root root^T.

    Pairwise estimates need not form a valid matrix: negative eigenvalues are set to 0. The root is
    the symmetric one, whose entries are continuous in the correlations, with rows scaled to length
    1.
    """
    values, vectors = jnp.linalg.eigh(correlation)
    scaled = vectors * jnp.sqrt(jnp.maximum(values, 0))
    root = jnp.matmul(scaled, vectors.T, precision="highest")
    return root / jnp.sqrt(jnp.sum(root**2, axis=1, keepdims=True))
