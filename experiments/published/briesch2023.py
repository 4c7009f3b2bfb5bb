"""Briesch et al. 2023: a self-consuming loop of logic expressions, which can be checked."""

from collapse_jax.app.reproduce import Paper, out_of_reach

PAPER = Paper(
    "2311.16822", "Briesch et al. 2023", "Large Language Models Suffer From Their Own Output"
)
OURS = (
    "collapse-jax lm --corpus EXPRESSIONS --model random:mini --tokenizer embedded --decoding "
    "sampling --learning-rate 1e-3"
)

logic = out_of_reach(
    "briesch-logic",
    claim="The loop continues to write correct expressions, but fewer and fewer different ones. "
    "Fresh data slows this but does not stop it.",
    status="published number",
    setting="transformers of up to 49.2 M parameters on logic expressions; ours: a small OPT "
    "from random weights, EXPRESSIONS a text file of them, whose diversity is recorded "
    "(their correctness is not checked)",
    oracle="only an ordering, from the abstracts of two versions; no number was available to us",
    cost="gpu",
    command=f"{OURS} --out runs/briesch-synthetic; {OURS} --real-fraction 0.1 --out "
    "runs/briesch-fresh",
)
