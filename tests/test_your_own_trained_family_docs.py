"""docs/your-own-trained-family.md: its Python is run as it is printed, and held against optax."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import collapse_jax as cj

pytestmark = pytest.mark.usefixtures("quick_compile")


def blocks(root):
    text = (root / "docs" / "your-own-trained-family.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def run_block(block, names):
    exec(compile(block, "your-own-trained-family.md", "exec"), names)


@pytest.fixture(scope="module")
def page(root):
    """What the page has defined once all its blocks but the check have run."""
    names = {}
    for block in blocks(root):
        if "check_estimator" not in block:
            run_block(block, names)
    return names


def test_the_page_runs_and_its_losses_are_those_of_a_plain_loop(page, tmp_path):
    family, process = page["trained_mixture"](steps=25), page["process"]
    assert page["trace"]["variance"].shape == (1, 3)  # of the last block
    # One fit again by a plain Python loop of optax over the density that SciPy's formula gives.
    data = cj.Dataset(jnp.linspace(-2.0, 3.0, 12), jnp.array([1.0] * 10 + [0.0] * 2))
    start = family.init(jax.random.key(5), data)
    fitted, info = family.fit(jax.random.key(6), start, data)
    params, optimiser = start, optax.adam(0.03)
    moments, losses = optimiser.init(params), []
    kept = data.x[:10]  # the two empty slots are not there at all

    @jax.jit
    def loss_and_gradient(params):
        def loss(params):
            scale = jnp.exp(params["log_scale"]) + 1e-3
            z = (kept[:, None] - params["mean"]) / scale
            density = jnp.exp(-(z**2) / 2) / scale / jnp.sqrt(2 * jnp.pi)
            return -jnp.mean(jnp.log(density @ jax.nn.softmax(params["logit"])))

        return jax.value_and_grad(loss)(params)

    for _ in range(25):
        value, gradient = loss_and_gradient(params)
        losses.append(float(value))
        updates, moments = optimiser.update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(info.detail["losses"], losses, rtol=1e-4)
    assert float(info.loss) == pytest.approx(losses[-1], rel=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), fitted, params
    )
    assert process.estimator.name == "trained_mixture"


@pytest.mark.slow
def test_the_family_of_the_page_keeps_the_contract(root, page):
    for block in blocks(root):
        if "check_estimator" in block:
            run_block(block, page)
