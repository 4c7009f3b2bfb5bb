"""Points that a workflow keeps, held relative to the newest model: their chains never end."""

import jax
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax import curation, sources, workflows

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(12)
COVARIANCE = np.array([[2.0, 0.6], [0.6, 0.5]])


def made(by, workflow, size, dim=1, **options):
    family = cj.estimators.gaussian(dim, by=by, **options)
    real = sources.normal([3.0], [[4.0]]) if dim == 1 else sources.normal([1, -2], COVARIANCE)
    return cj.generational_process(family, real, workflow, sample_size=size)


def expected(generation, chains=4000):
    """log variance [chains] of five points, half of them new, about their mean and scale."""
    rng = np.random.default_rng(0)
    x, log_variance = rng.normal(size=(chains, 5)), np.full(chains, np.log(4.0))
    for _ in range(generation):
        mean, deviation = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
        kept = rng.permuted((x - mean) / deviation, axis=1)
        log_variance += 2 * np.log(deviation[:, 0])
        fresh = np.arange(5) < rng.binomial(5, 0.5, (chains, 1))
        x = np.where(fresh, rng.normal(size=(chains, 5)), kept)
    return log_variance + np.log(x.var(1, ddof=1))


def test_a_chain_of_kept_points_goes_on_where_floats_end():
    """A variance of e^-47 of the squared mean: one of float32's roundings is e^-16."""
    process = made("relative", workflows.mix(0.5, 0.5, 0), 5)
    options = {"generations": 200, "chains": 1000, "metrics": "log_variance", "record": (200,)}
    found = cj.simulate(process, KEY, **options)["log_variance"][:, -1].astype(float)
    wanted = expected(200)
    assert np.isfinite(found).all() and found.mean() < -40
    error = np.hypot(found.std() / 1000**0.5, wanted.std() / 4000**0.5)
    assert abs(found.mean() - wanted.mean()) < 4 * error
    assert 0.85 < found.std() / wanted.std() < 1.15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workflow", "size", "dim", "options"),
    [
        (workflows.mix(0.4, 0.3, 0.3), 9, 1, {"ddof": 0, "sampling_bias": 0.8}),
        # As many points as dimensions: one direction has no variance.
        (workflows.accumulate_subsample(), 2, 2, {}),
    ],
)
def test_the_same_points_give_the_same_models(workflow, size, dim, options):
    metrics = ("mean", "trace")
    traces = [
        cj.simulate(
            made(by, workflow, size, dim, **options), KEY, generations=5, chains=40, metrics=metrics
        )
        for by in ("law", "relative")
    ]
    for name in metrics:
        law, relative = (trace[name] for trace in traces)
        np.testing.assert_allclose(relative, law, rtol=2e-3, atol=2e-4, err_msg=name)


def test_where_nothing_is_kept_it_is_the_law():
    for workflow in (workflows.replace(), workflows.accumulate()):
        law, relative = (made(by, workflow, 6).step for by in ("law", "relative"))
        state, _ = made("law", workflow, 6).init(KEY)
        jax.tree.map(np.testing.assert_array_equal, law(KEY, state), relative(KEY, state))


def test_points_that_are_judged_must_be_where_they_are():
    judged = curation.best_of(2, lambda x: x[:, 0])(workflows.mix(0.5, 0.5, 0))
    with pytest.raises(cj.InputError, match=r"judges points where they are .*by='law'"):
        made("relative", judged, 5)
