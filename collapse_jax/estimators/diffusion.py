"""Diffusion: a network that removes noise level by level, trained on points or images.

The network predicts the velocity at each level, from which noise and point follow. It is trained
with Adam, whose learning rate falls to 0 along a cosine. With the samplers ddim and
probability_flow and up to 16 coordinates there is a log_prob: the exact density of the samples, for
which each step is inverted by Newton's method; nan if that fails. With ancestral sampling the
density cannot be computed.
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
    """Diffusion model with a small network.

    Points x are [n, dim], or images [n, *dim] in [0, 1]. The loss in `FitInfo` is the mean over the
    last tenth of the steps. Equal points give a model with all mass at that point. There is an
    exact log_prob for the samplers that draw only the first noise.

    Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim) and log_variance (log-determinant
    / dim), exact for depth = 0, else from 4,096 draws. Images: mean (of all pixels, []), variance
    (of a pixel over images, averaged over pixels), log_variance, from 1,000 images.

    Args:
        dim: Dimensions of a point, at least 1, or the shape of an image, such as (28, 28).
        levels: The number of noise levels, in training and in sampling.
        schedule: "cosine": equal steps of the angle whose cosine multiplies the point. "linear":
            noise rates from 0.1 to 20.
        sampler: "probability_flow" (Heun's method) and "ddim" draw only the first noise;
            "ancestral" draws noise at each level with the posterior variance, "ancestral_large"
            with that of the added noise. With few levels all but the first reduce the variance
            (`theory.denoising.kept_variance`).
        width: Width of the hidden layers, by default 64.
        depth: Hidden layers. 0: affine maps with Gaussian samples, for up to 64 coordinates.
        steps: Steps of the optimiser in each generation.
        batch_size: Points per step, drawn with replacement.
        learning_rate: The learning rate of the first step.
        start: "fresh": each fit starts with a new network; "previous": with the previous one.
        standardise: Whether each coordinate (images: all pixels alike) is scaled to mean 0 and
            standard deviation 1 (ddof = 0) before each fit.

    Raises:
        InputError: If an argument is out of its range, or width is given for depth = 0.

    References:
        Ho et al. 2020 (arXiv 2006.11239); Song et al. 2021 (2010.02502: ddim; 2011.13456:
        probability flow); in generational chains: Alemohammad et al. 2023 (2307.01850).
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
    """Returns (Estimator, params): a small untrained network in two dimensions."""
    made = diffusion(2, levels=8, sampler="ddim", width=16, depth=1, steps=40, batch_size=64)
    return made, random_output(made.init(jax.random.key(0), None))


FAMILY = Family(diffusion, example)
