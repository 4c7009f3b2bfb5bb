"""Training: binary cross-entropy plus beta times KL, both summed over the batch, by Adam as torch's
weight decay means it.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from collapse_jax.errors import InputError
from collapse_jax.models.vae.model import VAE, VAEParams, decode, encode, init_params, size_of

# Images in one call of the decoder: all of a large draw at once would hold every layer of every
# image.
_DECODED_AT_ONCE = 256


class VAETraining(NamedTuple):
    """Settings of one training; the defaults are the notebook's.

    weight_decay is added to the gradient (L2), not decoupled. beta: weight of the KL term.
    """

    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    beta: float = 1.0


class Stream(NamedTuple):
    """Places in an epoch that are filled anew in every batch with what a decoder gives.

    weight: [places] of each, 1 for an image that counts. decoder: the parameters of the decoder, of
    any
    capacity and number of latents.
    """

    weight: jax.Array
    decoder: dict


class TrainState(NamedTuple):
    """params: the network's. optimiser: Adam's moments."""

    params: VAEParams
    optimiser: Any


def check_training(settings: VAETraining) -> None:
    """Raises `InputError` for settings that have no meaning."""
    for name in ("epochs", "batch_size"):
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; it must be an integer of at least 1")
    for name in ("learning_rate", "weight_decay", "beta"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} is {value}; it must be finite and not negative")


@functools.partial(jax.jit, static_argnames="model")
def loss(model: VAE, params: VAEParams, x, weight, noise, beta: float = 1.0):
    """Sum over images of weight (binary cross-entropy + beta KL), in nats, [].

    x: [n, height, width] in [0, 1], not binarised. weight: [n]. noise: [n, latent] standard normals
    of the reparametrisation.
    Source: Kingma and Welling 2014, appendix B and C.1.
    """
    mean, log_variance = encode(model, params.encoder, x)
    logits = decode(model, params.decoder, mean + jnp.exp(log_variance / 2) * noise)
    cross_entropy = jnp.sum(jax.nn.softplus(logits) - x * logits, (1, 2))
    divergence = jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance, 1) / 2
    return jnp.sum(weight * (cross_entropy + beta * divergence))


@functools.partial(jax.jit, static_argnames="model")
def elbo(model: VAE, params: VAEParams, key, x):
    """Evidence lower bound of each image x [n, height, width] with one draw of its latents: [n]
    nats.

    For images that are not binary the cross-entropy is no log-density: it is bounded below by the
    entropy of the grey values, so that numbers of two sets of images compare only where these are
    equally grey.
    Source: Kingma and Welling 2014, equation 10.
    """
    noise = jax.random.normal(key, (len(x), model.latent))

    def bound(pair):
        image, draw = pair
        return -loss(model, params, image[None], jnp.ones(1), draw[None])

    return jax.lax.map(bound, (x, noise), batch_size=_DECODED_AT_ONCE)


@functools.partial(jax.jit, static_argnames=("model", "n", "gives"))
def generate(model: VAE, decoder: dict, key, n: int, gives: str = "means"):
    """n images [n, height, width] of latents drawn from the prior: the decoder's "means", or
    "bernoulli" draws of 0 and 1.
    """
    latent_key, pixel_key = jax.random.split(key)
    z = jax.random.normal(latent_key, (n, model.latent))

    if n <= _DECODED_AT_ONCE:
        means = jax.nn.sigmoid(decode(model, decoder, z))
    else:
        means = jax.lax.map(
            lambda one: jax.nn.sigmoid(decode(model, decoder, one[None])[0]),
            z,
            batch_size=_DECODED_AT_ONCE,
        )
    if gives == "means":
        return means
    return jax.random.bernoulli(pixel_key, means).astype(means.dtype)


def optimiser(settings: VAETraining):
    """Adam with L2 weight decay in the gradient (torch.optim.Adam's), as an optax transformation."""
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.adam(settings.learning_rate, b1=0.9, b2=0.999, eps=1e-8),
    )


def step(model: VAE, settings: VAETraining, state: TrainState, x, weight, noise):
    """One optimiser step on a batch: (state, its summed loss). Arguments as in `loss`."""
    value, gradient = jax.value_and_grad(
        lambda params: loss(model, params, x, weight, noise, settings.beta)
    )(state.params)
    updates, moments = optimiser(settings).update(gradient, state.optimiser, state.params)
    return TrainState(optax.apply_updates(state.params, updates), moments), value


@functools.partial(jax.jit, static_argnames=("model", "settings", "gives"))
def train(
    model: VAE,
    settings: VAETraining,
    key,
    x,
    weight,
    streams: tuple[Stream, ...] = (),
    gives: str = "means",
):
    """A fresh network trained on images x [slots, height, width] with weights [slots] (0: an empty
    slot) and on streams.

    An epoch passes once over every filled slot and every place of a stream, in random order, in
    batches; a place gets another image
    in every batch. One compiled program: a scan over epochs of a loop over their batches, which
    updates its state in place.
    Returns (params, mean loss per image of every epoch [epochs] in nats, number of steps []).
    """
    start_key, epochs_key = jax.random.split(key)
    sizes = [x.shape[0], *(stream.weight.shape[0] for stream in streams)]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    slots = ends[-1]
    weights = jnp.concatenate(
        [weight, *(stream.weight for stream in streams), jnp.zeros(1, weight.dtype)]
    )
    batch = min(settings.batch_size, slots)
    most = -(-slots // batch)
    batches = -(-jnp.sum(weights > 0) // batch)

    def images_at(key, places):
        images = (
            x[jnp.minimum(places, sizes[0] - 1)]
            if sizes[0]
            else jnp.zeros((batch, model.height, model.width))
        )
        for i, stream in enumerate(streams):
            fresh = generate(
                size_of(stream.decoder, model.height, model.width),
                stream.decoder,
                jax.random.fold_in(key, i),
                batch,
                gives,
            )
            images = jnp.where((places >= ends[i])[:, None, None], fresh, images)
        return images

    def epoch(state, key):
        order_key, batches_key = jax.random.split(key)
        order = jax.random.permutation(order_key, slots)
        order = order[
            jnp.argsort(weights[order] <= 0, stable=True)
        ]  # empty slots last, so that no batch is partly empty but one
        order = jnp.pad(order, (0, most * batch - slots), constant_values=slots)

        def one_batch(i, carry):
            state, total = carry
            image_key, noise_key = jax.random.split(jax.random.fold_in(batches_key, i))
            places = jax.lax.dynamic_slice_in_dim(order, i * batch, batch)
            noise = jax.random.normal(noise_key, (batch, model.latent))
            state, value = step(
                model, settings, state, images_at(image_key, places), weights[places], noise
            )
            return state, total + value

        state, total = jax.lax.fori_loop(0, batches, one_batch, (state, jnp.zeros(())))
        return state, total / jnp.maximum(jnp.sum(weights), jnp.finfo(total.dtype).tiny)

    params = init_params(model, start_key)
    state = TrainState(params, optimiser(settings).init(params))
    state, losses = jax.lax.scan(epoch, state, jax.random.split(epochs_key, settings.epochs))
    return state.params, losses, settings.epochs * batches
