"""Alemohammad et al. 2024: images under three loops.

With fixed or fresh real data, and with biased sampling.
"""

from collapse_jax.app.reproduce import Paper, out_of_reach

PAPER = Paper("2307.01850", "Alemohammad et al. 2024", "Self-Consuming Generative Models Go MAD")

images = out_of_reach(
    "mad-images",
    claim="Without enough fresh real images in each generation, the quality or the diversity of "
    "generated images decreases progressively.",
    status="published number",
    setting="image models such as StyleGAN2; ours: the notebook's autoencoder on MNIST, without "
    "and with 10% real images",
    oracle="primary conclusion of the abstract (precision and recall); no number was available "
    "to us. Its Gaussian analysis is run elsewhere",
    cost="gpu",
    command="python experiments/shumailov2024_vae.py --out runs/mad-synthetic; python "
    "experiments/shumailov2024_vae.py --real-fraction 0.1 --beside runs/mad-synthetic --out "
    "runs/mad-fresh",
)
