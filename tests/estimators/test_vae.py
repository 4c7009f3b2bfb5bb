"""The VAE in generational processes: fresh and finite draws, workflows, both drivers, and its
metrics.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.core import workflows
from collapse_jax.core.process import generational_process
from collapse_jax.core.types import Dataset
from collapse_jax.drivers.run import run
from collapse_jax.drivers.simulate import simulate
from collapse_jax.errors import InputError
from collapse_jax.estimators import sources
from collapse_jax.estimators.vae import StreamedImages, example, vae
from collapse_jax.models.vae.model import VAE, VAEParams, decode, encode, init_params
from collapse_jax.models.vae.train import VAETraining

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(0)
MODEL = VAE(4, 4, 2, 2)
REAL = jnp.asarray(np.random.default_rng(0).random((24, 4, 4), np.float32))


def small(draws="fresh", **options):
    return vae(
        4,
        4,
        capacity=2,
        latent=2,
        training=VAETraining(epochs=1, batch_size=8),
        draws=draws,
        **options,
    )


def process(workflow, draws="fresh", size=16, **options):
    return generational_process(
        small(draws), sources.dataset(REAL), workflow, sample_size=size, **options
    )


def grey(value):
    """Parameters whose decoder gives `value` everywhere."""
    params = init_params(MODEL, KEY)
    decoder = jax.tree.map(jnp.zeros_like, params.decoder)
    bias = jnp.full(1, np.log(value / (1 - value)), jnp.float32)
    return VAEParams(params.encoder, decoder | {"conv1": decoder["conv1"] | {"bias": bias}})


def evidence_of_step(made):
    state, first = made.init(KEY)
    return state, first.data, jax.eval_shape(made.step, KEY, state)[1].data


def test_fresh_evidence_is_decoders_and_real_images():
    """Generation 0: 16 real images.

    Later, under mix(3/4, 0, 1/4): 4 real ones, and 12 places of the last decoder.
    """
    state, first, later = evidence_of_step(
        process(workflows.mix(0.75, 0.0, 0.25, random_counts=False))
    )
    assert isinstance(first, StreamedImages) and first.x.shape == (16, 4, 4) and first.streams == ()
    assert later.x.shape == (4, 4, 4) and later.weight.shape == (4,)
    (stream,) = later.streams
    assert stream.weight.shape == (12,)
    assert jax.tree.map(jnp.shape, stream.decoder) == jax.tree.map(jnp.shape, state.params.decoder)


def test_under_replace_nothing_real_is_left():
    _, _, later = evidence_of_step(process(workflows.replace()))
    assert later.x.shape == (0, 4, 4) and later.streams[0].weight.shape == (16,)


def test_a_population_streams_beside_the_model():
    """Real images from a known decoder, never held: two streams in one training set."""
    made = generational_process(
        small(),
        sources.population(small(), grey(0.8)),
        workflows.mix(0.5, 0.0, 0.5, random_counts=False),
        sample_size=16,
    )
    _, first, later = evidence_of_step(made)
    assert [stream.weight.shape for stream in first.streams] == [(16,)]
    assert [stream.weight.shape for stream in later.streams] == [(8,), (8,)]


@pytest.mark.parametrize(
    ("workflow", "words"),
    [
        (workflows.accumulate(), "accumulate needs points"),
        (workflows.accumulate_subsample(), "accumulate_subsample needs points"),
        (workflows.mix(0.5, 0.3, 0.2, random_counts=False), r"mix\(0.5, 0.3, 0.2\) needs points"),
        (workflows.mix(0.5, 0.0, 0.5), "give random_counts=False"),
    ],
)
def test_fresh_draws_refuse_what_they_cannot_serve(workflow, words):
    """When the process is made, in one line."""
    with pytest.raises(InputError, match=words) as caught:
        process(workflow)
    assert "\n" not in str(caught.value)


def test_fresh_draws_refuse_a_schedule():
    with pytest.raises(InputError, match="sample_size is a function, but this estimator is lazy"):
        process(workflows.replace(), size=lambda generation: 8 + generation, largest_sample_size=16)


def test_fresh_draws_refuse_a_generator_without_draw():
    """A workflow that curates single points cannot be served by a stream."""
    curated = workflows.replace()._replace(
        name="curated", filters=(lambda estimator: estimator._replace(draw=None),)
    )
    with pytest.raises(InputError, match="curated needs points"):
        process(curated)


@pytest.mark.parametrize(
    ("workflow", "filled"),
    [
        (workflows.replace(), 16),
        (workflows.accumulate(), 32),
        (workflows.accumulate_subsample(), 16),
        (workflows.mix(0.5, 0.2, 0.3), 16),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_finite_draws_work_under_every_workflow(workflow, filled):
    made = process(workflow, "finite")
    state, _ = made.init(KEY, 2)
    state, info = made.step(jax.random.key(1), state)
    assert isinstance(info.data, Dataset) and int((info.data.weight > 0).sum()) == filled
    assert np.isfinite(float(info.fit.loss)) and int(info.fit.iterations) == -(-filled // 8)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.slow
def test_both_drivers_give_the_same_numbers(tmp_path):
    """And chains do not depend on how many there are: two chains of `run`, three of `simulate`."""
    made = process(workflows.mix(0.5, 0.0, 0.5, random_counts=False), remember_first=True)
    metrics = ("mean", "variance", "log_variance", "latent_deviation_to_first")
    ran = run(made, KEY, generations=2, chains=2, folder=tmp_path, metrics=metrics)
    simulated = simulate(made, KEY, generations=2, chains=3, metrics=metrics)
    for name in metrics:
        np.testing.assert_allclose(
            ran[name], simulated[name][:2], rtol=2e-3, atol=1e-5, err_msg=name
        )
    assert np.ptp(simulated["mean"][:, 0]) > 0


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint(tmp_path):
    made = process(workflows.replace(), remember_first=True)
    metrics = ("mean", "latent_deviation_to_first")
    run(made, KEY, generations=1, folder=tmp_path / "cut", metrics=metrics)
    resumed = run(made, KEY, generations=2, folder=tmp_path / "cut", metrics=metrics)
    whole = run(made, KEY, generations=2, folder=tmp_path / "whole", metrics=metrics)
    for name in metrics:
        np.testing.assert_array_equal(resumed[name], whole[name])


def test_a_network_is_trained_from_scratch():
    """What the parameters before a fit were makes no difference."""
    data = Dataset(REAL, jnp.ones(24))
    fits = [small("finite").fit(KEY, params, data)[0] for params in (None, grey(0.2))]
    for a, b in zip(*map(jax.tree.leaves, fits), strict=True):
        np.testing.assert_array_equal(a, b)


def test_metrics_of_models_that_are_known():
    """A decoder that always gives .3: mean .3, variance 0; black and white draws of it have
    variance .21.
    """
    flat, drawn = small(), small(gives="bernoulli")
    np.testing.assert_allclose(flat.metrics["mean"](grey(0.3)), 0.3, rtol=1e-5)
    assert float(flat.metrics["variance"](grey(0.3))) < 1e-12
    # 16,000 pixels: 4 standard errors of a mean and of a variance
    np.testing.assert_allclose(
        drawn.metrics["mean"](grey(0.3)), 0.3, atol=4 * (0.21 / 16_000) ** 0.5
    )
    np.testing.assert_allclose(
        drawn.metrics["variance"](grey(0.3)), 0.21, atol=4 * (0.21 * 0.16 / 16_000) ** 0.5
    )
    np.testing.assert_allclose(drawn.metrics["log_variance"](grey(0.3)), np.log(0.21), atol=0.05)


def test_latent_deviation_is_numpys_of_the_reference_encoder():
    model, params, reference = (
        small(probes=50),
        init_params(MODEL, jax.random.key(7)),
        init_params(MODEL, jax.random.key(8)),
    )
    images = model.sample(jax.random.key(1), params, 50)
    latents = np.asarray(encode(MODEL, reference.encoder, images)[0], np.float64)
    np.testing.assert_allclose(
        model.distances["latent_deviation"](params, reference), latents.std(), rtol=1e-4
    )
    np.testing.assert_allclose(
        model.distances["latent_mean"](params, reference), latents.mean(), rtol=1e-4
    )


def test_sample_and_example():
    model, params = example()
    images = np.asarray(model.sample(KEY, params, 5))
    assert images.shape == (5, 8, 8) and images.min() > 0 and images.max() < 1
    logits = decode(
        VAE(8, 8, 2, 2), params.decoder, jax.random.normal(jax.random.split(KEY)[0], (5, 2))
    )
    np.testing.assert_allclose(images, 1 / (1 + np.exp(-np.asarray(logits))), rtol=1e-4)


def test_one_point_and_equal_points_give_no_nan():
    for grey_level, count in ((0.5, 16), (0.0, 1), (1.0, 16)):
        data = Dataset(jnp.full((16, 4, 4), grey_level), (jnp.arange(16) < count).astype(float))
        params, info = small("finite").fit(KEY, None, data)
        assert np.isfinite(float(info.loss)) and all(
            np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gives": "pixels"}, "gives is 'pixels'; it must be 'means' or 'bernoulli'"),
        ({"draws": "some"}, "draws is 'some'; it must be 'fresh' or 'finite'"),
        ({"probes": 0}, "probes is 0"),
        ({"latent": 0}, "latent is 0"),
        ({"training": VAETraining(epochs=0)}, "epochs is 0"),
        ({"height": 7}, "height is 7; it must be a multiple of 4"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        vae(**options)


def test_images_of_another_size():
    with pytest.raises(InputError, match=r"shape \[8, 8\]; vae\(4, 4\) takes .* \[4, 4\]"):
        generational_process(
            small(), sources.dataset(jnp.zeros((20, 8, 8))), workflows.replace(), sample_size=16
        )
    data = Dataset(jnp.zeros((16, 8, 8)), jnp.ones(16))
    with pytest.raises(
        InputError, match=r"images have shape \[8, 8\]; this VAE is made for \[4, 4\]"
    ):
        small().fit(KEY, None, data)
