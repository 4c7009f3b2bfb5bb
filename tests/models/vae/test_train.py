"""Training: what an epoch sees, streams, empty slots, and the bound."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.vae.model import VAE, decode, init_params
from collapse_jax.models.vae.train import (
    Stream,
    VAETraining,
    check_training,
    elbo,
    generate,
    loss,
    train,
)

pytestmark = pytest.mark.usefixtures("quick_compile")
# The module, whose name in the package is that of its function.
module = importlib.import_module("collapse_jax.models.vae.train")
MODEL = VAE(4, 4, 2, 2)
SETTINGS = VAETraining(epochs=3, batch_size=8)
KEY = jax.random.key(0)


def bars(n):
    """n images of a bright column on a dark ground."""
    x = np.full((n, 4, 4), 0.1, np.float32)
    x[np.arange(n), :, np.arange(n) % 4] = 0.9
    return jnp.asarray(x)


def flat(params):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(params)])


def test_steps_are_batches_of_filled_slots():
    """20 images in batches of 8 are 3 steps an epoch, however many empty slots there are."""
    for slots in (20, 50):
        x = jnp.zeros((slots, 4, 4)).at[slots - 20 :].set(bars(20))
        weight = jnp.zeros(slots).at[slots - 20 :].set(1.0)
        params, losses, steps = train(MODEL, SETTINGS, KEY, x, weight)
        assert int(steps) == 9 and losses.shape == (3,) and np.isfinite(flat(params)).all()


def test_empty_slots_are_never_read():
    weight = jnp.ones(24).at[5:].set(0.0)
    clean, _, _ = train(MODEL, SETTINGS, KEY, bars(24), weight)
    other, _, _ = train(MODEL, SETTINGS, KEY, bars(24).at[5:].set(0.5), weight)
    np.testing.assert_array_equal(flat(clean), flat(other))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weight": jnp.ones(8).at[2].set(jnp.nan)}, "a weight is nan"),
        ({"weight": jnp.ones(8).at[2].set(-1)}, "a weight is -1"),
        ({"x": bars(8).at[1, 0, 0].set(jnp.nan)}, "x holds nan in 1 places"),
        ({"x": bars(8).at[1].set(jnp.inf)}, "x holds inf in 16 places"),
        ({"streams": (Stream(jnp.full(3, jnp.nan), {}),)}, "a weight is nan"),
    ],
)
def test_what_is_no_number_trains_nothing(change, says):
    arguments = {"x": bars(8), "weight": jnp.ones(8), "streams": ()} | change
    with pytest.raises(InputError, match=says):
        train(MODEL, SETTINGS, KEY, **arguments)


def test_an_empty_slot_may_hold_anything():
    weight = jnp.ones(24).at[5:].set(0.0)
    clean, _, _ = train(MODEL, SETTINGS, KEY, bars(24), weight)
    other, _, _ = train(MODEL, SETTINGS, KEY, bars(24).at[5:].set(jnp.nan), weight)
    np.testing.assert_array_equal(flat(clean), flat(other))


def test_a_loss_that_becomes_nan_ends_the_training(monkeypatch):
    losses = jnp.array([5.0, jnp.nan, 4.0])
    monkeypatch.setattr(module, "_trained", lambda *_: (None, losses, 9))
    says = r"loss became nan in epoch 1 \(learning rate 0.001\); try a smaller one"
    with pytest.raises(DivergenceError, match=says):
        train(MODEL, SETTINGS, KEY, bars(8), jnp.ones(8))
    # inside a compiled program nothing can be raised: it is told as it is
    told = jax.jit(lambda x: train(MODEL, SETTINGS, KEY, x, jnp.ones(8))[1])(bars(8))
    np.testing.assert_array_equal(told, losses)


def test_a_longer_training_learns():
    """From the loss of independent grey pixels down towards the entropy of these: with p in {.1,
    .9} all of it is 16 H(.1) = 5.20 nats.
    """
    settings = VAETraining(epochs=150, batch_size=32, learning_rate=1e-2)
    _, losses, _ = train(MODEL, settings, KEY, bars(64), jnp.ones(64))
    floor = 16 * (-0.1 * np.log(0.1) - 0.9 * np.log(0.9))
    marginal = 16 * (-0.3 * np.log(0.3) - 0.7 * np.log(0.7))
    assert losses[0] > marginal > losses[-1] > floor


def constant_decoder(value):
    """A decoder that gives the same grey level everywhere, whatever the latents."""
    decoder = jax.tree.map(jnp.zeros_like, init_params(MODEL, KEY).decoder)
    return decoder | {
        "conv1": decoder["conv1"] | {"bias": jnp.full(1, np.log(value / (1 - value)), jnp.float32)}
    }


@pytest.mark.parametrize("gives", [pytest.param("means", marks=pytest.mark.slow), "bernoulli"])
def test_a_stream_is_what_its_decoder_gives(gives):
    """A stream of grey images trains as those images do; of black and white draws it does not, but
    to the same mean.
    """
    settings = VAETraining(epochs=20, batch_size=8, learning_rate=1e-2)
    nothing = jnp.zeros((0, 4, 4)), jnp.zeros(0)
    grey = train(MODEL, settings, KEY, jnp.full((16, 4, 4), 0.3), jnp.ones(16))
    streamed = train(
        MODEL, settings, KEY, *nothing, (Stream(jnp.ones(16), constant_decoder(0.3)),), gives
    )
    apart = np.abs(flat(grey[0]) - flat(streamed[0])).max()
    assert (apart < 1e-3) == (gives == "means"), apart
    assert int(streamed[2]) == 40
    assert abs(float(generate(MODEL, streamed[0].decoder, KEY, 64).mean()) - 0.3) < 0.1


def test_streams_and_images_share_an_epoch():
    """Half real at .9, a quarter streamed at .5, a quarter at .1: the network's mean image comes to
    .6 with each part in its place.
    """
    settings = VAETraining(epochs=150, batch_size=8, learning_rate=1e-2)
    streams = (
        Stream(jnp.ones(8), constant_decoder(0.5)),
        Stream(jnp.ones(8), constant_decoder(0.1)),
    )
    params, _, steps = train(MODEL, settings, KEY, jnp.full((16, 4, 4), 0.9), jnp.ones(16), streams)
    assert int(steps) == 600
    assert (
        abs(float(generate(MODEL, params.decoder, KEY, 512).mean()) - (0.9 / 2 + 0.5 / 4 + 0.1 / 4))
        < 0.06
    )


@pytest.mark.parametrize("count", [0, 1])
def test_no_nan_without_images(count):
    params, losses, _ = train(
        MODEL, SETTINGS, KEY, jnp.zeros((6, 4, 4)), jnp.zeros(6).at[:count].set(1.0)
    )
    assert np.isfinite(flat(params)).all() and np.isfinite(losses).all()


def test_large_draws_are_those_of_one_call():
    """More images than are decoded at once: the same numbers as by hand from the same latents."""
    params = init_params(MODEL, jax.random.key(5))
    latent_key, _ = jax.random.split(KEY)
    by_hand = jax.nn.sigmoid(decode(MODEL, params.decoder, jax.random.normal(latent_key, (300, 2))))
    np.testing.assert_allclose(generate(MODEL, params.decoder, KEY, 300), by_hand, atol=1e-6)


def test_bernoulli_draws_have_the_means(assert_mean):
    draws = generate(MODEL, constant_decoder(0.3), KEY, 4000, "bernoulli")
    assert set(np.unique(draws)) == {0.0, 1.0}
    assert_mean(draws, 0.3)


def test_elbo_is_minus_the_loss_of_each_image():
    params, x = init_params(MODEL, jax.random.key(6)), bars(7)
    noise = jax.random.normal(KEY, (7, 2))
    bounds = elbo(MODEL, params, KEY, x)
    for i in range(7):
        one = loss(MODEL, params, x[i : i + 1], jnp.ones(1), noise[i : i + 1])
        np.testing.assert_allclose(bounds[i], -one, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (VAETraining(epochs=0), "epochs is 0"),
        (VAETraining(batch_size=2.5), "batch_size is 2.5"),
        (VAETraining(learning_rate=-1.0), "learning_rate is -1.0"),
        (VAETraining(beta=float("nan")), "beta is nan"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(InputError, match=words):
        check_training(settings)


def test_a_stream_of_another_size():
    """The decoder of a larger network, white whatever its latents, teaches a smaller one the same
    as white images do.
    """
    decoder = jax.tree.map(jnp.zeros_like, init_params(VAE(4, 4, 3, 5), KEY).decoder)
    decoder = decoder | {"conv1": decoder["conv1"] | {"bias": jnp.full(1, 100.0)}}
    streamed, _, _ = train(
        MODEL, SETTINGS, KEY, jnp.zeros((0, 4, 4)), jnp.zeros(0), (Stream(jnp.ones(20), decoder),)
    )
    given, _, _ = train(MODEL, SETTINGS, KEY, jnp.ones((20, 4, 4)), jnp.ones(20))
    np.testing.assert_allclose(flat(streamed), flat(given), rtol=1e-5, atol=1e-6)
