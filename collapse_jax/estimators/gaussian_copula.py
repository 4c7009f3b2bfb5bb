"""Gaussian copula: a table of numbers and categories by marginals and a latent correlation."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import PointCheck
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.reading import at
from collapse_jax.core.tracing import real_or_traced
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, did_you_mean, numbers, one_of, whole
from collapse_jax.numerics import copula, discrete
from collapse_jax.random.bits import split
from collapse_jax.random.multinomial import inverted
from collapse_jax.random.normal import normal_vector

__all__ = ["gaussian_copula", "gaussian_copula_params"]

MARGINALS = ("empirical", "smoothed")


class CopulaParams(NamedTuple):
    """The marginals, which are the sorted training columns, and the latent correlation.

    values: [D, slots], ascending, empty slots last; for categories, their codes.
    weight: [D, slots], 0 where the slot is empty.
    root: [D, D]; the latent correlation is root root^T.
    bandwidth: [D], standard deviation of the Gaussian that smooths a column of numbers; 0 for none.
    """

    values: jax.Array
    weight: jax.Array
    root: jax.Array
    bandwidth: jax.Array


@named
def gaussian_copula(
    columns: int | Sequence[str],
    categories: Sequence[Sequence[str] | int | None] | Mapping[str, Any] | None = None,
    marginals: Literal["empirical", "smoothed"] = "empirical",
    bandwidth: float | jax.Array | None = None,
) -> Estimator:
    """Gaussian copula of a table with columns of numbers and of categories.

    Points x are rows [n, columns]. Each column has the distribution of its training values, and the
    dependence between columns is that of a latent normal vector. The latent correlation is the
    polychoric one: it is estimated from the numbers and from the codes of the categories in their
    order, and equal values count as one step. A column with a single value has correlation 0. To
    use a table from `cj.read_data`, give `gaussian_copula(table.names, table.categories)` and
    `cj.sources.dataset(table.values)`.

    Under `replace` with empirical marginals every column loses its values as a categorical does,
    and the correlations perform a random walk. Smoothed marginals widen with each fit, as in `kde`.

    Metrics of the table: mean [columns], variance (the mean over the columns of numbers, or over
    the codes if there are no such columns), log_variance (the mean of their logarithms),
    correlation [columns, columns], log_determinant of the correlation. Metrics of a column NAME of
    numbers: mean_NAME, variance_NAME, support_NAME (distinct values); of categories:
    heterozygosity_NAME, entropy_NAME, support_NAME, probabilities_NAME [categories]. Distances to a
    real copula: correlation_distance (Frobenius norm), total_variation_NAME for categories.

    There is no log_prob (smoothed marginals: a sum over all combinations of training values); see
    `copula_log_density`.

    Args:
        columns: the names of the columns, or their number; with a number the names are 0, 1, ...
        categories: for each column None if it contains numbers, else the names of its categories or
            their number; a sequence, or a mapping from column names. By default all contain
            numbers. In the table a category is a code 0, 1, ...
        marginals: how numbers are sampled. "empirical": a model draws its training values.
            "smoothed": it adds Gaussian noise to each, with the correlation of the latent vector.
        bandwidth: for "smoothed", the standard deviation of that noise relative to the column's;
            by default Silverman's (4 / 3n)^(1/5).

    Raises:
        InputError: if an argument is out of its range, a name is given twice, categories name an
            unknown column, or a bandwidth is given with empirical marginals.

    References:
        Nelsen 2006, "An introduction to copulas"; a table of mixed columns as in Patki, Wedge and
        Veeramachaneni 2016, "The synthetic data vault". The estimate for categories is derived
        (`numerics.copula`).
    """
    names = _checked_names(columns)
    sizes = _checked_sizes(names, categories)
    one_of("marginals", marginals, MARGINALS)
    width = _checked_bandwidth(bandwidth, marginals)
    family = _Copula(sizes, marginals == "smoothed", width)
    return estimator(
        family.fit,
        family.sample,
        init=family.init,
        check=_TableCheck(names, sizes),
        metrics=_metrics(names, sizes),
        distances=_distances(names, sizes),
    )


def example() -> tuple[Estimator, CopulaParams]:
    """Returns (Estimator, params) for the columns age, income, city (of three) and smoker."""
    names = ("age", "income", "city", "smokes")
    categories = (None, None, ("Bonn", "Oslo", "Rome"), ("no", "yes"))
    correlation = [
        *([1.0, 0.6, 0.2, -0.3], [0.6, 1.0, 0.3, 0.0]),
        *([0.2, 0.3, 1.0, 0.1], [-0.3, 0.0, 0.1, 1.0]),
    ]
    levels = (np.arange(40) + 0.5) / 40
    age, income = 20 + 60 * levels, -np.log1p(-levels)
    city, smokes = ([0, 1, 2], [0.5, 0.3, 0.2]), ([0, 1], [0.7, 0.3])
    params = gaussian_copula_params([age, income, city, smokes], correlation)
    return gaussian_copula(names, categories), params


def gaussian_copula_params(
    marginals: Sequence[ArrayLike | tuple[ArrayLike, ArrayLike]], correlation: ArrayLike
) -> CopulaParams:
    """Returns parameters with these marginals and this latent correlation.

    Args:
        marginals: for each column its values [n], or (values, weights); for categories, the codes
            and their probabilities.
        correlation: that of the latent normal vector, [D, D], with 1 on its diagonal.

    Raises:
        InputError: unless all numbers are finite, no weight is negative, each column has a weight
            above 0, and the correlation is symmetric without negative eigenvalues.
    """
    pairs = [_checked_marginal(place, one) for place, one in enumerate(marginals)]
    matrix = numbers("correlation", correlation)
    if not pairs or matrix.shape != (len(pairs),) * 2:
        raise InputError(
            f"correlation has shape {list(matrix.shape)} for {len(pairs)} marginals; it must be "
            "[columns, columns]"
        )
    if (
        not np.isfinite(matrix).all()
        or not np.allclose(matrix, matrix.T)
        or not np.allclose(np.diag(matrix), 1)
        or np.linalg.eigvalsh(matrix)[0] < -1e-6
    ):
        raise InputError(
            f"correlation {matrix.tolist()} must be symmetric, with 1 on its diagonal and without "
            "negative eigenvalues"
        )
    slots = max(len(values) for values, _ in pairs)
    dtype = jnp.result_type(float)
    padded = [
        (np.pad(values, (0, slots - len(values)), mode="edge"),
         np.pad(weight, (0, slots - len(weight))))
        for values, weight in pairs
    ]  # fmt: skip
    values, weight = (jnp.asarray(np.stack(part), dtype) for part in zip(*padded, strict=True))
    root = copula.root_of(jnp.asarray(matrix, dtype))
    return CopulaParams(values, weight, root, jnp.zeros(len(pairs), dtype))


class _Copula(NamedTuple):
    """The options, and what depends on them; sizes: categories of each column, 0 for numbers."""

    sizes: tuple[int, ...]
    smoothed: bool
    bandwidth: float | jax.Array | None

    def init(self, key, data):
        values, weight = _marginals(data.x, data.weight)
        return self._made(values, weight, jnp.eye(len(self.sizes)))

    def fit(self, key, params, data):
        values, weight, root = _fitted(data.x, data.weight)
        return self._made(values, weight, root), FitInfo.exact()

    def _made(self, values, weight, root):
        made = CopulaParams(values, weight, root, jnp.zeros(len(self.sizes), values.dtype))
        return made._replace(bandwidth=self._bandwidths(made)) if self.smoothed else made

    def _bandwidths(self, params):
        """Deviations [D] of the Gaussians that smooth columns of numbers."""
        count = jnp.sum(params.weight[0])
        factor = self.bandwidth
        if factor is None:
            factor = (4 / (3 * jnp.maximum(count, 1))) ** 0.2
        deviation = jnp.sqrt(_variances(params))
        return jnp.where(jnp.asarray(self.sizes) > 0, 0, factor * deviation)

    def sample(self, key, params, n):
        number = len(self.sizes)
        if params.values.shape[0] != number:
            raise InputError(
                f"the params have {params.values.shape[0]} columns, the family has {number}"
            )
        which, shift = split(key)
        z = _correlated(which, params, n)
        ends = jnp.cumsum(params.weight, axis=1)
        places = jax.vmap(inverted)(ends, jax.scipy.special.ndtr(z.T))
        x = jnp.take_along_axis(params.values, places, axis=1).T
        return x + _correlated(shift, params, n) * params.bandwidth if self.smoothed else x


def _correlated(key, params, n):
    """Latent normal vectors [n, D]."""
    number = params.root.shape[0]
    z = normal_vector(key, n * number).reshape(n, number)
    return jnp.matmul(z, params.root.T, precision="highest")


# Compiled on their own: traced once in all programs that fit, and one program where a table is
# fitted before a run.
@jax.jit
def _fitted(x, weight):
    """(values [D, n], weights [D, n], root) of a table [n, D]."""
    filled, shares = _filled(x, weight)
    scores, coefficients = jax.vmap(copula.column, (1, None))(filled, shares)
    correlation = copula.correlations(scores.T, shares, coefficients)
    return *_marginals(x, weight), copula.root_of(correlation)


@jax.jit
def _marginals(x, weight):
    """(values [D, n], weights [D, n])"""
    return jax.vmap(_sorted, (1, None))(*_filled(x, weight))


def _filled(x, weight):
    """Points and weights, 0 in empty slots."""
    weight = jnp.where(weight > 0, weight, 0)
    return jnp.where(weight[:, None] > 0, x, 0), weight


def _in_order(x, weight):
    """Numbers with those of empty slots behind all others."""
    return jnp.where(weight > 0, x, jnp.inf)


def _sorted(x, weight):
    """(values [slots], weights [slots]) in order, empty slots last with the largest value."""
    order = jnp.argsort(_in_order(x, weight))
    largest = jnp.max(jnp.where(weight > 0, x, -jnp.inf))
    filled = jnp.where(weight > 0, x, jnp.where(jnp.any(weight > 0), largest, 0))
    return filled[order], weight[order]


def _shares(params):
    total = jnp.sum(params.weight, axis=1, keepdims=True)
    return params.weight / jnp.where(total > 0, total, 1)


def _means(params):
    return jnp.sum(_shares(params) * params.values, axis=1)


def _variances(params):
    """Variances [D], with what smoothing adds."""
    apart = params.values - _means(params)[:, None]
    return jnp.sum(_shares(params) * apart**2, axis=1) + params.bandwidth**2


def _supports(params):
    """Distinct values [D]."""
    new = params.values[:, 1:] != params.values[:, :-1]
    first = jnp.ones_like(new[:, :1])
    filled = params.weight > 0
    return jnp.sum(jnp.concatenate([first, new], axis=1) & filled, axis=1, dtype=jnp.int32)


def correlation(params: CopulaParams) -> jax.Array:
    """Returns the latent correlation [D, D]."""
    return jnp.matmul(params.root, params.root.T, precision="highest")


def copula_log_density(
    params: CopulaParams, x: jax.Array, columns: Sequence[int] | None = None
) -> jax.Array:
    """Returns the log-density [n] of the copula at rows x [n, D] of numbers, in nats.

    It is log N(z; 0, R) - sum_j log N(z_j; 0, 1), which is 0 if the columns are independent (R is
    the latent correlation). z_j is the normal quantile of the share of the training values below
    x_j; values equal to x_j count half, and half a row is added beyond either end. The result is
    -inf if R has no inverse.

    Args:
        params: the model.
        x: rows [n, D].
        columns: the indices of the columns to include, by default all. Leave out columns of
            categories, for which there is no density.

    References:
        Genest, Ghoudi and Rivest 1995 (the pseudo-likelihood).
    """
    chosen = np.arange(params.values.shape[0] if columns is None else 0)
    chosen = chosen if columns is None else np.asarray(columns, int)
    z = jax.vmap(_latent, (0, 0, 1), 1)(params.values[chosen], params.weight[chosen], x[:, chosen])
    values, vectors = jnp.linalg.eigh(correlation(params)[np.ix_(chosen, chosen)])
    least = 8 * len(chosen) * jnp.finfo(values.dtype).eps
    safe = jnp.where(values > least, values, 1)
    turned = jnp.matmul(z, vectors, precision="highest")
    logs = -(jnp.sum(turned**2 / safe - turned**2, axis=1) + jnp.sum(jnp.log(safe))) / 2
    return jnp.where(jnp.all(values > least), logs, -jnp.inf)


def _latent(values, weight, x):
    """Normal quantiles [n] of x [n] among the values [slots] of a column."""
    total = jnp.sum(weight)
    ends = jnp.concatenate([jnp.zeros(1, weight.dtype), jnp.cumsum(weight)])
    first, last = (ends[jnp.searchsorted(values, x, side=side)] for side in ("left", "right"))
    half = 0.5 / (jnp.maximum(total, 1) + 1)
    share = (first + last) / 2 / jnp.where(total > 0, total, 1)
    return jax.scipy.special.ndtri(jnp.clip(share, half, 1 - half))


def _log_determinant(params):
    values = jnp.linalg.eigvalsh(correlation(params))
    # What is left of a 0 by rounding.
    least = 8 * len(values) * jnp.finfo(values.dtype).eps
    return jnp.sum(jnp.log(jnp.where(values > least, values, 0)))


def _probabilities(params, column, size):
    """[size], of the categories of a column."""
    codes = params.values[column].astype(jnp.int32)
    return jnp.zeros(size, params.weight.dtype).at[codes].add(_shares(params)[column])


def _metrics(names, sizes):
    measured = [j for j, size in enumerate(sizes) if not size] or list(range(len(sizes)))
    chosen = np.array(measured)
    made: dict[str, Callable] = {
        "mean": _means,
        "variance": lambda params: jnp.mean(_variances(params)[chosen]),
        "log_variance": lambda params: jnp.mean(jnp.log(_variances(params)[chosen])),
        "correlation": correlation,
        "log_determinant": _log_determinant,
    }
    for j, (name, size) in enumerate(zip(names, sizes, strict=True)):
        made[f"support_{name}"] = lambda params, j=j: _supports(params)[j]
        if not size:
            made[f"mean_{name}"] = lambda params, j=j: _means(params)[j]
            made[f"variance_{name}"] = lambda params, j=j: _variances(params)[j]
            continue

        def shares(params, j=j, size=size):
            return _probabilities(params, j, size)

        made[f"probabilities_{name}"] = shares
        made[f"heterozygosity_{name}"] = lambda params, of=shares: discrete.heterozygosity(
            of(params)
        )
        made[f"entropy_{name}"] = lambda params, of=shares: discrete.entropy(of(params))
    return made


def _distances(names, sizes):
    made: dict[str, Callable] = {
        "correlation_distance": lambda params, real: jnp.sqrt(
            jnp.sum((correlation(params) - correlation(real)) ** 2)
        )
    }
    for j, (name, size) in enumerate(zip(names, sizes, strict=True)):
        if size:

            def apart(params, real, j=j, size=size):
                ours, theirs = (_probabilities(one, j, size) for one in (params, real))
                return jnp.sum(jnp.abs(ours - theirs)) / 2

            made[f"total_variation_{name}"] = apart
    return made


@dataclasses.dataclass(frozen=True)
class _TableCheck:
    """The check of a table: real numbers, and codes in the columns of categories."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        number = len(self.names)
        family = f"gaussian_copula({number} columns)"
        held = PointCheck(family, "rows of numbers", (number,), keeps="differences")(x)
        rows = np.asarray(x).reshape(len(held), number)
        for column, (name, size) in enumerate(zip(self.names, self.sizes, strict=True)):
            codes = rows[:, column]
            wrong = (codes < 0) | (codes >= size) | (np.floor(codes) != codes)
            if size and wrong.any():
                row = int(np.argmax(wrong))
                raise InputError(
                    f"{at((row, column))} is {codes[row]}; column {name!r} takes the codes 0 to "
                    f"{size - 1} of its {size} categories"
                )
        return held


def _checked_bandwidth(bandwidth, marginals):
    if bandwidth is None:
        return None
    if marginals == "empirical":
        raise InputError(
            f"bandwidth is {bandwidth} with marginals 'empirical', which ignores it; give "
            "marginals='smoothed'"
        )
    return real_or_traced("bandwidth", bandwidth, above=0, must_be="a positive number")


def _checked_names(columns):
    if not isinstance(columns, str) and isinstance(columns, Sequence):
        names = tuple(columns)
        for name in names:
            if not isinstance(name, str) or not name:
                raise InputError(f"columns has {name!r:.100}; it must be the name of a column")
            if names.count(name) > 1:
                raise InputError(f"columns has {name!r} more than once; give it once")
        if names:
            return names
    if isinstance(columns, str | Sequence):
        raise InputError(
            f"columns is {columns!r:.100}; it must be the names of the columns, or their number"
        )
    return tuple(map(str, range(whole("columns", columns, 1))))


def _checked_sizes(names, categories):
    """The number of categories of each column, 0 for numbers."""
    if categories is None:
        return (0,) * len(names)
    if isinstance(categories, Mapping):
        for name in categories:
            if name not in names:
                raise InputError(
                    f"categories has {name!r}; it must be one of the columns "
                    f"{', '.join(names)}{did_you_mean(str(name), names)}"
                )
        categories = [categories.get(name) for name in names]
    if isinstance(categories, str) or not isinstance(categories, Sequence):
        raise InputError(
            f"categories is {categories!r:.100}; it must contain None or categories for each column"
        )
    if len(categories) != len(names):
        raise InputError(
            f"categories has {len(categories)} entries for {len(names)} columns; it must have one "
            "for each, None if the column contains numbers"
        )
    return tuple(_size(name, one) for name, one in zip(names, categories, strict=True))


def _size(name, categories):
    if categories is None:
        return 0
    if isinstance(categories, Sequence) and not isinstance(categories, str):
        words = list(categories)
        if not words or len(set(words)) < len(words):
            raise InputError(
                f"categories of {name!r} are {words!r:.100}; they must be distinct names, at least "
                "one"
            )
        return len(words)
    must_be = "names of categories, or their number"
    return whole(f"categories of {name!r}", categories, 1, must_be=must_be)


def _checked_marginal(place, given):
    """(values [n], weights [n]) in order."""
    pair = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    values = numbers(f"marginals[{place}]", pair[0])
    given_weight = np.ones(values.shape) if pair[1] is None else pair[1]
    weight = numbers(f"weights of marginals[{place}]", given_weight)
    if values.ndim != 1 or not len(values) or weight.shape != values.shape:
        raise InputError(
            f"marginals[{place}] has shape {list(values.shape)} and weights {list(weight.shape)}; "
            "both must be [n]"
        )
    sound = np.isfinite(values).all() and np.isfinite(weight).all()
    if not sound or weight.min() < 0 or not weight.max() > 0:
        raise InputError(
            f"marginals[{place}] must be finite, with no weight below 0 and at least one above 0"
        )
    values, weight = values[weight > 0], weight[weight > 0]
    order = np.argsort(values, kind="stable")
    return values[order], weight[order]


FAMILY = Family(
    gaussian_copula,
    example,
    label="Gaussian copula, {marginals}",
    metrics=("log_variance", "log_determinant"),
)
