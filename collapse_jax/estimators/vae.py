"""A convolutional VAE as an estimator: each generation a fresh network on the last one's images."""

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
    """A training set of fresh draws: real images, and places that decoders fill in every batch.

    x: [slots, height, width], real images.
    weight: [slots].
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
    """Convolutional VAE, trained anew in every generation; x is [n, height, width] in [0, 1].

    Metrics: mean (of all pixels, []), variance (of a pixel over images, mean over pixels) and
    log_variance, from 1,000 images of fixed latents. Distances to a reference model:
    latent_deviation and latent_mean, the deviation (ddof = 0) and the mean over all entries of the
    latent means that the reference's encoder gives to `probes` images of this model.
    `generational_process(..., remember_first=True)` offers latent_deviation_to_first, the published
    number. It does not compare a model with its own data: with draws="fresh" what shrinks it is
    approximation, not the sampling error of a training set.

    There is no log_prob; `vae.elbo` gives a bound. A sample of equal images, or of none, gives
    finite numbers.

    Args:
        height: Pixels, a multiple of 4.
        width: Pixels, a multiple of 4.
        capacity: See `vae.VAE`; the defaults are the notebook's (647,081 parameters).
        latent: See `vae.VAE`.
        training: See `vae.VAETraining`.
        gives: The decoder's "means" (as released), or "bernoulli" draws of the pixels.
        draws: "fresh" (as released): a training set of n generated images is n places that get
            other images of the last decoder in every batch, so that no sampling error of a finite
            set enters. It works with `replace` and `mix(alpha, 0, gamma, random_counts=False)` and
            a sample_size that is a number; other workflows need single images of earlier sets, and
            are refused when the process is made. "finite": n images are drawn once and trained on;
            works with every workflow.
        probes: Images behind the distances.

    Raises:
        InputError: If an option is out of range, or images have another size.

    References:
        Shumailov et al. 2024, released notebook on MNIST.
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
    """A small network for 8x8 images with two latents and finite draws, and fresh parameters."""
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
