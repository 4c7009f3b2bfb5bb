"""Closed forms and exact recursions of model collapse, in NumPy and SciPy float64.

Nothing here imports another part of this library (not even JAX), so that it can test all the rest.

ancestry              expected diversity in every workflow, from shared ancestry of training points
islands               K models that read each other: shared ancestry, linear models
subdivision           their classical forms; two outcomes with a curation for each model
categorical           Wright-Fisher chain: heterozygosity, counts, loss, support, entropy, distances
absorption            when one category is left: fixation, exact and diffusion times
genealogy             whose real data is still there: reach, common ancestors, Kingman
lineages              surviving ancestors; loss and support for any sample size; branching bounds
zipf                  Zipf populations: tail and missing mass, distinct count, exact and asymptotic
gaussian              refitted Gaussian: mean, variance, log variance, log determinant, limits
accumulation          typical path of the 1-D Gaussian under 'accumulate'
lead_times            generations between an alarm and a collapse
lyapunov              the d log scales of a refitted Gaussian: exponents and exact law
wasserstein           expected squared Wasserstein-2 distance: exact in 1-D, bounds in d dimensions
gaussian_divergence   expected divergences and cross entropy of a refitted Gaussian
known_variance        chain of means with known variance
bayesian              models drawn from their posterior: stationary laws, drifts, moments
exponential_families  one-parameter families: mean and its error, log drifts, extinction
real_batches          real data in every batch of an accumulating pool: exact moments, rates
schedules             shares and sizes that change; recovery and its half-life; contamination
distribution_mixture  the alpha-beta-gamma chain of laws, for Gaussian fits
drifting_verifier     a verifier that is refitted to what it lets pass; a fitted detector
selection             counts under a curation: takeover of an outcome, laws of several
urns                  data that is kept and copied point by point; originals in a sample
kernel_density        kernel density estimates, which widen; the limit of many points
kernel_support        the mass they put where the population has none
denoising             affine denoisers: what diffusion and flow matching sample, and keep
regression            regressions on the previous fit's labels: test error, limits, verified labels
wrong_labels          least squares on rows that another model has labelled
weights               synthetic points that weigh less in the fit: errors, limits, the best weight
spending              any numbers of real and synthetic points, generation by generation
bootstrapping         budgets of curated rounds that are drawn to a goal
interventions         sampling bias, curation, correction, detection, temperature
feedback              a power sharpens counts, real data renews them: threshold, fold, loop
mixture_projection    Gaussian mixtures without sampling error: what a misspecified family loses
monte_carlo           runs that a mean needs, second moments, a tail bound
log_chi               moments of chi and log chi variables, law of their sums

Conventions, unless a function says otherwise:

- Generation 0 is the model fitted to `sample_size` real draws, so that the model of generation g is
    the result of g + 1 samplings. In papers that count from the first fit (t = 1), t is generation
    t - 1 here.
- generation: int or int array >= 0.
- sample_size: M, an int >= 1; for the workflow 'replace' also a 1-D schedule M_0, M_1, ... with at
  least max(generation) + 1 entries.
- ddof: 0 is the maximum-likelihood variance, 1 the unbiased one. It has no default, because with 0
    the typical variance collapses about twice as fast.
- Results are float64 arrays of generation's shape. The shape of another array argument (value,
  probability) is appended.
- Logarithms are natural, so that entropies and divergences are in nats.
- Invalid arguments raise ValueError.
"""

from . import (
    absorption,
    accumulation,
    ancestry,
    bayesian,
    bootstrapping,
    categorical,
    denoising,
    distribution_mixture,
    drifting_verifier,
    exponential_families,
    feedback,
    gaussian,
    gaussian_divergence,
    genealogy,
    interventions,
    islands,
    kernel_density,
    kernel_support,
    known_variance,
    lead_times,
    lineages,
    log_chi,
    lyapunov,
    mixture_projection,
    monte_carlo,
    real_batches,
    regression,
    schedules,
    selection,
    spending,
    subdivision,
    urns,
    wasserstein,
    weights,
    wrong_labels,
    zipf,
)

__all__ = [
    "absorption",
    "accumulation",
    "ancestry",
    "bayesian",
    "bootstrapping",
    "categorical",
    "denoising",
    "distribution_mixture",
    "drifting_verifier",
    "exponential_families",
    "feedback",
    "gaussian",
    "gaussian_divergence",
    "genealogy",
    "interventions",
    "islands",
    "kernel_density",
    "kernel_support",
    "known_variance",
    "lead_times",
    "lineages",
    "log_chi",
    "lyapunov",
    "mixture_projection",
    "monte_carlo",
    "real_batches",
    "regression",
    "schedules",
    "selection",
    "spending",
    "subdivision",
    "urns",
    "wasserstein",
    "weights",
    "wrong_labels",
    "zipf",
]
