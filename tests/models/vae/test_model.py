"""The network: its size, its start, and its sizes in the wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.errors import InputError
from collapse_jax.models.vae.model import VAE, check_vae, decode, encode, init_params


def test_the_papers_network_has_647081_parameters():
    """Counted on shapes alone."""
    params = jax.eval_shape(lambda key: init_params(VAE(), key), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 647_081


pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.parametrize("model", [VAE(8, 8, 3, 2), VAE(4, 12, 1, 1)])
def test_shapes(model):
    params = init_params(model, jax.random.key(0))
    x = jnp.ones((5, model.height, model.width))
    mean, log_variance = encode(model, params.encoder, x)
    assert mean.shape == log_variance.shape == (5, model.latent)
    assert decode(model, params.decoder, mean).shape == x.shape


def test_weights_start_uniform_with_the_fan_in_of_torch():
    """fan-in: 16 input channels of a convolution, 16 OUTPUT channels of a transposed one, the
    inputs of a dense layer.
    """
    model = VAE(8, 8, 8, 5)
    params = init_params(model, jax.random.key(3))
    fan_in = {
        "encoder.conv1": 16,
        "encoder.conv2": 128,
        "encoder.mean": 64,
        "encoder.log_variance": 64,
        "decoder.dense": 5,
        "decoder.conv2": 128,
        "decoder.conv1": 16,
    }
    for name, fan in fan_in.items():
        half, layer = name.split(".")
        values = getattr(params, half)[layer]
        drawn = np.concatenate(
            [np.asarray(values[part], np.float64).ravel() for part in ("kernel", "bias")]
        )
        assert stats.kstest(drawn * fan**0.5, "uniform", args=(-1, 2)).pvalue > 1e-4, name


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (VAE(height=10), "height is 10; it must be a multiple of 4"),
        (VAE(latent=0), "latent is 0; it must be an integer of at least 1"),
        (VAE(capacity=True), "capacity is True"),
        (VAE(width=8.0), "width is 8.0"),
    ],
)
def test_bad_sizes(model, words):
    with pytest.raises(InputError, match=words):
        check_vae(model)
