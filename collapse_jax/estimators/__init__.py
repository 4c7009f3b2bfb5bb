"""The families, one file each. `FAMILIES` names every factory: adding one is a file and a line here."""

from collapse_jax.estimators.categorical import categorical, categorical_params
from collapse_jax.estimators.causal_lm import causal_lm
from collapse_jax.estimators.gaussian import gaussian, gaussian_params

FAMILIES = {"categorical": categorical, "gaussian": gaussian, "causal_lm": causal_lm}

__all__ = ["FAMILIES", "categorical", "categorical_params", "causal_lm", "gaussian", "gaussian_params"]
