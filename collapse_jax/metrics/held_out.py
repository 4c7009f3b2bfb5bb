"""Log-probabilities and other scores of held-out rows, which no generation was fitted to."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.errors import InputError

# Rows that are scored together: chains times these are in memory at once.
_BLOCK = 256


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """The mean of a score over held-out rows, as a metric of the state.

    score: (params, x [n, ...]) -> [n].
    rows: [k, ...], the distinct rows.
    counts: [k], the number of copies of each.
    name: name of the metric.
    """

    score: Callable[[Any, jax.Array], jax.Array]
    rows: np.ndarray
    counts: np.ndarray
    name: str

    @property
    def __name__(self) -> str:
        """The name that drivers use for the metric."""
        return self.name

    def __call__(self, state: Any) -> jax.Array:
        """The mean [] of the model of a state."""
        return self.of_params(state.params)

    def of_params(self, params: Any) -> jax.Array:
        """The mean [] of a model."""
        count = len(self.rows)
        if count <= _BLOCK:
            total = self._total(params, jnp.asarray(self.rows), jnp.asarray(self.counts))
        else:
            blocks = -(-count // _BLOCK)
            inside = np.arange(blocks * _BLOCK) < count
            # Empty places hold the first row, 0 times.
            place = np.where(inside, np.arange(blocks * _BLOCK), 0)
            counts = np.where(inside, self.counts[place], 0)
            rows = self.rows[place].reshape(blocks, _BLOCK, *self.rows.shape[1:])
            totals = jax.lax.map(
                lambda block: self._total(params, *block),
                (jnp.asarray(rows), jnp.asarray(counts.reshape(blocks, _BLOCK))),
            )
            total = jnp.sum(totals)
        return total / float(self.counts.sum())

    def _total(self, params, rows, counts):
        scores = self.score(params, rows)
        return jnp.sum(jnp.where(counts > 0, scores * counts.astype(scores.dtype), 0))


def held_out(score: Callable, x: np.ndarray, name: str) -> HeldOut:
    """Returns the mean of a score over rows [N, ...] in the form of the family, as a metric."""
    flat = x.reshape(len(x), -1)
    _, first, counts = np.unique(flat, axis=0, return_index=True, return_counts=True)
    return HeldOut(score, x[first], counts, name)


def held_out_log_prob(estimator: Any, x: ArrayLike) -> HeldOut:
    """Returns a metric of the state: the mean log-probability of held-out rows under its model.

    The unit is nats per row. The value is -inf as soon as one row has probability 0. A regression
    with a design scores labels given their features.

    Args:
        estimator: the family that is fitted; it must have a `log_prob`.
        x: rows [N, ...] that no model was fitted to, as `sources.dataset` takes them.

    Raises:
        InputError: if the family has no `log_prob`, or does not accept the rows.
    """
    if getattr(estimator, "log_prob", None) is None:
        raise InputError(
            f"{getattr(estimator, 'name', estimator)!s:.200} has no log_prob, so held-out rows "
            "cannot be scored"
        )
    return held_out(estimator.log_prob, as_held(estimator, x), "held_out_log_prob")


def as_held(estimator: Any, x: ArrayLike) -> np.ndarray:
    """Returns rows in the form of the family; `InputError` for rows that it does not accept."""
    rows = np.asarray(x)
    if rows.ndim < 1 or not len(rows):
        raise InputError(
            f"the held-out rows have shape {list(rows.shape)}; there must be at least one row"
        )
    try:
        held = estimator.check(rows) if estimator.check is not None else None
    except ValueError as error:
        raise InputError(f"the held-out rows: {error}") from None
    held = rows if held is None else np.asarray(held)
    return np.asarray(held, jax.dtypes.canonicalize_dtype(held.dtype))
