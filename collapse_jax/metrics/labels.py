"""Long names and units of metrics, as variables of a data set carry them.

A metric that is not ours brings its own: attributes `long_name` and `units` of its function, as
`label` sets them. Without them it has its name, and units that are not known.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from collapse_jax.errors import InputError


class Label(NamedTuple):
    """What a metric is called, and what its numbers count.

    long_name: in words.
    units: "nats", "points", "share", "1" where it has none, or others in words.
    """

    long_name: str
    units: str


UNKNOWN = "not known"
_DATA, _SQUARED = "data units", "data units^2"
_LAW = "of the model"

# Of metrics of this package, by name. docs/_site/formulas_of_metrics.py has their formulas.
_KNOWN: Mapping[str, tuple[str, str]] = {
    "mean": (f"mean of a draw {_LAW}", _DATA),
    "variance": (f"variance of a draw {_LAW}, averaged over coordinates", _SQUARED),
    "log_variance": (f"log variance of a draw {_LAW}, averaged over coordinates", "nats"),
    "trace": ("trace of the covariance", _SQUARED),
    "log_trace": ("log of the trace of the covariance", "nats"),
    "log_determinant": ("log determinant of the covariance", "nats"),
    "log_scale": ("half the log conditional variance of each coordinate", "nats"),
    "scale": ("geometric mean of the scales", _DATA),
    "entropy": (f"entropy {_LAW}", "nats"),
    "effective_rank": ("effective rank of the covariance", "1"),
    "condition_number": ("condition number of the covariance", "1"),
    "log_condition_number": ("log condition number of the covariance", "nats"),
    "heterozygosity": ("probability that two draws differ", "share"),
    "support": ("outcomes with a probability above 0", "outcomes"),
    "absorbed": ("whether all probability is on one outcome", "1"),
    "probabilities": ("probability of each category", "share"),
    "probability": ("probability of a one", "share"),
    "log_odds": ("log odds of a one", "nats"),
    "rate": (f"rate {_LAW}", UNKNOWN),
    "log_rate": (f"log of the rate {_LAW}", "nats"),
    "log_mean": (f"log of the mean of a draw {_LAW}", "nats"),
    "shape": ("exponent of the Pareto law", "1"),
    "log_shape": ("log of the exponent of the Pareto law", "nats"),
    "maximum": ("upper end of the uniform law", _DATA),
    "log_maximum": ("log of the upper end of the uniform law", "nats"),
    "df": ("degrees of freedom", "1"),
    "inverse_df": ("one over the degrees of freedom", "1"),
    "bandwidth": ("geometric mean of the deviations of the kernel", _DATA),
    "component_deviations": ("deviation of each component, largest first", _DATA),
    "smallest_weight": ("smallest weight of a component", "share"),
    "vocabulary": ("different tokens of the training set", "tokens"),
    "distinct_ngrams": ("different n-grams of the training set", "n-grams"),
    "conditional_entropy": ("entropy of a token given those before it", "nats per token"),
    "correlation": ("latent correlation of the columns", "1"),
    "cramer_von_mises": ("squared distance of the distribution functions", "1"),
    "kolmogorov_smirnov": ("largest distance of the distribution functions", "share"),
    "weights": ("weight of each feature", UNKNOWN),
    "weight_norm": ("length of the weights", UNKNOWN),
    "separated": ("whether some weights get all training labels right", "1"),
    "kl_model_to_real": ("Kullback-Leibler divergence from the model to the truth", "nats"),
    "kl_real_to_model": ("Kullback-Leibler divergence from the truth to the model", "nats"),
    "total_variation": ("total variation distance to the truth", "share"),
    "wasserstein1": ("Wasserstein-1 distance to the truth", _DATA),
    "wasserstein2": ("Wasserstein-2 distance to the truth", _DATA),
    "squared_wasserstein2": ("squared Wasserstein-2 distance to the truth", _SQUARED),
    "missing_mass": ("real probability of the outcomes that were lost", "share"),
    "tail_lost": ("share of the rarest real tenth that was lost", "share"),
    "squared_distance": ("squared distance to the truth", UNKNOWN),
    "squared_l2": ("integrated squared difference of the densities", UNKNOWN),
    "log_squared_l2": ("log of the integrated squared difference of the densities", "nats"),
    "kolmogorov_smirnov_distance": ("Kolmogorov-Smirnov distance to the truth", "share"),
    "surviving_vocabulary": ("share of the real tokens that are still there", "share"),
    "cross_entropy_model_to_real": (
        "cross entropy of the model's set under the real law",
        "nats per token",
    ),
    "cross_entropy_real_to_model": (
        "cross entropy of the real set under the model",
        "nats per token",
    ),
    "test_error": ("excess risk of the weights", UNKNOWN),
    "angle": ("angle between the weights and the true ones", "radians"),
    "cosine": ("cosine of the angle between the weights and the true ones", "1"),
    "excess_log_loss": ("expected log loss above that of the true weights", "nats"),
    "latent_mean": ("mean of the latent means of images of the model", "1"),
    "latent_deviation": ("deviation of the latent means of images of the model", "1"),
    "correlation_distance": ("distance of the latent correlations to the true ones", "1"),
    "precision": ("share of the model's points near real ones", "share"),
    "recall": ("share of the real points near points of the model", "share"),
    "density": ("real balls around a point of the model, over k", "1"),
    "coverage": ("share of the real balls that hold a point of the model", "share"),
    "sliced_wasserstein": ("sliced Wasserstein distance to real points", _DATA),
    "tail_share": ("share of the model's points farther out than 90% of the real ones", "share"),
    "held_out_log_prob": ("mean log density of held-out real rows", "nats per row"),
    "held_out_squared_error": ("mean squared error on held-out real rows", _SQUARED),
}
_TOKEN, _TRAINING = "nats per token", "of the training set"
_TAIL = "share of the training sequences whose perplexity under generation 0 is"
# Of texts and of language models, by the name in the records of `lm`.
_OF_TEXTS: Mapping[str, tuple[str, str]] = {
    "test_perplexity": ("exp of the mean loss on the real test text", "1"),
    "test_perplexity_mean": ("mean of the perplexities of the real test blocks", "1"),
    "test_perplexity_strided": ("perplexity of the real test text in sliding windows", "1"),
    "test_bits_per_byte": ("loss on the real test text", "bits per byte"),
    "test_bits_per_byte_strided": (
        "loss on the real test text in sliding windows",
        "bits per byte",
    ),
    "test_entropy": ("mean entropy of the predictions on the real test text", _TOKEN),
    "train_entropy_own": (f"mean entropy of the predictions on the text {_TRAINING}", _TOKEN),
    "example_entropy": ("mean entropy of the predictions after the example prompts", _TOKEN),
    "gain_lost": ("share of the gain of fine-tuning that was lost again", "share"),
    "valid_loss": ("validation loss of the fitted model", _TOKEN),
    "train_loss_by_epoch": ("mean training loss of each epoch", _TOKEN),
    "valid_loss_by_epoch": ("validation loss after each epoch", _TOKEN),
    "best_epoch": ("epoch of the lowest validation loss, from 0", "epochs"),
    "optimiser_steps": ("steps of the optimiser in the fit", "steps"),
    **{
        f"train_perplexity_{name}{ending}": (f"{words} under the model of {whose}", "1")
        for name, whose in (("first", "generation 0"), ("own", "the generation itself"))
        for ending, words in (
            ("", "perplexity of each training sequence"),
            ("_mean", "mean of the perplexities of the training sequences"),
            ("_median", "median of the perplexities of the training sequences"),
        )
    },
    "share_below_real_10": (f"{_TAIL} below the real 10% quantile", "share"),
    "share_above_real_90": (f"{_TAIL} above the real 90% quantile", "share"),
    "share_above_real_99": (f"{_TAIL} above the real 99% quantile", "share"),
    "distinct_1": (f"different tokens over all tokens {_TRAINING}", "share"),
    **{
        f"distinct_{n}": (f"different {n}-grams over all {n}-grams {_TRAINING}", "share")
        for n in range(2, 5)
    },
    "repeated_4_grams": ("share of 4-grams that occurred before in the same sequence", "share"),
    "repeated_within_16": ("share of tokens that are among the 16 before them", "share"),
    "type_token_ratio": ("different tokens over tokens of each training sequence, mean", "share"),
    "vocabulary_in_use": (f"different tokens {_TRAINING}", "tokens"),
    "self_bleu": ("mean BLEU of each training sequence against the others", "1"),
    "zipf_exponent": (f"exponent of Zipf's law {_TRAINING}", "1"),
    "unigram_kl": (
        "Kullback-Leibler divergence of token frequencies, from the real text to the training set",
        "nats",
    ),
    "unigram_js": ("Jensen-Shannon divergence of token frequencies to the real text", "nats"),
    "yules_k": (f"Yule's K {_TRAINING}", "1"),
    "mtld": (f"measure of textual lexical diversity {_TRAINING}", "tokens"),
    "different_sequences": (f"different sequences {_TRAINING}", "sequences"),
    "real_8_grams": ("share of 8-grams that also occur in the real training text", "share"),
    "embedding_diversity": ("mean cosine distance of the hidden states of two sequences", "1"),
    "mauve": ("MAUVE of the training set against the real training text", "1"),
}
# How a fit went, of which `metrics.of_fit` takes parts; losses are those of the family.
_OF_FITS: Mapping[str, tuple[str, str]] = {
    "loss": ("loss of the fit", UNKNOWN),
    "converged": ("whether the fit converged", "1"),
    "iterations": ("iterations of the fit", "iterations"),
    "gradient_norm": ("Euclidean norm of the gradient in the parameters", UNKNOWN),
}
_ALL: Mapping[str, tuple[str, str]] = {**_KNOWN, **_OF_TEXTS, **_OF_FITS}
# Before the name of a text's metric, and after its words.
_OF_PARTS: Mapping[str, str] = {
    "newest": ", of what the newest model wrote",
    "pretrained": ", before any fit",
}
_READ = "read_of_lineage_"
# Of one column of a table, NAME_COLUMN.
_OF_COLUMNS: Mapping[str, tuple[str, str]] = {
    "mean": ("mean", _DATA),
    "variance": ("variance", _SQUARED),
    "support": ("different values", "outcomes"),
    "probabilities": ("share of each category", "share"),
    "heterozygosity": ("probability that two draws differ", "share"),
    "entropy": ("entropy", "nats"),
    "total_variation": ("total variation distance to the truth", "share"),
}
# Of many models: before the name, and what stands before its words.
_OF_POOL: Mapping[str, str] = {
    "within": "mean over models of the",
    "between": "between models, the",
    "pooled": "of the pool of all models, the",
}
_TO_FIRST, OF_MODEL = "_to_first", "_of_model_"
_PACKAGE = "collapse_jax."


def label(function: Callable, long_name: str, units: str = "1") -> Callable:
    """The same metric, which tells what it is called and what its numbers count.

    `cj.estimator(fit, sample, metrics={"scale": cj.metrics.label(scale, "scale of the law",
    "mm")})`: results.nc, `to_xarray()` and whatever reads them show it.

    Args:
        function: a metric or a distance, of a family or of the state; it is marked itself.
        long_name: in words.
        units: of its numbers; "1" for none.

    Raises:
        InputError: for what is no text, and for a function that cannot be marked.
    """
    for name, text in (("long_name", long_name), ("units", units)):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{name} is {text!r:.200}; it must be a text in words")
    try:
        function.long_name = long_name  # pyright: ignore[reportFunctionMemberAccess]
        function.units = units  # pyright: ignore[reportFunctionMemberAccess]
    except (AttributeError, TypeError):
        raise InputError(
            f"function is {function!r:.200}; it must be one that takes attributes, as those of "
            "`def` and lambda do"
        ) from None
    return function


def label_of(name: str, function: Any = None) -> Label:
    """The label of a metric.

    Args:
        name: what it is called.
        function: what computes it, as a process offers it or as it was given; None where that is
            not at hand, and the name alone tells.
    """
    part = getattr(function, "part", None)  # of a fit, as `of_fit` names it
    if isinstance(part, str):
        return Label(*_OF_FITS.get(part, (name, UNKNOWN)))
    marked, is_ours = _looked_at(function)
    if marked is not None:
        return marked
    if not is_ours:
        return Label(name, UNKNOWN)
    return _by_name(name, function is not None)


def _by_name(name, is_sure):
    """The label of a metric of the package; is_sure: whether it is known to be of the package."""
    if name in _ALL:
        return Label(*_ALL[name])
    inner, is_first, _ = name.partition(_TO_FIRST)
    if is_first and name.endswith(_TO_FIRST) and inner in _KNOWN:
        long_name, units = _KNOWN[inner]
        return Label(f"{long_name}, with the model of generation 0 for the truth", units)
    inner, _, number = name.partition(OF_MODEL)
    if inner in _KNOWN and number.isdecimal():
        long_name, units = _KNOWN[inner]
        return Label(f"{long_name}, model {number}", units)
    start, _, inner = name.partition("_")
    if start in _OF_POOL and inner in _KNOWN:
        long_name, units = _KNOWN[inner]
        return Label(f"{_OF_POOL[start]} {long_name}", units)
    if start in _OF_PARTS and inner in _OF_TEXTS:
        long_name, units = _OF_TEXTS[inner]
        return Label(f"{long_name}{_OF_PARTS[start]}", units)
    if name.startswith(_READ):
        return Label(f"blocks read from lineage {name.removeprefix(_READ)}", "blocks")
    if is_sure:
        for start, (long_name, units) in _OF_COLUMNS.items():
            if name.startswith(f"{start}_"):
                return Label(f"{long_name} of column {name[len(start) + 1 :]}", units)
    return Label(name, UNKNOWN)


def _looked_at(function):
    """(the label that it carries or None, whether it is of this package)."""
    while function is not None:
        own = getattr(function, "long_name", None)
        if isinstance(own, str):
            units = getattr(function, "units", None)
            return Label(own, units if isinstance(units, str) else UNKNOWN), False
        inner = next(
            (
                getattr(function, name)
                for name in ("function", "distance", "func", "part")
                if callable(getattr(function, name, None))
            ),
            None,
        )
        if inner is None:
            module = getattr(function, "__module__", None) or type(function).__module__
            return None, str(module).startswith(_PACKAGE)
        function = inner
    return None, True
