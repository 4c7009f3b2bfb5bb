"""How probable a model finds text, held against a plain NumPy computation and a value from
transformers.
"""

from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.special

from collapse_jax.errors import InputError
from collapse_jax.models.lm import score, vocabulary_loss
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.score import mean_loss, perplexity, token_losses
from collapse_jax.runs.session import Session

FIXTURE = Path(__file__).parent / "fixtures" / "opt_tiny"


def numpy_perplexity(logits, tokens):
    """exp of the mean over tokens 1.. of -log softmax, in float64."""
    found = []
    for row, ids in zip(np.asarray(logits, np.float64), tokens, strict=True):
        losses = []
        for position in range(len(ids) - 1):
            scores = row[position] - row[position].max()
            losses.append(np.log(np.exp(scores).sum()) - scores[ids[position + 1]])
        found.append(np.exp(sum(losses) / len(losses)))
    return np.array(found)


def test_perplexity_of_the_fixture(tiny, expected):
    found = perplexity(*tiny, expected["tokens"])
    assert found.shape == (4,) and found.dtype == np.float64
    np.testing.assert_allclose(found, expected["perplexity"], rtol=1e-4)
    np.testing.assert_allclose(
        mean_loss(*tiny, expected["tokens"]).mean(), expected["loss"], rtol=1e-5
    )


def test_perplexity_is_numpys_in_every_batch_size(tiny):
    model, params = tiny
    blocks = np.random.default_rng(0).integers(0, 97, (7, 9))
    exact = numpy_perplexity(model.apply({"params": params}, blocks), blocks)
    told = []
    for batch_size in (1, 3, 64):
        np.testing.assert_allclose(
            perplexity(model, params, blocks, batch_size=batch_size), exact, rtol=1e-4
        )
    session = Session(progress=lambda *now: told.append(now))
    mean_loss(model, params, blocks, batch_size=3, session=session)
    assert told == [("score", done * 9, 7 * 9) for done in (3, 6, 7)]


@pytest.mark.parametrize("rows", [1, 5, 9, 56])
def test_parts_change_no_bit(tiny, rows, monkeypatch):
    """Of 7 * 8 predicted tokens; 56 are one part, as if there were none."""
    model, params = tiny
    blocks = np.random.default_rng(0).integers(0, 97, (7, 9))
    whole = jax.jit(lambda: token_losses(model, params, blocks))()
    monkeypatch.setattr(vocabulary_loss, "_ROWS", rows)
    # numbers of another compiled program: the sums of a product may round another way
    np.testing.assert_allclose(
        jax.jit(lambda: token_losses(model, params, blocks))(), whole, rtol=2e-6
    )
    logits = np.asarray(model.apply({"params": params}, blocks), np.float64)[:, :-1]
    log_probabilities = scipy.special.log_softmax(logits, axis=-1)
    exact = -np.take_along_axis(log_probabilities, blocks[:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(whole, exact, rtol=1e-5)


def test_scoring_holds_no_more_logits_than_training():
    """64 blocks of 256 tokens have 3.3 GB of logits at a vocabulary of 50,272; a step of training
    makes those of 2,048 tokens at once, .4 GB. The program is compiled, and not run.
    """
    config = OPTConfig(50_272, 4, 1, 1, 4, 256, dropout=0.0)
    model = OPT(config)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    tokens = jax.ShapeDtypeStruct((64, 256), np.int32)
    held = score._mean_loss.lower(model, params, tokens).compile().memory_analysis()
    assert held.temp_size_in_bytes < 2.2 * 2048 * 50_272 * 4


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True])
def test_a_batch_of_no_blocks_scores_nothing(tiny, batch_size):
    """-1 gave a perplexity of 1."""
    with pytest.raises(InputError, match=f"batch_size is {batch_size}; it must be"):
        perplexity(*tiny, np.zeros((2, 5), int), batch_size=batch_size)


def test_ragged_blocks(tiny):
    with pytest.raises(InputError, match=r"blocks are \[\[1, 2\], \[3\]\], of different lengths"):
        perplexity(*tiny, [[1, 2], [3]])


def test_the_first_token_is_given(tiny):
    """Under a model whose logits are all equal, each predicted token costs log V, and there are
    length - 1 of them.
    """
    model, params = tiny
    flat = jax.tree.map(np.zeros_like, params)
    np.testing.assert_allclose(
        perplexity(model, flat, np.array([[5, 6], [7, 8]])), [97.0, 97.0], rtol=1e-5
    )


def test_no_blocks(tiny):
    assert perplexity(*tiny, np.zeros((0, 5), np.int64)).shape == (0,)


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        (np.zeros(5, int), "shape (5,)"),
        (np.zeros((2, 1), int), "shape (2, 1)"),
        (np.zeros((2, 3, 4), int), "shape (2, 3, 4)"),
        (np.zeros((2, 5)), "float64"),
        (np.array([[1, 97]]), "ids 1 to 97; the model's vocabulary is 0 to 96"),
        (np.array([[-1, 9]]), "ids -1 to 9"),
        (np.zeros((1, 161), int), "161 tokens exceed max_position_embeddings 160"),
    ],
)
def test_bad_blocks(tiny, blocks, says):
    with pytest.raises(InputError) as caught:
        perplexity(*tiny, blocks)
    assert says in str(caught.value) and "\n" not in str(caught.value)
