"""Decoding that may end: held against transformers (the fixture, and a trained model live where
torch is there).
"""

import dataclasses

import jax
import numpy as np
import pytest

from collapse_jax.errors import InputError
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, generate
from collapse_jax.models.lm.opt import OPT
from collapse_jax.models.lm.weights import load_opt

# As ENDING in make_opt_fixture.py.
END = 50
DECODERS = {
    "greedy": Greedy(min_new_tokens=3),
    "beam5": BeamSearch(5, min_new_tokens=0),
    "beam5_short": BeamSearch(5, min_new_tokens=2, length_penalty=-1.0),
    "beam3_long": BeamSearch(3, min_new_tokens=0, length_penalty=2.0, early_stopping="never"),
    "beam4_early": BeamSearch(4, 1.5, min_new_tokens=5, early_stopping=True),
}


@pytest.fixture(scope="module")
def ending(tiny):
    """The fixture's model, with a word that it does write as its end of text."""
    model, params = tiny
    return OPT(dataclasses.replace(model.config, eos_token_id=END)), params


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("batch_size", [16, 3])
def test_endings_are_those_of_transformers(ending, expected, name, batch_size):
    made = generate(*ending, expected["prompts"], DECODERS[name], batch_size=batch_size)
    np.testing.assert_array_equal(made, expected[f"ended_{name}"])


def test_what_follows_an_end_is_padding(ending, expected):
    model, params = ending
    drawn = Sampling(min_new_tokens=4)
    made = generate(model, params, expected["prompts"], drawn, key=jax.random.key(0))
    free = generate(
        model,
        params,
        expected["prompts"],
        drawn._replace(min_new_tokens=None),
        key=jax.random.key(0),
    )
    ends = [row.tolist().index(END) if END in row else 64 for row in made]
    assert min(ends) >= 4 and any(end < 64 for end in ends) and END not in free
    for row, end in zip(made, ends, strict=True):
        assert (row[end + 1 :] == 1).all() and (row[:end] != 1).any()


def test_a_trained_model_ends_as_in_transformers(shared):
    """Headings and verses of the books end soon: some beams end, some go on to the limit."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = shared / "opt-mini-books"
    model, params = load_opt(folder)
    theirs = transformers.OPTForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        "Chapter I",
        "The End",
        "CHAPTER XII",
        "He went home to his wife and",
        "To be or not to be",
        '"Yes," said he',
    ] * 2
    rows = [tokenizer(text)["input_ids"][:3] for text in texts[:6]]
    prompts = np.array([row for row in rows if len(row) == 3])
    assert len(prompts) >= 4
    for decoder, options in (
        (BeamSearch(5, min_new_tokens=0), {"num_beams": 5}),
        (
            BeamSearch(5, 2.0, min_new_tokens=0, early_stopping=True),
            {"num_beams": 5, "repetition_penalty": 2.0, "early_stopping": True},
        ),
        (
            BeamSearch(4, min_new_tokens=3, length_penalty=0.3),
            {"num_beams": 4, "min_new_tokens": 3, "length_penalty": 0.3},
        ),
        (Greedy(min_new_tokens=0), {}),
    ):
        inputs = torch.tensor(prompts)
        with torch.no_grad():
            made = theirs.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                do_sample=False,
                max_new_tokens=24,
                **options,
            )
        made = np.pad(made[:, 3:].numpy(), ((0, 0), (0, 27 - made.shape[1])), constant_values=1)
        np.testing.assert_array_equal(generate(model, params, prompts, decoder, 24), made)


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (BeamSearch(5, min_new_tokens=-1), ["min_new_tokens", "-1"]),
        (Greedy(min_new_tokens=-2), ["min_new_tokens", "-2"]),
        (
            BeamSearch(5, min_new_tokens=0, early_stopping="soon"),
            ["early_stopping", "'soon'", "never"],
        ),
    ],
)
def test_endings_that_have_no_meaning(ending, expected, decoder, words):
    with pytest.raises(InputError) as error:
        generate(*ending, expected["prompts"], decoder)
    assert all(word in str(error.value) for word in words)
