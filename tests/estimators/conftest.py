"""Shared by the tests of the estimators."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def unpacked():
    """unpacked(statistics or params of many chains, dim) -> NumPy float64 arrays.

    mean [chains, d], covariance [chains, d, d], log_scale [chains, d], U [chains, d, d].
    """

    def unpack(model, dim):
        def stacked(leaf):
            return (
                np.stack([np.asarray(one, np.float64) for one in leaf], -1)
                if isinstance(leaf, tuple)
                else np.asarray(leaf, np.float64)
            )

        mean, log_scale = stacked(model.mean), stacked(model.log_scale)
        if isinstance(model.factor, tuple):
            factor = np.broadcast_to(np.eye(dim), (*mean.shape, dim)).copy()
            rows, columns = np.tril_indices(dim, -1)
            if dim > 1:
                factor[..., rows, columns] = stacked(model.factor)
        else:
            factor = np.asarray(model.factor, np.float64)
        columns = factor * np.exp(log_scale)[..., None, :]
        return mean, columns @ np.swapaxes(columns, -1, -2), log_scale, factor

    return unpack
