"""What a driver returns: metrics of all chains at all generations."""

from collections.abc import Mapping

import numpy as np


class Trace(Mapping):
    """`trace[name]` is a NumPy array [chain, generation, ...]; `trace.generations` [generation]
    says which were recorded.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], generations: np.ndarray):
        self._arrays = dict(arrays)
        self.generations = np.asarray(generations)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self._arrays.items())
        return f"Trace(generations {self.generations[0]}..{self.generations[-1]}: {shapes})"

    def to_xarray(self):
        """An `xarray.Dataset` with the axes chain, generation and, for vector metrics, NAME_0,
        NAME_1 ...
        """
        import xarray

        def labelled(name, array):
            return (
                "chain",
                "generation",
                *(f"{name}_{axis}" for axis in range(array.ndim - 2)),
            ), array

        variables = {name: labelled(name, array) for name, array in self._arrays.items()}
        return xarray.Dataset(variables, coords={"generation": self.generations})
