"""Diffusion: a network that takes noise away level by level, trained on points or images.

The network predicts the velocity at each level, from which noise and point follow, with Adam, whose
rate falls to 0 as a cosine. With the samplers ddim and probability_flow and up to 16 coordinates
there is a log_prob: the exact density of what the sampler gives, in which each step is inverted by
Newton's method; nan where that fails. Ancestral sampling has no density that could be told.
"""

from collections.abc import Sequence
from typing import Literal

import jax

from collapse_jax.core.factory import named
from collapse_jax.core.types import Estimator, Family
from collapse_jax.errors import one_of, whole
from collapse_jax.estimators.learned import LearnedParams, denoising, random_output
from collapse_jax.models.densities.levels import SAMPLERS, SCHEDULES, of_diffusion
from collapse_jax.models.densities.training import Training

__all__ = ["diffusion"]


@named
def diffusion(
    dim: int | Sequence[int],
    *,
    levels: int = 30,
    schedule: Literal["cosine", "linear"] = "cosine",
    sampler: Literal[
        "ancestral", "ancestral_large", "ddim", "probability_flow"
    ] = "probability_flow",
    width: int | None = None,
    depth: int = 3,
    steps: int = 2000,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    start: Literal["fresh", "previous"] = "fresh",
    standardise: bool = True,
) -> Estimator:
    """Diffusion model by a small network; x is [n, dim], or images [n, *dim] in [0, 1].

    `FitInfo` holds the mean loss of the last tenth of the steps. A sample of equal points gives the
    model of that point. log_prob is exact where the sampler draws its first noise alone.

    Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim) and log_variance (log-determinant
    / dim), exact for depth = 0, else from 4,096 draws. Of images mean (of all pixels, []), variance
    (of a pixel over images, mean over pixels) and log_variance, from 1,000 images.

    Args:
        dim: Dimensions of a point, at least 1, or the shape of an image, as (28, 28).
        levels: Levels of noise, at which the network is trained and by which it is sampled.
        schedule: Of the noise. "cosine": equal steps of the angle whose cosine multiplies the
            point. "linear": rates of noise from 0.1 to 20.
        sampler: "probability_flow" (Heun's method) and "ddim" draw the first noise alone;
            "ancestral" draws noise at each level by the variance of the posterior,
            "ancestral_large" by that of the noise added. With few levels all but the first narrow
            by themselves (`theory.denoising.kept_variance`).
        width: Of hidden layers, by default 64.
        depth: Hidden layers. 0: an affine map at each level, whose samples are Gaussian
            (`theory.denoising`); up to 64 coordinates.
        steps: Of the optimiser, in each generation.
        batch_size: Points in a step, drawn with replacement.
        learning_rate: Of the first step.
        start: "fresh": a new network in each generation. "previous": that of the generation before.
        standardise: Whether points are shifted and scaled to mean 0 and deviation 1 in each
            coordinate (ddof = 0) before each fit; images by one number for all pixels.

    Raises:
        InputError: If an argument is out of its range, or width is given for depth = 0.

    References:
        Ho et al. 2020, arXiv 2006.11239; Song et al. 2021, arXiv 2010.02502 (ddim), 2011.13456
        (probability flow); in generational chains Alemohammad et al. 2023, arXiv 2307.01850.
    """
    learned, walk = of_diffusion(
        whole("levels", levels, 1),
        one_of("schedule", schedule, SCHEDULES),
        one_of("sampler", sampler, SAMPLERS),
    )
    training = Training(steps, batch_size, learning_rate)
    return denoising(
        "diffusion", dim, learned, walk, width, depth, training, start, standardise
    ).estimator()


def example() -> tuple[Estimator, LearnedParams]:
    """(Estimator, params) of a small network at random, in two dimensions."""
    made = diffusion(2, levels=8, sampler="ddim", width=16, depth=1, steps=40, batch_size=64)
    return made, random_output(made.init(jax.random.key(0), None))


FAMILY = Family(diffusion, example)
