"""The families, one file each. `FAMILIES` names all of ours: adding one is a file and a line here."""

from collapse_jax.estimators import categorical as _categorical
from collapse_jax.estimators import gaussian as _gaussian
from collapse_jax.estimators import kde as _kde
from collapse_jax.estimators.causal_lm import causal_lm
from collapse_jax.types import Family

FAMILIES = {
    "categorical": Family(_categorical.categorical, _categorical.example),
    "gaussian": Family(_gaussian.gaussian, _gaussian.example),
    "kde": Family(_kde.kde, _kde.example),
    "causal_lm": Family(causal_lm),
}
categorical, categorical_params = _categorical.categorical, _categorical.categorical_params
gaussian, gaussian_params = _gaussian.gaussian, _gaussian.gaussian_params
kde = _kde.kde

__all__ = ["FAMILIES", "categorical", "categorical_params", "causal_lm", "gaussian", "gaussian_params", "kde"]
