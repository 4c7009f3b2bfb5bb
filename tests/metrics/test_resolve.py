"""Metrics by name: what a process offers, and what is said when it cannot offer a distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.factory import estimator
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Dataset, FitInfo, State
from collapse_jax.drivers.run import run
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.categorical import categorical
from collapse_jax.estimators.gaussian import gaussian, gaussian_params
from collapse_jax.metrics import resolve_metrics

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(0)


def process(family, source):
    return generational_process(family, source, workflows.replace(), sample_size=5)


def test_a_process_offers_metrics_and_distances():
    offered = process(gaussian(1), sources.normal([1.0], [[4.0]])).metrics
    assert {"mean", "effective_rank", "wasserstein2", "total_variation", "kl_real_to_model"} <= set(
        offered
    )
    resolved = resolve_metrics(offered, ("mean", "wasserstein2"))
    state = State(jnp.asarray(0), gaussian_params(4.0, 36.0), ())
    assert list(resolved) == ["mean", "wasserstein2"] and resolved["mean"](state) == 4
    np.testing.assert_allclose(resolved["wasserstein2"](state), 5, rtol=1e-6)


def test_a_fixed_data_set_has_no_distances(tmp_path):
    fixed = process(gaussian(1), sources.dataset(np.zeros((9, 1))))
    assert fixed.metrics["wasserstein2"] is None and fixed.metrics["variance"] is not None
    for ask in (
        lambda: simulate(fixed, KEY, generations=1, metrics=("mean", "wasserstein2")),
        lambda: run(fixed, KEY, generations=1, folder=tmp_path / "run", metrics=("wasserstein2",)),
    ):
        with pytest.raises(
            InputError,
            match=r"'wasserstein2' is a distance to the real distribution.*not a fixed data set",
        ) as error:
            ask()
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"estimator \(did you mean 'variance'\?\); it offers"):
        resolve_metrics({"variance": len, "mean": len}, "varianc")
    with pytest.raises(InputError, match="'kl' is not offered") as error:
        resolve_metrics(fixed.metrics, "kl")
    assert "variance" in str(error.value) and "wasserstein2" not in str(error.value)


def test_a_real_distribution_of_another_family_has_no_distances(laplace):
    params = laplace.fit(jax.random.key(0), None, Dataset(jnp.arange(5.0), jnp.ones(5)))[0]
    mixed = process(gaussian(1), sources.population(laplace, params))
    assert mixed.metrics["kl_real_to_model"] is None


def test_a_newcomer_brings_distances_of_its_own():
    def fit(key, params, data):
        return {"location": jnp.average(data.x, weights=data.weight)}, FitInfo.exact()

    def sample(key, params, n):
        return params["location"] + jax.random.normal(key, (n,))

    family = estimator(
        fit,
        sample,
        distances={"offset": lambda params, real: params["location"] - real["location"]},
    )
    near = process(family, sources.population(family, {"location": jnp.array(3.0)}))
    trace = simulate(near, KEY, generations=2, chains=200, metrics=("offset",))
    assert np.abs(trace["offset"]).max() < 10 and trace["offset"].shape == (200, 3)
    other = process(
        family,
        sources.population(
            estimator(lambda *_: None, lambda key, params, n: jnp.zeros(n)), jnp.array(0.0)
        ),
    )
    with pytest.raises(
        InputError, match=r"'offset' compares models of the same family, but the model has dict"
    ):
        simulate(other, KEY, generations=1, metrics=("offset",))


def test_categorical_distances_are_bound():
    offered = process(categorical(2), sources.categorical([0.25, 0.75])).metrics
    state = process(categorical(2), sources.categorical([0.0, 1.0])).init(KEY)[0]
    assert resolve_metrics(offered, "missing_mass")["missing_mass"](state) == 0.25
