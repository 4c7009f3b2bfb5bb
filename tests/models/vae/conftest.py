"""The same network in torch, written from the published settings alone, and weights carried over to
it.
"""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def torch_vae():
    """torch_vae(model, params) -> (torch modules by name, loss(x, weight, noise, beta)) with the
    same weights; skips without torch.
    """
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def made(model, params):
        c, rows, columns = model.capacity, model.height // 4, model.width // 4
        nets = {
            "encoder.conv1": torch.nn.Conv2d(1, c, 4, 2, 1),
            "encoder.conv2": torch.nn.Conv2d(c, 2 * c, 4, 2, 1),
            "encoder.mean": torch.nn.Linear(2 * c * rows * columns, model.latent),
            "encoder.log_variance": torch.nn.Linear(2 * c * rows * columns, model.latent),
            "decoder.dense": torch.nn.Linear(model.latent, 2 * c * rows * columns),
            "decoder.conv2": torch.nn.ConvTranspose2d(2 * c, c, 4, 2, 1),
            "decoder.conv1": torch.nn.ConvTranspose2d(c, 1, 4, 2, 1),
        }
        for name, (kernel, bias) in as_torch(model, params).items():
            nets[name].weight.data, nets[name].bias.data = torch.tensor(kernel), torch.tensor(bias)

        def loss(x, weight, noise, beta):
            h = torch.relu(nets["encoder.conv1"](x[:, None]))
            h = torch.relu(nets["encoder.conv2"](h)).flatten(1)
            mean, log_variance = nets["encoder.mean"](h), nets["encoder.log_variance"](h)
            h = nets["decoder.dense"](mean + noise * (0.5 * log_variance).exp()).view(
                -1, 2 * c, rows, columns
            )
            out = torch.sigmoid(nets["decoder.conv1"](torch.relu(nets["decoder.conv2"](h))))[:, 0]
            cross = functional.binary_cross_entropy(out, x, reduction="none").sum((1, 2))
            divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
            return (weight * (cross + beta * divergence)).sum()

        return nets, loss

    return made


@pytest.fixture(scope="session")
def layers_as_torch():
    """layers_as_torch(model, params) -> {layer: (weight, bias)} as torch orders them, NumPy."""
    return as_torch


def as_torch(model, params):
    """Images are channels last here and channels first there, so that the dense layers between see
    their features in another order.
    """
    layers = {
        f"{half}.{name}": layer
        for half, part in params._asdict().items()
        for name, layer in part.items()
    }
    channels, rows, columns = 2 * model.capacity, model.height // 4, model.width // 4
    there = {}
    for name, layer in layers.items():
        kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
        if name.startswith("encoder.conv"):
            kernel = kernel.transpose(3, 2, 0, 1)
        elif name.startswith("decoder.conv"):
            kernel = kernel.transpose(2, 3, 0, 1)
        elif name.startswith("encoder."):
            kernel = (
                kernel.reshape(rows, columns, channels, -1)
                .transpose(3, 2, 0, 1)
                .reshape(-1, channels * rows * columns)
            )
        else:
            kernel = (
                kernel.reshape(-1, rows, columns, channels)
                .transpose(3, 1, 2, 0)
                .reshape(channels * rows * columns, -1)
            )
            bias = bias.reshape(rows, columns, channels).transpose(2, 0, 1).reshape(-1)
        there[name] = kernel.copy(), bias.copy()
    return there
