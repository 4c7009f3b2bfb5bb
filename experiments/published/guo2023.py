"""Guo et al. 2023: the diversity of language over generations of fine-tuning on generated text."""

from collapse_jax.app.reproduce import Paper, out_of_reach

PAPER = Paper(
    "2311.09807",
    "Guo et al. 2023",
    "The Curious Decline of Linguistic Diversity: Training Language Models on Synthetic Text",
)

diversity = out_of_reach(
    "guo-diversity",
    claim="If a language model is fine-tuned on its predecessors' text, its text becomes less "
    "diverse from one generation to the next.",
    status="published number",
    setting="summaries, abstracts and stories; ours: OPT-125m on WikiText-2, with distinct-1 to "
    "4, the type-token ratio and, with sacrebleu, self-BLEU recorded (no measure of "
    "syntax or meaning)",
    oracle="from the abstract and summaries alone: the diversity falls consistently, most for "
    "tasks that need much creativity, more in syntax than in meaning; no number was "
    "available to us",
    cost="weights",
    command="collapse-jax lm --preset fig1b --decoding sampling --start previous --out runs/guo",
)
