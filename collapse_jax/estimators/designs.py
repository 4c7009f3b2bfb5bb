"""What regressions share: data, fixed designs, weights, and the sizes that a design allows."""

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
    """The check of a regression: rows [n, dim + 1] of features and a label, and how they lie.

    With columns scaled to unit length, the squared extents of the features (eigenvalues of their
    Gram matrix) tell how far they are from explaining each other: with a column of ones and one of
    mean m and deviation s the smallest is about (s / m)^2 / 2. Rounding changes the entries of the
    Gram matrix by eps, and so the weights by eps over the smallest extent, which must leave three
    digits ("digits"). Newton steps correct themselves, and only must not drop a feature, which
    they do for a pivot below 8 dim eps: twice that ("directions"). "all" must not lose a direction
    against the longest column either, 10 dim eps. Features that explain each other exactly are no
    fault.

    family: for messages.
    dim: features.
    labels: "real", "binary" (0 and 1) or "counts" (0, 1, 2, ...).
    keeps: "digits", "directions" or "all" of them.
    penalty: what is added to the Gram matrix of n points is n times that.
    """

    family: str
    dim: int
    labels: Literal["real", "binary", "counts"] = "real"
    keeps: Literal["digits", "directions", "all"] = "digits"
    penalty: float = 0.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The points as the family holds them."""
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
        """Raises `InputError` for features [n, dim] whose weights rounding would spoil."""
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
                f"the squares of a feature add up to {squares.max():.3g}, beyond what "
                f"{np.dtype(dtype).name} holds; scale the features"
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
                f"the features nearly explain each other (their smallest squared extent is "
                f"{smallest:.2g} of a column's), so that {np.dtype(dtype).name} would leave less "
                "than three digits of the weights; subtract the mean of each feature but a column "
                f"of ones{x64}"
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
    """The options of a regression that is fitted by Newton steps, or `InputError`."""
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
    """Features [n, dim]: fresh draws of N(0, I), the rows of the design, or n draws of these."""
    if design is None:
        return normal_vector(key, n * dim).reshape(n, dim)
    rows = jnp.asarray(design, dtype)
    if not resampled:
        return rows
    words = threefry2x32(*key_words(key), jnp.uint32(0), jnp.arange(n, dtype=jnp.uint32))
    return rows[whole_below(words, jnp.uint32(len(rows)))]


def with_features(log_prob: jax.Array, features: jax.Array, design: np.ndarray | None) -> jax.Array:
    """Log-densities [n] of labels, with those of features [n, dim] where these are N(0, I)."""
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
    """A design [T, dim] as a float64 array, or None.

    Raises:
        InputError: if it has another shape, no rows, or is not finite.
    """
    if design is None:
        return None
    rows = numbers("design", design)
    if rows.ndim != 2 or rows.shape[1] != dim or not len(rows) or not np.isfinite(rows).all():
        raise InputError(f"design has shape {rows.shape}; it must be [T, {dim}], finite")
    return rows


def checked_resampled(resampled: bool, design: np.ndarray | None) -> bool:
    """Whether features are drawn from the rows of a design; `InputError` without a design."""
    if one_of("resampled", resampled, (True, False)) and design is None:
        raise InputError("resampled is True without a design; give the rows to draw features from")
    return bool(resampled)


def checked_weights(weights: ArrayLike) -> jax.Array:
    """Weights [dim] of a regression.

    Raises:
        InputError: unless they are finite numbers in one row.
    """
    values = numbers("weights", weights)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(f"weights {values.tolist()} must be [dim], finite")
    return jnp.asarray(values, jnp.result_type(float))


def check_size(design: np.ndarray | None, n: Any, resampled: bool = False) -> None:
    """Raises `InputError` unless a training set of n points has as many rows as the design."""
    known = isinstance(n, int | np.integer)
    if design is None or resampled or (known and n == len(design)):
        return
    asked = f"{n}" if known else "a random number"
    raise InputError(
        f"design has {len(design)} rows, and {asked} of points is asked for; with a design every "
        f"set must have {len(design)}"
    )


def times(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """A matrix times a vector, in full precision."""
    return jnp.matmul(matrix, vector, precision="highest")
