"""The factory of estimators: a newcomer writes `fit` and `sample`, this fills in the rest."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from collapse_jax.core import points
from collapse_jax.core.types import Dataset, Estimator
from collapse_jax.errors import InputError, function

# Draws behind the default moments; the same ones for every model, so that differences between
# generations are the models'.
_MOMENT_DRAWS = 4096


def estimator(
    fit,
    sample,
    *,
    init=None,
    summarise=None,
    draw=None,
    merge=None,
    subsample=None,
    metrics: Mapping[str, Any] | None = None,
    distances: Mapping[str, Any] | None = None,
    statistics: type = Dataset,
    traceable: bool = True,
    living=None,
    relist=None,
    chain_axis: int = 0,
    continued=None,
    log_prob=None,
    tempered=None,
    nucleus=None,
    streams: bool = False,
) -> Estimator:
    """An `Estimator` from `fit(key, params, data) -> (params, FitInfo)` and `sample(key, params, n)
    -> x [n, ...]`.

    What is left out: data is the weighted `Dataset` itself, `fit` gets None as the params before
    the first fit, and
    `mean`, `variance`, `log_variance` are estimated from 4,096 draws of the model with a fixed key.
    Raises `InputError` for what is no function, for another chain_axis, and for a host loop
    (traceable=False) without `init`, which
    tells how to restore its parameters.
    """
    function("fit", fit), function("sample", sample)
    for name, one in (dict(metrics or {}) | dict(distances or {})).items():
        function(f"metric {name!r}", one)
    if chain_axis not in (0, -1):
        raise InputError(f"chain_axis is {chain_axis!r}; it must be 0 or -1")
    if not traceable and init is None:
        raise InputError(
            "an estimator that is not traceable needs init: its parameters are restored "
            "from checkpoints by their structure"
        )
    defaults = (
        {}
        if not traceable
        else {name: _sampled(sample, function) for name, function in _MOMENTS.items()}
    )
    return Estimator(
        fit=fit,
        sample=sample,
        init=init or (lambda key, data: None),
        summarise=summarise or points.summarise,
        draw=draw,
        merge=merge or points.merge,
        subsample=subsample,
        metrics=defaults | dict(metrics or {}),
        distances=dict(distances or {}),
        statistics=statistics,
        traceable=traceable,
        living=living,
        relist=relist,
        chain_axis=chain_axis,
        continued=continued,
        log_prob=log_prob,
        tempered=tempered,
        nucleus=nucleus,
        streams=streams,
    )


def _sampled(sample, function):
    def metric(params):
        x = sample(jax.random.key(0), params, _MOMENT_DRAWS)
        return function(x.reshape(_MOMENT_DRAWS, -1))

    return metric


def _covariance(x):
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


_MOMENTS = {
    "mean": lambda x: x.mean(0) if x.shape[1] > 1 else x.mean(),
    "variance": lambda x: jnp.mean(jnp.var(x, axis=0, ddof=1)),
    "log_variance": lambda x: jnp.linalg.slogdet(_covariance(x))[1] / x.shape[1],
}
