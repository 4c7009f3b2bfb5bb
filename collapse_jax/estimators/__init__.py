"""The families, one file each. `FAMILIES` names all of ours: adding one is a file and a line here."""

from collapse_jax.estimators import categorical as _categorical
from collapse_jax.estimators import gaussian as _gaussian
from collapse_jax.estimators import linear_regression as _linear
from collapse_jax.estimators import logistic_regression as _logistic
from collapse_jax.estimators.causal_lm import causal_lm
from collapse_jax.types import Family

FAMILIES = {
    "categorical": Family(_categorical.categorical, _categorical.example),
    "gaussian": Family(_gaussian.gaussian, _gaussian.example),
    "linear_regression": Family(_linear.linear_regression, _linear.example),
    "logistic_regression": Family(_logistic.logistic_regression, _logistic.example),
    "causal_lm": Family(causal_lm),
}
categorical, categorical_params = _categorical.categorical, _categorical.categorical_params
gaussian, gaussian_params = _gaussian.gaussian, _gaussian.gaussian_params
linear_regression, regression_params = _linear.linear_regression, _linear.regression_params
logistic_regression, logistic_params = _logistic.logistic_regression, _logistic.logistic_params

__all__ = [
    "FAMILIES",
    "categorical",
    "categorical_params",
    "causal_lm",
    "gaussian",
    "gaussian_params",
    "linear_regression",
    "logistic_params",
    "logistic_regression",
    "regression_params",
]
