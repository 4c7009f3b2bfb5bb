"""The network in Flax linen: two strided convolutions to the latents, and their mirror image."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from collapse_jax.errors import InputError, one_key, whole


class VAE(NamedTuple):
    """Sizes of the network; the defaults are the notebook's, 647,081 parameters.

    height, width: pixels, multiples of 4.
    capacity: channels after the first convolution; twice as many after the second.
    latent: number of latent variables.
    """

    height: int = 28
    width: int = 28
    capacity: int = 64
    latent: int = 20


class VAEParams(NamedTuple):
    """The linen parameters of the two halves, plain dicts."""

    encoder: dict
    decoder: dict


def check_vae(model: VAE) -> None:
    """Raises `InputError` for the first size that is out of range."""
    for name, value in model._asdict().items():
        whole(name, value, 1)
        if name in ("height", "width") and value % 4:
            raise InputError(
                f"{name} is {value}; it must be a multiple of 4, because two convolutions halve it"
            )


def size_of(decoder: dict, height: int, width: int) -> VAE:
    """The network that a decoder's parameters belong to, for images of height x width."""
    return VAE(
        height, width, decoder["conv2"]["bias"].shape[0], decoder["dense"]["kernel"].shape[0]
    )


def init_params(model: VAE, key: jax.Array) -> VAEParams:
    """Fresh parameters: weights and biases uniform on +-1/sqrt(fan-in), as torch starts its layers.

    The fan-in of a transposed convolution counts its output channels, as in torch.
    """
    return _init_params(model, one_key("key", key))


@functools.partial(jax.jit, static_argnames="model")
def _init_params(model, key):
    encoder_key, decoder_key = jax.random.split(key)
    x, z = jnp.zeros((1, model.height, model.width)), jnp.zeros((1, model.latent))
    encoder = _Encoder(model.capacity, model.latent).init(encoder_key, x)
    decoder = _decoder(model).init(decoder_key, z)
    return VAEParams(dict(encoder["params"]), dict(decoder["params"]))


@functools.partial(jax.jit, static_argnames="model")
def encode(
    model: VAE, encoder: dict, x: Float[Array, "n height width"]
) -> tuple[Float[Array, "n latent"], Float[Array, "n latent"]]:
    """Mean and log-variance of the latents given images x."""
    latents: Any = _Encoder(model.capacity, model.latent).apply({"params": encoder}, x)
    return latents


@functools.partial(jax.jit, static_argnames="model")
def decode(
    model: VAE, decoder: dict, z: Float[Array, "n latent"]
) -> Float[Array, "n height width"]:
    """Logits of the pixels given latents z; their sigmoids are the decoder's means."""
    logits: Any = _decoder(model).apply({"params": decoder}, z)
    return logits


def _decoder(model):
    return _Decoder(model.height // 4, model.width // 4, model.capacity)


class _Encoder(nn.Module):
    capacity: int
    latent: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(_Halve(self.capacity, name="conv1")(x[..., None]))
        x = nn.relu(_Halve(2 * self.capacity, name="conv2")(x))
        x = x.reshape(x.shape[0], -1)
        return _Dense(self.latent, name="mean")(x), _Dense(self.latent, name="log_variance")(x)


class _Decoder(nn.Module):
    height: int
    width: int
    capacity: int

    @nn.compact
    def __call__(self, z):
        x = _Dense(self.height * self.width * 2 * self.capacity, name="dense")(z)
        x = x.reshape(-1, self.height, self.width, 2 * self.capacity)
        x = nn.relu(_Double(self.capacity, name="conv2")(x))
        return _Double(1, name="conv1")(x)[..., 0]


class _Dense(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        start = _uniform(x.shape[-1])
        kernel = self.param("kernel", start, (x.shape[-1], self.features))
        return x @ kernel + self.param("bias", start, (self.features,))


class _Halve(nn.Module):
    """Convolution with kernel 4, stride 2, padding 1, as one matrix product.

    [n, h, w, c] -> [n, h / 2, w / 2, features]. XLA's convolutions of this form and their gradients
    take 12 to 30 times longer on a CPU, and more with a kernel for each chain.
    """

    features: int

    @nn.compact
    def __call__(self, x):
        n, height, width, channels = x.shape
        start = _uniform(16 * channels)
        kernel = self.param("kernel", start, (4, 4, channels, self.features))
        bias = self.param("bias", start, (self.features,))
        # Tap 2q + r of a row reads row r of block i + q, where blocks are pairs of the padded rows.
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(
            n, height // 2 + 1, 2, width // 2 + 1, 2, channels
        )
        x = jnp.stack([x[:, :-1], x[:, 1:]], 2)
        x = jnp.stack([x[..., :-1, :, :], x[..., 1:, :, :]], 5)  # n, i, q, r, j, q', r', c
        x = x.transpose(0, 1, 4, 2, 3, 5, 6, 7).reshape(n, height // 2, width // 2, 16 * channels)
        return x @ kernel.reshape(16 * channels, self.features) + bias


class _Double(nn.Module):
    """Transposed convolution with kernel 4, stride 2, padding 1, as one matrix product.

    [n, h, w, c] -> [n, 2 h, 2 w, features]. Pixel i adds its product with kernel[k] to row
    2 i + k - 1; the taps of a row are k = 2 q + r.
    """

    features: int

    @nn.compact
    def __call__(self, x):
        n, height, width, channels = x.shape
        start = _uniform(16 * self.features)
        kernel = self.param("kernel", start, (4, 4, channels, self.features))
        bias = self.param("bias", start, (self.features,))
        y = x @ kernel.transpose(2, 0, 1, 3).reshape(channels, 16 * self.features)
        y = y.reshape(n, height, width, 2, 2, 2, 2, self.features)  # n, i, j, q, r, q', r', c
        y = y.transpose(3, 5, 0, 1, 4, 2, 6, 7)  # q, q', n, i, r, j, r', c
        y = _overlapped(y[0], y[1], 2)
        y = _overlapped(y[0], y[1], 3)
        return y.reshape(n, 2 * height + 2, 2 * width + 2, self.features)[:, 1:-1, 1:-1] + bias


def _overlapped(first, second, axis):
    """first + second moved by one along the axis, which grows by one."""

    def padded(array, sides):
        return jnp.pad(array, [sides if i == axis else (0, 0) for i in range(array.ndim)])

    return padded(first, (0, 1)) + padded(second, (1, 0))


def _uniform(fan_in):
    def start(key, shape):
        return jax.random.uniform(key, shape, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)

    return start
