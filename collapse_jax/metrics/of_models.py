"""Metrics of models of any family: functions of the state, built from the family's functions.

`cj.simulate(..., metrics=("variance", cj.metrics.effective_rank(family)))`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from collapse_jax.errors import InputError, whole

_DRAWS = 4096


def effective_rank(family: Any, draws: int = _DRAWS) -> Callable:
    """exp(entropy of the covariance's normalised eigenvalues): from 1 to d; 0 without variance.

    It is estimated from draws with one fixed key, which all chains share. With n draws the smallest
    of d equal eigenvalues is underestimated by about sqrt(d/n). The Gaussian family has an exact
    metric with this name.

    Args:
        family: an estimator whose points are vectors [n, d].
        draws: points of the model.

    References:
        Roy and Vetterli 2007.
    """
    return _OfCovariance(family.sample, whole("draws", draws, 2), "effective_rank")


def log_condition_number(family: Any, draws: int = _DRAWS) -> Callable:
    """Log of the covariance's largest over its smallest eigenvalue; inf without variance in one.

    It is estimated from draws, as `effective_rank`.

    Args:
        family: an estimator whose points are vectors [n, d].
        draws: points of the model.
    """
    return _OfCovariance(family.sample, whole("draws", draws, 2), "log_condition_number")


def gradient_norm(family: Any, x: ArrayLike) -> Callable:
    """Norm of the gradient of the mean log-likelihood of fixed points, in the model's parameters.

    0 for the maximum-likelihood model of these points; it grows as models move away from them. It
    depends on the parametrisation of the family.

    Args:
        family: an estimator with `log_prob`.
        x: the points, for example real points that no model is fitted to.

    Raises:
        InputError: if the family has no `log_prob`.
    """
    if family.log_prob is None:
        raise InputError("gradient_norm needs a family with log_prob, but this family has none")
    points = np.asarray(x)
    return _GradientNorm(family.log_prob, points.tobytes(), points.dtype.str, points.shape)


# None of these is a NamedTuple: `jax.jit` of a callable tuple fails. Two that are made alike are
# equal, so that nothing is compiled twice.
@dataclasses.dataclass(frozen=True)
class _OfCovariance:
    """A function of the eigenvalues of the covariance of a model's draws."""

    sample: Callable
    draws: int
    __name__: str

    def __call__(self, state):
        x = self.sample(jax.random.key(0), state.params, self.draws)
        x = x.reshape(self.draws, -1)
        x = x - x.mean(0)
        largest = jnp.max(jnp.abs(x))
        x = x / jnp.where(largest > 0, largest, 1)  # whatever the scale
        values = jnp.maximum(jnp.linalg.eigvalsh(x.T @ x / (self.draws - 1)), 0)
        if self.__name__ == "log_condition_number":
            return jnp.where(values[0] > 0, jnp.log(values[-1]) - jnp.log(values[0]), jnp.inf)
        total = jnp.sum(values)
        shares = values / jnp.where(total > 0, total, 1)
        return jnp.where(total > 0, jnp.exp(jnp.sum(jax.scipy.special.entr(shares))), 0)


@dataclasses.dataclass(frozen=True)
class _GradientNorm:
    """See `gradient_norm`; points are stored as bytes, so that equal points compare equal."""

    log_prob: Callable
    points: bytes
    dtype: str
    shape: tuple[int, ...]
    __name__ = "gradient_norm"

    def __call__(self, state):
        x = np.frombuffer(self.points, self.dtype).reshape(self.shape)

        def mean_log_prob(params):
            return jnp.mean(self.log_prob(params, jnp.asarray(x)))

        slopes = jax.grad(mean_log_prob, allow_int=True)(state.params)
        floats = [leaf for leaf in jax.tree.leaves(slopes) if leaf.dtype != jax.dtypes.float0]
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in floats))
