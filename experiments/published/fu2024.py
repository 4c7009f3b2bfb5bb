"""Fu et al. 2024: total variation rises and falls again as synthetic data joins the real data.

For a Gaussian this is exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2402.11778",
    "Fu et al. 2024",
    "Towards Theoretical Understandings of Self-Consuming Generative Models",
)


@entry(
    "fu-phase",
    claim="At a fixed generation and with the same real points kept, the total variation "
    "distance to the real distribution first rises with the number of synthetic points, "
    "then falls again.",
    status="derived here",
    setting="1-D Gaussian of known variance, 20 real points and 5 to 5,000 synthetic ones, "
    "generation 5, 200,000 chains",
    oracle="theory.known_variance.kept_real_squared_mean_error and expected_total_variation; the "
    "claim (for bounds on diffusion models): abstract of the paper",
    x="synthetic points",
    y="total variation",
    log="x",
)
def phase(key):
    made, found = np.array([5, 20, 80, 400, 5_000]), []
    kept = cj.Workflow(
        "keep_the_real",
        lambda supply, data: data,
        lambda key, real, supply, n: (real, supply.merge(real, supply.model(key, n))),
    )
    family = cj.estimators.gaussian_mean([[1.0]])
    real = cj.sources.population(family, cj.estimators.gaussian_mean_params([0.0]))
    for one, number in zip(jax.random.split(key, len(made)), made, strict=True):
        process = cj.generational_process(
            family,
            real,
            kept,
            sample_size=lambda generation, number=number: jnp.where(generation == 0, 20, number),
        )
        mean = cj.simulate(
            process, one, generations=5, chains=200_000, metrics=("mean",), record=[5]
        )["mean"][:, -1].astype(np.float64)
        found.append(2 * special.ndtr(np.abs(mean) / 2) - 1)
    found = np.stack(found, axis=1)
    error = np.array(
        [theory.known_variance.kept_real_squared_mean_error(5, 20, int(number)) for number in made]
    )
    return [
        compare.means(
            found,
            theory.known_variance.expected_total_variation(error),
            at=made,
            what="total variation, generation 5",
        ),
        compare.exceeds(found[:, 2], found[:, 0], at=made[2:3], what="80 synthetic points above 5"),
        compare.exceeds(
            found[:, 2], found[:, -1], at=made[2:3], what="80 synthetic points above 5,000"
        ),
    ]
