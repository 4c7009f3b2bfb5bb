"""Drayson et al. 2025: decoding drives the collapse of language models, a detector prevents it.

Here: a detector with known error rates, on a Gaussian.
"""

import numpy as np

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry, out_of_reach

PAPER = Paper(
    "2502.15654",
    "Drayson et al. 2025",
    "Machine-generated text detection prevents language model collapse",
)
OURS = "collapse-jax lm --preset fig1b --seeds 1"


@entry(
    "drayson-detector",
    claim="A detector that removes 90% of the synthetic points and 10% of the real ones turns 2% "
    "real data into 16%; it has no other effect.",
    status="derived here",
    setting="1-D Gaussian, ddof = 0, mix with g = 0.02, M = 50, true positive rate 0.9, false "
    "positive rate 0.1, generations 0 to 60, 100,000 chains",
    oracle="theory.interventions.real_share_after_detection put into theory.ancestry.retention; "
    "the method (on language models): abstract of the paper",
    y="variance",
)
def detector(key):
    at, rates = np.array([0, 1, 5, 60]), (0.9, 0.1)
    workflow = cj.curation.detector(*rates)(cj.workflows.mix(0.98, 0.0, 0.02))
    process = cj.generational_process(
        cj.estimators.gaussian(1, ddof=0),
        cj.sources.normal([0.0], [[1.0]]),
        workflow,
        sample_size=50,
    )
    trace = cj.simulate(
        process, key, generations=60, chains=100_000, metrics=("variance",), record=at.tolist()
    )
    share = float(theory.interventions.real_share_after_detection(0.02, *rates))
    sifted, raw = (
        theory.ancestry.retention(at, 50, workflow="mix", alpha=1 - real, beta=0.0, gamma=real)
        for real in (share, 0.02)
    )
    found = trace["variance"].astype(np.float64)
    return [
        compare.means(found, sifted, at=at, what=f"variance, {share:.1%} real"),
        compare.exceeds(
            found[:, 1:] - raw[1:], 0.0, at=at[1:], what="variance beyond that without a detector"
        ),
    ]


decoding = out_of_reach(
    "drayson-decoding",
    claim="How fast a fine-tuned language model collapses depends on how its text is decoded. "
    "Resampling with a detector prevents the collapse.",
    status="published number",
    setting="GPT-2 and SmolLM2 (124 M to 1.7 B parameters), WikiText-2; ours: OPT-125m with three "
    "decoders, without the detector (that is cj.curation.detector, on families of points)",
    oracle="only an ordering, from the abstract; no number was available to us",
    cost="weights",
    command=f"{OURS} --decoding beam --out runs/drayson-beam; {OURS} --decoding sampling --out "
    f"runs/drayson-sampling; {OURS} --decoding sampling --top-p 0.95 --out runs/drayson-nucleus",
)
