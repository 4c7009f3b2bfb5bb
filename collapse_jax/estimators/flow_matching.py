"""Flow matching: a network that carries noise to points along straight paths."""

from collections.abc import Sequence
from typing import Literal

import jax

from collapse_jax.core.factory import named
from collapse_jax.core.types import Estimator, Family
from collapse_jax.errors import one_of, whole
from collapse_jax.estimators.learned import LearnedParams, denoising, random_output
from collapse_jax.models.densities.levels import SOLVERS, of_flow
from collapse_jax.models.densities.training import Training

__all__ = ["flow_matching"]


@named
def flow_matching(
    dim: int | Sequence[int],
    *,
    levels: int = 30,
    solver: Literal["heun", "euler"] = "heun",
    width: int | None = None,
    depth: int = 3,
    steps: int = 2000,
    batch_size: int = 256,
    learning_rate: float = 3e-3,
    start: Literal["fresh", "previous"] = "fresh",
    standardise: bool = True,
) -> Estimator:
    """Conditional flow matching with a small network.

    Points x are [n, dim], or images [n, *dim] with values in [0, 1]. The network predicts the
    velocity x - e of the straight path from noise e to a point x. It is trained at the `levels`
    equally spaced times at which the solver uses it. Training, metrics and images are as in
    `diffusion`.

    With up to 16 coordinates there is a log_prob: the exact density of the solver's samples, for
    which each step is inverted by Newton's method; nan if that fails.

    Args:
        dim: Dimensions of a point, at least 1, or the shape of an image, such as (28, 28).
        levels: Steps of the solver from noise to points.
        solver: The solver of the differential equation: "heun" (second order) or "euler" (first).
        width: Width of the hidden layers, by default 64.
        depth: Number of hidden layers. 0: an affine map at each time, whose samples are Gaussian
            (`theory.denoising`); for up to 64 coordinates.
        steps: Steps of the optimiser in each generation.
        batch_size: Points per step, drawn with replacement.
        learning_rate: The learning rate of the first step.
        start: "fresh": each fit starts with a new network; "previous": with the previous one.
        standardise: As in `diffusion`.

    Raises:
        InputError: If an argument is out of its range, or width is given for depth = 0.

    References:
        Lipman et al. 2023, arXiv 2210.02747; Liu et al. 2023, arXiv 2209.03003.
    """
    learned, walk = of_flow(whole("levels", levels, 1), one_of("solver", solver, SOLVERS))
    training = Training(steps, batch_size, learning_rate)
    return denoising(
        "flow_matching", dim, learned, walk, width, depth, training, start, standardise
    ).estimator()


def example() -> tuple[Estimator, LearnedParams]:
    """Returns (Estimator, params): a small untrained network in two dimensions."""
    made = flow_matching(2, levels=6, width=16, depth=1, steps=40, batch_size=64)
    return made, random_output(made.init(jax.random.key(0), None))


FAMILY = Family(flow_matching, example)
