"""The products of each precision: what factors they take, and what their sums are."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# (subscripts of two factors and their product as in `jnp.einsum`, factor, factor) -> float32.
Product = Callable[[str, jax.Array, jax.Array], jax.Array]


def precision_of(dtype: Any) -> jax.lax.Precision | None:
    """Of the products of a type: float32 means float32, on a GPU too."""
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None


def product_in(dtype: Any) -> Product:
    """The product of a model's `dtype`, with float32 sums in the forward and the backward pass.

    Args:
        dtype: "float32", or "bfloat16" for `rounded_product`.
    """
    if jnp.dtype(dtype) == jnp.bfloat16:
        return rounded_product
    return functools.partial(
        jnp.einsum, precision=precision_of(dtype), preferred_element_type=jnp.float32
    )


def rounded_product(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """The product (float32) of factors that are rounded to bfloat16; sums are float32.

    Both products of the gradient round their factors too, the incoming gradient among them. JAX
    alone would multiply it as float32, which matrix units do slowly or not at all. The gradients
    have the types of the factors, so that those of float32 parameters are not rounded.

    Args:
        subscripts: As in `jnp.einsum`, of two factors. Every letter is in exactly two of the three
            places, once in each.
        left, right: The factors, of any floating type.
    """
    product: Any = _with_gradient(subscripts, left, right)
    return product


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _with_gradient(subscripts, left, right):
    return _rounded(subscripts, left, right)


def _forward(subscripts, left, right):
    # Kept rounded, in half the memory; their types are kept in arrays without any element.
    kept = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    types = jnp.zeros(0, left.dtype), jnp.zeros(0, right.dtype)
    return _rounded(subscripts, *kept), (kept, types)


def _backward(subscripts, residuals, gradient):
    (left, right), (of_left, of_right) = residuals
    factors, result = subscripts.split("->")
    first, second = factors.split(",")
    to_left = _rounded(f"{result},{second}->{first}", gradient, right)
    # The factor whose letter comes first in the result comes first.
    forms = (f"{first},{result}", left, gradient), (f"{result},{first}", gradient, left)
    own = next(letter for letter in second if letter not in first or letter not in result)
    form, *both = forms[own in result]
    to_right = _rounded(f"{form}->{second}", *both)
    return to_left.astype(of_left.dtype), to_right.astype(of_right.dtype)


def _rounded(subscripts, left, right):
    left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    return jax.lax.platform_dependent(
        left,
        right,
        cpu=functools.partial(_for_cpu, subscripts),
        default=functools.partial(_einsum, subscripts),
    )


def _for_cpu(subscripts, left, right):
    """The product in the form that XLA hands to the matrix units of a CPU.

    They want the first factor's summed axes last. XLA (jaxlib 0.10) multiplies other products as
    float32, and fails with "Unsupported element type" where it turns one into such a form itself,
    as it does with transposes before and after a product of matrices. Hence the barriers.
    """
    factors, result = subscripts.split("->")
    first, second = factors.split(",")
    ordered = "".join(sorted(first, key=lambda letter: letter not in result))
    if ordered != first:
        left = left.transpose([first.index(letter) for letter in ordered])
        left = jax.lax.optimization_barrier(left)
    product = _einsum(f"{ordered},{second}->{result}", left, right)
    return jax.lax.optimization_barrier(product) if len(result) == 2 else product


def _einsum(subscripts, left, right):
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


_with_gradient.defvjp(_forward, _backward)


def dense_product(
    inputs: jax.Array, kernel: jax.Array, dimension_numbers: Any, precision: Any = None
) -> jax.Array:
    """`rounded_product` as the `dot_general` of a `flax.linen.Dense`.

    Args:
        inputs: [..., features].
        kernel: [features, outputs].
        dimension_numbers, precision: Of `Dense`, which always contracts the last axis of `inputs`.

    Returns:
        [..., outputs], float32.
    """
    outer = "abcdefgh"[: inputs.ndim - 1]
    return rounded_product(f"{outer}y,yz->{outer}z", inputs, kernel)


def unpromoted(*arrays: Any, dtype: Any = None) -> tuple:
    """The `promote_dtype` of a `flax.linen.Dense` whose product rounds: arrays as they are."""
    return arrays
