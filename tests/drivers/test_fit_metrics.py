"""Metrics of fits reach the traces of both drivers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collapse_jax as cj
from collapse_jax.drivers.fit_metrics import with_fit_metrics
from collapse_jax.errors import InputError
from collapse_jax.metrics import of_fit

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(3)


def fit(key, params, data):
    """The mean, and as its loss the largest point; the generation's first point as a detail."""
    total = data.weight.sum()
    info = cj.FitInfo(total > 5, jnp.asarray(2), data.x.max(), {"ends": data.x[jnp.array([0, -1])]})
    return data.weight @ data.x / total, info


def sample(key, params, n):
    return params + jax.random.normal(key, (n,))


FAMILY = cj.estimator(fit, sample, metrics={"mean": lambda params: params})
PROCESS = cj.generational_process(
    FAMILY, cj.sources.population(FAMILY, jnp.array(0.0)), cj.workflows.replace(), sample_size=6
)


def spread(info):
    """A function of the info."""
    return info.detail["ends"][1] - info.detail["ends"][0]


METRICS = ("mean", of_fit(), of_fit("ends"), of_fit("converged", "done"), of_fit(spread))


def by_hand(chain, generations):
    """[(state, info)] of each generation, by the process itself."""
    key = jax.random.fold_in(KEY, chain)
    state, info = PROCESS.init(jax.random.fold_in(key, 0))
    found = [info.fit]
    for generation in range(1, generations + 1):
        state, info = PROCESS.step(jax.random.fold_in(key, generation), state)
        found.append(info.fit)
    return found


def test_both_drivers_measure_what_the_steps_say(tmp_path):
    trace = cj.simulate(PROCESS, KEY, generations=3, chains=2, metrics=METRICS, record=[0, 1, 3])
    infos = by_hand(1, 3)
    for at, generation in enumerate((0, 1, 3)):
        info = infos[generation]
        np.testing.assert_allclose(trace["loss"][1, at], info.loss, rtol=2e-5)
        np.testing.assert_allclose(trace["ends"][1, at], info.detail["ends"], rtol=2e-5)
        np.testing.assert_allclose(trace["spread"][1, at], spread(info), rtol=2e-4, atol=1e-6)
    assert (trace["done"] == 1).all() and trace["ends"].shape == (2, 3, 2)
    same = cj.simulate(PROCESS, KEY, generations=3, chains=2, metrics=("mean",), record=[0, 1, 3])
    np.testing.assert_array_equal(same["mean"], trace["mean"])
    longer = cj.simulate(PROCESS, KEY, generations=4, after=trace, record=[0, 1, 3, 4])
    np.testing.assert_array_equal(longer["loss"][:, :3], trace["loss"])
    np.testing.assert_allclose(longer["loss"][1, 3], by_hand(1, 4)[4].loss, rtol=2e-5)
    theirs = cj.run(PROCESS, KEY, generations=1, chains=2, folder=tmp_path / "a", metrics=METRICS)
    for name in trace:
        np.testing.assert_allclose(theirs[name], trace[name][:, :2], rtol=2e-4, atol=1e-6)


def test_the_same_metrics_are_compiled_once():
    one, again = (with_fit_metrics(PROCESS, {"loss": of_fit("loss")}) for _ in range(2))
    assert one.step == again.step and one.init == again.init
    assert one.step != with_fit_metrics(PROCESS, {"loss": of_fit("iterations", "loss")}).step
    assert with_fit_metrics(PROCESS, PROCESS.metrics) is PROCESS


def test_a_finished_run_says_that_it_cannot_tell(tmp_path):
    said = []
    options = {"generations": 1, "folder": tmp_path, "watcher": cj.Watcher(say=said.append)}
    cj.run(PROCESS, KEY, **options)
    trace = cj.run(PROCESS, KEY, metrics=of_fit("loss"), **options)
    assert "loss" not in trace
    assert said == [
        "loss is missing for earlier generations: it describes a fit, and was not requested when "
        "they were fitted"
    ]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: of_fit(3), "part is 3; it must be a name, or a function"),
        (lambda: of_fit(lambda info: info.loss), "name is '<lambda>'; .* needs a name"),
        (lambda: of_fit("los").measure(cj.FitInfo.exact()), "part of of_fit is 'los'.*'loss'"),
        (lambda: of_fit("loss")(cj.State(0, 0, ())), "which a saved model does not"),
        (lambda: of_fit(lambda info: "x", "x").measure(cj.FitInfo.exact()), "'x' gave str"),
    ],
)
def test_bad_input(make, text):
    with pytest.raises(InputError, match=text):
        make()
