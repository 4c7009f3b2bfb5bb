"""LoRA: a projection W becomes W + (alpha / rank) A B, and only A and B are trained.

References:
    Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". A and B here are the
    transposes of those there, as the kernels of Flax are.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from collapse_jax.errors import InputError
from collapse_jax.models.lm.fit_settings import FineTune
from collapse_jax.models.lm.transformer import Transformer


class Adapter(NamedTuple):
    """The two matrices of one projection.

    a: [inputs, rank].
    b: [rank, outputs].
    """

    a: jax.Array
    b: jax.Array


def adapted_kernels(params: dict, settings: FineTune) -> dict[str, tuple[int, int]]:
    """The projections that get an adapter: "layers_0/self_attn/q_proj" -> (inputs, outputs).

    Args:
        params: Of the model.
        settings: `lora_rank` and `lora_targets`.

    Raises:
        InputError: If the model has no projection of a name, or the rank is above that of every
            projection.
    """
    kernels = {path[:-1]: leaf.shape for path, leaf in _kernels(params)}
    known = list(dict.fromkeys(path[-1] for path in kernels))
    for name in settings.lora_targets:
        if name not in known:
            raise InputError(
                f"lora_targets names {name!r}; the projections of this model are {', '.join(known)}"
            )
    shapes = {
        "/".join(path): shape
        for path, shape in sorted(kernels.items())
        if path[-1] in settings.lora_targets
    }
    most = max(min(shape) for shape in shapes.values())
    if settings.lora_rank > most:
        raise InputError(
            f"lora_rank is {settings.lora_rank}; the matrices of {', '.join(settings.lora_targets)}"
            f" have rank {most} at most"
        )
    return shapes


def trained_count(params: dict, settings: FineTune) -> int:
    """Number of parameters that a fit trains: those of the adapters, or all.

    Raises:
        InputError: As `adapted_kernels`.
    """
    if not settings.lora_rank:
        return sum(leaf.size for leaf in jax.tree.leaves(params))
    shapes = adapted_kernels(params, settings).values()
    return settings.lora_rank * sum(map(sum, shapes))


def init_adapters(params: dict, settings: FineTune, key: jax.Array) -> dict[str, Adapter]:
    """Adapters that change nothing yet: A is normal with standard deviation 1 / rank, B is zero.

    The paper gives no standard deviation; this is that of peft's `init_lora_weights="gaussian"`.

    Args:
        params: Of the model.
        settings: `lora_rank` and `lora_targets`.
        key: Projection i, in the order of their names, gets `fold_in(key, i)`.
    """
    rank = settings.lora_rank
    return {
        name: Adapter(
            jax.random.normal(jax.random.fold_in(key, i), (inputs, rank)) / rank,
            jnp.zeros((rank, outputs)),
        )
        for i, (name, (inputs, outputs)) in enumerate(adapted_kernels(params, settings).items())
    }


def scale_of(settings: FineTune) -> float:
    """The factor of the product of A and B."""
    return settings.lora_alpha / settings.lora_rank


@contextlib.contextmanager
def adapted(model: Transformer, adapters: dict[str, Adapter], scale: float) -> Iterator[None]:
    """Within this context, `model.apply` adds each adapter's output to that of its projection.

    The weights are not touched, so that no gradient of their size is formed.

    Args:
        model: Its `dtype` is that of the factors, and its precision that of the products.
        adapters: By the path of the projection in the parameters.
        scale: `scale_of` the settings.
    """
    used = set()

    def product(x, matrix):
        dtype = jnp.dtype(model.dtype)
        return jnp.matmul(
            x.astype(dtype),
            matrix.astype(dtype),
            precision=model.precision,
            preferred_element_type=jnp.float32,
        )

    def add(next_function, arguments, options, context) -> Any:
        outputs = next_function(*arguments, **options)
        # Other methods are called outside `apply` too, where a module has no path.
        is_call = context.method_name == "__call__"
        name = "/".join(context.module.path) if is_call else None
        if name not in adapters:
            return outputs
        used.add(name)
        more = product(product(arguments[0], adapters[name].a), adapters[name].b)
        return outputs + (scale * more).astype(outputs.dtype)

    with nn.intercept_methods(add):
        yield
    missed = adapters.keys() - used
    if missed:  # it would be trained on a gradient of zero
        raise AssertionError(f"the model never calls {', '.join(sorted(missed))}")


def merged(params: dict, adapters: dict[str, Adapter], scale: float) -> dict:
    """Returns parameters in which W + scale * A B replaces each W that has an adapter.

    Args:
        params: Not changed; the result shares all other arrays with them.
        adapters: By the path of the projection.
        scale: `scale_of` the settings.
    """
    flat: dict[Any, Any] = flatten_dict(params)
    paths = {name: (*name.split("/"), "kernel") for name in adapters}
    kernels = _sums({name: flat[path] for name, path in paths.items()}, adapters, scale)
    return unflatten_dict(flat | {path: kernels[name] for name, path in paths.items()})


@jax.jit
def _sums(kernels, adapters, scale):
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    return {name: kernel + scale * product(*adapters[name]) for name, kernel in kernels.items()}


def _kernels(params):
    """(path, matrix) of every projection among the parameters."""
    flat: dict[Any, Any] = flatten_dict(params)
    return [(path, leaf) for path, leaf in flat.items() if path[-1] == "kernel" and leaf.ndim == 2]
