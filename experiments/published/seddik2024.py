"""Seddik et al. 2024: next-token laws that are refitted to their own samples."""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.reproduce import Paper, compare, entry, out_of_reach

PAPER = Paper(
    "2404.05090", "Seddik et al. 2024", "How Bad is Training on Synthetic Data? A Statistical Analysis of Language Model Collapse"
)


@entry(
    "seddik-sum-of-squares",
    claim="Trained on generated tokens alone, the expected sum of squared probabilities goes to one geometrically.",
    status="published formula",
    setting="10 tokens with Zipf probabilities, n = 50, replace, generations 0 to 99, 50,000 chains",
    oracle="S_m = 1 - (1 - 1/n)^m (1 - S_0) after m samplings (read in a summary of the paper), which is 1 - "
    "theory.categorical.expected_heterozygosity at generation m - 1",
    y="sum of squared probabilities",
)
def sum_of_squares(key):
    at, size = np.array([0, 1, 4, 9, 29, 99]), 50
    law = theory.zipf.probabilities(10, 1.0)
    process = cj.generational_process(cj.estimators.categorical(10), cj.sources.categorical(law), cj.workflows.replace(), sample_size=size)
    trace = cj.simulate(process, key, generations=99, chains=50_000, metrics=("heterozygosity",), record=at)
    squares = 1 - trace["heterozygosity"]
    published = 1 - (1 - 1 / size) ** (at + 1) * (1 - np.sum(law**2))
    ours = 1 - theory.categorical.expected_heterozygosity(at, size, law)
    return [
        compare.means(squares, published, at=at, what="sum of squares"),
        compare.equal(ours, published, 1e-12, "rounding", at=at, what="our closed form beside the published one"),
    ]


language_model = out_of_reach(
    "seddik-gpt2",
    claim="A GPT-2-like model collapses when it is trained on its own text alone, and stays stable when real text is mixed in.",
    status="published formula",
    setting="GPT-2-like models trained on text; ours: a 1.1 M-parameter OPT (--model random:mini is larger), sampled at temperature 1",
    oracle="an ordering alone, read in the abstract ('supported by empirical validations') and a summary; no number was read",
    cost="gpu",
    command="collapse-jax lm --preset fig1b --model embedded --decoding sampling --learning-rate 3e-4 --out runs/seddik-synthetic; "
    "collapse-jax lm --preset fig1b --model embedded --decoding sampling --learning-rate 3e-4 --real-fraction 0.5 --out runs/seddik-mixed",
)
