"""Variety, repetition and tails of token blocks: by hand, one by one, and against sacrebleu."""

import importlib.util
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from collapse_jax.errors import InputError
from collapse_jax.metrics import text

BLOCKS = np.array([[5, 6, 5, 6, 5, 6], [1, 2, 3, 4, 5, 6]])
sacrebleu_only = pytest.mark.skipif(
    importlib.util.find_spec("sacrebleu") is None, reason="needs sacrebleu (pip install sacrebleu)"
)


def ngrams(block, n):
    return [tuple(block[i : i + n]) for i in range(len(block) - n + 1)]


def test_by_hand():
    """(5 6) and (6 5) repeat in the first block; 5 6 alone is in both."""
    assert text.distinct(BLOCKS, 1) == 6 / 12
    assert text.distinct(BLOCKS, 2) == 6 / 10  # 56 65 | 12 23 34 45, and 56 again
    assert text.distinct(BLOCKS, 4) == 5 / 6  # 5656 6565 | 1234 2345 3456
    assert text.repeated_ngrams(BLOCKS, 2).tolist() == [3 / 5, 0]
    assert text.repeated_ngrams(BLOCKS, 4).tolist() == [1 / 3, 0]
    assert text.repeated_tokens(BLOCKS, 16).tolist() == [4 / 5, 0]
    assert text.repeated_tokens(BLOCKS, 1).tolist() == [0, 0]
    assert text.repeated_tokens(np.array([[7, 8, 9, 7, 7]]), 2).tolist() == [
        1 / 4
    ]  # the last 7; the one before it looks back at 8 9
    np.testing.assert_allclose(text.type_token_ratio(BLOCKS), [2 / 6, 1])
    found = text.text_metrics(BLOCKS)
    assert found["vocabulary_in_use"] == 6 and found["repeated_4_grams"] == pytest.approx(1 / 6)
    assert found["repeated_within_16"] == pytest.approx(2 / 5) and found[
        "type_token_ratio"
    ] == pytest.approx(2 / 3)
    assert [found[f"distinct_{n}"] for n in (1, 2, 3, 4)] == [6 / 12, 6 / 10, 6 / 8, 5 / 6]


# 2^31 - 1 makes four tokens too large for one 64-bit number: they are numbered anew in between.
@given(
    arrays(
        np.int32,
        st.tuples(st.integers(1, 5), st.integers(4, 9)),
        elements=st.sampled_from([0, 1, 2, 2**31 - 2, 2**31 - 1]),
    )
)
@settings(deadline=None, max_examples=60)
def test_counting_one_by_one_gives_the_same(blocks):
    rows = blocks.tolist()
    for n in (1, 2, 3, 4):
        every = [ngram for row in rows for ngram in ngrams(row, n)]
        assert text.distinct(blocks, n) == len(set(every)) / len(every)
        repeats = [1 - len(set(ngrams(row, n))) / len(ngrams(row, n)) for row in rows]
        np.testing.assert_allclose(text.repeated_ngrams(blocks, n), repeats, atol=1e-12)
    for window in (1, 3, 16):
        seen = [[row[i] in row[max(i - window, 0) : i] for i in range(1, len(row))] for row in rows]
        np.testing.assert_allclose(text.repeated_tokens(blocks, window), np.mean(seen, axis=1))
    assert text.text_metrics(blocks)["vocabulary_in_use"] == len(
        {token for row in rows for token in row}
    )


@given(
    arrays(np.int64, st.tuples(st.integers(2, 6), st.integers(1, 8)), elements=st.integers(0, 4))
)
@settings(deadline=None, max_examples=60)
def test_matches_are_the_clipped_counts_of_bleu(blocks):
    for n in range(1, blocks.shape[1] + 1):
        counts = [Counter(ngrams(row, n)) for row in blocks.tolist()]
        expected = []
        for i, own in enumerate(counts):
            others = counts[:i] + counts[i + 1 :]
            expected.append(
                sum(
                    min(count, max(other[ngram] for other in others))
                    for ngram, count in own.items()
                )
            )
        assert text._matches(blocks, n).tolist() == expected


@sacrebleu_only
@pytest.mark.parametrize(("length", "ids"), [(12, 3), (12, 40), (64, 50_000), (3, 5), (2, 2)])
def test_self_bleu_is_sacrebleus(length, ids):
    from sacrebleu.metrics import BLEU

    blocks = np.random.default_rng(length + ids).zipf(1.3, (15, length)) % ids
    blocks[3] = blocks[7]
    words = [" ".join(map(str, row)) for row in blocks]
    bleu = BLEU(tokenize="none", effective_order=True)
    expected = [bleu.sentence_score(words[i], words[:i] + words[i + 1 :]).score for i in range(15)]
    assert text.self_bleu(blocks) == pytest.approx(np.mean(expected) / 100, rel=1e-12)
    assert text.text_metrics(blocks)["self_bleu"] == text.self_bleu(blocks)


@sacrebleu_only
def test_self_bleu_takes_a_sample_by_its_seed():
    blocks = np.random.default_rng(0).integers(0, 9, (60, 8))
    chosen = np.random.default_rng(3).choice(60, 20, replace=False)
    assert text.self_bleu(blocks, sample=20, seed=3) == pytest.approx(
        text.self_bleu(blocks[chosen]), rel=1e-12
    )
    assert text.self_bleu(np.full((300, 8), 5)) == pytest.approx(1)
    assert "self_bleu" not in text.text_metrics(blocks[:1])


def test_without_sacrebleu_the_rest_is_measured(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not text.has_sacrebleu()
    assert "self_bleu" not in text.text_metrics(BLOCKS) and "distinct_4" in text.text_metrics(
        BLOCKS
    )


def test_short_blocks_have_what_can_be_measured():
    assert set(text.text_metrics(np.array([[1]]))) == {
        "distinct_1",
        "type_token_ratio",
        "vocabulary_in_use",
    }
    assert {"distinct_3", "repeated_within_16"} <= set(text.text_metrics(np.array([[1, 2, 3]]))) - {
        "distinct_4",
        "repeated_4_grams",
    }


def test_tails_by_hand():
    """Of 0 .. 100 the quantiles are 10, 90 and 99."""
    quantiles = text.real_quantiles(np.arange(101.0))
    np.testing.assert_allclose(quantiles, [10, 90, 99])
    shares = text.tail_shares([1, 2, 50, 95, 99.5, 1000, 60, 70], quantiles)
    assert shares == {
        "share_below_real_10": 2 / 8,
        "share_above_real_90": 3 / 8,
        "share_above_real_99": 2 / 8,
    }


@pytest.mark.parametrize("count", [20, 99, 1000])
def test_real_text_holds_a_tenth_a_tenth_and_a_hundredth_of_itself(count):
    values = np.random.default_rng(count).lognormal(size=count)
    shares = text.tail_shares(values, text.real_quantiles(values))
    np.testing.assert_allclose(list(shares.values()), [0.1, 0.1, 0.01], atol=1 / count)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: text.distinct(np.zeros((2, 3), int), 4), r"shape \(2, 3\).*4 or longer"),
        (lambda: text.distinct(np.zeros((2, 3), int), 0), r"must be integers"),
        (lambda: text.text_metrics(np.zeros((0, 3), int)), r"shape \(0, 3\)"),
        (lambda: text.text_metrics(np.zeros((2, 3))), "type float64"),
        (lambda: text.repeated_ngrams(np.array([[1, -1, 2, 3]])), "id -1"),
        (lambda: text.repeated_tokens(BLOCKS, 0), "window is 0"),
        (lambda: text.real_quantiles([]), "at least 1"),
    ],
)
def test_what_has_no_meaning_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()


@sacrebleu_only
def test_self_bleu_needs_two():
    with pytest.raises(InputError, match="self-BLEU of 1 blocks"):
        text.self_bleu(BLOCKS[:1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda nan: text.real_quantiles([1.0, nan, 2.0]), "perplexities contain nan in 1 of 3"),
        (
            lambda nan: text.tail_shares([nan, nan], np.ones(3)),
            "perplexities contain nan in 2 of 2",
        ),
        (
            lambda nan: text.tail_shares([1.0], np.array([1, nan, 2])),
            "quantiles contain nan in 1 of",
        ),
        (lambda nan: text.tail_shares([], np.ones(3)), "no perplexities to take shares of"),
        (lambda nan: text.tail_shares(["a"], np.ones(3)), "perplexities is"),
    ],
)
def test_what_is_no_number_counts_as_no_sequence(call, says):
    """It lay in no tail, as if it were a sequence in the middle."""
    with pytest.raises(InputError, match=says):
        call(np.nan)


def test_infinite_perplexities_lie_in_the_tail():
    found = text.tail_shares([1.0, np.inf], text.real_quantiles([1.0, 2.0, 3.0]))
    assert found["share_above_real_99"] == 0.5


@pytest.mark.parametrize("offset", [2**31, 2**40, 2**62, 2**63 - 30, 2**64 - 30])
def test_ids_of_any_size_are_counted(offset):
    """The numbers of n-grams wrapped around at 2^63."""
    small = np.random.default_rng(0).integers(0, 20, (30, 12))
    large = small.astype(np.uint64) + np.uint64(offset)
    if offset < 2**63 - 20:
        large = large.astype(np.int64)
    expected, found = text.text_metrics(small), text.text_metrics(large)
    assert found == expected


@pytest.mark.parametrize("n", [1.5, True, "2"])
def test_n_is_a_whole_number(n):
    for measure in (text.distinct, text.repeated_ngrams):
        with pytest.raises((InputError, TypeError)):
            measure(np.zeros((2, 4), int), n)


def test_ragged_blocks():
    with pytest.raises(InputError, match="of different lengths"):
        text.text_metrics([[1, 2], [3]])
