"""The families, one file each. `FAMILIES` names all of ours: adding one is a file and a line here."""

from collapse_jax.estimators import categorical as _categorical
from collapse_jax.estimators import gaussian as _gaussian
from collapse_jax.estimators import vae as _vae
from collapse_jax.estimators.causal_lm import causal_lm
from collapse_jax.types import Family

FAMILIES = {
    "categorical": Family(_categorical.categorical, _categorical.example),
    "gaussian": Family(_gaussian.gaussian, _gaussian.example),
    "causal_lm": Family(causal_lm),
    "vae": Family(_vae.vae, _vae.example),
}
categorical, categorical_params = _categorical.categorical, _categorical.categorical_params
gaussian, gaussian_params = _gaussian.gaussian, _gaussian.gaussian_params
vae = _vae.vae

__all__ = ["FAMILIES", "categorical", "categorical_params", "causal_lm", "gaussian", "gaussian_params", "vae"]
