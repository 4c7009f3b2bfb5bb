"""Closed forms and exact recursions of model collapse, in NumPy and SciPy float64.

Nothing here imports another part of this library (not even JAX), so it can judge all the rest.

ancestry              expected diversity in every workflow, from shared ancestry of training points
categorical           Wright-Fisher chain: heterozygosity, counts, loss, support, missing mass,
entropy, distances
absorption            when one category is left: fixation by a generation, exact and diffusion times
lineages              living ancestors; loss and support for any sample size; branching bounds
zipf                  Zipf populations: tail and missing mass, distinct count, exact and asymptotic
gaussian              refitted Gaussian: mean, variance, log variance and its law, log determinant,
limits
accumulation          typical path of the 1-D Gaussian under 'accumulate'
lyapunov              the d log scales of a refitted Gaussian: exponents and exact law
wasserstein           expected squared Wasserstein-2 distance: 1-D exact, d dimensions in parts and
bounds
gaussian_divergence   expected Kullback-Leibler divergences and cross entropy of a refitted Gaussian
known_variance        chain of means with known variance
exponential_families  one-parameter families: mean and its error in every workflow, log drifts,
Poisson extinction
distribution_mixture  the paper's alpha-beta-gamma chain of laws, for Gaussian fits
kernel_density        kernel density estimates, which widen
regression            regressions on the previous fit's labels: test error, limits, verified labels
interventions         sampling bias, curation, correction, detection, temperature
mixture_projection    Gaussian mixtures without sampling error: what a family that cannot hold the
truth loses
monte_carlo           runs that a mean needs, second moments, a tail bound
log_chi               moments of chi and log chi variables, law of their sums

Index convention: generation 0 is the model fitted to `sample_size` real draws, so the law at
generation g has seen
g + 1 samplings. Papers that start to count at the first fit (t = 1) mean generation t - 1.
"""

from . import (
    absorption,
    accumulation,
    ancestry,
    categorical,
    distribution_mixture,
    exponential_families,
    gaussian,
    gaussian_divergence,
    interventions,
    kernel_density,
    known_variance,
    lineages,
    log_chi,
    lyapunov,
    mixture_projection,
    monte_carlo,
    regression,
    wasserstein,
    zipf,
)

__all__ = [
    "absorption",
    "accumulation",
    "ancestry",
    "categorical",
    "distribution_mixture",
    "exponential_families",
    "gaussian",
    "gaussian_divergence",
    "interventions",
    "kernel_density",
    "known_variance",
    "lineages",
    "log_chi",
    "lyapunov",
    "mixture_projection",
    "monte_carlo",
    "regression",
    "wasserstein",
    "zipf",
]
