"""The eight definitions, and the recorded metrics by which they are judged: one table.

The list is that of Schaeffer et al. 2025 (arXiv 2503.03150). The paper does not say how a
definition becomes a number; that is defined here.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Scale(NamedTuple):
    """How a metric becomes the number that a threshold is for.

    kind: "factor": exp of the difference to the reference; "ratio": over the reference; "level":
        less the reference.
    up: whether more of it is worse.
    transform: what is done to each value first, a key of `series.TRANSFORMS`.
    unit: of the number.
    """

    kind: str
    up: bool
    transform: str
    unit: str


SCALES: Mapping[str, Scale] = {
    "nats": Scale("factor", True, "same", "x perplexity"),
    "bits": Scale("factor", True, "bits", "x perplexity"),
    "perplexity": Scale("factor", True, "log", "x perplexity"),
    "log score": Scale("factor", True, "negative", "x perplexity"),
    "error": Scale("ratio", True, "same", "x error"),
    "amount": Scale("ratio", False, "same", "x first"),
    "log amount": Scale("ratio", False, "exp", "x first"),
    "mass": Scale("level", True, "same", "of the mass"),
    "covered": Scale("level", True, "complement", "of the mass"),
    "finite": Scale("level", True, "infinite", "of the chains"),
}
"""nats: a mean log loss, or a Kullback-Leibler divergence. bits: the same in bits. perplexity: exp
of a mean log loss. log score: a mean log-likelihood; smaller is worse. error: a distance to the
real distribution, 0 at best. amount: a measure of diversity, or a number of modes. log amount: its
logarithm. mass: a share of the model's mass that the real distribution does not have. covered: a
share that is 1 at best, such as a precision. finite: infinite if the model has mass outside the
support of the real distribution."""


class Candidate(NamedTuple):
    """A metric that may be used for a role.

    metric: its recorded name.
    scale: a key of `SCALES`.
    truth: its value for the real distribution, if that is always the same; None uses the value of
        the first generation, the model of real data.
    """

    metric: str
    scale: str
    truth: float | None = None


# What a reader has to know of a metric.
NOTES = {
    "real_test_elbo": "real_test_elbo is a bound, of whole images: a factor is exp of its fall in "
    "nats an image",
}
# Of many models that read each other: what stands before the name of a metric, and a note on it.
OF_MODELS = {
    "pooled_": "is of the pool of all models",
    "within_": "is a mean over models, and not of their pool",
}
# Role -> the metrics that may stand for it, the best first. NAME_to_first, a distance to the model
# of generation 0 in the place of the truth, follows NAME, and those of `OF_MODELS` follow it.
CANDIDATES: Mapping[str, tuple[Candidate, ...]] = {
    "loss": (
        Candidate("test_perplexity", "perplexity"),
        Candidate("kl_real_to_model", "nats"),
        Candidate("excess_log_loss", "nats"),
        Candidate("test_loss", "nats"),
        Candidate("held_out_log_likelihood", "log score"),
        Candidate("held_out_log_prob", "log score"),
        Candidate("real_test_elbo", "log score"),
        Candidate("valid_loss", "nats"),
        Candidate("test_bits_per_byte", "bits"),
        Candidate("test_error", "error"),
        Candidate("held_out_squared_error", "error"),
        Candidate("squared_wasserstein2", "error"),
        Candidate("sliced_wasserstein", "error"),
        Candidate("wasserstein2", "error"),
        Candidate("squared_l2", "error"),
        Candidate("squared_distance", "error"),
        Candidate("kl_model_to_real", "nats"),
        Candidate("total_variation", "error"),
    ),
    "diversity": (
        Candidate("heterozygosity", "amount"),
        Candidate("variance", "amount"),
        Candidate("log_variance", "log amount"),
        Candidate("log_determinant", "log amount"),
        Candidate("train_entropy_own", "amount"),
        Candidate("distinct_2", "amount"),
        Candidate("distinct_4", "amount"),
        Candidate("conditional_entropy", "amount"),
        Candidate("entropy", "log amount"),
        Candidate("latent_deviation", "amount"),
        Candidate("diversity", "amount"),
        Candidate("effective_rank", "amount"),
    ),
    "modes": (
        Candidate("support", "amount"),
        Candidate("surviving_vocabulary", "amount"),
        Candidate("vocabulary", "amount"),
        Candidate("recall", "amount"),
        Candidate("coverage", "amount"),
        Candidate("living_ancestors", "amount"),
        Candidate("vocabulary_in_use", "amount"),
        Candidate("smallest_weight", "amount"),
    ),
    "tails": (
        Candidate("tail_mass", "amount"),
        Candidate("share_above_real_90", "amount"),
        Candidate("tail_share", "amount"),
        Candidate("missing_mass", "mass"),
    ),
    "hallucination": (
        Candidate("outside_mass", "mass"),
        Candidate("precision", "covered"),
        Candidate("share_above_real_99", "mass"),
        Candidate("kl_model_to_real", "finite", truth=0.0),
    ),
}
ROLES = tuple(CANDIDATES)
# The scale of a user's own metric that the table does not have.
OWN_SCALE = {
    "loss": "error",
    "diversity": "amount",
    "modes": "amount",
    "tails": "amount",
    "hallucination": "mass",
}
# How a metric of a role may be read: of others more is worse where less is, or the number has no
# threshold.
SCALES_OF_ROLE: Mapping[str, tuple[str, ...]] = {
    "loss": ("nats", "bits", "perplexity", "log score", "error"),
    "diversity": ("amount", "log amount"),
    "modes": ("amount", "log amount", "mass", "covered", "finite"),
    "tails": ("amount", "log amount", "mass", "covered", "finite"),
    "hallucination": ("mass", "covered", "finite"),
}
# What to record by kind of run, where no candidate is there.
RECORD = {
    "loss": {
        "chains": "kl_real_to_model or another distance to the truth (--metrics), or a held-out "
        "loss of your own",
        "vae": "sliced_wasserstein of images, or the bound of real test images as real_test_elbo",
        "language model": "test_perplexity, which every run of lm records",
    },
    "diversity": {
        "chains": "variance, heterozygosity or entropy",
        "vae": "variance or latent_deviation_to_first",
        "language model": "train_entropy_own or distinct_2",
    },
    "modes": {
        "chains": "support or vocabulary of discrete data, recall of points; or ask a genealogy: "
        "living_ancestors of cj.genealogy",
        "vae": "recall of images, or a count of the classes that are drawn, as "
        "metrics={'modes': NAME}",
        "language model": "vocabulary_in_use",
    },
    "tails": {
        "chains": "missing_mass of discrete data; tail_share of points; mean and variance of a "
        "Gaussian in one dimension, with family='gaussian' and truth={'mean': ..., "
        "'variance': ...}; or a mass beyond a quantile of the truth, as tail_mass",
        "vae": "tail_share of images",
        "language model": "share_above_real_90, which every run of lm records",
    },
    "hallucination": {
        "chains": "kl_model_to_real of discrete data, precision of points; or the mass outside "
        "the truth, as outside_mass",
        "vae": "precision of images",
        "language model": "share_above_real_99, which every run of lm records",
    },
}


class Definition(NamedTuple):
    """One of the eight definitions.

    key: its name in thresholds and in JSON.
    title: its name in a table.
    role: the role of the metric by which it is judged.
    statistic: the leading statistic over chains: the mean for a test loss, which is a risk; the
        median for the shape of a model, which is that of the typical chain.
    group: "test loss", "shape" or "scaling".
    """

    key: str
    title: str
    role: str
    statistic: str
    group: str


DEFINITIONS = (
    Definition("catastrophic", "catastrophic rise of the test loss", "loss", "mean", "test loss"),
    Definition("increase", "any rise of the test loss", "loss", "mean", "test loss"),
    Definition("divergence", "test loss without bound", "loss", "mean", "test loss"),
    Definition("diversity", "collapsing variance or diversity", "diversity", "median", "shape"),
    Definition("scaling", "change of the scaling law", "loss", "mean", "scaling"),
    Definition("modes", "disappearing modes", "modes", "median", "shape"),
    Definition("tails", "disappearing tails", "tails", "median", "shape"),
    Definition(
        "hallucination", "mass where the truth has none", "hallucination", "median", "shape"
    ),
)
KEYS = tuple(definition.key for definition in DEFINITIONS)
# Definition -> kind or scale of its metric -> threshold.
_THRESHOLDS = {
    "catastrophic": {"factor": 2.0, "ratio": 10.0},
    "increase": {"factor": 1.01, "ratio": 1.01},
    "divergence": {"factor": 1.05, "ratio": 1.05},
    "diversity": {"ratio": 0.5},
    "scaling": {"factor": 0.1, "ratio": 0.1},
    "modes": {"ratio": 0.9, "level": 0.05},
    "tails": {"ratio": 0.5, "level": 0.05},
    "hallucination": {"level": 0.01},
}
# Definition -> the thresholds that can be met by a change for the worse, and by no other.
RANGES: Mapping[str, Mapping[str, Any]] = {
    "catastrophic": {"above": 1.0},
    "increase": {"above": 1.0},
    "divergence": {"above": 1.0},
    "diversity": {"above": 0.0, "below": 1.0},
    "scaling": {"above": 0.0},
    "modes": {"above": 0.0, "below": 1.0},
    "tails": {"above": 0.0, "below": 1.0},
    "hallucination": {"above": 0.0, "below": 1.0},
}


def default_threshold(key: str, scale: Scale) -> float:
    """The threshold of a definition for a metric of a scale; nan where the two do not go
    together."""
    return _THRESHOLDS[key].get(scale.kind, math.nan)
