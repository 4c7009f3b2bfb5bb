"""Loss, gradients and Adam's steps are torch's, on the same weights, images and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.models.vae.model import VAE, decode, init_params
from collapse_jax.models.vae.train import TrainState, VAETraining, loss, optimiser, step

pytestmark = pytest.mark.usefixtures("quick_compile")
MODELS = [VAE(8, 12, 4, 3), VAE(28, 28, 8, 20)]


def batch(model, n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, model.height, model.width), np.float32)
    weight = np.array([1.0] * (n - 1) + [0.0], np.float32)
    return x, weight, rng.standard_normal((n, model.latent), np.float32)


def relative(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize(("model", "beta"), [(MODELS[0], 0.3), (MODELS[1], 1.0)], ids=str)
def test_loss_and_gradients(model, beta, torch_vae, layers_as_torch):
    params = init_params(model, jax.random.key(1))
    arrays = batch(model, 6)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda p: loss(model, p, *map(jnp.asarray, arrays), beta))
    )(params)
    nets, torch_loss = torch_vae(model, params)
    theirs = torch_loss(*map(tensor, arrays), beta)
    theirs.backward()
    assert relative(float(value), theirs.item()) < 1e-5
    for name, (kernel, bias) in layers_as_torch(model, gradient).items():
        assert relative(kernel, nets[name].weight.grad.numpy()) < 1e-4, name
        assert relative(bias, nets[name].bias.grad.numpy()) < 1e-4, name


def test_adam_step_for_step(torch_vae, layers_as_torch):
    """With a weight decay so large that the decoupled one would be far off."""
    import torch

    model, settings = MODELS[0], VAETraining(learning_rate=1e-3, weight_decay=5.0)
    params = init_params(model, jax.random.key(2))
    nets, torch_loss = torch_vae(model, params)
    adam = torch.optim.Adam(
        [w for net in nets.values() for w in net.parameters()], lr=1e-3, weight_decay=5.0
    )
    state = TrainState(params, optimiser(settings).init(params))
    ours = jax.jit(lambda state, *arrays: step(model, settings, state, *arrays))
    for seed in range(8):
        arrays = batch(model, 6, seed)
        state, value = ours(state, *map(jnp.asarray, arrays))
        adam.zero_grad()
        theirs = torch_loss(*map(tensor, arrays), 1.0)
        theirs.backward()
        adam.step()
        assert relative(float(value), theirs.item()) < 1e-4, seed
        for name, (kernel, bias) in layers_as_torch(model, state.params).items():
            assert np.abs(kernel - nets[name].weight.detach().numpy()).max() < 2e-5, (seed, name)
            assert np.abs(bias - nets[name].bias.detach().numpy()).max() < 2e-5, (seed, name)


def test_the_convolutions_are_those_of_xla():
    """Without torch: the transposed convolution of a decoder is the transpose of a convolution, by
    XLA's own convolutions.
    """
    model = VAE(8, 12, 4, 3)
    params = init_params(model, jax.random.key(4))
    z = jax.random.normal(jax.random.key(5), (3, 3))
    layers = params.decoder
    h = (z @ layers["dense"]["kernel"] + layers["dense"]["bias"]).reshape(3, 2, 3, 8)
    for name in ("conv2", "conv1"):
        kernel = layers[name]["kernel"][::-1, ::-1]
        h = (
            jax.lax.conv_transpose(jax.nn.relu(h) if name == "conv1" else h, kernel, (2, 2), "SAME")
            + layers[name]["bias"]
        )
    np.testing.assert_allclose(decode(model, params.decoder, z), h[..., 0], atol=1e-5)


def tensor(array):
    import torch

    return torch.tensor(array)
