"""Closed forms and exact recursions of model collapse, in NumPy and SciPy float64.

Nothing here imports another part of this library (not even JAX), so it can judge all the rest.

Index convention: generation 0 is the model fitted to `sample_size` real draws, so the law at generation g has seen
g + 1 samplings. Papers that start to count at the first fit (t = 1) mean generation t - 1.
"""

from . import ancestry, categorical, gaussian

__all__ = ["ancestry", "categorical", "gaussian"]
