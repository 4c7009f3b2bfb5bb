"""The loss without whole logits: its value and gradients are those of the plain one, whatever the
parts.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from collapse_jax.models.lm import vocabulary_loss
from collapse_jax.models.lm.score import batch_loss, token_losses

BATCH, POSITIONS, WIDTH, WORDS = 3, 7, 5, 11


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    hidden, embedding = rng.normal(size=(BATCH, POSITIONS, WIDTH)), rng.normal(size=(WORDS, WIDTH))
    hidden, embedding = hidden.astype(np.float32), embedding.astype(np.float32)
    return (
        hidden,
        embedding,
        rng.integers(0, WORDS, (BATCH, POSITIONS)),
        np.array([1.0, 0.0, 2.5], np.float32),
    )


def by_hand(hidden, embedding, targets, weights):
    """(loss, gradient of hidden, gradient of embedding) in NumPy, float64."""
    hidden, embedding, weights = (
        array.astype(np.float64) for array in (hidden, embedding, weights)
    )
    log_probabilities = scipy.special.log_softmax(hidden @ embedding.T, axis=-1)
    one_hot = np.eye(WORDS)[targets]
    loss = -(weights[:, None] * (log_probabilities * one_hot).sum(-1)).sum()
    slope = (np.exp(log_probabilities) - one_hot) * weights[:, None, None]
    return loss, slope @ embedding, np.einsum("bpv,bpw->vw", slope, hidden)


@pytest.mark.parametrize("rows", [1, 6, 9, 10**6])
def test_value_and_gradients(inputs, rows, monkeypatch):
    monkeypatch.setattr(vocabulary_loss, "_ROWS", rows)
    hidden, embedding, targets, weights = inputs
    loss, to_hidden, to_embedding = by_hand(*inputs)

    def summed(hidden, embedding):
        return 3 * vocabulary_loss.summed_loss(hidden, embedding, targets, weights)

    arguments = jnp.asarray(hidden), jnp.asarray(embedding)
    np.testing.assert_allclose(summed(*arguments), 3 * loss, rtol=1e-6)
    value, gradients = jax.jit(jax.value_and_grad(summed, (0, 1)))(*arguments)
    np.testing.assert_allclose(value, 3 * loss, rtol=1e-6)
    for ours, exact in zip(gradients, (to_hidden, to_embedding), strict=True):
        np.testing.assert_allclose(ours, 3 * exact, rtol=0, atol=1e-6 * np.abs(3 * exact).max())


def test_logits_of_any_size_stay_finite(inputs):
    hidden, embedding, targets, weights = inputs
    arguments = np.float32(1e4) * hidden, embedding, targets, weights
    value, gradient = jax.value_and_grad(vocabulary_loss.summed_loss)(*arguments)
    np.testing.assert_allclose(value, by_hand(*arguments)[0], rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_the_loss_of_a_batch_is_the_mean_of_its_tokens(tiny, expected):
    model, params = tiny
    tokens, weights = jnp.asarray(expected["tokens"]), jnp.array([1.0, 1.0, 0.0, 1.0])
    plain = float(token_losses(model, params, tokens)[jnp.array([0, 1, 3])].mean())
    np.testing.assert_allclose(batch_loss(model, params, tokens, weights), plain, rtol=1e-6)
