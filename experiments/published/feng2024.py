"""Feng et al. 2024: labels that are wrong with probability p, a verifier that keeps right ones with phi and wrong ones with psi."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import collapse_jax as cj
from collapse_jax import theory
from collapse_jax.reproduce import Paper, compare, entry

PAPER = Paper("2406.07515", "Feng et al. 2024", "Beyond Model Collapse: Scaling Up with Synthesized Data Requires Verification")
DIM, KEPT, PHI, PSI = 5, 108, 0.9, 0.3


def mean_classifier(error_rate):
    """Classes N(+-(1, 0, ..), I); a point is [features, label, class]. The fit is the mean of label * features, whoever made the labels."""

    def sample(key, weights, n):
        side_key, feature_key, label_key = jax.random.split(key, 3)
        side = jax.random.rademacher(side_key, (n, 1), float)
        features = jax.random.normal(feature_key, (n, DIM)) + side * (jnp.arange(DIM) == 0)
        label = jnp.where(jax.random.uniform(label_key, (n, 1)) < error_rate, -side, side)
        return jnp.concatenate([features, label, side], axis=1)

    def fit(key, weights, data):
        return jnp.mean(data.x[:, :DIM] * data.x[:, DIM : DIM + 1], axis=0), cj.FitInfo.exact()

    return cj.estimator(fit, sample, init=lambda key, data: jnp.zeros(DIM), metrics={"cosine": lambda w: w[0] / jnp.linalg.norm(w)})


@entry(
    "feng-pstar",
    claim="A classifier trained on verified labels beats chance exactly while their error rate p is below phi/(phi + psi), far beyond "
    "the one half up to which it does without a verifier.",
    status="derived here",
    setting=f"d = {DIM} features, {KEPT} labels that passed, phi = {PHI}, psi = {PSI}, so p* = 0.75; p = 0.60, 0.72, 0.78, 0.85; "
    "1,500 chains; generation 0 is fitted without the verifier",
    oracle="theory.regression.expected_classifier_accuracy (exact for finite n and d; Phi(a mu^2/sqrt(a^2 mu^2 + r d/n)) for large ones: "
    "verified_classifier_accuracy) and verified_error_threshold; the transition: abstract there",
    x="error rate of the labels",
    y="accuracy",
)
def pstar(key):
    rates, raw, verified = np.array([0.60, 0.72, 0.78, 0.85]), [], []
    for one, p in zip(jax.random.split(key, len(rates)), rates, strict=True):
        family = mean_classifier(p)
        checked = cj.curation.labelled_verifier(PHI, PSI, lambda x: x[:, DIM] == x[:, DIM + 1])(cj.workflows.replace())
        process = cj.generational_process(family, cj.sources.population(family, jnp.zeros(DIM)), checked, sample_size=KEPT)
        trace = cj.simulate(process, one, generations=1, chains=1_500, metrics=("cosine",))
        accuracy = special.ndtr(trace["cosine"].astype(np.float64))
        raw.append(accuracy[:, 0])
        verified.append(accuracy[:, 1])
    raw, verified = np.stack(raw, axis=1), np.stack(verified, axis=1)
    wrong = PSI * rates / (PHI * (1 - rates) + PSI * rates)
    exact = {
        name: [theory.regression.expected_classifier_accuracy(KEPT, DIM, 1.0, error_rate=p) for p in errors]
        for name, errors in (("raw", rates), ("verified", wrong))
    }
    threshold = theory.regression.verified_error_threshold(PHI, PSI)
    helps = rates < threshold
    return [
        compare.means(raw, exact["raw"], at=rates, what="accuracy without a verifier"),
        compare.means(verified, exact["verified"], at=rates, what="accuracy with it"),
        compare.exceeds(verified[:, helps], 0.5, at=rates[helps], what="accuracy below p*"),
        compare.exceeds(1 - verified[:, ~helps], 0.5, at=rates[~helps], what="error above p*"),
    ]
