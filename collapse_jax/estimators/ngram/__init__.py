"""Unigram, bigram and trigram models of token blocks."""

# ruff: noqa: F401
from collapse_jax.estimators.ngram.family import (
    DISTANCES,
    FAMILY,
    METRICS,
    NGramParams,
    checked_smoothing,
    distinct_ngrams,
    example,
    log_prob,
    missing_mass,
    ngram,
    ngram_params,
    ngram_perplexity,
    probabilities,
    surviving_vocabulary,
    total_variation,
    vocabulary,
)

__all__ = ["ngram", "ngram_params", "ngram_perplexity"]
