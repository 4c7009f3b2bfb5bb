"""Gaussian by its sample mean and covariance, drawn through its exact statistics."""

# ruff: noqa: F401
from collapse_jax.estimators.gaussian.family import FAMILY, example, gaussian
from collapse_jax.estimators.gaussian.measures import DISTANCES, METRICS, log_variance, variance
from collapse_jax.estimators.gaussian.moments import Moments, merge, summarise
from collapse_jax.estimators.gaussian.params import (
    GaussianParams,
    covariance,
    gaussian_params,
    log_prob,
    mean_vector,
    unit_factor,
)

__all__ = ["gaussian", "gaussian_params"]
