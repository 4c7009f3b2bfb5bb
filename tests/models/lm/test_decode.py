"""Decoding, held against transformers (fixture, and live where torch is there), exhaustive search,
and plain NumPy.
"""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, generate
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.token_scores import best_words, truncate
from collapse_jax.runs.session import Session

FIXTURE = Path(__file__).parent / "fixtures" / "opt_tiny"
WORDS = OPTConfig(
    vocab_size=8,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=48,
    init_std=0.6,
)
END = WORDS.eos_token_id
PROMPT = 4
PADDED = 40


@pytest.fixture(scope="module")
def words():
    """A model of 8 words."""
    return OPT(WORDS), init_params(WORDS, jax.random.key(2))


@pytest.fixture(scope="module")
def prompts():
    return np.random.default_rng(0).integers(3, 8, (5, PROMPT))


@pytest.fixture(scope="module")
def logits_after(words):
    """logits_after(sequences [n, length]) [n, length, 8] in float64, by the whole model and no
    cache.
    """
    model, params = words
    apply = jax.jit(lambda tokens: model.apply({"params": params}, tokens))

    def logits(sequences):
        sequences = np.asarray(sequences)
        length = sequences.shape[1]
        padded = np.zeros((-(-len(sequences) // 512) * 512, PADDED), np.int32)
        padded[: len(sequences), :length] = sequences
        parts = [np.asarray(apply(part), np.float64) for part in padded.reshape(-1, 512, PADDED)]
        return np.concatenate(parts)[: len(sequences), :length]

    return logits


def log_softmax(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def penalised(scores, seen, penalty):
    """Scores [V] of Keskar et al.: those of the words seen are made smaller."""
    scores = scores.copy()
    for word in set(map(int, seen)):
        scores[word] = scores[word] * penalty if scores[word] < 0 else scores[word] / penalty
    return scores


def summed_scores(logits_after, prompt, continuations, penalty):
    """Summed log-probabilities [n] of continuations [n, new] of one prompt."""
    sequences = np.concatenate([np.repeat(prompt[None], len(continuations), 0), continuations], 1)
    log_probs = log_softmax(logits_after(sequences))
    total = np.zeros(len(sequences))
    for i, sequence in enumerate(sequences):
        for t in range(len(prompt), len(sequence)):
            total[i] += penalised(log_probs[i, t - 1], sequence[:t], penalty)[sequence[t]]
    return total


def plain_beam_search(logits_after, prompt, num_beams, new_tokens, penalty):
    """The textbook loop over Python lists."""
    beams = [(0.0, list(map(int, prompt)))]
    for _ in range(new_tokens):
        log_probs = log_softmax(logits_after([beam for _, beam in beams])[:, -1])
        found = []
        for (total, beam), scores in zip(beams, log_probs, strict=True):
            scores = penalised(scores, beam, penalty)
            found += [
                (total + scores[word], [*beam, word]) for word in range(len(scores)) if word != END
            ]
        beams = sorted(found, reverse=True)[:num_beams]
    return beams[0][1][len(prompt) :]


# The fixture: what transformers made.


@pytest.mark.parametrize(
    ("name", "decoder", "rows", "batch_size"),
    [
        ("greedy", Greedy(), 16, 16),
        ("greedy", Greedy(), 3, 1),
        ("beam5", BeamSearch(), 16, 64),
        ("beam5", BeamSearch(5), 7, 3),
        ("beam5_penalty2", BeamSearch(5, 2.0), 16, 6),
    ],
)
def test_continuations_are_those_of_transformers(tiny, expected, name, decoder, rows, batch_size):
    told = []
    made = generate(
        *tiny,
        expected["prompts"][:rows],
        decoder,
        batch_size=batch_size,
        session=Session(progress=lambda *now: told.append(now)),
    )
    assert made.dtype == np.int32
    np.testing.assert_array_equal(made, expected[name][:rows])
    done = [*range(batch_size, rows, batch_size), rows]
    assert told == [("generate", count * 64, rows * 64) for count in done]


def test_continuations_of_transformers_live(tiny):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs = (
        transformers.OPTForCausalLM.from_pretrained(FIXTURE, use_safetensors=True).double().eval()
    )
    prompts = np.random.default_rng(5).integers(4, 97, (8, 10))
    for decoder, options in (
        (BeamSearch(4, 1.3), {"num_beams": 4, "repetition_penalty": 1.3}),
        (Greedy(1.5), {"repetition_penalty": 1.5}),
    ):
        inputs = torch.tensor(prompts)
        options |= {
            "do_sample": False,
            "min_new_tokens": 17,
            "max_new_tokens": 17,
            "attention_mask": torch.ones_like(inputs),
        }
        with torch.no_grad():
            made = theirs.generate(inputs, **options)[:, 10:].numpy()
        np.testing.assert_array_equal(generate(*tiny, prompts, decoder, 17), made)


# Beams, held against searches that need no cache.


@pytest.mark.parametrize("penalty", [1.0, 2.0])
def test_enough_beams_find_what_an_exhaustive_search_finds(words, prompts, logits_after, penalty):
    """49 beams hold every pair of the 7 words that are allowed, so no continuation of 3 is lost."""
    made = generate(*words, prompts, BeamSearch(49, penalty), 3)
    every = np.array(list(itertools.product([word for word in range(8) if word != END], repeat=3)))
    one_beam = generate(*words, prompts, BeamSearch(1), 20)[:, :3]
    gains = []
    for prompt, found, greedy in zip(prompts, made, one_beam, strict=True):
        totals = summed_scores(logits_after, prompt, every, penalty)
        assert found.tolist() == every[totals.argmax()].tolist()
        ours, worse = summed_scores(logits_after, prompt, np.stack([found, greedy]), penalty)
        assert abs(ours - totals.max()) < 1e-9
        gains.append(ours - worse)
    assert min(gains) >= 0 and max(gains) > 1e-3


@pytest.mark.parametrize(("new_tokens", "penalty"), [(1, 1.0), (17, 1.0), (18, 1.5), (34, 1.0)])
def test_beam_search_is_the_plain_loop_over_every_segment_boundary(
    words, prompts, logits_after, new_tokens, penalty
):
    made = generate(*words, prompts[:3], BeamSearch(3, penalty), new_tokens)
    plain = [
        plain_beam_search(logits_after, prompt, 3, new_tokens, penalty) for prompt in prompts[:3]
    ]
    assert made.tolist() == plain


def test_one_beam_is_greedy(words, prompts):
    np.testing.assert_array_equal(
        generate(*words, prompts, BeamSearch(1), 20), generate(*words, prompts, Greedy(), 20)
    )


@pytest.mark.parametrize("new_tokens", [1, 2, 33])
def test_a_longer_greedy_continuation_begins_with_the_shorter(tiny, expected, new_tokens):
    made = generate(*tiny, expected["prompts"], Greedy(), new_tokens)
    np.testing.assert_array_equal(made, expected["greedy"][:, :new_tokens])


def test_end_of_text_is_never_made(words, prompts, logits_after):
    model, params = words
    loud = params | {
        "final_layer_norm": {
            "scale": 0 * jnp.ones(8),
            "bias": params["embed_tokens"]["embedding"][END],
        }
    }
    assert (
        jax.jit(model.apply)({"params": loud}, prompts).argmax(-1) == END
    ).all()  # unless it is banned
    for decoder, new_tokens in (
        (Greedy(), 20),
        (BeamSearch(49, 2.0), 3),
        (Sampling(), 6),
    ):  # compiled for other tests too
        made = generate(model, loud, prompts, decoder, new_tokens, key=jax.random.key(0))
        assert (
            made.shape == (5, new_tokens)
            and not (made == END).any()
            and made.min() >= 0
            and made.max() < 8
        )


# Sampling, held against the law that NumPy gives.


def numpy_law(logits, decoder, seen):
    """The distribution [V] that a word is drawn from."""
    scores = penalised(logits, seen, decoder.repetition_penalty) / decoder.temperature
    pairs, size = set(itertools.pairwise(seen)), decoder.no_repeat_ngram_size
    order = [
        word
        for word in np.argsort(-scores)
        if word != END and not (size == 2 and (seen[-1], word) in pairs)
    ]
    if decoder.top_k:
        order = order[: decoder.top_k]
    probs = np.exp(scores[order] - scores[order].max())
    probs /= probs.sum()
    kept = [i for i in range(len(order)) if probs[:i].sum() < decoder.top_p]
    probs = probs[kept] / probs[kept].sum()
    large = probs >= decoder.min_p * probs.max()
    words, probs = np.array(order)[kept][large], probs[large] / probs[large].sum()
    if decoder.typical_p < 1:
        distance = np.abs(-np.log(probs) + (probs * np.log(probs)).sum())
        nearest = np.argsort(distance)
        many = 1 + (np.cumsum(probs[nearest]) < decoder.typical_p).sum()
        words, probs = words[nearest[:many]], probs[nearest[:many]]
    law = np.zeros(len(logits))
    law[words] = probs / probs.sum()
    return law


@pytest.mark.parametrize(
    "decoder",
    [
        Sampling(),
        Sampling(temperature=0.6),
        Sampling(top_k=3),
        Sampling(top_p=0.7),
        Sampling(1.5, 5, 0.9, 1.8),
        Sampling(typical_p=0.6),
        Sampling(1.3, 6, 0.95, 1.2, min_p=0.1, typical_p=0.9, no_repeat_ngram_size=2),
    ],
)
def test_pairs_of_sampled_words_follow_their_law(words, prompts, logits_after, decoder):
    draws = 6000
    made = generate(
        *words,
        np.repeat(prompts[:1], draws, 0),
        decoder,
        2,
        key=jax.random.key(7),
        batch_size=draws,
    )
    first = numpy_law(logits_after(prompts[:1])[0, -1], decoder, prompts[0])
    law = np.zeros((8, 8))
    for word in np.flatnonzero(first):
        sequence = np.append(prompts[0], word)
        law[word] = first[word] * numpy_law(logits_after(sequence[None])[0, -1], decoder, sequence)
    counts = np.zeros((8, 8))
    np.add.at(counts, tuple(made.T), 1)
    assert not counts[law == 0].any()
    order = np.argsort(-law.ravel())
    expected, observed = draws * law.ravel()[order], counts.ravel()[order]
    large = expected >= 5
    expected = np.append(expected[large], expected[~large].sum())
    observed = np.append(observed[large], observed[~large].sum())
    possible = expected > 1e-9
    assert possible.sum() > 3
    assert stats.chisquare(observed[possible], expected[possible], sum_check=False).pvalue > 1e-4


@pytest.mark.parametrize(
    "decoder",
    [
        Sampling(0.7),
        Sampling(top_k=4),
        Sampling(top_k=500),
        Sampling(top_p=0.6),
        Sampling(1.3, 6, 0.5),
        Sampling(min_p=0.3),
        Sampling(0.8, typical_p=0.4),
        Sampling(1.3, 20, 0.9, min_p=0.05, typical_p=0.7),
    ],
)
def test_truncation_keeps_what_numpy_keeps(decoder):
    logits = np.random.default_rng(1).normal(size=(20, 30)) * 3
    cut = np.asarray(truncate(jnp.asarray(logits), decoder))
    law = np.exp(cut - cut.max(-1, keepdims=True))
    law /= law.sum(-1, keepdims=True)
    logits[:, END] = -np.inf  # numpy_law bans it
    allowed = np.asarray(truncate(jnp.asarray(logits), decoder))
    allowed = np.exp(allowed - allowed.max(-1, keepdims=True))
    allowed /= allowed.sum(-1, keepdims=True)
    expected = np.stack([numpy_law(row, decoder, []) for row in logits])
    np.testing.assert_allclose(allowed, expected, atol=1e-5)
    assert np.isfinite(cut).any(-1).all() and np.isfinite(law).all()


def test_sampling_depends_on_the_key_and_the_prompt_alone(words, prompts):
    def sample(seed, **options):
        return generate(*words, prompts, Sampling(), 6, key=jax.random.key(seed), **options)

    whole = sample(0)
    np.testing.assert_array_equal(sample(0, batch_size=2), whole)
    assert (sample(1) != whole).any()
    same_prompt = generate(
        *words, np.repeat(prompts[:1], 5, 0), Sampling(), 6, key=jax.random.key(0)
    )
    assert len(set(map(tuple, same_prompt))) > 1


# What is refused.


@pytest.mark.parametrize(
    ("decoder", "says"),
    [
        (Greedy(0.0), "repetition_penalty is 0.0"),
        (BeamSearch(repetition_penalty=float("nan")), "repetition_penalty is nan"),
        (BeamSearch(0), "num_beams is 0"),
        (Sampling(temperature=0.0), "temperature is 0.0"),
        (Sampling(temperature=float("nan")), "temperature is nan"),
        (Sampling(top_k=-1), "top_k is -1"),
        (Sampling(top_p=0.0), "top_p is 0.0"),
        (Sampling(top_p=1.1), "top_p is 1.1"),
        (Sampling(), "needs a key"),
        ("greedy", "decoder is 'greedy'; it must be BeamSearch, Greedy or Sampling"),
    ],
)
def test_settings_that_have_no_meaning(words, prompts, decoder, says):
    with pytest.raises(InputError) as caught:
        generate(*words, prompts, decoder, 2)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompts", "new_tokens", "says"),
    [
        (np.zeros(4, int), 2, "shape (4,)"),
        (np.zeros((2, 0), int), 2, "shape (2, 0)"),
        (np.zeros((2, 3)), 2, "float64"),
        (np.array([[0, 8]]), 2, "ids 0 to 8; the model's vocabulary is 0 to 7"),
        (np.array([[-1, 3]]), 2, "ids -1 to 3"),
        (np.zeros((1, 4), int), 0, "new_tokens is 0"),
        (np.zeros((1, 4), int), 2.0, "new_tokens is 2.0"),
        (
            np.zeros((1, 40), int),
            9,
            "40 prompt tokens and 9 new ones exceed max_position_embeddings 48",
        ),
    ],
)
def test_prompts_that_do_not_fit(words, prompts, new_tokens, says):
    with pytest.raises(InputError) as caught:
        generate(*words, prompts, Greedy(), new_tokens)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_prompts_of_different_lengths_are_padded_on_the_left(words, logits_after):
    """Under a mask each goes on as it does alone, by the plain loops over the whole model."""
    lengths = [6, 4, 1]
    prompts = np.random.default_rng(1).integers(3, 8, (3, 6))
    mask = np.arange(6) >= 6 - np.array(lengths)[:, None]
    prompts[~mask] = WORDS.pad_token_id
    alone = [row[kept] for row, kept in zip(prompts, mask, strict=True)]
    for decoder, beams in ((BeamSearch(3, 1.0), 3), (Greedy(), 1)):
        made = generate(*words, prompts, decoder, 4, attention_mask=mask.astype(int))
        wanted = [plain_beam_search(logits_after, prompt, beams, 4, 1.0) for prompt in alone]
        np.testing.assert_array_equal(made, wanted)
    sampled = Sampling(top_k=1)
    made = generate(*words, prompts, sampled, 4, key=jax.random.key(0), attention_mask=mask)
    np.testing.assert_array_equal(made, wanted)


def test_a_mask_of_ones_changes_nothing(words, prompts):
    made = generate(*words, prompts, Greedy(), 20, attention_mask=np.ones_like(prompts))
    np.testing.assert_array_equal(made, generate(*words, prompts, Greedy(), 20))


@pytest.mark.parametrize(
    ("prompts", "mask", "says"),
    [
        ([[3, 4], [1, 5]], None, "prompt 1 begins or ends with pad_token_id 1"),
        ([[3, 4], [5, 1]], None, "prompt 1 begins or ends with pad_token_id 1"),
        ([[3, 4], [5], []], None, "prompt 2 is empty"),
        ([[3, 4], [5.0]], None, "prompt 1 is of type float64"),
        ([[3, 4], [5, 6, 1]], None, "prompt 1 begins or ends with pad_token_id 1"),
        ([[3, 4], [5]], [[1, 1], [1]], "prompts has rows of different lengths"),
        ([[3, 4], [5, 1]], [[1, 1], [1, 0]], "attention_mask of prompt 1 is not 0 on the left"),
        ([[3, 4, 5]], [[1, 0, 1]], "attention_mask of prompt 0 is not 0 on the left"),
        ([[3, 4]], [[0, 0]], "attention_mask of prompt 0 is not 0 on the left"),
        ([[3, 4]], [[1, 2]], "attention_mask has shape (1, 2)"),
        ([[3, 4]], [[1]], "attention_mask has shape (1, 1)"),
        ([[3, 4]], [[1, 1], [1]], "attention_mask has rows of different lengths"),
    ],
)
def test_padding_that_is_not_told_of(words, prompts, mask, says):
    with pytest.raises(InputError) as caught:
        generate(*words, prompts, Greedy(), 2, attention_mask=mask)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_key_that_is_none(words, prompts):
    with pytest.raises(InputError, match="key is 1; it must be one key"):
        generate(*words, prompts, Sampling(), 6, key=1)


@pytest.mark.parametrize(
    ("decoder", "new_tokens"),
    [(Greedy(), 20), (Sampling(), 6), (BeamSearch(1), 20), (BeamSearch(2, min_new_tokens=0), 3)],
)
def test_scores_that_are_no_numbers_choose_nothing(words, prompts, decoder, new_tokens):
    """A nan is the largest of all scores for argmax, and would choose its word."""
    model, params = words
    options = {"key": jax.random.key(0)}
    kernel = params["layers_0"]["fc1"]["kernel"]
    layer = params["layers_0"] | {
        "fc1": params["layers_0"]["fc1"] | {"kernel": kernel.at[0, 0].set(jnp.nan)}
    }
    with pytest.raises(DivergenceError) as caught:
        generate(model, params | {"layers_0": layer}, prompts, decoder, new_tokens, **options)
    assert "prompt 0 of 5: parameter layers_0/fc1/kernel contains nan" in str(caught.value)
    norm = {"scale": jnp.full(8, 3e38), "bias": jnp.zeros(8)}
    with pytest.raises(DivergenceError, match="an intermediate overflows"):
        generate(
            model, params | {"final_layer_norm": norm}, prompts, decoder, new_tokens, **options
        )


def test_no_prompts_and_a_full_context(words):
    assert generate(*words, np.zeros((0, 3), int), Greedy(), 5).shape == (0, 5)
    assert generate(*words, np.zeros((1, 44), int), Greedy(), 4).shape == (1, 4)


# The search for the best words, group by group.


@pytest.mark.parametrize("words", [5, 128, 700, 2048, 50272])
@pytest.mark.parametrize("most", [3, 10])
def test_best_words_are_those_of_a_whole_sort(words, most):
    rng = np.random.default_rng(words)
    scores = (
        np.round(2 * rng.normal(size=(60, words))).astype(np.float32) + 0.0
    )  # full of ties, and no -0, which top_k puts below 0
    scores[4] = 1.0
    scores[5, 3:] = -np.inf
    count = min(most, words)
    values, indices = best_words(jnp.asarray(scores), count)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(values, np.take_along_axis(scores, order, 1))
    np.testing.assert_array_equal(indices, order)
