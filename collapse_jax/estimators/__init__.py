"""The families, one file each: a new one of ours is a file and a line here.

A file ends with `FAMILY`, and its `__all__` names what `cj.estimators` offers of it.
"""

# The order is that of tables, simple families first.
# ruff: noqa: F403, I001
import sys as _sys

from collapse_jax.core.closed_forms import ClosedForms as ClosedForms, Setting as Setting
from collapse_jax.estimators.categorical import *
from collapse_jax.estimators.bernoulli import *
from collapse_jax.estimators.poisson import *
from collapse_jax.estimators.gaussian import *
from collapse_jax.estimators.gaussian_mean import *
from collapse_jax.estimators.exponential import *
from collapse_jax.estimators.pareto import *
from collapse_jax.estimators.uniform import *
from collapse_jax.estimators.gmm import *
from collapse_jax.estimators.kde import *
from collapse_jax.estimators.empirical import *
from collapse_jax.estimators.linear_regression import *
from collapse_jax.estimators.logistic_regression import *
from collapse_jax.estimators.poisson_regression import *
from collapse_jax.estimators.ngram import *
from collapse_jax.estimators.vae import *
from collapse_jax.estimators.causal_lm import *

FAMILIES = {
    name.removeprefix(f"{__name__}."): file.FAMILY
    for name, file in _sys.modules.items()
    if name.startswith(f"{__name__}.") and hasattr(file, "FAMILY")
}
