"""The network: two strided convolutions down to the latents, and their mirror image up again
(flax.linen).
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from collapse_jax.errors import InputError


class VAE(NamedTuple):
    """Sizes of the network; the defaults are the notebook's, 647,081 parameters.

    height, width: pixels, multiples of 4. capacity: channels after the first convolution, twice as
    many after the second.
    latent: number of latent variables.
    """

    height: int = 28
    width: int = 28
    capacity: int = 64
    latent: int = 20


class VAEParams(NamedTuple):
    """encoder, decoder: the linen parameters of the two halves, plain dicts."""

    encoder: dict
    decoder: dict


def check_vae(model: VAE) -> None:
    """Raises `InputError` for sizes that have no meaning."""
    for name, value in model._asdict().items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; it must be an integer of at least 1")
        if name in ("height", "width") and value % 4:
            raise InputError(
                f"{name} is {value}; it must be a multiple of 4, because two convolutions halve it"
            )


def size_of(decoder: dict, height: int, width: int) -> VAE:
    """The sizes of the network that a decoder's parameters belong to, for images of height x width."""
    return VAE(
        height, width, decoder["conv2"]["bias"].shape[0], decoder["dense"]["kernel"].shape[0]
    )


@functools.partial(jax.jit, static_argnames="model")
def init_params(model: VAE, key) -> VAEParams:
    """Fresh parameters: weights and biases uniform on +-1/sqrt(fan-in), as torch starts its layers.

    The fan-in of a transposed convolution counts its output channels, as torch has it.
    """
    encoder_key, decoder_key = jax.random.split(key)
    x, z = jnp.zeros((1, model.height, model.width)), jnp.zeros((1, model.latent))
    return VAEParams(
        _Encoder(model.capacity, model.latent).init(encoder_key, x)["params"],
        _decoder(model).init(decoder_key, z)["params"],
    )


@functools.partial(jax.jit, static_argnames="model")
def encode(model: VAE, encoder: dict, x):
    """Mean and log-variance [n, latent] of the latents given images x [n, height, width]."""
    return _Encoder(model.capacity, model.latent).apply({"params": encoder}, x)


@functools.partial(jax.jit, static_argnames="model")
def decode(model: VAE, decoder: dict, z):
    """Logits [n, height, width] of the pixels given latents z [n, latent]; their sigmoids are the
    decoder's means.
    """
    return _decoder(model).apply({"params": decoder}, z)


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
    """Convolution with kernel 4, stride 2, padding 1: [n, h, w, c] -> [n, h / 2, w / 2, features],
    as one matrix product.

    XLA's own convolutions of this form and their gradients take 12 to 30 times longer on a CPU, and
    more with a kernel a chain.
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
    """Transposed convolution with kernel 4, stride 2, padding 1: [n, h, w, c] -> [n, 2 h, 2 w,
    features], as one matrix product.

    What pixel i gives to row 2 i + k - 1 is kernel[k]; the taps of a row are 2 q + r.
    """

    features: int

    @nn.compact
    def __call__(self, x):
        n, height, width, channels = x.shape
        start = _uniform(16 * self.features)
        kernel = self.param("kernel", start, (4, 4, channels, self.features))
        bias = self.param("bias", start, (self.features,))
        y = x @ kernel.transpose(2, 0, 1, 3).reshape(channels, 16 * self.features)
        y = y.reshape(n, height, width, 2, 2, 2, 2, self.features).transpose(
            3, 5, 0, 1, 4, 2, 6, 7
        )  # q, q', n, i, r, j, r', c
        y = _overlapped(y[0], y[1], 2)
        y = _overlapped(y[0], y[1], 3)
        return y.reshape(n, 2 * height + 2, 2 * width + 2, self.features)[:, 1:-1, 1:-1] + bias


def _overlapped(first, second, axis):
    """first + second moved by one along the axis, which grows by one."""
    return sum(
        jnp.pad(one, [side if i == axis else (0, 0) for i in range(one.ndim)])
        for one, side in ((first, (0, 1)), (second, (1, 0)))
    )


def _uniform(fan_in):
    def start(key, shape):
        return jax.random.uniform(key, shape, minval=-(fan_in**-0.5), maxval=fan_in**-0.5)

    return start
