"""Categorical distribution with a Dirichlet prior: a posterior draw, posterior mean or mode."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from collapse_jax.core.closed_forms import ClosedForms, Setting
from collapse_jax.core.factory import named
from collapse_jax.core.tracing import real_or_traced
from collapse_jax.core.types import Estimator, Family, FitInfo
from collapse_jax.errors import InputError, numbers, one_of
from collapse_jax.estimators.categorical import (
    CategoricalParams,
    Counts,
    categorical,
    categorical_params,
)
from collapse_jax.random.chi_square import dirichlet

__all__ = ["dirichlet_multinomial"]

ESTIMATES = ("sample", "mean", "mode", "maximum_likelihood")
# The default prior: every p is as likely.
_UNIFORM = 1.0
# Categories of the real distribution that the command line starts from, unless it is told.
_USUAL = 6


@named
def dirichlet_multinomial(
    num_categories: int,
    prior: float | Sequence[float] | ArrayLike | jax.Array | None = None,
    estimate: Literal["sample", "mean", "mode", "maximum_likelihood"] = "sample",
    method: Literal["auto", "binomials", "individuals"] = "auto",
) -> Estimator:
    """Categorical distribution with a Dirichlet prior; by default a model is a posterior draw.

    Points x are int32 [n], categories 0 .. num_categories - 1. A model is
    p ~ Dirichlet(prior + counts). Under `replace` the chain is a Gibbs sampler of p and of the
    counts, so its stationary distribution is Dirichlet(prior) for every sample size. The chain is
    a Wright-Fisher chain with mutation, and it forgets the real distribution. With prior 0 it
    collapses about twice as fast as maximum likelihood.

    Parameters, metrics and distances are those of `categorical`, and the same sources can be used.
    A category with a positive prior or count gets a probability of at least 5e-38 (float64:
    9e-308), because the drawn probability may be too small for a float.

    Args:
        num_categories: K, at least 1.
        prior: the number that the prior adds to the count of each category, a number or [K], at
            least 0; 1 by default, the uniform prior. 0 is improper: a category that is lost never
            comes back.
        estimate: how the model is chosen from the posterior: "sample" draws from it, "mean" is
            (prior + count) / (sum of prior + M), "mode" is the same with prior - 1 and needs a
            prior of at least 1. "maximum_likelihood" is count / M and takes no prior.
        method: how counts are drawn, as in `categorical`.

    Raises:
        InputError: if an argument is out of its range, or a prior is given that would be ignored.

    References:
        Derived (`theory.bayesian`); the sampler's eigenvalues as in Diaconis, Khare and
        Saloff-Coste 2008.
    """
    base = categorical(num_categories, method)
    posterior = _Posterior(one_of("estimate", estimate, ESTIMATES), None)
    posterior = posterior._replace(prior=_checked(prior, num_categories, estimate))
    if estimate == "maximum_likelihood":
        return base._replace(compaction=None)
    return base._replace(init=_init, fit=posterior.fit, copied=None)


def example() -> tuple[Estimator, CategoricalParams]:
    """Returns (Estimator, params) with six categories of unequal probability."""
    probabilities = [0.4, 0.25, 0.15, 0.1, 0.07, 0.03]
    return dirichlet_multinomial(6, 0.5), categorical_params(probabilities)


class _Posterior(NamedTuple):
    """What of the posterior is the model; prior: [K] or one number."""

    estimate: str
    prior: Any

    def fit(self, key: jax.Array, params: Any, statistics: Counts):
        prior = jnp.asarray(self.prior, jnp.result_type(float))
        if self.estimate == "mode":
            prior = prior - 1
        # Chains list all categories: none is left out that a prior may bring back.
        weights = statistics.counts + jnp.broadcast_to(prior, statistics.counts.shape)
        if self.estimate == "sample":
            # A probability below the smallest float would take its category from the support.
            least = 4 * jnp.finfo(weights.dtype).tiny
            weights = jnp.where(weights > 0, jnp.maximum(dirichlet(key, weights), least), weights)
        return CategoricalParams(weights, statistics.categories), FitInfo.exact()


def _init(key, statistics):
    weights = jnp.ones(statistics.counts.shape, jnp.result_type(float))
    return CategoricalParams(weights, statistics.categories)


def _checked(prior, num_categories, estimate):
    """The prior as a number or an array [K], traced or not."""
    if estimate == "maximum_likelihood":
        if prior is not None:
            raise InputError(
                f"prior is {prior!r:.60} with estimate 'maximum_likelihood', which ignores it; "
                "give estimate='sample', 'mean' or 'mode'"
            )
        return 0.0
    least = 1 if estimate == "mode" else 0
    must_be = f"finite and at least {least}"
    if estimate == "mode":
        must_be += " for a mode"
    prior = _UNIFORM if prior is None else prior
    if np.ndim(prior) == 0:
        return real_or_traced("prior", prior, at_least=least, must_be=must_be)
    if np.shape(prior) != (num_categories,):
        raise InputError(
            f"prior has shape {list(np.shape(prior))}; it must be one number or [{num_categories}]"
        )
    if isinstance(prior, jax.core.Tracer):
        return jnp.where(jnp.isfinite(prior) & (prior >= least), prior, jnp.nan)
    values = numbers("prior", prior)
    broken = ~(np.isfinite(values) & (values >= least))
    if broken.any():
        place = int(np.argmax(broken))
        raise InputError(f"prior[{place}] is {values[place]}; it must be {must_be}")
    return values


def _real(options: Mapping[str, Any]) -> tuple[Estimator, CategoricalParams]:
    """Categories of equal probability."""
    given: dict[str, Any] = {"num_categories": _USUAL, **options}
    number = given["num_categories"]
    return dirichlet_multinomial(**given), categorical_params(np.full(number, 1 / number))


def _means(setting: Setting, generation: ArrayLike) -> dict[str, np.ndarray]:
    from collapse_jax.theory import bayesian as theory  # here: theory imports scipy.stats

    options, estimate = setting.options, setting.options["estimate"]
    number = options.get("num_categories", _USUAL)
    if setting.workflow["workflow"] != "replace" or estimate == "mode":
        return {}
    prior = _UNIFORM if options["prior"] is None else options["prior"]
    curve = theory.expected_heterozygosity(
        generation,
        setting.sample_size,
        np.full(number, 1 / number),
        0.0 if estimate == "maximum_likelihood" else prior,
        sampled=estimate == "sample",
    )
    return {"heterozygosity": curve}


FAMILY = Family(
    dirichlet_multinomial,
    example,
    label="{num_categories} categories, Dirichlet prior {prior}, {estimate}",
    metrics=("heterozygosity", "entropy", "support"),
    laws=ClosedForms(_means, real=_real),
)
