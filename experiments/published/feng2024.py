"""Feng et al. 2024: labels that are wrong with probability p, and a verifier.

It keeps right labels with probability phi and wrong ones with probability psi.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.app.reproduce import Paper, compare, entry

PAPER = Paper(
    "2406.07515",
    "Feng et al. 2024",
    "Beyond Model Collapse: Scaling Up with Synthesized Data Requires Verification",
)
DIM, KEPT, PHI, PSI = 5, 108, 0.9, 0.3
RATES = np.array([0.60, 0.72, 0.78, 0.85])


def mean_classifier():
    """Classes N(+-(1, 0, ..), I); a point is [features, label, class].

    The fit is the mean of label * features, whoever made the labels.

    What generation g makes has labels that are wrong with the g-th error rate.
    """

    def sample(key, params, n):
        side_key, feature_key, label_key = jax.random.split(key, 3)
        side = jax.random.rademacher(side_key, (n, 1), float)
        features = jax.random.normal(feature_key, (n, DIM)) + side * (jnp.arange(DIM) == 0)
        wrong = jax.random.uniform(label_key, (n, 1)) < jnp.asarray(RATES)[params["generation"]]
        return jnp.concatenate([features, jnp.where(wrong, -side, side), side], axis=1)

    def fit(key, params, data):
        weights = jnp.mean(data.x[:, :DIM] * data.x[:, DIM : DIM + 1], axis=0)
        return {"weights": weights, "generation": params["generation"] + 1}, cj.FitInfo.exact()

    start = {"weights": jnp.zeros(DIM), "generation": jnp.array(-1)}
    cosine = lambda params: params["weights"][0] / jnp.linalg.norm(params["weights"])  # noqa: E731
    return cj.estimator(
        fit, sample, init=lambda key, data: start, metrics={"cosine": cosine}
    ), start | {"generation": jnp.array(0)}


@entry(
    "feng-pstar",
    claim="A classifier trained on verified labels is better than chance exactly if their error "
    "rate p is below phi/(phi + psi), far above one half, the limit without a verifier.",
    status="derived here",
    setting=f"d = {DIM} features, {KEPT} labels that passed, phi = {PHI}, psi = {PSI}, so p* = "
    "0.75; p = 0.60, 0.72, 0.78, 0.85; 2,000 chains; generation 0 is fitted to p = 0.60 without "
    "the verifier",
    oracle="theory.regression.expected_classifier_accuracy (exact for finite n and d; Phi(a "
    "mu^2/sqrt(a^2 mu^2 + r d/n)) for large ones: verified_classifier_accuracy) and "
    "verified_error_threshold; the transition: abstract of the paper",
    x="error rate of the labels",
    y="accuracy",
)
def pstar(key):
    family, first = mean_classifier()
    checked = cj.curation.labelled_verifier(PHI, PSI, lambda x: x[:, DIM] == x[:, DIM + 1])(
        cj.workflows.replace()
    )
    process = cj.generational_process(
        family, cj.sources.population(family, first), checked, sample_size=KEPT
    )
    cosine = cj.simulate(process, key, generations=len(RATES), chains=2_000, metrics=("cosine",))[
        "cosine"
    ]
    accuracy = special.ndtr(cosine.astype(np.float64))
    passed = PSI * RATES / (PHI * (1 - RATES) + PSI * RATES)
    raw, *exact = (
        theory.regression.expected_classifier_accuracy(KEPT, DIM, 1.0, error_rate=p)
        for p in (RATES[0], *passed)
    )
    helps, verified = RATES < theory.regression.verified_error_threshold(PHI, PSI), accuracy[:, 1:]
    return [
        compare.means(accuracy[:, 0], raw, at=RATES[:1], what="accuracy without a verifier"),
        compare.means(verified, exact, at=RATES, what="accuracy with it"),
        compare.exceeds(verified[:, helps], 0.5, at=RATES[helps], what="accuracy below p*"),
        compare.exceeds(1 - verified[:, ~helps], 0.5, at=RATES[~helps], what="error above p*"),
    ]
