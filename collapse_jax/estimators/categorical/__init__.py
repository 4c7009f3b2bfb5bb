"""Categorical distribution by maximum likelihood: the empirical frequencies."""

# ruff: noqa: F401
from collapse_jax.estimators.categorical.distances import DISTANCES
from collapse_jax.estimators.categorical.family import FAMILY, Counts, categorical, example
from collapse_jax.estimators.categorical.metrics import (
    METRICS,
    absorbed,
    entropy,
    heterozygosity,
    mean,
    support,
    variance,
)
from collapse_jax.estimators.categorical.params import CategoricalParams, categorical_params

__all__ = ["categorical", "categorical_params"]
