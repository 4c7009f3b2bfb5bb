"""A normalizing flow: invertible layers with an exact density, fitted by maximum likelihood.

Each layer transforms about half of the coordinates, with parameters that a small network computes
from the others; in one dimension a layer is a single map. A new flow is the identity, so it starts
as the Gaussian with the data's means and standard deviations. Splines are the identity beyond 5
standard deviations.
"""

from typing import Literal

import jax

from collapse_jax.core.factory import named
from collapse_jax.core.types import Estimator, Family
from collapse_jax.errors import InputError, one_of, whole
from collapse_jax.estimators.learned import (
    Learned,
    LearnedParams,
    checked_start,
    checked_width,
    random_output,
)
from collapse_jax.models.densities.coupling import TRANSFORMS, Coupling
from collapse_jax.models.densities.training import Training, check_training

__all__ = ["normalizing_flow"]
BINS = 8


@named
def normalizing_flow(
    dim: int,
    *,
    layers: int = 4,
    transform: Literal["spline", "affine"] = "spline",
    bins: int | None = None,
    width: int | None = None,
    depth: int = 2,
    steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    start: Literal["fresh", "previous"] = "fresh",
    standardise: bool = True,
) -> Estimator:
    """Normalizing flow of coupling layers, fitted by maximum likelihood.

    Points x are [n, dim]. log_prob is exact. Equal points give a model with all mass at that point.

    Metrics: mean ([dim]; [] for dim = 1), variance (trace / dim) and log_variance (log-determinant
    / dim), from 4,096 draws.

    Args:
        dim: Dimensions of a point, at least 1.
        layers: Number of coupling layers.
        transform: The map of a layer in each coordinate: a monotone "spline" of rational quadratic
            pieces, or an "affine" map. In one dimension "affine" is a Gaussian.
        bins: Pieces of a spline, by default 8.
        width: Width of the hidden layers, by default 64.
        depth: Number of hidden layers of the networks.
        steps: Steps of the optimiser (Adam, whose learning rate falls to 0) in each generation.
        batch_size: Points per step, drawn with replacement.
        learning_rate: The learning rate of the first step.
        start: "fresh": each fit starts with a new flow; "previous": with the previous one.
        standardise: As in `diffusion`.

    Raises:
        InputError: If an argument is out of its range; if bins is given for affine layers, or width
            for depth = 0.

    References:
        Dinh et al. 2017, arXiv 1605.08803 (affine); Durkan et al. 2019, arXiv 1906.04032 (spline).
    """
    dim, depth, bins = whole("dim", dim, 1), whole("depth", depth, 0), _bins(transform, bins)
    flow = Coupling(
        dim,
        whole("layers", layers, 1),
        checked_width(width, depth),
        depth,
        transform,
        bins,
    )
    return Learned(
        "normalizing_flow",
        flow,
        (dim,),
        check_training(Training(steps, batch_size, learning_rate)),
        checked_start(start),
        one_of("standardise", standardise, (True, False)),
        has_density=True,
    ).estimator()


def _bins(transform, bins):
    """The number of pieces of splines; `InputError` for affine layers, which have none."""
    if one_of("transform", transform, TRANSFORMS) == "affine" and bins is not None:
        raise InputError(
            f"bins is {bins!r} with transform 'affine', which ignores it; give transform='spline'"
        )
    return BINS if bins is None else whole("bins", bins, 2, 256)


def example() -> tuple[Estimator, LearnedParams]:
    """Returns (Estimator, params): a small untrained flow in two dimensions."""
    made = normalizing_flow(2, layers=2, width=16, depth=1, steps=40, batch_size=64, bins=4)
    return made, random_output(made.init(jax.random.key(0), None))


FAMILY = Family(normalizing_flow, example)
