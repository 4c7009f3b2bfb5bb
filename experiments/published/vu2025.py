"""Vu et al. 2025: models that train on each other's text."""

from collapse_jax.app.reproduce import Paper, out_of_reach

PAPER = Paper(
    "2505.21677",
    "Vu et al. 2025",
    "What happens when generative AI models train recursively on each others' outputs?",
)

interaction = out_of_reach(
    "vu-interaction",
    claim="Trained on each other's text, models gain what their own data lacked, and become alike "
    "in what they share.",
    status="published number",
    setting="language models with different data; ours: each alone, mixed with real text and its "
    "previous training set, which is the nearest that one loop offers",
    oracle="an ordering alone, read in the abstract; no number was read",
    cost="weights",
    command="collapse-jax lm --preset fig1b --real-fraction 0.25 --beta 0.25 --out runs/vu",
)
