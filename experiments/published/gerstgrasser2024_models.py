"""Gerstgrasser et al. 2024: language models pretrained on their predecessors' text.

With the old data discarded or kept.
"""

from collapse_jax.app.reproduce import Paper, out_of_reach

PAPER = Paper("2404.01413", "Gerstgrasser et al. 2024", "Is Model Collapse Inevitable?")
OURS = (
    "collapse-jax lm --preset fig1b --model random:mini --tokenizer embedded --corpus TINYSTORIES "
    "--decoding sampling --learning-rate 1e-3"
)

language_models = out_of_reach(
    "gers-lm",
    claim="Language models pretrained from scratch get worse if each generation's text replaces "
    "the last, but not if all text is kept.",
    status="published number",
    setting="transformers on TinyStories; ours: a small OPT from random weights (--model "
    "random:opt-125m for the size of the largest), TINYSTORIES a text file or folder of it; every "
    "generation starts from the random weights",
    oracle="read in the abstract and a third party's summary alone: the loss rises under replace "
    "and stays level under accumulate (a Llama 2 of 125 M parameters under accumulate: 2.85 to "
    "2.78)",
    cost="gpu",
    command=f"{OURS} --workflow replace --out runs/gers-replace; {OURS} --workflow accumulate "
    "--out runs/gers-accumulate",
)
