"""The convolutional VAE of Shumailov et al. 2024's notebook: model, training, images.

It is independent of generations.
"""

from collapse_jax.models.vae.images import Images, load_images
from collapse_jax.models.vae.model import VAE, VAEParams, decode, encode, init_params
from collapse_jax.models.vae.train import Stream, VAETraining, elbo, generate, loss, train

__all__ = [
    "VAE",
    "Images",
    "Stream",
    "VAEParams",
    "VAETraining",
    "decode",
    "elbo",
    "encode",
    "generate",
    "init_params",
    "load_images",
    "loss",
    "train",
]
