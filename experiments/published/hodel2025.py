"""Hodel and West 2025: ecosystems of language models that divide the data among them."""

from collapse_jax.app.reproduce import Paper, out_of_reach

PAPER = Paper(
    "2512.15011",
    "Hodel and West 2025",
    "Epistemic diversity across language models mitigates knowledge collapse",
)
OURS = "collapse-jax lm --preset fig1b --generations 9 --seeds 1 --train-blocks"

ecosystems = out_of_reach(
    "hodel-ecosystem",
    claim="One model on all data is better at first and collapses more later: the best number of "
    "models grows with the iterations.",
    status="published number",
    setting="the training text divided among more and more models, ten self-training iterations; "
    "ours: one member of an ecosystem of 1 and of 4 (a quarter of WikiText-2) that "
    "trains on its own text alone; without a pool of several models' text",
    oracle="only an ordering, from the abstract of version 2 (version 1's has a best number of "
    "models in between); no number was available to us",
    cost="weights",
    command=f"{OURS} 0 --out runs/hodel-1; {OURS} 9600 --out runs/hodel-4",
)
