"""What goes into `generate` and comes out: prompts as text and of any length, stops, several
continuations of a prompt.
"""

import jax
import numpy as np
import pytest
from scipy import stats

from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm import decode_continuations, encode_prompts, stops
from collapse_jax.models.lm.corpus import TextTokenizer, load_tokenizer
from collapse_jax.models.lm.decode import BeamSearch, Greedy, Sampling, generate
from collapse_jax.models.lm.decoders import LATER_FIELDS
from collapse_jax.models.lm.opt import OPT, OPTConfig, init_params
from collapse_jax.models.lm.token_bytes import bytes_of
from collapse_jax.runs.scratch import AsFirstWritten, FileScratch
from collapse_jax.runs.session import Session

WORDS = OPTConfig(
    vocab_size=8,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=32,
    init_std=0.9,
)
KEY = jax.random.key(3)
# A tokenizer of the 8 words; "ab" is one token as well as two.
ENTRIES = ["<s>", "<pad>", "</s>", "a", "b", "ab", "ca", "\u2581"]

pytestmark = pytest.mark.usefixtures("quick_compile")


def of_entries(entries):
    """A tokenizer in the manner of SentencePiece whose texts are encoded character by character."""

    def encode(texts):
        if not all(isinstance(text, str) for text in texts):
            raise InputError("a row is no text")
        return [[entries.index(c.replace(" ", "\u2581")) for c in text] for text in texts]

    def decode(ids):
        return "".join(entries[i] for i in ids).replace("\u2581", " ")

    return TextTokenizer("small", encode, decode, len(entries), {}, lambda: list(entries))


SMALL = of_entries(ENTRIES)


@pytest.fixture(scope="module")
def words():
    """A model of 8 words."""
    return OPT(WORDS), init_params(WORDS, jax.random.key(5))


# Stops, as an automaton.


def first_stop(decode, prompt, tokens, strings):
    """How many tokens there are when a stop first reaches into the newest one, or None."""
    for count in range(1, len(tokens) + 1):
        before, now = decode([*prompt, *tokens[: count - 1]]), decode([*prompt, *tokens[:count]])
        for one in strings:
            if now.find(one, max(0, len(before) - len(one) + 1)) >= 0:
                return count
    return None


def stopped_by(automaton, row, tokens):
    """The same by the automaton."""
    state = int(automaton.read[row])
    for count, token in enumerate(tokens, 1):
        state = int(np.asarray(automaton.table)[state, token])
        if state == len(automaton.table) - 1:
            return count
    return None


def test_strings_stop_where_the_text_has_them():
    """Random tokens of a byte-level BPE, and strings that begin and end anywhere in them."""
    tokenizer = load_tokenizer("embedded")
    rng = np.random.default_rng(0)
    rows = rng.integers(4, 2048, (30, 50))
    rows[0, 30:33] = tokenizer.encode(["x\u00e9\u2019"])[0][1:4]
    texts = [tokenizer.decode(row) for row in rows]
    cuts = zip(texts[::4], range(40, 72, 4), (5, 3, 2, 4) * 2, strict=True)
    strings = [text[i : i + n] for text, i, n in cuts]
    strings = [one for one in strings if "\ufffd" not in one] + ["\n\n", "\u00e9\u2019"]
    prompts, tokens = rows[:, :10], rows[:, 10:]
    automaton = stops.stops_of(strings, tokenizer, 2048, prompts, None)
    found = [stopped_by(automaton, i, row) for i, row in enumerate(tokens)]
    pieces = bytes_of(tokenizer, 2050)
    assert pieces[2048:] == [b"", b""]

    def as_bytes(ids):
        return b"".join(pieces[i] for i in ids)

    assert [as_bytes(row).decode("utf-8", "replace") for row in rows] == texts
    codes = [one.encode() for one in strings]
    wanted = [first_stop(as_bytes, *parts, codes) for parts in zip(prompts, tokens, strict=True)]
    assert found == wanted and None in found and sum(one is not None for one in found) > 10


def test_bytes_of_sentence_pieces():
    tokenizer = of_entries(["a", "<0xC3>", "<0xA9>", "\u2581\u2581b", None, "\u2019"])
    assert bytes_of(tokenizer, 6) == [b"a", b"\xc3", b"\xa9", b"  b", b"", b"\xe2\x80\x99"]
    # One that is given as two functions alone.
    bare = SMALL._replace(entries=None)
    assert bytes_of(bare, 8) == [*(entry.encode() for entry in ENTRIES[:7]), b" "]


def test_strings_and_tokens_stop_together(words):
    """Greedy and drawn text is cut where it has a stop, which may begin in the prompt."""
    prompts = [[3], [4, 5, 6], [7, 6], [3, 6], [5, 5]]
    stop, strings = ["bca", "a a", [5, 5, 5], [7, 3]], ["bca", "a a"]
    for decoder in (Greedy(), Sampling()):
        options = {"key": KEY, "tokenizer": SMALL}
        free = generate(*words, prompts, decoder, 16, **options)
        made = generate(*words, prompts, decoder, 16, stop=stop, **options)
        for prompt, row, cut in zip(prompts, free.tolist(), made.tolist(), strict=True):
            ends = [first_stop(SMALL.decode, prompt, row, strings)]
            for count in range(1, 17):
                text = (prompt + row)[: len(prompt) + count]
                if text[-3:] == [5, 5, 5] or text[-2:] == [7, 3]:
                    ends.append(count)
            end = min([one for one in ends if one is not None], default=16)
            assert cut == row[:end] + [1] * (16 - end)
        assert (made != free).any()


@pytest.mark.parametrize(
    ("stop", "tokenizer", "says"),
    [
        ("", SMALL, "stop contains ''"),
        (["a", []], SMALL, "stop contains []"),
        (["a"], None, "stop contains the text 'a'; pass its tokenizer too"),
        ([3, 4], SMALL, "stop contains 3; it must be a list of texts and of lists of token ids"),
        (7, SMALL, "stop is 7"),
        ([[3.5]], SMALL, "stop contains [3.5]"),
        ([[8]], SMALL, "stop contains ids 8 to 8; the model's vocabulary is 0 to 7"),
        ([[3] * 20], None, "stop needs a table of 21 states for 8 tokens"),
    ],
)
def test_stops_that_are_none(words, monkeypatch, stop, tokenizer, says):
    monkeypatch.setattr(stops, "_MOST_ENTRIES", 100)
    with pytest.raises(InputError) as caught:
        generate(*words, [[3]], Greedy(), 16, stop=stop, tokenizer=tokenizer)
    assert says in str(caught.value) and "\n" not in str(caught.value)


# Text in, text out.


def test_prompts_as_text(words):
    texts = ["ab", "a", "b a ba"]
    assert encode_prompts(SMALL, texts) == [[3, 4], [3], [4, 7, 3, 7, 4, 3]]
    made = generate(*words, texts, Greedy(), 16, tokenizer=SMALL)
    np.testing.assert_array_equal(
        made, generate(*words, encode_prompts(SMALL, texts), Greedy(), 16)
    )
    assert decode_continuations(SMALL, WORDS.switches, made) == [SMALL.decode(row) for row in made]
    ended = [[[3, 7, 2, 1], [4, 1, 1, 1]], [[1, 1, 1, 1], [3, 1, 4, 1]]]
    wanted = [["a ", "b"], ["", "a<pad>b"]]
    assert decode_continuations(SMALL, WORDS.switches, np.array(ended)) == wanted


@pytest.mark.parametrize(
    ("prompts", "tokenizer", "says"),
    [
        (["a"], None, "prompts contain the text 'a'; pass its tokenizer too"),
        ("ab", SMALL, "prompts is one text, 'ab'; it must be a list of texts"),
        ("ab", None, "prompts contain the text 'ab'"),
        (["a", ""], SMALL, "prompt 1, '', has no token"),
        (["a", 5], SMALL, "a row is no text"),
    ],
)
def test_texts_that_are_none(words, prompts, tokenizer, says):
    with pytest.raises(InputError) as caught:
        generate(*words, prompts, Greedy(), 16, tokenizer=tokenizer)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_padding_is_not_seen(words):
    """A token that stands in the padding alone is not penalised, whatever stands there."""
    rows, decoder = [[3, 3, 4, 4, 3], [5, 6]], Greedy(3.0, no_repeat_ngram_size=3)
    alone = np.concatenate([generate(*words, [row], decoder, 16) for row in rows])
    np.testing.assert_array_equal(generate(*words, rows, decoder, 16), alone)
    for filling in range(8):
        prompts = [rows[0], [filling] * 3 + rows[1]]
        mask = [[1] * 5, [0, 0, 0, 1, 1]]
        made = generate(*words, prompts, decoder, 16, attention_mask=mask)
        np.testing.assert_array_equal(made, alone)


def test_where_every_token_would_repeat_one_line_says_so(words):
    for decoder in (Greedy(no_repeat_ngram_size=1), BeamSearch(2, no_repeat_ngram_size=1)):
        with pytest.raises(DivergenceError, match="every token would repeat an n-gram of 1 tokens"):
            generate(*words, [[3, 4, 5, 6, 0]], decoder, 3)


# Several continuations.


@pytest.mark.slow
def test_continuations_of_a_prompt_are_independent(words):
    """The first is the one that is made alone; pairs of the first words of two others follow the
    product of their laws.
    """
    prompts = np.random.default_rng(0).integers(3, 8, (4, 3))

    def drawn(copies, prompts=prompts, **options):
        options |= {"key": KEY, "num_return_sequences": copies}
        return generate(*words, prompts, Sampling(), 2, **options)

    made = drawn(5)
    np.testing.assert_array_equal(made[:, 0], generate(*words, prompts, Sampling(), 2, key=KEY))
    np.testing.assert_array_equal(drawn(5, batch_size=3), made)
    np.testing.assert_array_equal(drawn(2), made[:, :2])
    assert drawn(1).shape == (4, 1, 2)
    # 3,000 copies of a prompt, in pairs that lie next to each other and far apart.
    first = drawn(3000, prompts[:1], batch_size=1000)[0, :, 0]
    logits = np.asarray(words[0].apply({"params": words[1]}, prompts[:1]))[0, -1]
    law = np.exp(logits) * (np.arange(8) != WORDS.eos_token_id)
    law /= law.sum()
    for left, right in ((first[:-1:2], first[1::2]), (first[:1500], first[1500:])):
        expected = 1500 * np.outer(law, law).ravel()
        observed = np.bincount(8 * left + right, minlength=64)
        large = expected >= 5
        observed = [*observed[large], observed[~large].sum()]
        expected = [*expected[large], expected[~large].sum()]
        assert stats.chisquare(observed, expected, sum_check=False).pvalue > 1e-4


def test_a_killed_call_goes_on(words, tmp_path):
    """What the scratch holds is that of the same number of continuations and the same stops."""
    prompts = np.random.default_rng(0).integers(3, 8, (4, 3))
    said = []

    def drawn(**options):
        scratch = FileScratch(tmp_path / "scratch", said.append)
        options |= {"key": KEY, "session": Session(scratch=scratch)}
        return generate(*words, prompts, Sampling(), 2, **options)

    whole = drawn(num_return_sequences=5)
    np.testing.assert_array_equal(drawn(num_return_sequences=5), whole)
    assert not said
    np.testing.assert_array_equal(drawn(), whole[:, 0])
    assert len(said) == 1
    drawn(stop=[[3]])
    assert len(said) == 2


def test_fingerprints_of_older_versions_stay():
    def named(decoder):
        return repr(AsFirstWritten(decoder, LATER_FIELDS))

    assert named(Greedy()) == "Greedy(repetition_penalty=1.0, min_new_tokens=None)"
    assert named(Sampling(0.7, min_p=0.2)) == (
        "Sampling(temperature=0.7, top_k=0, top_p=1.0, repetition_penalty=1.0, "
        "min_new_tokens=None, min_p=0.2)"
    )


@pytest.mark.parametrize(
    ("decoder", "returned", "says"),
    [
        (Greedy(), 2, "num_return_sequences is 2; Greedy"),
        (BeamSearch(3), 4, "finds at most 3"),
        (Sampling(), 0, "num_return_sequences is 0"),
        (Sampling(), 2.0, "num_return_sequences is 2.0"),
    ],
)
def test_numbers_of_continuations_that_are_none(words, decoder, returned, says):
    with pytest.raises(InputError) as caught:
        generate(*words, [[3]], decoder, 2, key=KEY, num_return_sequences=returned)
    assert says in str(caught.value) and "\n" not in str(caught.value)
