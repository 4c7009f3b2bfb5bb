"""The correlations of a Gaussian copula, from the ranks of numbers and of categories.

Each column is a step function, or the identity, of a latent standard normal Z. Its scores are S =
E[Z | column]. Two columns whose latent normals have correlation r have E[S T] = sum over m of r^m
c_m d_m, with the coefficients c_m = E[S He_m(Z)] / sqrt(m!) of Mehler's expansion. Numbers have c_1
alone. Solved for r this is the polychoric correlation of categories by the covariance of their
scores. Derived here; Mehler 1866 for the expansion.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtri

# Terms of the expansion, halvings of the interval of a correlation, and its ends: beyond them the
# terms that are left out count.
_TERMS, _HALVINGS, _LARGEST = 48, 30, 0.995


def ranks(x: Array, weight: Array) -> tuple[Array, Array]:
    """(probability below [n], probability below or equal [n]) of numbers among themselves."""
    order = jnp.argsort(x)
    cumulated = jnp.concatenate([jnp.zeros(1, weight.dtype), jnp.cumsum(weight[order])])
    total = jnp.where(cumulated[-1] > 0, cumulated[-1], 1)
    sides = (jnp.searchsorted(x[order], x, side=side) for side in ("left", "right"))
    below, upto = (cumulated[place] / total for place in sides)
    return below, upto


def scores_of_numbers(x: Array, weight: Array) -> Array:
    """Normal scores [n] of numbers, centred: the quantile of the middle of each one's ranks."""
    below, upto = ranks(x, weight)
    tiny = jnp.finfo(weight.dtype).eps
    z = jnp.where(weight > 0, ndtri(jnp.clip((below + upto) / 2, tiny, 1 - tiny)), 0)
    total = jnp.sum(weight)
    return jnp.where(weight > 0, z - jnp.sum(weight * z) / jnp.where(total > 0, total, 1), 0)


def categories_of(codes: Array, weight: Array, number: int) -> tuple[Array, Array]:
    """(scores [n], coefficients [terms]) of codes 0 .. number - 1, in that order."""
    shares = jnp.zeros(number, weight.dtype).at[codes].add(weight)
    total = jnp.sum(shares)
    shares = shares / jnp.where(total > 0, total, 1)
    ends = jnp.concatenate([jnp.zeros(1, shares.dtype), jnp.cumsum(shares)])
    ends = jnp.clip(ends / jnp.where(ends[-1] > 0, ends[-1], 1), 0, 1)
    inside = (ends > 0) & (ends < 1)
    cuts = jnp.where(inside, ndtri(jnp.where(inside, ends, 0.5)), 0)
    density = jnp.where(inside, jnp.exp(-(cuts**2) / 2) / jnp.sqrt(2 * jnp.pi), 0)
    scores = (density[:-1] - density[1:]) / jnp.where(shares > 0, shares, 1)
    scores = jnp.where(shares > 0, scores, 0)

    def term(carry, m):
        """He_(m-1) and He_m over the roots of their factorials, and the coefficient of m."""
        before, now = carry
        heights = density * now / jnp.sqrt(m)
        after = (cuts * now - jnp.sqrt(m - 1) * before) / jnp.sqrt(m)
        return (now, after), jnp.sum(scores * (heights[:-1] - heights[1:]))

    start = jnp.zeros_like(cuts), jnp.ones_like(cuts)
    _, coefficients = jax.lax.scan(term, start, jnp.arange(1, _TERMS + 1, dtype=cuts.dtype))
    return jnp.where(weight > 0, scores[codes], 0), coefficients


def number_coefficients(scores: Array, weight: Array) -> Array:
    """Coefficients [terms] of numbers of these scores: their deviation, and nothing."""
    total = jnp.sum(weight)
    square = jnp.sum(weight * scores**2) / jnp.where(total > 0, total, 1)
    return jnp.zeros(_TERMS, scores.dtype).at[0].set(jnp.sqrt(square))


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
    linear = pairs[..., 0]
    # One of the two are numbers: only the first term is there.
    ratio = jnp.clip(products / jnp.where(linear > 0, linear, 1), -1, 1)

    def halved(_, ends):
        low, high = ends
        middle = (low + high) / 2
        value = jnp.zeros_like(middle)
        for m in range(_TERMS - 1, -1, -1):
            value = middle * (value + pairs[..., m])
        above = value > products
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    start = jnp.full_like(products, -_LARGEST), jnp.full_like(products, _LARGEST)
    low, high = jax.lax.fori_loop(0, _HALVINGS, halved, start)
    curved = jnp.any(pairs[..., 1:] != 0, axis=-1)
    found = jnp.where(curved, (low + high) / 2, ratio)
    found = jnp.where(linear > 0, found, 0)
    one = jnp.eye(len(found), dtype=bool)
    return jnp.where(one, 1, (found + found.T) / 2)


def root_of(correlation: Array) -> Array:
    """A root [D, D] of the nearest correlations of a law: rows of length 1, R = root root^T.

    Pairs need not fit together: negative eigenvalues are taken as 0. The root is the symmetric one,
    whose entries are continuous in the correlations, with rows scaled to length 1.
    """
    values, vectors = jnp.linalg.eigh(correlation)
    scaled = vectors * jnp.sqrt(jnp.maximum(values, 0))
    root = jnp.matmul(scaled, vectors.T, precision="highest")
    return root / jnp.sqrt(jnp.sum(root**2, axis=1, keepdims=True))
