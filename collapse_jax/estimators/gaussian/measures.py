"""Metrics and distances of Gaussian models, for batches whose chains are the last axis."""

import jax
import jax.numpy as jnp

from collapse_jax.metrics import gaussian as formulas
from collapse_jax.numerics import factored
from collapse_jax.random.chains_last import chains_last


def _arrays(leaves, dim):
    """(mean [d, chains], log_scale [d, chains], factor [d, d, chains]) of parameters' leaves."""
    if len(leaves) == 3 and dim > 1:
        return tuple(leaves)
    chains = jnp.broadcast_shapes(*(leaf.shape for leaf in leaves))
    leaves = [jnp.broadcast_to(leaf, chains) for leaf in leaves]
    factor = (
        factored.as_matrix(tuple(leaves[2 * dim :]), dim)
        if dim > 1
        else jnp.ones((1, 1, *chains), leaves[0].dtype)
    )
    return jnp.stack(leaves[:dim]), jnp.stack(leaves[dim : 2 * dim]), factor


@chains_last
def _measured(*leaves, formula, dim):
    return [formula(*_arrays(leaves, dim))]


@chains_last
def _compared(*leaves, formula, dim):
    half = len(leaves) // 2
    return [formula(_arrays(leaves[:half], dim), _arrays(leaves[half:], dim))]


def _metric(formula):
    def metric(params):
        return _measured(*jax.tree.leaves(params), formula=formula, dim=len(params.mean))[0]

    return metric


def _distance(formula):
    def distance(params, reference):
        return _compared(
            *jax.tree.leaves((params, reference)), formula=formula, dim=len(params.mean)
        )[0]

    return distance


_NAMES = (
    "mean",
    "log_scale",
    "variance",
    "log_variance",
    "trace",
    "log_trace",
    "log_determinant",
    "entropy",
)
_SPECTRAL = ("effective_rank", "condition_number", "log_condition_number")
METRICS = {name: _metric(getattr(formulas, name)) for name in (*_NAMES, *_SPECTRAL)}
_DISTANCES = ("squared_wasserstein2", "wasserstein2", "kl_model_to_real", "kl_real_to_model")
DISTANCES = {name: _distance(getattr(formulas, name)) for name in _DISTANCES}
DISTANCES_IN_1D = DISTANCES | {"total_variation": _distance(formulas.total_variation)}
variance, log_variance = METRICS["variance"], METRICS["log_variance"]
