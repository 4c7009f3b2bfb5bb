"""A convolutional VAE as an estimator: each generation a fresh network on what the last decoder
gives (Shumailov et al. 2024).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError
from collapse_jax.models.vae.model import VAE, check_vae, encode, init_params
from collapse_jax.models.vae.train import Stream, VAETraining, check_training, generate, train

__all__ = ["vae"]

# Images behind the moments of a model; the same latents for every model, so that differences
# between generations are the models'.
_MOMENT_DRAWS = 1000


class StreamedImages(NamedTuple):
    """Evidence of fresh draws: real images, and how many images each of some decoders streams in
    every epoch.

    x: [slots, height, width] the real images, weight: [slots]. streams: a `Stream` (weight
    [places], decoder) for each decoder.
    """

    x: jax.Array
    weight: jax.Array
    streams: tuple[Stream, ...]


@named
def vae(
    height: int = 28,
    width: int = 28,
    *,
    capacity: int = 64,
    latent: int = 20,
    training: VAETraining = VAETraining(),
    gives: str = "means",
    draws: str = "fresh",
    probes: int = 100,
) -> Estimator:
    """Convolutional VAE trained from scratch in every generation; x is [n, height, width] in [0,
    1].

    capacity, latent: see `vae.VAE`; the defaults are the notebook's (647,081 parameters). training:
    see `vae.VAETraining`.
    gives: what the decoder's images are, its "means" (as released) or "bernoulli" draws of the
    pixels.
    draws: "fresh": a training set of n generated images is n places that get other images of the
    last decoder in every batch (as released), so that no sampling error of a finite set enters.
    Works with `replace` and `mix(alpha, 0, gamma, random_counts=False)` and a sample_size that is a
    number; others are refused when the process is made, because they need single images of earlier
    sets. "finite": n images are drawn once and trained on; works with every workflow.
    Metrics: mean (of all pixels, []), variance (of a pixel over images, mean over pixels),
    log_variance (its logarithm), from 1,000 images of fixed latents. Distances to a reference
    model: latent_deviation and latent_mean, the deviation (ddof = 0) and mean over
    all entries of the latent means that the reference's encoder gives to `probes` images of this
    model;
    `generational_process(..., remember_first=True)` offers latent_deviation_to_first, the published
    number. It compares no model with
    its own data: with draws="fresh" what shrinks it is approximation, not the sampling error of a
    training set.
    There is no log_prob; `vae.elbo` gives a bound. A sample where all images are equal, or none is
    there, gives finite numbers.
    Raises `InputError` for sizes, settings or options that have no meaning, and for images of
    another size.
    Source: Shumailov et al. 2024, released notebook on MNIST.
    """
    model = VAE(height, width, capacity, latent)
    check_vae(model)
    check_training(training)
    if gives not in ("means", "bernoulli"):
        raise InputError(f"gives is {gives!r}; it must be 'means' or 'bernoulli'")
    if draws not in ("fresh", "finite"):
        raise InputError(f"draws is {draws!r}; it must be 'fresh' or 'finite'")
    if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
        raise InputError(f"probes is {probes!r}; it must be an integer of at least 1")

    def fit(key, params, data):
        if data.x.shape[1:] != (height, width):
            raise InputError(
                f"images have shape {list(data.x.shape[1:])}; this VAE is made for "
                f"[{height}, {width}]"
            )
        fitted, losses, steps = train(
            model, training, key, data.x, data.weight, getattr(data, "streams", ()), gives
        )
        return fitted, FitInfo(jnp.isfinite(losses[-1]), steps, losses[-1], {"train_loss": losses})

    def sample(key, params, n):
        return generate(model, params.decoder, key, n, gives)

    def draw(key, params, n):
        # The images are drawn while the network is trained, with the key of the fit.
        return StreamedImages(
            jnp.zeros((0, height, width)), jnp.zeros(0), (Stream(jnp.ones(n), params.decoder),)
        )

    def moments(params):
        images = sample(jax.random.key(0), params, _MOMENT_DRAWS)
        return jnp.mean(images), jnp.mean(jnp.var(images, axis=0, ddof=1))

    def latent_means(params, reference):
        return encode(model, reference.encoder, sample(jax.random.key(1), params, probes))[0]

    streamed = {
        "draw": draw,
        "summarise": lambda x, weight: StreamedImages(x, weight, ()),
        "merge": _merge,
        "statistics": StreamedImages,
        "lazy": True,
    }
    return estimator(
        fit,
        sample,
        init=lambda key, data: init_params(model, key),
        metrics={
            "mean": lambda params: moments(params)[0],
            "variance": lambda params: moments(params)[1],
            "log_variance": lambda params: jnp.log(moments(params)[1]),
        },
        distances={
            "latent_deviation": lambda params, reference: jnp.std(latent_means(params, reference)),
            "latent_mean": lambda params, reference: jnp.mean(latent_means(params, reference)),
        },
        **(streamed if draws == "fresh" else {}),
    )


def example():
    """(Estimator, params) of a small network for 8x8 images with two latents, at its fresh
    parameters; finite draws.
    """
    model = vae(
        8, 8, capacity=2, latent=2, training=VAETraining(epochs=2, batch_size=32), draws="finite"
    )
    return model, init_params(VAE(8, 8, 2, 2), jax.random.key(0))


def _merge(a, b):
    return StreamedImages(
        jnp.concatenate([a.x, b.x]), jnp.concatenate([a.weight, b.weight]), a.streams + b.streams
    )


FAMILY = Family(vae, example)
