"""Log-probabilities of single tokens, against NumPy and SciPy in float64 and transformers."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats

from collapse_jax.errors import InputError
from collapse_jax.models.lm import vocabulary_loss
from collapse_jax.models.lm.hidden_states import mean_hidden
from collapse_jax.models.lm.log_probs import (
    strided_log_probs,
    strided_perplexity,
    token_log_probs,
)
from collapse_jax.models.lm.score import mean_entropy, mean_loss, mean_loss_and_entropy

FIXTURE = Path(__file__).parent / "fixtures" / "opt_tiny"
BLOCKS = np.random.default_rng(0).integers(3, 97, (7, 9))


@functools.cache
def program(model):
    return jax.jit(model.apply)


def log_softmax(tiny, tokens):
    """[batch, length, vocabulary] in float64."""
    model, params = tiny
    logits = np.asarray(program(model)({"params": params}, np.asarray(tokens)), np.float64)
    return scipy.special.log_softmax(logits, axis=-1)


def plain(tiny, tokens):
    """log p of each token after the first, [batch, length - 1]."""
    found = log_softmax(tiny, tokens)[:, :-1]
    return np.take_along_axis(found, np.asarray(tokens)[:, 1:, None], -1)[..., 0]


def test_every_token_after_the_first(tiny):
    found = token_log_probs(*tiny, BLOCKS)
    assert found.shape == (7, 8) and found.dtype == np.float32
    np.testing.assert_allclose(found, plain(tiny, BLOCKS), rtol=1e-5)
    np.testing.assert_allclose(-found.mean(1), mean_loss(*tiny, BLOCKS), rtol=1e-6)
    np.testing.assert_array_equal(token_log_probs(*tiny, BLOCKS, np.ones((7, 9))), found)
    assert token_log_probs(*tiny, np.zeros((0, 5), int)).shape == (0, 4)


def test_padding_changes_nothing_and_is_nan(tiny):
    """On the left and on the right, of several lengths in one call."""
    lengths, mask = [9, 6, 6, 9, 1, 6, 6], np.zeros((7, 9), bool)
    for row, length in enumerate(lengths):
        start = 9 - length if row % 2 else 0
        mask[row, start : start + length] = True
    found = token_log_probs(*tiny, np.where(mask, BLOCKS, 1), mask)
    for row, length in enumerate(lengths):
        text = BLOCKS[row][mask[row]]
        held = ~np.isnan(found[row])
        assert (
            held.sum() == length - 1
            and (np.flatnonzero(held) == np.flatnonzero(mask[row])[1:] - 1).all()
        )
        if length > 1:
            np.testing.assert_allclose(found[row][held], plain(tiny, [text])[0], rtol=2e-5)


def test_entropies_are_scipys_and_losses_those_without_to_the_last_bit(tiny, monkeypatch):
    model, params = tiny
    exact = scipy.stats.entropy(np.exp(log_softmax(tiny, BLOCKS)[:, :-1]), axis=-1)
    losses, entropies = mean_loss_and_entropy(*tiny, BLOCKS)
    np.testing.assert_allclose(entropies, exact.mean(1), rtol=1e-5)
    np.testing.assert_array_equal(losses, mean_loss(*tiny, BLOCKS))
    np.testing.assert_array_equal(mean_entropy(*tiny, BLOCKS, batch_size=7), entropies)
    losses, entropies = mean_loss_and_entropy(*tiny, BLOCKS, first=4)
    np.testing.assert_allclose(entropies, exact[:, 3:].mean(1), rtol=1e-5)
    np.testing.assert_allclose(losses, -plain(tiny, BLOCKS)[:, 3:].mean(1), rtol=1e-5)
    # in parts of a position of each of 7 blocks, padded at the end
    monkeypatch.setattr(vocabulary_loss, "_ROWS", 21)
    hidden = model.apply({"params": params}, BLOCKS, method="hidden")[0][:, :-1]
    matrix = model.head_matrix(params)
    parts = jax.jit(vocabulary_loss.losses_and_entropies)(hidden, matrix, BLOCKS[:, 1:])
    apart = jax.jit(vocabulary_loss.separate_losses)(hidden, matrix, BLOCKS[:, 1:])
    np.testing.assert_array_equal(parts[0], apart)
    np.testing.assert_allclose(parts[1], exact, rtol=1e-5)


def test_a_model_that_knows_nothing_and_one_that_is_certain(tiny):
    """log V where all logits are equal, and 0 where one is far above the others."""
    model, params = tiny
    flat = jax.tree.map(np.zeros_like, params)
    np.testing.assert_allclose(mean_entropy(model, flat, BLOCKS), np.log(97), rtol=1e-6)
    sure = jax.tree.map(np.array, params)
    sure["final_layer_norm"] = {k: 1e3 * v for k, v in sure["final_layer_norm"].items()}
    entropies = mean_entropy(model, sure, BLOCKS)
    assert entropies.min() >= 0 and entropies.max() < 1e-2


def windows(count, context, stride):
    """(begin, end, first predicted) of each, as the page of transformers has them."""
    found, reached = [], 1
    for begin in range(0, count, stride):
        end = min(begin + context, count)
        found.append((begin, end, reached))
        reached = end
        if end == count:
            return found


@pytest.mark.parametrize(("context", "stride"), [(16, 5), (16, 15), (7, 1), (60, None)])
def test_strided_is_a_plain_loop_over_windows(tiny, context, stride):
    tokens = np.random.default_rng(1).integers(3, 97, 50)
    exact = []
    for begin, end, first in windows(50, context, stride or context // 2):
        assert begin == 0 or first - begin == context - (stride or context // 2)
        exact.extend(plain(tiny, tokens[None, begin:end])[0, first - begin - 1 :])
    assert len(exact) == 49  # each token after the first, once
    found = strided_log_probs(*tiny, tokens, context, stride, batch_size=2)
    np.testing.assert_allclose(found, exact, rtol=2e-5)
    assert strided_perplexity(*tiny, tokens, context, stride) == pytest.approx(
        np.exp(-np.mean(exact)), rel=1e-5
    )


def test_strided_is_what_transformers_gives_on_torch(tiny):
    """The loop of its page, with labels of -100 for what was scored before."""
    torch = pytest.importorskip("torch")
    from transformers import OPTForCausalLM

    theirs = OPTForCausalLM.from_pretrained(FIXTURE).eval()
    tokens = np.random.default_rng(2).integers(3, 97, 70)
    total = 0.0
    for begin, end, first in windows(70, 32, 12):
        ids = torch.tensor(tokens[None, begin:end])
        labels = ids.clone()
        labels[:, : first - begin] = -100
        with torch.no_grad():
            total += float(theirs(ids, labels=labels).loss) * (end - first)
    found = strided_perplexity(*tiny, tokens, 32, 12)
    assert found == pytest.approx(np.exp(total / 69), rel=1e-5)


def test_mean_hidden_is_the_mean_of_what_the_head_takes(tiny):
    model, params = tiny
    hidden = np.asarray(model.apply({"params": params}, BLOCKS, method="hidden")[0])
    found = mean_hidden(*tiny, BLOCKS, batch_size=3)
    np.testing.assert_allclose(found, hidden.mean(1), rtol=1e-5, atol=1e-6)
    assert mean_hidden(*tiny, BLOCKS[:0]).shape == (0, hidden.shape[-1])


ROW = np.ones((1, 9), int)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, p: token_log_probs(m, p, [[1, 2], [3]]), "of different lengths"),
        (lambda m, p: token_log_probs(m, p, [[1, 97]]), "ids 1 to 97"),
        (lambda m, p: token_log_probs(m, p, ROW, [[1, 0]]), "mask has shape (1, 2)"),
        (lambda m, p: token_log_probs(m, p, ROW, 2 * ROW), "1 where there is text"),
        (lambda m, p: token_log_probs(m, p, ROW, 0 * ROW), "mask of block 0 is not one piece"),
        (
            lambda m, p: token_log_probs(m, p, ROW, [[1, 1, 0, 1, 1, 1, 1, 1, 1]]),
            "mask of block 0 is not one piece",
        ),
        (lambda m, p: token_log_probs(m, p, ROW, batch_size=0), "batch_size is 0"),
        (lambda m, p: token_log_probs(m, {"params": p}, ROW), "give params['params']"),
        (lambda m, p: token_log_probs(m, None, ROW), "params is NoneType"),
        (
            lambda m, p: mean_entropy(m, {k: v for k, v in p.items() if k != "layers_0"}, ROW),
            "params lacks 'layers_0/fc1/bias', which this model has",
        ),
        (lambda m, p: mean_hidden(m, p | {"more": np.ones(1)}, ROW), "params has 'more', which"),
        (
            lambda m, p: mean_hidden(m, p | {"embed_tokens": {"embedding": np.ones((2, 3))}}, ROW),
            "params: 'embed_tokens/embedding' has shape [2, 3]; this model's has [97,",
        ),
        (lambda m, p: mean_loss_and_entropy(m, p, ROW, first=9), "first is 9"),
        (lambda m, p: strided_log_probs(m, p, ROW, 4), "tokens have shape (1, 9)"),
        (lambda m, p: strided_log_probs(m, p, [[1], [2, 3]], 4), "tokens have shape (2,)"),
        (lambda m, p: strided_log_probs(m, p, [1], 4), "tokens have shape (1,)"),
        (lambda m, p: strided_log_probs(m, p, [1, -1], 4), "tokens contain ids -1 to 1"),
        (
            lambda m, p: strided_log_probs(m, p, ROW[0], 161),
            "context_length is 161; this model has",
        ),
        (lambda m, p: strided_log_probs(m, p, ROW[0], 1), "context_length is 1"),
        (lambda m, p: strided_log_probs(m, p, ROW[0], 4, 4), "stride is 4 with context_length 4"),
        (lambda m, p: strided_log_probs(m, p, ROW[0], 4, 0), "stride is 0"),
        (lambda m, p: strided_log_probs(m, p, ROW[0], 4, batch_size=0), "batch_size is 0"),
    ],
)
def test_bad_input_is_one_line(tiny, call, says):
    with pytest.raises(InputError) as caught:
        call(*tiny)
    assert says in str(caught.value) and "\n" not in str(caught.value)
