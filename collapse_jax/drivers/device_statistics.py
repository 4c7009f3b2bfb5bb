"""Mean, deviation and quantiles over chains, computed where the chains are.

What leaves a device does not grow with their number. Quantiles are exact. Where one process has all
chains in the memory of its CPU, NumPy selects them there, a row a thread. Elsewhere an order
statistic is searched for by counting, on every tile of every device of every process, how many
chains lie at or below a number. Shapes on a device, where the last tile is filled up with chains
that do not count:

    values, of one metric and tile   [rows, ..., chains]
    keys, integers in their order    [rows, ..., chains]
    threshold, of each rank          [rows, ..., quantile]

and on the host, over all tiles and processes:

    mean, std                        [rows, ...]
    key and count of each rank       [rows, ..., quantile]
"""

import functools
from collections.abc import Callable
from concurrent.futures import Executor

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.drivers.all_chains import Sink
from collapse_jax.drivers.sharded import compiled
from collapse_jax.drivers.summary import SAMPLE
from collapse_jax.runs import distributed


class DeviceStatistics(Sink):
    """Reduces what chains record to statistics over all chains of all processes.

    A chunk holds NAME_mean, NAME_std (ddof=1) [recorded, ...] and NAME_quantile
    [recorded, ..., quantile], in float64.
    """

    def __init__(self, quantiles: np.ndarray):
        self._quantiles = np.asarray(quantiles, np.float64)

    def open(self, chains: int, size: int, pool: Executor) -> None:
        self._chains, self._size, self._pool = chains, size, pool
        self._total = int(distributed.together(np.array(chains)).sum())

    def begin(self, count: int) -> None:
        self._count, self._parts = count, {}

    def take(self, tile: int, values: dict) -> bool:
        self._parts[tile] = values
        return False

    def end(self) -> dict[str, np.ndarray]:
        # Of rows that hold nothing as few as powers of two allow, so that few are compiled.
        rows = 2 ** (self._count - 1).bit_length()
        parts = [
            {name: value[:rows] for name, value in self._parts[tile].items()}
            for tile in sorted(self._parts)
        ]
        self._parts, statistics = {}, {}
        # The order of a tile's names is the same in all processes, which take part in every sum.
        for name in parts[0]:
            of_tiles = [part[name] for part in parts]
            mean, std, broken = self._moments(of_tiles)
            quantile = self._at_quantiles(of_tiles)
            quantile[broken] = np.nan
            for statistic, values in (("mean", mean), ("std", std), ("quantile", quantile)):
                statistics[f"{name}_{statistic}"] = values[: self._count]
        return statistics

    def _over_chains(self, function, join, of_tiles, *given):
        """function(values, how many chains count, *given), joined over tiles and processes."""

        def of_tile(tile):
            real = min(self._size, self._chains - tile * self._size)
            # 64 bits: for sums of any numbers, and for integers that hold the order of any.
            with jax.enable_x64(True):
                return np.asarray(function(of_tiles[tile], np.int32(real), *given))

        here = join(np.stack(list(self._pool.map(of_tile, range(len(of_tiles))))), axis=0)
        return join(distributed.together(here), axis=0)

    def _moments(self, of_tiles):
        """(mean, std, whether there is nan among the chains) [rows, ...]."""
        with np.errstate(invalid="ignore", over="ignore"):
            mean = self._over_chains(_sum, np.sum, of_tiles) / self._total
            squares = self._over_chains(_squares, np.sum, of_tiles, mean)
        std = np.sqrt(squares / (self._total - 1)) if self._total > 1 else np.zeros_like(mean)
        broken = np.zeros(mean.shape, bool)
        if np.isnan(mean).any():
            broken = self._over_chains(_has_nan, np.any, of_tiles)
        return mean, std, broken

    def _at_quantiles(self, of_tiles):
        """[rows, ..., quantile], linear as NumPy's; between infinite chains the lower."""
        at = self._quantiles * (self._total - 1)
        rank = np.floor(at).astype(np.int64)
        low, high = (self._selected if _are_here() else self._searched)(of_tiles, rank)
        return _between(low, high, at - rank)

    def _selected(self, of_tiles, rank):
        """The numbers of each rank and of the next one [rows, ..., quantile], by NumPy."""
        ranks = np.minimum([rank, rank + 1], self._total - 1)
        places = np.unique(ranks)
        tiles = [np.asarray(values) for values in of_tiles]  # no copies: they are here

        def of_row(row):
            keys = np.concatenate([_numpy_keys(values[row]) for values in tiles])[: self._total]
            keys.partition(places)
            return keys[places]

        shape = (self._count, *tiles[0].shape[1:-1])
        keys = np.zeros((*tiles[0].shape[:-1], len(places)), _key_type(tiles[0].dtype))
        found = self._pool.map(of_row, np.ndindex(shape))
        keys[: self._count] = np.reshape(list(found), (*shape, -1))
        values = _of_device_keys(keys, tiles[0].dtype)
        return tuple(values[..., np.searchsorted(places, one)] for one in ranks)

    def _searched(self, of_tiles, rank):
        """The same, by counting on the devices."""
        key, upto = self._ranked(of_tiles, rank)
        # The chain of the next rank has the same number, or the least above it.
        above = np.where(upto > rank + 1, key, self._keys(_least_above, np.min, of_tiles, key))
        above = np.where(rank + 1 < self._total, above, key)
        return tuple(_values(keys, of_tiles[0].dtype) for keys in (key, above))

    def _ranked(self, of_tiles, rank):
        """The key of the chain of each rank, and how many chains have it or a lower one.

        Both are [rows, ..., quantile]; the least chain has rank 0.
        """
        ends = (self._keys(_least, np.min, of_tiles), self._keys(_most, np.max, of_tiles))
        low, high = (np.repeat(end[..., None], len(rank), -1) for end in ends)
        # Chains below `low`, and those up to `high`.
        below, upto = np.zeros(low.shape, np.int64), np.full(low.shape, self._total)
        sample = self._sample(of_tiles)
        # Of the sorted sample, those from `first` to before `last` are left to be tried.
        first, last = np.zeros(low.shape, np.int64), np.full(low.shape, sample.shape[-1])
        turn, guess = 0, (rank + 0.5) / self._total * sample.shape[-1]
        margin = 3 * np.sqrt(guess * (1 - guess / sample.shape[-1]))
        # The least and the greatest of those that are left are found at once, wherever they are.
        while (wide := (low < high) & (below < rank) & (rank + 1 < upto)).any():
            # First where the rank is sure to lie between, judging by the sample; then halfway
            # through the sample in between; then where it would be if the numbers lay evenly, and
            # in the middle, by turns.
            place = guess + (-margin, margin)[turn] if turn < 2 else (first + last) // 2
            place = np.clip(place, first, np.maximum(last - 1, 0)).astype(np.int64)
            share = (rank + 0.5 - below) / (upto - below) if turn % 2 else 0.5
            step = np.minimum(
                ((high - low) * share).astype(np.uint64), np.maximum(high - low, 1) - 1
            )
            sampled = np.take_along_axis(sample, place, -1)
            use_sample = (first < last) & (low <= sampled) & (sampled < high)
            middle = np.where(use_sample, sampled, low + step)
            counts = self._counted(of_tiles, middle)
            enough, few = wide & (counts > rank), wide & (counts <= rank)
            high, upto = np.where(enough, middle, high), np.where(enough, counts, upto)
            low, below = np.where(few, middle + 1, low), np.where(few, counts, below)
            first = np.where(few, np.maximum(place + 1, first), first)
            last = np.where(enough, np.minimum(place, last), last)
            turn += 1
        keys = np.where(
            rank == below,
            self._keys(_least_from, np.min, of_tiles, low),
            self._keys(_most_upto, np.max, of_tiles, high),
        )
        return keys, self._counted(of_tiles, keys)

    def _counted(self, of_tiles, keys):
        """How many chains have each of the keys or a lower one."""
        return self._over_chains(_counts, np.sum, of_tiles, _device_keys(keys, of_tiles[0].dtype))

    def _sample(self, of_tiles):
        """Sorted keys of the first chains of process 0 [rows, ..., sample]."""
        # No more than every process has, since all of them send as many.
        most = min(self._chains, of_tiles[0].shape[-1], SAMPLE)
        count = int(distributed.together(np.array(most)).min())
        with jax.enable_x64(True):
            here = _host_keys(_every_key(of_tiles[0][..., :count], np.int32(count)))
        return np.sort(distributed.together(here)[0], -1)

    def _keys(self, function, join, of_tiles, *given):
        """`_over_chains` of functions of keys."""
        given = [_device_keys(keys, of_tiles[0].dtype) for keys in given]
        return self._over_chains(
            lambda *arguments: _host_keys(function(*arguments)), join, of_tiles, *given
        )


# Keys: integers in the order of the numbers, signed on the device, unsigned with 64 bits here.
_TOP = np.uint64(2**63)


def _are_here():
    """Whether the memory of this process holds all chains."""
    return jax.default_backend() == "cpu" and distributed.processes() == 1


def _key_type(dtype):
    return (
        np.int32
        if jnp.dtype(dtype) in (np.float32, np.float16, jnp.bfloat16, np.int32)
        else np.int64
    )


def _host_keys(keys):
    return np.asarray(keys).astype(np.int64).view(np.uint64) ^ _TOP


def _device_keys(keys, dtype):
    return (keys ^ _TOP).view(np.int64).astype(_key_type(dtype))


def _values(keys, dtype):
    """The numbers that keys stand for, as float64."""
    return _of_device_keys(_device_keys(keys, dtype), dtype)


def _numpy_keys(values):
    """Signed keys of numbers, as `_of_keys` makes them on a device."""
    dtype = _key_type(values.dtype)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return values.astype(dtype)
    bits = (values.astype(np.float32) if dtype == np.int32 else values).view(dtype)
    return np.where(bits < 0, bits ^ np.iinfo(dtype).max, bits)


def _of_device_keys(keys, dtype):
    if not jnp.issubdtype(dtype, jnp.floating):
        return keys.astype(np.float64)
    bits = np.where(keys < 0, keys ^ np.iinfo(keys.dtype).max, keys)
    return bits.view(np.float32 if keys.dtype == np.int32 else np.float64).astype(np.float64)


def _between(low, high, share):
    with np.errstate(invalid="ignore"):
        # From the nearer end, as NumPy does.
        linear = np.where(
            share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share)
        )
    return np.where(np.isfinite(low) & np.isfinite(high), linear, low)


def _over_chains(function: Callable) -> Callable:
    """Compiles function(values [rows, ..., chains], which chains count, ...).

    The compiled one takes how many of the chains count.
    """

    def masked(values, real, *given):
        return function(values, jnp.arange(values.shape[-1]) < real, *given)

    program = functools.cache(lambda: compiled(masked))  # once JAX knows its devices
    return lambda *arguments: program()(*arguments)


def _of_keys(function):
    def of_values(values, real, *given):
        dtype = _key_type(values.dtype)
        if not jnp.issubdtype(values.dtype, jnp.floating):
            keys = values.astype(dtype)
        else:
            floats = values.astype(jnp.float32) if dtype == np.int32 else values
            bits = jax.lax.bitcast_convert_type(floats, dtype)
            keys = jnp.where(bits < 0, bits ^ jnp.iinfo(dtype).max, bits)
        return function(keys, real, *given)

    return _over_chains(of_values)


def _float64(values):
    if values.dtype != jnp.float32:
        return values.astype(jnp.float64)
    # A CPU takes the smallest float32 numbers for 0; their bits count multiples of the least one.
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    size = bits & 0x7FFFFFFF
    return jnp.where(
        size < 2**23, jnp.where(bits < 0, -1, 1) * size * 2.0**-149, values.astype(jnp.float64)
    )


@_over_chains
def _sum(values, real):
    return jnp.where(real, _float64(values), 0).sum(-1)


@_over_chains
def _squares(values, real, mean):
    def of_row(row):
        values, mean = row
        return jnp.where(real, (_float64(values) - mean[..., None]) ** 2, 0).sum(-1)

    # Row by row, so that how many there are changes no last digit: a CPU fuses the square into a
    # sum that it orders by the shape. It is no slower.
    if jax.default_backend() == "cpu":
        return jax.lax.map(of_row, (values, mean))
    return of_row((values, mean))


@_over_chains
def _has_nan(values, real):
    return (jnp.isnan(values) & real).any(-1)


@_of_keys
def _least(keys, real):
    return jnp.where(real, keys, jnp.iinfo(keys.dtype).max).min(-1)


@_of_keys
def _most(keys, real):
    return jnp.where(real, keys, jnp.iinfo(keys.dtype).min).max(-1)


@_of_keys
def _every_key(keys, real):
    return keys


@_of_keys
def _counts(keys, real, threshold):
    # Those that do not count lie above any threshold: masked within the comparison, XLA's sum is
    # 20 times slower on a CPU.
    keys = jnp.where(real, keys, jnp.iinfo(keys.dtype).max)
    return (keys[..., None, :] <= threshold[..., None]).astype(jnp.int32).sum(-1, dtype=jnp.int32)


@_of_keys
def _most_upto(keys, real, threshold):
    keys, threshold = keys[..., None, :], threshold[..., None]
    return jnp.where(real & (keys <= threshold), keys, jnp.iinfo(keys.dtype).min).max(-1)


@_of_keys
def _least_above(keys, real, threshold):
    keys, threshold = keys[..., None, :], threshold[..., None]
    return jnp.where(real & (keys > threshold), keys, jnp.iinfo(keys.dtype).max).min(-1)


@_of_keys
def _least_from(keys, real, threshold):
    keys, threshold = keys[..., None, :], threshold[..., None]
    return jnp.where(real & (keys >= threshold), keys, jnp.iinfo(keys.dtype).max).min(-1)
