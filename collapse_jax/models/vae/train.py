"""Training: binary cross-entropy plus beta times KL, summed over a batch, by Adam with L2 decay."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from collapse_jax.errors import DivergenceError, InputError, one_key, real, whole
from collapse_jax.models.vae.model import VAE, VAEParams, decode, encode, init_params, size_of
from collapse_jax.random.derivatives import CHOICES, step_function

# Images in one call of the decoder: a large draw at once would hold every layer of every image.
_DECODED_AT_ONCE = 256


class VAETraining(NamedTuple):
    """Settings of one training; the defaults are the notebook's.

    weight_decay: added to the gradient (L2), not decoupled.
    beta: weight of the KL term.
    """

    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    beta: float = 1.0


class Stream(NamedTuple):
    """Places in an epoch that a decoder fills with new images in every batch.

    weight: [places], 1 for an image that counts.
    decoder: its parameters, of any capacity and number of latents.
    """

    weight: jax.Array
    decoder: dict


class TrainState(NamedTuple):
    """What a step changes: the network's parameters, and the state of Adam."""

    params: VAEParams
    optimiser: Any


def check_training(settings: VAETraining) -> None:
    """Raises `InputError` for the first setting that is out of range."""
    for name in ("epochs", "batch_size"):
        whole(name, getattr(settings, name), 1)
    for name in ("learning_rate", "weight_decay", "beta"):
        real(name, getattr(settings, name), at_least=0)


@functools.partial(jax.jit, static_argnames="model")
def loss(
    model: VAE, params: VAEParams, x: Any, weight: Any, noise: Any, beta: float = 1.0
) -> jax.Array:
    """Sum [] over images of weight (binary cross-entropy + beta KL), in nats.

    Args:
        x: [n, height, width] in [0, 1], not binarised.
        weight: [n].
        noise: [n, latent], standard normals of the reparametrisation.
        beta: Weight of the KL term.

    References:
        Kingma and Welling 2014, appendix B and C.1.
    """
    mean, log_variance = encode(model, params.encoder, x)
    logits = decode(model, params.decoder, mean + jnp.exp(log_variance / 2) * noise)
    cross_entropy = jnp.sum(jax.nn.softplus(logits) - x * logits, (1, 2))
    divergence = jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance, 1) / 2
    return jnp.sum(weight * (cross_entropy + beta * divergence))


def elbo(model: VAE, params: VAEParams, key: jax.Array, x: jax.Array) -> jax.Array:
    """Evidence lower bound [n] of each image x [n, height, width] in nats, one draw of its latents.

    The cross-entropy of grey images is not a log-density: it is bounded below by the entropy of the
    grey values, so that two sets of images can be compared only if they are equally grey.

    References:
        Kingma and Welling 2014, equation 10.
    """
    return _elbo(model, params, one_key("key", key), x)


@functools.partial(jax.jit, static_argnames="model")
def _elbo(model, params, key, x):
    noise = jax.random.normal(key, (len(x), model.latent))

    def bound(pair):
        image, draw = pair
        return -loss(model, params, image[None], jnp.ones(1), draw[None])

    return jax.lax.map(bound, (x, noise), batch_size=_DECODED_AT_ONCE)


def generate(model: VAE, decoder: dict, key: jax.Array, n: int, gives: str = "means") -> jax.Array:
    """n images [n, height, width] of latents drawn from the prior.

    gives: the decoder's "means", or "bernoulli" draws of 0 and 1.
    """
    return _generate(model, decoder, one_key("key", key), n, gives)


@functools.partial(jax.jit, static_argnames=("model", "n", "gives"))
def _generate(model, decoder, key, n, gives):
    latent_key, pixel_key = jax.random.split(key)
    z = jax.random.normal(latent_key, (n, model.latent))

    def mean_of(latents):
        return jax.nn.sigmoid(decode(model, decoder, latents[None])[0])

    if n <= _DECODED_AT_ONCE:
        means = jax.nn.sigmoid(decode(model, decoder, z))
    else:
        means = jax.lax.map(mean_of, z, batch_size=_DECODED_AT_ONCE)
    if gives == "means":
        return means
    pixels = jax.random.bernoulli(pixel_key, means)
    return step_function(pixels, means, CHOICES).astype(means.dtype)


def optimiser(settings: VAETraining) -> optax.GradientTransformation:
    """Adam with L2 weight decay in the gradient, as torch.optim.Adam has it."""
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.adam(settings.learning_rate, b1=0.9, b2=0.999, eps=1e-8),
    )


def step(
    model: VAE, settings: VAETraining, state: TrainState, x: Any, weight: Any, noise: Any
) -> tuple[TrainState, jax.Array]:
    """One optimiser step on a batch: the new state, and the summed loss. Arguments as in `loss`."""
    value, gradient = jax.value_and_grad(
        lambda params: loss(model, params, x, weight, noise, settings.beta)
    )(state.params)
    parameters: Any = state.params
    updates, moments = optimiser(settings).update(gradient, state.optimiser, parameters)
    fitted: Any = optax.apply_updates(parameters, updates)
    return TrainState(fitted, moments), value


def train(
    model: VAE,
    settings: VAETraining,
    key: jax.Array,
    x: jax.Array,
    weight: jax.Array,
    streams: tuple[Stream, ...] = (),
    gives: str = "means",
) -> tuple[VAEParams, jax.Array, jax.Array]:
    """A fresh network, trained on images and on streams; one compiled program.

    An epoch passes once over every filled slot and every place of a stream, in random order, in
    batches. A place gets another image in every batch.

    Args:
        key: Of the initial parameters, the order, the streams and the latents.
        x: [slots, height, width].
        weight: [slots], 0 for an empty slot.
        streams: Further places, filled by decoders.
        gives: What decoders give, as in `generate`.

    Returns:
        The parameters, the mean loss per image of every epoch [epochs] in nats, and the number of
        steps [].

    Raises:
        InputError: If an image or a weight is not a finite number, or a weight is negative. Inside
            `jit` and `vmap` nothing is checked, and nan losses are returned.
        DivergenceError: If the loss of an epoch is not finite; the text names it.
    """
    one_key("key", key)
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((x, weight, key)))
    if not traced:
        _check_images(x, weight, streams)
    params, losses, steps = _trained(model, settings, key, x, weight, streams, gives)
    if not traced and not (finite := np.isfinite(losses)).all():
        epoch = int(np.argmin(finite))
        raise DivergenceError(
            f"the loss became {losses[epoch]} in epoch {epoch} (learning rate "
            f"{settings.learning_rate:g}); try a smaller one"
        )
    return params, losses, steps


def _check_images(x, weight, streams):
    """Raises `InputError` for numbers that are none; images in empty slots may be anything."""
    for values in map(np.asarray, (weight, *(stream.weight for stream in streams))):
        if not (values >= 0).all():
            odd = values[~(values >= 0)][0]
            raise InputError(f"a weight is {odd}; it must be a number of at least 0")
    images = np.asarray(x)[np.asarray(weight) > 0]
    odd = ~np.isfinite(images)
    if odd.any():
        raise InputError(f"x holds {images[odd][0]} in {odd.sum()} places; it must be finite")


@functools.partial(jax.jit, static_argnames=("model", "settings", "gives"))
def _trained(model, settings, key, x, weight, streams, gives):
    """`train` as one compiled program."""
    # Images without weight count for nothing, whatever they hold: 0 times nan is nan.
    x = jnp.where((weight > 0)[:, None, None], x, 0)
    start_key, epochs_key = jax.random.split(key)
    parts = [weight, *(stream.weight for stream in streams)]
    slots = sum(len(part) for part in parts)
    weights = jnp.concatenate([*parts, jnp.zeros(1, weight.dtype)])
    batch = min(settings.batch_size, slots)
    most = -(-slots // batch)
    batches = -(-jnp.sum(weights > 0) // batch)
    images_at = _images_at(model, x, streams, batch, gives)

    # A scan over epochs of a loop over their batches, which updates its state in place.
    def epoch(state, key):
        order_key, batches_key = jax.random.split(key)
        order = jax.random.permutation(order_key, slots)
        # Empty slots last, so that at most one batch is partly empty.
        order = order[jnp.argsort(weights[order] <= 0, stable=True)]
        order = jnp.pad(order, (0, most * batch - slots), constant_values=slots)

        def one_batch(i, carry):
            state, total = carry
            image_key, noise_key = jax.random.split(jax.random.fold_in(batches_key, i))
            places = jax.lax.dynamic_slice_in_dim(order, i * batch, batch)
            noise = jax.random.normal(noise_key, (batch, model.latent))
            images = images_at(image_key, places)
            state, value = step(model, settings, state, images, weights[places], noise)
            return state, total + value

        state, total = jax.lax.fori_loop(0, batches, one_batch, (state, jnp.zeros(())))
        return state, total / jnp.maximum(jnp.sum(weights), jnp.finfo(total.dtype).tiny)

    params = init_params(model, start_key)
    state = TrainState(params, optimiser(settings).init(params))
    state, losses = jax.lax.scan(epoch, state, jax.random.split(epochs_key, settings.epochs))
    return state.params, losses, settings.epochs * batches


def _images_at(model, x, streams, batch, gives):
    """images_at(key, places [batch]) -> [batch, height, width]; streams follow the slots."""

    def images_at(key, places):
        end = len(x)
        images = jnp.zeros((batch, model.height, model.width))
        if end:
            images = x[jnp.minimum(places, end - 1)]
        for i, stream in enumerate(streams):
            network = size_of(stream.decoder, model.height, model.width)
            fresh_key = jax.random.fold_in(key, i)
            fresh = generate(network, stream.decoder, fresh_key, batch, gives)
            images = jnp.where((places >= end)[:, None, None], fresh, images)
            end += len(stream.weight)
        return images

    return images_at
