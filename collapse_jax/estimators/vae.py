"""A convolutional VAE as an estimator: each generation trains a new network."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from collapse_jax.core.data_checks import PointCheck
from collapse_jax.core.factory import estimator, named
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, one_of, whole
from collapse_jax.models.vae.model import VAE, VAEParams, check_vae, encode, init_params
from collapse_jax.models.vae.train import Stream, VAETraining, check_training, generate, train

__all__ = ["vae"]

# Images behind the moments of a model; all models get the same latents, so that differences between
# generations are the models'.
_MOMENT_DRAWS = 1000


class StreamedImages(NamedTuple):
    """A training set of real images, and of places that decoders fill with new images each batch.

    x: [slots, height, width], real images.
    weight: [slots], 0 where the slot is empty.
    streams: one `Stream` (weight [places], decoder) for each decoder.
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
    """Convolutional variational autoencoder (VAE); every generation trains a new network.

    Points x are images [n, height, width] with values in [0, 1].

    Metrics: mean (of all pixels, []), variance (of a pixel over images, averaged over pixels) and
    log_variance, from 1,000 images of fixed latents. Distances to a reference model:
    latent_deviation and latent_mean. The reference's encoder maps `probes` images of this model to
    latent means; these distances are the standard deviation (ddof = 0) and the mean of all their
    entries. `generational_process(..., remember_first=True)` offers latent_deviation_to_first, the
    number of Shumailov et al. 2024. With draws="fresh" it decreases because of approximation error
    alone, because no finite training set is drawn.

    There is no log_prob; `vae.elbo` returns a lower bound. A sample of equal images, or an empty
    one, gives finite numbers.

    Args:
        height: Pixels, a multiple of 4.
        width: Pixels, a multiple of 4.
        capacity: See `vae.VAE`; the defaults are those of the released notebook (647,081
            parameters).
        latent: See `vae.VAE`.
        training: See `vae.VAETraining`.
        gives: What a model samples: the decoder's "means" (as in the released notebook), or
            "bernoulli" draws of the pixels.
        draws: "fresh" (as in the released notebook): a training set of n synthetic images is n
            places, which get new images of the last decoder in every batch, so there is no sampling
            error of a finite set. It works with `replace` and `mix(alpha, 0, gamma,
            random_counts=False)` and with a sample_size that is a number. Other workflows need the
            images of earlier sets and are refused when the process is made. "finite": n images are
            drawn once and used for training; it works with every workflow.
        probes: The number of images from which the distances are computed.

    Raises:
        InputError: If an option is out of range, or images have another size.

    References:
        Shumailov et al. 2024, the notebook on MNIST that they released.
    """
    model = VAE(height, width, capacity, latent)
    check_vae(model)
    check_training(training)
    one_of("gives", gives, ("means", "bernoulli"), must_be="'means' or 'bernoulli'")
    one_of("draws", draws, ("fresh", "finite"), must_be="'fresh' or 'finite'")
    whole("probes", probes, 1)
    return _VAE(model, training, gives, probes).estimator(streamed=draws == "fresh")


@dataclasses.dataclass(frozen=True)
class _VAE:
    """The functions of the estimator."""

    model: VAE
    training: VAETraining
    gives: str
    probes: int

    def estimator(self, streamed):
        options: dict[str, Any] = {}
        if streamed:
            options = {"draw": self.draw, "summarise": _summarise, "merge": _merge}
            options |= {"statistics": StreamedImages, "lazy": True}
        return estimator(
            self.fit,
            self.sample,
            init=lambda key, data: init_params(self.model, key),
            weighed="trains on every image alike",
            check=PointCheck(
                f"vae({self.model.height}, {self.model.width})",
                "pixels from 0 to 1",
                (self.model.height, self.model.width),
                low=0,
                high=1,
                hint=_hint,
            ),
            metrics={
                "mean": lambda params: self.moments(params)[0],
                "variance": lambda params: self.moments(params)[1],
                "log_variance": lambda params: jnp.log(self.moments(params)[1]),
            },
            distances={
                "latent_deviation": lambda params, other: jnp.std(self.latents(params, other)),
                "latent_mean": lambda params, other: jnp.mean(self.latents(params, other)),
            },
            **options,
        )

    def fit(self, key, params, data):
        size = (self.model.height, self.model.width)
        if data.x.shape[1:] != size:
            raise InputError(
                f"images have shape {list(data.x.shape[1:])}; this VAE is made for {list(size)}"
            )
        streams = getattr(data, "streams", ())
        fitted, losses, steps = train(
            self.model, self.training, key, data.x, data.weight, streams, self.gives
        )
        return fitted, FitInfo(jnp.isfinite(losses[-1]), steps, losses[-1], {"train_loss": losses})

    def sample(self, key, params, n):
        return generate(self.model, params.decoder, key, n, self.gives)

    def draw(self, key, params, n):
        # The images are drawn while the network is trained, with the key of the fit.
        no_images = jnp.zeros((0, self.model.height, self.model.width))
        return StreamedImages(no_images, jnp.zeros(0), (Stream(jnp.ones(n), params.decoder),))

    def moments(self, params):
        images = self.sample(jax.random.key(0), params, _MOMENT_DRAWS)
        return jnp.mean(images), jnp.mean(jnp.var(images, axis=0, ddof=1))

    def latents(self, params, reference):
        images = self.sample(jax.random.key(1), params, self.probes)
        return encode(self.model, reference.encoder, images)[0]


def example() -> tuple[Estimator, VAEParams]:
    """Returns (Estimator, params): a small untrained network for 8x8 images with two latents."""
    training = VAETraining(epochs=2, batch_size=32)
    model = vae(8, 8, capacity=2, latent=2, training=training, draws="finite")
    return model, init_params(VAE(8, 8, 2, 2), jax.random.key(0))


def _hint(smallest, largest):
    return "divide by 255" if smallest >= 0 and 1 < largest <= 255 else ""


def _summarise(x, weight):
    return StreamedImages(x, weight, ())


def _merge(a, b):
    return StreamedImages(
        jnp.concatenate([a.x, b.x]), jnp.concatenate([a.weight, b.weight]), a.streams + b.streams
    )


FAMILY = Family(vae, example)
