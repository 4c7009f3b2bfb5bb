"""Rotary positions: pairs of coordinates (i, i + n / 2) of a head turn with the position."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collapse_jax.models.lm.switches import Rotary


def frequencies(rotary: Rotary, head_dim: int) -> np.ndarray:
    """Radians [turning / 2] by which each pair of coordinates turns from one position to the next.

    References:
        Su et al. 2021, arXiv 2104.09864 (theta); Chen et al. 2023, arXiv 2306.15595 ("linear");
        the model card of Llama 3.1 (`low`, `high`): wavelengths below original / high stay,
        those above original / low are stretched, and between them the two are mixed.
    """
    turning = int(head_dim * rotary.share)
    # In float32 throughout, because that is the precision of the pretraining.
    exponents = np.arange(0, turning, 2, dtype=np.float32) / np.float32(turning)
    speeds = 1.0 / np.power(np.float32(rotary.theta), exponents)
    stretched = speeds / np.float32(rotary.factor)
    if rotary.low is None or rotary.high is None or rotary.original is None:
        return stretched
    turns = rotary.original * speeds / (2 * math.pi)  # within the original context
    kept = np.clip((turns - rotary.low) / (rotary.high - rotary.low), 0, 1)
    return ((1 - kept) * stretched + kept * speeds).astype(np.float32)


def angles(rotary: Rotary, head_dim: int, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines [batch or 1, 1, n, turning / 2] at int positions [batch or 1, n]."""
    turns = positions[:, None, :, None].astype(jnp.float32) * frequencies(rotary, head_dim)
    return jnp.cos(turns), jnp.sin(turns)


def turned(x: jax.Array, cos_sin: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Heads [batch, heads, positions, head_dim] after their first coordinates were turned."""
    cos, sin = cos_sin
    half = cos.shape[-1]
    first: Any = x[..., :half].astype(jnp.float32)
    second: Any = x[..., half : 2 * half].astype(jnp.float32)
    parts = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate([part.astype(x.dtype) for part in parts] + [x[..., 2 * half :]], -1)
