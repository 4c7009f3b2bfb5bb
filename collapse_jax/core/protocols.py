"""The functions that users write: their arguments and what each must return.

Keys are typed (`jax.random.key`). Parameters are any pytree of arrays. `data` is what `summarise`
returns: a `Dataset` of points, or a family's sufficient statistics.
"""

from typing import TYPE_CHECKING, Any, Protocol

import jax

if TYPE_CHECKING:
    import numpy as np

    from collapse_jax.core.types import FitInfo, Supply

Params = Any
Data = Any
Carry = Any


class Fit(Protocol):
    """Fits a model: (key, params, data) -> (params, `FitInfo`).

    `params` are those of the previous generation, for warm starts, or the result of `init`.
    """

    def __call__(
        self, key: jax.Array, params: Params, data: Data, /
    ) -> tuple[Params, "FitInfo"]: ...


class Sample(Protocol):
    """Draws points from a model: (key, params, n) -> x [n, ...]. `n` is an int."""

    def __call__(self, key: jax.Array, params: Params, n: int, /) -> jax.Array: ...


class Init(Protocol):
    """Parameters before any fit: (key, data) -> params, or None if `fit` ignores them."""

    def __call__(self, key: jax.Array, data: Data, /) -> Params: ...


class Summarise(Protocol):
    """The data of weighted points: (x [slots, ...], weight [slots]) -> data; weight 0 is empty."""

    def __call__(self, x: jax.Array, weight: jax.Array, /) -> Data: ...


class Merge(Protocol):
    """The data of the pooled sample: (a, b) -> data."""

    def __call__(self, a: Data, b: Data, /) -> Data: ...


class Draw(Protocol):
    """Draws the data of n fresh samples directly: (key, params, n) -> data. `n` may be traced."""

    def __call__(self, key: jax.Array, params: Params, n: Any, /) -> Data: ...


class Subsample(Protocol):
    """The data of n of the points, without replacement: (key, data, n) -> data."""

    def __call__(self, key: jax.Array, data: Data, n: Any, /) -> Data: ...


class Weigh(Protocol):
    """The data with each point counted w times: (data, w) -> data. w may be traced."""

    def __call__(self, data: Data, w: Any, /) -> Data: ...


class Check(Protocol):
    """Converts real points for the family: x [N, ...] -> x or None; else raises `ValueError`."""

    def __call__(self, x: "np.ndarray", /) -> Any: ...


class LogProb(Protocol):
    """Log-densities or log-probabilities in nats: (params, x [n, ...]) -> [n]."""

    def __call__(self, params: Params, x: jax.Array, /) -> jax.Array: ...


class Reshape(Protocol):
    """Another model of the same family: (params, amount) -> params."""

    def __call__(self, params: Params, amount: Any, /) -> Params: ...


class Continue(Protocol):
    """One new point that continues each given one: (key, params, x [n, ...]) -> x [n, ...]."""

    def __call__(self, key: jax.Array, params: Params, x: jax.Array, /) -> jax.Array: ...


class Copied(Protocol):
    """The training points that are copied: (key, params, data, n) -> int [n] or [n, parts]."""

    def __call__(self, key: jax.Array, params: Params, data: Any, n: int, /) -> jax.Array: ...


class Metric(Protocol):
    """A number or an array that describes a model: params -> []."""

    def __call__(self, params: Params, /) -> jax.Array: ...


class Distance(Protocol):
    """The distance of a model from a reference model: (params, reference) -> []."""

    def __call__(self, params: Params, reference: Params, /) -> jax.Array: ...


class Begin(Protocol):
    """A workflow's first carry, from the first (real) training set: (supply, data) -> carry."""

    def __call__(self, supply: "Supply", data: Data, /) -> Carry: ...


class Next(Protocol):
    """The next training set of size n: (key, carry, supply, n) -> (carry, data)."""

    def __call__(
        self, key: jax.Array, carry: Carry, supply: "Supply", n: Any, /
    ) -> tuple[Carry, Data]: ...
