"""The loss of a tied head without all logits at once: some positions at a time."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from collapse_jax.models.lm.products import rounded_product
from collapse_jax.models.lm.transformer import capped

# Rows of logits that exist at once: enough for the matrix units, little beside the parameters.
_ROWS = 2048


def separate_losses(
    hidden: jax.Array,
    embedding: jax.Array,
    targets: jax.Array,
    precision: jax.lax.Precision | None = None,
    cap: float | None = None,
) -> jax.Array:
    """Negative log-likelihoods [batch, positions] (float32) in nats, without their sum.

    For scoring: a gradient through it would hold all logits. Arguments as in `summed_loss`.
    """

    def part(inputs):
        states, words = inputs
        logits = capped(_product(hidden, precision)("bpw,vw->bpv", states, matrix), cap)
        return optax.softmax_cross_entropy_with_integer_labels(logits, words)

    matrix = embedding.astype(hidden.dtype)
    batch, positions = targets.shape
    if batch * positions <= _ROWS:
        return part((hidden, targets))
    losses = jax.lax.map(part, _in_parts((hidden, targets)))  # [parts, batch, at_once]
    return jnp.moveaxis(losses, 0, 1).reshape(batch, -1)[:, :positions]


def losses_and_entropies(
    hidden: jax.Array,
    embedding: jax.Array,
    targets: jax.Array,
    precision: jax.lax.Precision | None = None,
    cap: float | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`separate_losses`, and the entropy in nats of the distribution at each position.

    The entropy is -sum p log p over the vocabulary, from the same logits: one more pass over them,
    and no product. No term of its sum is negative, so that nothing cancels.

    Returns:
        Two arrays [batch, positions] (float32).
    """

    def part(inputs):
        states, words = inputs
        logits = capped(_product(hidden, precision)("bpw,vw->bpv", states, matrix), cap)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, words)
        log_total = losses + jnp.take_along_axis(logits, words[..., None], -1)[..., 0]
        log_probs = logits - log_total[..., None]
        # A certain model's is 0, up to the rounding of logits.
        return losses, jnp.maximum(-jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1), 0)

    matrix = embedding.astype(hidden.dtype)
    batch, positions = targets.shape
    if batch * positions <= _ROWS:
        return part((hidden, targets))
    parts = jax.lax.map(part, _in_parts((hidden, targets)))  # each [parts, batch, at_once]
    losses, entropies = (
        jnp.moveaxis(array, 0, 1).reshape(batch, -1)[:, :positions] for array in parts
    )
    return losses, entropies


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def summed_loss(
    hidden: jax.Array,
    embedding: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    precision: jax.lax.Precision | None = None,
    cap: float | None = None,
) -> jax.Array:
    """The sum [] over sequences and positions of weight * negative log-likelihood, in nats.

    Only `hidden` and `embedding` have gradients. Derived: the gradient of the logits is softmax
    minus one-hot, known with the logits, so the forward pass folds it into the gradients of
    `hidden` and `embedding`. The cost is three products with the embedding, as without it.

    Args:
        hidden: [batch, positions, width], final hidden states. Their type is that of the factors
            of all three products, whose sums are float32.
        embedding: [vocabulary, width]; its gradient has its type.
        targets: int [batch, positions], the token after each position.
        weights: [batch], of each sequence.
        precision: Of the products; sums are float32.
        cap: Logits x become cap * tanh(x / cap); None leaves them.
    """
    return _by_parts(hidden, embedding, targets, weights, precision, cap, False)[0]


def _forward(hidden, embedding, targets, weights, precision, cap):
    return _by_parts(hidden, embedding, targets, weights, precision, cap, True)


def _backward(precision, cap, gradients, scale):
    to_hidden, to_embedding = gradients
    return (
        to_hidden * scale.astype(to_hidden.dtype),
        to_embedding * scale.astype(to_embedding.dtype),
        None,
        None,
    )


def _by_parts(hidden, embedding, targets, weights, precision, cap, differentiate):
    """(loss [], (gradient of hidden, gradient of embedding)), some positions at a time."""
    batch, positions, width = hidden.shape
    counted = jnp.broadcast_to(weights[:, None].astype(jnp.float32), targets.shape)
    inputs = _in_parts((hidden, targets, counted))
    product, matrix = _product(hidden, precision), embedding.astype(hidden.dtype)

    def part(carry, inputs) -> tuple[Any, Any]:
        loss, to_embedding = carry
        states, words, weight = inputs
        logits = product("bpw,vw->bpv", states, matrix)  # [batch, at_once, vocabulary]
        logits = capped(logits, cap)
        log_total = jax.nn.logsumexp(logits, axis=-1)
        loss = loss + jnp.sum(
            weight * (log_total - jnp.take_along_axis(logits, words[..., None], -1)[..., 0])
        )
        if not differentiate:
            return (loss, to_embedding), ()
        is_word = jnp.arange(logits.shape[-1]) == words[..., None]
        to_logits = (jnp.exp(logits - log_total[..., None]) - is_word) * weight[..., None]
        if cap is not None:
            to_logits = to_logits * (1 - (logits / cap) ** 2)
        to_logits = to_logits.astype(hidden.dtype)
        to_states = product("bpv,vw->bpw", to_logits, matrix).astype(hidden.dtype)
        return (loss, to_embedding + product("bpw,bpv->wv", states, to_logits)), to_states

    # [width, vocabulary], transposed to the embedding: only the small factor of the product that is
    # added to it is then transposed.
    start = jnp.zeros(()), jnp.zeros(embedding.shape[::-1] if differentiate else (), jnp.float32)
    (loss, to_embedding), to_states = jax.lax.scan(part, start, inputs)
    if not differentiate:
        return loss, None
    to_hidden = jnp.moveaxis(to_states, 0, 1).reshape(batch, -1, width)[:, :positions]
    return loss, (to_hidden, to_embedding.T.astype(embedding.dtype))


def _in_parts(arrays):
    """Arrays [batch, positions, ...] as [parts, batch, at_once, ...], the last part padded."""
    batch, positions = arrays[0].shape[:2]
    at_once = min(max(_ROWS // batch, 1), positions)
    parts = -(-positions // at_once)
    missing = parts * at_once - positions

    def cut(array):
        padded = jnp.pad(array, ((0, 0), (0, missing)) + ((0, 0),) * (array.ndim - 2))
        return jnp.moveaxis(padded.reshape(batch, parts, at_once, *array.shape[2:]), 1, 0)

    return [cut(array) for array in arrays]


def _product(hidden, precision):
    if hidden.dtype == jnp.bfloat16:
        return rounded_product
    return functools.partial(jnp.einsum, precision=precision, preferred_element_type=jnp.float32)


summed_loss.defvjp(_forward, _backward)
