"""Guo et al. 2023: the variety of language over generations of fine-tuning on generated text."""

from collapse_jax.app.reproduce import Paper, out_of_reach

PAPER = Paper(
    "2311.09807",
    "Guo et al. 2023",
    "The Curious Decline of Linguistic Diversity: Training Language Models on Synthetic Text",
)

diversity = out_of_reach(
    "guo-diversity",
    claim="Fine-tuned on its predecessors' text a language model gets less varied from one "
    "generation to the next.",
    status="published number",
    setting="summaries, abstracts and stories; ours: OPT-125m on WikiText-2, whose records hold "
    "distinct-1 to 4, the type-token ratio and, with sacrebleu, self-BLEU (no measure of syntax or "
    "meaning)",
    oracle="read in the abstract and summaries alone: the diversity falls consistently, most where "
    "much creativity is asked for, more in syntax than in meaning; no number was read",
    cost="weights",
    command="collapse-jax lm --preset fig1b --decoding sampling --start previous --out runs/guo",
)
