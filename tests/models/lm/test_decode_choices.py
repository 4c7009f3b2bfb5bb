"""What decoders leave out and where they stop, held against transformers: committed fixtures
(`make_decoder_fixtures.py`), its warpers live where torch is there, and plain loops.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, generate
from collapse_jax.models.lm.token_scores import token_scores, truncate
from collapse_jax.models.lm.weights import load

FIXTURES = Path(__file__).parent / "fixtures"
WARPED = {
    "min_p": Sampling(min_p=0.2),
    "min_p_1": Sampling(min_p=1.0),
    "typical": Sampling(typical_p=0.6),
    "typical_little": Sampling(typical_p=0.01),
    "min_p_cold": Sampling(0.7, min_p=0.05),
    "all": Sampling(1.3, 20, 0.9, min_p=0.02, typical_p=0.8),
}

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def theirs():
    with np.load(FIXTURES / "decoders.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def gemma():
    """The tiny Gemma 2."""
    return load(FIXTURES / "families" / "gemma2")


@pytest.fixture(scope="module")
def ending(gemma):
    """The same with three ids that end a text."""
    model, params = gemma
    changed = {"eos_token_id": 5, "more_ends": (9, 11), "pad_token_id": 0}
    return type(model)(dataclasses.replace(model.config, **changed)), params


# What is cut.


@pytest.mark.parametrize("name", WARPED)
def test_truncations_are_those_of_transformers(theirs, name):
    logits, wanted = theirs["logits"], theirs[f"warped_{name}"]
    ours = np.asarray(truncate(jnp.asarray(logits), WARPED[name]))
    assert (np.isneginf(ours) | np.isclose(ours, logits / WARPED[name].temperature)).all()
    # Sorted, as torch chooses freely among words that are equal.
    np.testing.assert_allclose(np.sort(ours), np.sort(wanted), rtol=1e-6)
    kept = np.isfinite(wanted).sum(1)
    assert (kept >= 1).all() and (kept < np.isfinite(theirs["logits"]).sum(1)).any()


def test_truncations_of_transformers_live():
    """Random settings and laws, from flat to nearly certain."""
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    rng = np.random.default_rng(4)
    for _ in range(20):
        logits = (rng.normal(size=(20, 50)) * rng.choice([0.1, 1, 4, 20])).astype(np.float32)
        min_p, typical_p = float(rng.uniform(0.001, 0.9)), float(rng.uniform(0.02, 0.98))
        wanted = process.MinPLogitsWarper(min_p)(None, torch.tensor(logits))
        wanted = process.TypicalLogitsWarper(typical_p)(None, wanted).numpy()
        ours = truncate(jnp.asarray(logits), Sampling(min_p=min_p, typical_p=typical_p))
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_no_ngram_is_completed_twice(gemma, size):
    """Banned is what a set of the n-grams so far says, in prompts with padding too."""
    rng = np.random.default_rng(size)
    prompts, history = rng.integers(0, 4, (6, 5)), rng.integers(0, 4, (6, 2, 7))
    padded, t = np.array([0, 1, 2, 3, 4, 0]), 5
    text = tuple(map(jnp.asarray, (prompts, history, padded)))
    config, decoder = gemma[0].switches, Greedy(min_new_tokens=0, no_repeat_ngram_size=size)
    scores = jax.jit(lambda t: token_scores(config, decoder, jnp.zeros((6, 2, 61)), text, t))(t)
    for i, j in np.ndindex(6, 2):
        row = [*prompts[i, padded[i] :], *history[i, j, :t]]
        grams = [tuple(row[k : k + size]) for k in range(len(row) - size + 1)]
        newest = tuple(row[len(row) - size + 1 :]) if size > 1 else ()
        banned = {gram[-1] for gram in grams if gram[:-1] == newest}
        assert set(np.flatnonzero(np.isneginf(scores[i, j])) if len(row) >= size else []) == banned


# Whole continuations, of prompts of different lengths, with stops.


def texts_of(theirs):
    """Prompts as lists of their own lengths."""
    rows = zip(theirs["prompts"], theirs["lengths"], strict=True)
    return [row[len(row) - length :].tolist() for row, length in rows]


def test_greedy_of_transformers(gemma, theirs):
    decoder, stop = Greedy(1.2, no_repeat_ngram_size=2), theirs["stop_greedy"].tolist()
    made = generate(*gemma, texts_of(theirs), decoder, 16, stop=stop)
    np.testing.assert_array_equal(made, theirs["greedy"])


def test_beams_of_transformers(ending, theirs):
    """The best three of four, with repetitions penalised and banned, ends and stops."""
    decoder = BeamSearch(4, 1.2, 0, no_repeat_ngram_size=3)
    stop = [[i for i in row if i >= 0] for row in theirs["stop_beams"].tolist()]
    options = {"stop": stop, "num_return_sequences": 3}
    made = generate(*ending, texts_of(theirs), decoder, 16, **options)
    np.testing.assert_array_equal(made, theirs["beams"])
    # Padding of any ids under a mask is no text, and batches change nothing.
    mask = np.arange(24) >= 24 - theirs["lengths"][:, None]
    prompts = np.where(mask, theirs["prompts"], made[:, :1, 0])
    options |= {"attention_mask": mask, "batch_size": 6}
    np.testing.assert_array_equal(generate(*ending, prompts, decoder, 16, **options), made)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in (FIXTURES / "families").iterdir()))
def test_every_family_takes_prompts_of_different_lengths(name, theirs):
    """Each goes on as it does alone, with every way of choosing but drawing."""
    model, params = load(FIXTURES / "families" / name)
    texts = [texts_of(theirs)[i] for i in (0, 4)]
    decoder = BeamSearch(
        4, 1.2, 2, no_repeat_ngram_size=2, num_beam_groups=2, diversity_penalty=0.5
    )
    options = {"num_return_sequences": 4, "stop": [[30, 28], [48]]}
    made = generate(model, params, texts, decoder, 8, **options)
    alone = [generate(model, params, [text], decoder, 8, **options)[0] for text in texts]
    np.testing.assert_array_equal(made, alone)


@pytest.mark.parametrize(
    ("decoder", "says"),
    [
        (Sampling(min_p=-0.1), "min_p is -0.1; it must be in [0, 1]"),
        (Sampling(min_p=1.1), "min_p is 1.1"),
        (Sampling(min_p=float("nan")), "min_p is nan"),
        (Sampling(typical_p=0.0), "typical_p is 0.0; it must be in (0, 1]"),
        (Sampling(typical_p=2), "typical_p is 2"),
        (Greedy(no_repeat_ngram_size=-1), "no_repeat_ngram_size is -1"),
        (Greedy(no_repeat_ngram_size=2.0), "no_repeat_ngram_size is 2.0"),
        (BeamSearch(4, num_beam_groups=0), "num_beam_groups is 0"),
        (BeamSearch(5, num_beam_groups=2, diversity_penalty=1), "must divide num_beams, 5"),
        (BeamSearch(4, num_beam_groups=2), "diversity_penalty is 0.0 with num_beam_groups 2"),
        (BeamSearch(4, diversity_penalty=1.0), "diversity_penalty is 1.0 with num_beam_groups 1"),
        (BeamSearch(4, num_beam_groups=2, diversity_penalty=-1.0), "diversity_penalty is -1.0"),
        (BeamSearch(length_penalty=float("inf")), "length_penalty is inf"),
    ],
)
def test_settings_that_have_no_meaning(gemma, decoder, says):
    with pytest.raises(InputError) as caught:
        generate(*gemma, [[12, 13]], decoder, 2, key=jax.random.key(0))
    assert says in str(caught.value) and "\n" not in str(caught.value)
