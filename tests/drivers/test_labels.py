"""Long names, units and where the numbers come from, in every data set and through netCDF."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import collapse_jax as cj
from collapse_jax.app.commands.held_out import HeldOut, Scores, others, perplexities
from collapse_jax.metrics.frequencies import frequency_metrics
from collapse_jax.metrics.labels import UNKNOWN, label_of
from collapse_jax.metrics.quality import NAMES
from collapse_jax.metrics.text import real_quantiles, tail_shares, text_metrics
from collapse_jax.runs.results import read_results, write_results

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(3)


def entropy(state):
    """A function of the user's, with the name of one of ours: in bits."""
    return state.params.log_mean / jnp.log(2.0)


def process(sample_size=6):
    family, params = cj.families()["exponential"].example()
    mean = cj.metrics.label(lambda params: jnp.exp(params.log_mean), "mean lifetime", "hours")
    family = family._replace(metrics={**family.metrics, "lifetime": mean})
    real = cj.sources.population(family, params)
    return cj.generational_process(family, real, cj.workflows.replace(), sample_size=sample_size)


PROCESS = process()
METRICS = ("rate", "lifetime", "kl_model_to_real", entropy)
UNITS = {"rate": UNKNOWN, "lifetime": "hours", "kl_model_to_real": "nats", "entropy": UNKNOWN}


def assert_labelled(results, tmp_path):
    """Everything has a long name and, where it holds numbers, units; a file keeps them."""
    for name, values in results.variables.items():
        assert values.attrs["long_name"], name
        assert values.attrs["units"] or values.dtype.kind in "OU", name
    results.to_netcdf(tmp_path / "plain.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "plain.nc", engine="scipy") as read:
        assert read.load().identical(results)


def test_a_trace(tmp_path):
    trace = cj.simulate(PROCESS, KEY, generations=2, chains=3, metrics=METRICS)
    results = trace.to_xarray()
    assert_labelled(results, tmp_path)
    write_results(tmp_path / "ours.nc", results)
    assert read_results(tmp_path / "ours.nc").identical(results)
    assert {name: results[name].attrs["units"] for name in UNITS} == UNITS
    assert results["entropy"].attrs["long_name"] == "entropy"  # and not that of ours, in nats
    assert results["lifetime"].attrs["long_name"] == "mean lifetime"
    assert results["chain"].values.tolist() == [0, 1, 2]
    attributes = results.attrs
    assert attributes["chains"] == 3 and json.loads(attributes["metrics"])[-1] == "entropy"
    assert json.loads(attributes["key"])[1] == jax.random.key_data(KEY).tolist()
    assert "exponential" in attributes["process"] and attributes["git_commit"]
    assert json.loads(attributes["made_with"])["versions"]["jax"] == jax.__version__
    assert cj.Trace(dict(trace), trace.generations).to_xarray().attrs == {}


def test_a_pickled_copy_keeps_what_it_came_from():
    copied = pickle.loads(pickle.dumps(cj.simulate(PROCESS, KEY, generations=1, metrics="rate")))
    assert copied.origin is None and copied.to_xarray().attrs["chains"] == 1
    again = pickle.loads(pickle.dumps(copied))
    assert again.to_xarray().identical(copied.to_xarray())


def test_statistics_and_grids(tmp_path):
    summary = cj.simulate_summary(PROCESS, KEY, generations=2, chains=4, metrics=METRICS[:2])
    results = summary.to_xarray()
    assert_labelled(results, tmp_path)
    assert results["lifetime_std"].attrs == {
        "long_name": "mean lifetime: standard deviation over chains (ddof=1)",
        "units": "hours",
    }
    assert results.attrs["chains"] == 4
    grid = cj.simulate_grid(process, {"sample_size": [5, 6]}, KEY, generations=0, metrics=METRICS)
    assert_labelled(grid, tmp_path)
    assert grid["lifetime"].attrs["units"] == "hours"
    assert grid["sample_size"].attrs["units"] == "points"
    assert grid.attrs["git_commit"] and "first_process" in grid.attrs


def test_a_run_folder(tmp_path):
    """What a run measures, observes and records of fits, in results.nc and in its trace."""

    def observe(first, state, info):
        return {"test_perplexity": 2.0, "spread": jnp.zeros(2)}  # of the user: not ours by name

    fits = cj.metrics.of_fit("iterations", "support"), cj.metrics.of_fit(ends, "entropy")
    options = {"generations": 1, "chains": 2, "folder": tmp_path, "observe": observe}
    trace = cj.run(PROCESS, KEY, metrics=(*METRICS[:3], *fits), **options)
    expected = {**{name: UNITS[name] for name in METRICS[:3]}, "test_perplexity": UNKNOWN}
    expected |= {"spread": UNKNOWN, "support": "iterations", "entropy": UNKNOWN}
    for results in (read_results(tmp_path / "results.nc"), trace.to_xarray()):
        assert_labelled(results, tmp_path)
        assert {name: results[name].attrs["units"] for name in results.data_vars} == expected
        assert results["support"].attrs["long_name"] == "iterations of the fit"


def ends(info):
    """A function of the user's, of a fit."""
    return info.loss


def test_every_column_of_a_language_model_has_a_label():
    """All that an `Observer` gives, the parts of it that are measured apart, and what was read."""
    blocks = np.random.default_rng(0).integers(50, size=(20, 12))
    scores = Scores(np.ones(2), np.ones(2), -np.ones(5))
    names = {*text_metrics(blocks), *frequency_metrics(blocks, blocks)}
    names |= {*tail_shares([1.0], real_quantiles([1.0])), "train_perplexity_own"}
    names |= {"train_perplexity_first_median", "train_perplexity_own_mean", "embedding_diversity"}
    held_out = {*perplexities(scores), *others(HeldOut(blocks, 9, (4, 2), 9), scores)}
    held_out |= {f"pretrained_{name}" for name in held_out}
    names |= {f"newest_{name}" for name in names} | held_out | {"mauve", "example_entropy"}
    names |= {"gain_lost", "train_loss_by_epoch", "best_epoch", "read_of_lineage_1", "valid_loss"}
    for name in names:
        label = label_of(name, perplexities)
        assert label.long_name != name and label.units != UNKNOWN, name
    assert label_of("newest_distinct_2") == (
        "different 2-grams over all 2-grams of the training set, of what the newest model wrote",
        "share",
    )
    assert label_of("pretrained_test_entropy").units == "nats per token"
    assert label_of("test_perplexity", print) == ("test_perplexity", UNKNOWN)
    for metric in cj.metrics.against(np.zeros((5, 2)), print, NAMES):
        assert label_of(metric.__name__, metric).units != UNKNOWN, metric.__name__


def test_every_metric_of_a_family_has_a_label():
    costly = {"diffusion", "normalizing_flow"}  # to make an example of; they offer what `vae` does
    for name in cj.families().keys() - costly:
        family = cj.families()[name]
        estimator = family.example()[0] if family.example else None
        offered = {} if estimator is None else {**estimator.metrics, **estimator.distances}
        for metric, function in offered.items():
            assert label_of(metric, function).long_name != metric, (name, metric)
    assert label_of("entropy_city", print).long_name == "entropy_city"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((len, "length"), "function is <built-in function len>; it must be one that takes attr"),
        ((entropy, " "), "long_name is ' '; it must be a text"),
        ((entropy, "entropy", 1), "units is 1; it must be a text"),
    ],
)
def test_what_is_no_label(arguments, message):
    with pytest.raises(cj.InputError, match=message):
        cj.metrics.label(*arguments)
    assert not hasattr(entropy, "units")
