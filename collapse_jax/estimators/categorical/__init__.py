"""Categorical distribution by maximum likelihood: the empirical frequencies."""

# ruff: noqa: F401
from collapse_jax.estimators.categorical.family import (
    DISTANCES,
    FAMILY,
    METRICS,
    CategoricalParams,
    Counts,
    absorbed,
    categorical,
    categorical_params,
    entropy,
    example,
    heterozygosity,
    mean,
    support,
    variance,
)

__all__ = ["categorical", "categorical_params"]
