"""Shared parts of the regressions: checks of data, fixed designs, weights, and allowed sizes."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.data_checks import DIGITS, PointCheck
from collapse_jax.core.reading import at
from collapse_jax.errors import InputError, numbers, one_of, real, whole
from collapse_jax.random.bits import key_words, threefry2x32, whole_below
from collapse_jax.random.normal import normal_vector

# Rows that are factored together.
_BLOCK = 2**14
# Squared extents below this, of unit columns, are what rounding in float64 leaves of 0.
_NOTHING = 1e-25
# Above this the eigenvalues of a Gram matrix are right in float64.
_CLEAR = 1e-10


@dataclasses.dataclass(frozen=True)
class RegressionCheck:
    """The check of a regression's rows [n, dim + 1]: features, label, and numerical conditioning.

    With columns scaled to unit length, the eigenvalues of the features' Gram matrix measure how
    nearly the features are linearly dependent: with a column of ones and one of mean m and standard
    deviation s, the smallest eigenvalue is about (s / m)^2 / 2. Rounding changes the entries of the
    Gram matrix by eps, and so the weights by eps / (smallest eigenvalue), which must leave three
    digits ("digits"). Newton steps correct themselves, but drop a feature whose pivot is below
    8 dim eps; "directions" demands twice that. "all" also demands 10 dim eps relative to the
    longest column. Exact linear dependence is allowed.

    family: the name in messages.
    dim: the number of features.
    labels: "real", "binary" (0 and 1) or "counts" (0, 1, 2, ...).
    keeps: "digits", "directions" or "all" of them.
    penalty: n times this is added to the Gram matrix of n points.
    """

    family: str
    dim: int
    labels: Literal["real", "binary", "counts"] = "real"
    keeps: Literal["digits", "directions", "all"] = "digits"
    penalty: float = 0.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns the points in the type in which the family stores them."""
        label = "a label 0 or 1" if self.labels == "binary" else "a label"
        takes = f"rows of {self.dim} features and {label}"
        held = PointCheck(self.family, takes, (self.dim + 1,))(x)
        labels = x.reshape(held.shape)[:, self.dim]
        if self.labels == "binary":
            self._check_binary(labels)
        elif self.labels == "counts":
            self._check_counts(labels)
        self.check_features(x.reshape(held.shape)[:, : self.dim])
        return held

    def check_features(self, features: np.ndarray) -> None:
        """Raises `InputError` if rounding would make the weights of features [n, dim] useless."""
        self._check_extents(features, np.dtype(jnp.result_type(float)))

    def check_design(self, design: np.ndarray) -> None:
        """The same for the rows of a design."""
        try:
            self.check_features(design)
        except InputError as error:
            raise InputError(f"design: {error}") from None

    def _check_counts(self, labels):
        wrong = ~((labels >= 0) & (labels == np.floor(labels)))
        if wrong.any():
            place = int(np.argmax(wrong))
            raise InputError(
                f"{at((place, self.dim))} is {labels[place]}; {self.family} takes counts 0, 1, 2, "
                "..., in the last column"
            )

    def _check_binary(self, labels):
        wrong = (labels != 0) & (labels != 1)
        if not wrong.any():
            return
        place = int(np.argmax(wrong))
        hints = {(1, 2): " (1 and 2: subtract 1)", (-1, 1): " (-1 and 1: give (label + 1) / 2)"}
        hint = hints.get((labels.min(), labels.max()), "")
        raise InputError(
            f"{at((place, self.dim))} is {labels[place]}; {self.family} takes the labels 0 and 1, "
            f"in the last column{hint}"
        )

    def _check_extents(self, x, dtype):
        gram = _gram(x)
        squares = np.diag(gram)
        limits = np.finfo(dtype)
        if squares.max() > limits.max / 4 or np.any((squares > 0) & (squares < 4 * limits.tiny)):
            raise InputError(
                f"the squares of a feature sum to {squares.max():.3g}, which overflows "
                f"{np.dtype(dtype).name}; scale the features"
            )
        unit = np.sqrt(np.where(squares > 0, squares, 1))
        least = limits.eps / DIGITS
        if self.keeps == "directions":
            least = 16 * self.dim * limits.eps
        ridge = self.penalty * len(x)
        checks = [(unit, ridge, least)]
        if self.keeps == "all":
            checks.append((np.full(self.dim, unit.max()), 0.0, 10 * self.dim * limits.eps))
        for lengths, ridge, least in checks:
            scaled = gram / lengths[:, None] / lengths + np.diag(ridge / lengths**2)
            if np.linalg.eigvalsh(scaled)[0] > max(least, _CLEAR):
                continue
            # Nearer to 0 than the Gram matrix tells.
            rows = np.concatenate([_triangle(x), np.sqrt(ridge) * np.eye(self.dim)])
            extents = np.linalg.svd(rows / lengths, compute_uv=False) ** 2
            smallest = extents[extents > _NOTHING * self.dim].min(initial=np.inf)
            if smallest >= least:
                continue
            x64 = ", or jax.config.update('jax_enable_x64', True)" if dtype == np.float32 else ""
            raise InputError(
                f"the features are nearly linearly dependent (the smallest eigenvalue of their "
                f"scaled Gram matrix is {smallest:.2g}), so that {np.dtype(dtype).name} would "
                "leave less than three digits of the weights; subtract its mean from each feature "
                f"except a column of ones{x64}"
            )


def check_of(family: str, dim: int, design: np.ndarray | None, **options: Any) -> RegressionCheck:
    """The check of real rows, with the options of `RegressionCheck`; a design is checked at once.

    Raises:
        InputError: for a design whose weights rounding would spoil.
    """
    check = RegressionCheck(family, dim, **options)
    if design is not None:
        check.check_design(design)
    return check


def checked_options(
    dim: int, design: ArrayLike | None, steps: int, tolerance: float, penalty: float
) -> tuple[int, np.ndarray | None, int, float, float]:
    """Returns the checked options of a regression that is fitted by Newton's method."""
    must_be = "a number of at least 0"
    dim, steps = whole("dim", dim, 1), whole("steps", steps, 1)
    tolerance = real("tolerance", tolerance, at_least=0, must_be=must_be)
    penalty = real("penalty", penalty, at_least=0, must_be=must_be)
    return dim, checked_design(design, dim), steps, tolerance, penalty


def drawn_features(
    key: jax.Array,
    design: np.ndarray | None,
    n: int,
    dim: int,
    dtype: Any,
    resampled: bool = False,
) -> jax.Array:
    """Returns features [n, dim]: draws of N(0, I), the design's rows, or n draws from its rows."""
    if design is None:
        return normal_vector(key, n * dim).reshape(n, dim)
    rows = jnp.asarray(design, dtype)
    if not resampled:
        return rows
    words = threefry2x32(*key_words(key), jnp.uint32(0), jnp.arange(n, dtype=jnp.uint32))
    return rows[whole_below(words, jnp.uint32(len(rows)))]


def with_features(log_prob: jax.Array, features: jax.Array, design: np.ndarray | None) -> jax.Array:
    """Returns log-densities [n] of labels, plus those of features [n, dim] if they are N(0, I)."""
    if design is not None:
        return log_prob
    return log_prob - 0.5 * (jnp.sum(features**2, 1) + features.shape[1] * jnp.log(2 * jnp.pi))


def _gram(features):
    """X'X [dim, dim] in float64, without a copy of all rows."""
    gram = np.zeros((features.shape[1],) * 2)
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK].astype(float, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            gram += block.T @ block
    return gram


def _triangle(features):
    """R [dim, dim] of the QR decomposition, in float64, without a copy of all rows."""
    dim = features.shape[1]
    triangle = np.zeros((0, dim))
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK].astype(float)
        triangle = np.linalg.qr(np.concatenate([triangle, block]), mode="r")
    return triangle


def checked_design(design: ArrayLike | None, dim: int) -> np.ndarray | None:
    """Returns a design [T, dim] as a float64 array, or None.

    Raises:
        InputError: if the design has another shape, no rows, or is not finite.
    """
    if design is None:
        return None
    rows = numbers("design", design)
    if rows.ndim != 2 or rows.shape[1] != dim or not len(rows) or not np.isfinite(rows).all():
        raise InputError(f"design has shape {rows.shape}; it must be [T, {dim}], finite")
    return rows


def checked_resampled(resampled: bool, design: np.ndarray | None) -> bool:
    """Returns whether features are drawn from a design's rows; `InputError` without a design."""
    if one_of("resampled", resampled, (True, False)) and design is None:
        raise InputError("resampled is True without a design; give the rows to draw features from")
    return bool(resampled)


def checked_weights(weights: ArrayLike) -> jax.Array:
    """Returns the weights [dim] of a regression as a JAX array.

    Raises:
        InputError: unless the weights are finite numbers of shape [dim].
    """
    values = numbers("weights", weights)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(f"weights {values.tolist()} must be finite numbers of shape [dim]")
    return jnp.asarray(values, jnp.result_type(float))


def check_size(design: np.ndarray | None, n: Any, resampled: bool = False) -> None:
    """Raises `InputError` unless a training set of n points has as many rows as the design."""
    known = isinstance(n, int | np.integer)
    if design is None or resampled or (known and n == len(design)):
        return
    asked = f"{n}" if known else "a random number"
    raise InputError(
        f"design has {len(design)} rows, but {asked} of points is asked for; with a design every "
        f"training set must have {len(design)} points, unless resampled is True"
    )


def times(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """A matrix times a vector, in full precision."""
    return jnp.matmul(matrix, vector, precision="highest")
