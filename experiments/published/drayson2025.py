"""Drayson et al. 2025: the decoding strategy drives the collapse, and a detector of generated text prevents it."""

from collapse_jax.reproduce import Paper, out_of_reach

PAPER = Paper("2502.15654", "Drayson et al. 2025", "Machine-generated text detection prevents language model collapse")
OURS = "collapse-jax lm --preset fig1b --seeds 1"

decoding = out_of_reach(
    "drayson-decoding",
    claim="How fast a fine-tuned language model collapses depends on how its text is decoded, and resampling by a detector prevents it.",
    status="published number",
    setting="GPT-2 and SmolLM2 (124 M to 1.7 B parameters), WikiText-2; ours: OPT-125m with three decoders, without the detector (that "
    "is cj.curation.detector, on families of points)",
    oracle="an ordering alone, read in the abstract; no number was read",
    cost="weights",
    command=f"{OURS} --decoding beam --out runs/drayson-beam; {OURS} --decoding sampling --out runs/drayson-sampling; "
    f"{OURS} --decoding sampling --top-p 0.95 --out runs/drayson-nucleus",
)
