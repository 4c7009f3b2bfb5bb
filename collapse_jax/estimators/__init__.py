"""The families, a file or a folder each: a new one of ours is a file and a line here.

A file ends with `FAMILY`, and its `__all__` names what `cj.estimators` offers of it.
"""

# The order is that of tables, simple families first.
# ruff: noqa: F403, I001
import sys as _sys
from collections.abc import Mapping as _Mapping
from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

from collapse_jax.core.closed_forms import ClosedForms as ClosedForms, Setting as Setting
from collapse_jax.estimators.categorical import *
from collapse_jax.estimators.dirichlet_multinomial import *
from collapse_jax.estimators.bernoulli import *
from collapse_jax.estimators.poisson import *
from collapse_jax.estimators.gaussian import *
from collapse_jax.estimators.gaussian_mean import *
from collapse_jax.estimators.normal_inverse_gamma import *
from collapse_jax.estimators.student_t import *
from collapse_jax.estimators.exponential import *
from collapse_jax.estimators.pareto import *
from collapse_jax.estimators.uniform import *
from collapse_jax.estimators.gmm import *
from collapse_jax.estimators.kde import *
from collapse_jax.estimators.empirical import *
from collapse_jax.estimators.gaussian_copula import *
from collapse_jax.estimators.linear_regression import *
from collapse_jax.estimators.logistic_regression import *
from collapse_jax.estimators.poisson_regression import *
from collapse_jax.estimators.ngram import *

if _TYPE_CHECKING:
    from collapse_jax.estimators.vae import *
    from collapse_jax.estimators.causal_lm import *
    from collapse_jax.estimators.diffusion import *
    from collapse_jax.estimators.flow_matching import *
    from collapse_jax.estimators.normalizing_flow import *

# Those of networks import flax and more, for a third of a second: when they are asked for.
_LATER = ("diffusion", "flow_matching", "normalizing_flow", "vae", "causal_lm")


class _Package(_ModuleType):
    """This package: a file of `_LATER` that is imported leaves its function here, not itself."""

    def __setattr__(self, name, value):
        is_file = name in _LATER and isinstance(value, _ModuleType)
        super().__setattr__(name, getattr(value, name) if is_file else value)


class _Families(_Mapping):
    """Name -> `Family`, in the order of tables."""

    def __init__(self, known):
        self._known = known

    def __getitem__(self, name):
        if name in _LATER and name not in self._known:
            self._known[name] = _import_module(f"{__name__}.{name}").FAMILY
        return self._known[name]

    def __contains__(self, name):
        return name in self._known or name in _LATER

    def __iter__(self):
        return iter(dict.fromkeys([*self._known, *_LATER]))

    def __len__(self):
        return len(list(iter(self)))


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(f"{__name__}.{name}"), name)


_sys.modules[__name__].__class__ = _Package
FAMILIES = _Families(
    {
        name.rpartition(".")[2]: file.FAMILY
        for name, file in _sys.modules.items()
        if name.rpartition(".")[0] == __name__ and hasattr(file, "FAMILY")
    }
)
