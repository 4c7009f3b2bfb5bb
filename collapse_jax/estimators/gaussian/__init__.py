"""Gaussian by its sample mean and covariance, drawn through its exact statistics."""

# ruff: noqa: F401
from collapse_jax.estimators.gaussian.family import (
    DISTANCES,
    FAMILY,
    METRICS,
    GaussianParams,
    Moments,
    covariance,
    example,
    gaussian,
    gaussian_params,
    log_prob,
    log_variance,
    mean_vector,
    merge,
    summarise,
    unit_factor,
    variance,
)

__all__ = ["gaussian", "gaussian_params"]
