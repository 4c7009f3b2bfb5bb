"""Unigram, bigram and trigram models of token blocks."""

# ruff: noqa: F401
from collapse_jax.estimators.ngram.family import FAMILY, example, ngram, ngram_params
from collapse_jax.estimators.ngram.held_out import checked_smoothing, log_prob, ngram_perplexity
from collapse_jax.estimators.ngram.measures import (
    DISTANCES,
    METRICS,
    distinct_ngrams,
    missing_mass,
    probabilities,
    surviving_vocabulary,
    total_variation,
    vocabulary,
)
from collapse_jax.estimators.ngram.transitions import NGramParams

__all__ = ["ngram", "ngram_params", "ngram_perplexity"]
