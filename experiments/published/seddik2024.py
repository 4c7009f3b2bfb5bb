"""Seddik et al. 2024: next-token probabilities estimated by counting, from synthetic data alone."""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry, out_of_reach

PAPER = Paper(
    "2404.05090",
    "Seddik et al. 2024",
    "How Bad is Training on Synthetic Data? A Statistical Analysis of Language Model Collapse",
)


@entry(
    "seddik-collapse",
    claim="Synthetic data alone: the expected sum of squared probabilities goes to 1 by the factor "
    "1 - 1/n, and one token is left.",
    status="published formula",
    setting="10 Zipf tokens (exponent 1), n = 20 draws a generation, m = 1, 2, 5, 10, 20, 40, 80 "
    "generations of theirs, 20,000 chains",
    oracle="S_m = 1 - (1 - 1/n)^m (1 - S_0), stated in the paper; P(one token left): "
    "theory.absorption.absorption_probability",
    x="generation m of the paper (ours plus one)",
    y="1 - sum of squares",
    log="y",
)
def collapse(key):
    real, m = theory.zipf.probabilities(10, 1.0), np.array([1, 2, 5, 10, 20, 40, 80])
    process = cj.generational_process(
        cj.estimators.categorical(10),
        cj.sources.categorical(real),
        cj.workflows.replace(),
        sample_size=20,
    )
    metrics = ("heterozygosity", "absorbed")
    trace = cj.simulate(process, key, generations=79, chains=20_000, metrics=metrics, record=m - 1)
    squares = 1 - (1 - 1 / 20) ** m * (1 - np.sum(real**2))
    return [
        compare.means(trace["heterozygosity"], 1 - squares, at=m, what="1 - S_m"),
        compare.proportions(
            trace["absorbed"].sum(0),
            20_000,
            theory.absorption.absorption_probability(m - 1, 20, real),
            at=m,
            what="one token left",
        ),
    ]


language_model = out_of_reach(
    "seddik-gpt2",
    claim="A GPT-2-like model collapses if it is trained on its own text alone, and stays stable "
    "if real text is mixed in.",
    status="published formula",
    setting="GPT-2-like models trained on text; ours: a 1.1 M-parameter OPT (--model random:mini "
    "is larger), sampled at temperature 1",
    oracle="only an ordering, from the abstract ('supported by empirical validations') and a "
    "summary; no number was available to us",
    cost="gpu",
    command="collapse-jax lm --preset fig1b --model embedded --decoding sampling --learning-rate "
    "3e-4 --out runs/seddik-synthetic; collapse-jax lm --preset fig1b --model embedded --decoding "
    "sampling --learning-rate 3e-4 --real-fraction 0.5 --out runs/seddik-mixed",
)
