"""Token frequencies: by hand, by SciPy, and by plain counting."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import optimize, stats
from scipy.spatial.distance import jensenshannon

from collapse_jax.errors import InputError
from collapse_jax.metrics import frequencies

BLOCKS = arrays(
    np.int32, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=st.integers(0, 7)
)


def text(words):
    """One block of the ids of words."""
    names = {word: number for number, word in enumerate(dict.fromkeys(words.split()))}
    return np.array([[names[word] for word in words.split()]])


@pytest.mark.parametrize(("counts", "exponent"), [((2, 1), 1.0), ((6, 3, 2), 1.0), ((36, 9, 4), 2)])
def test_zipf_of_exact_counts(counts, exponent):
    """Counts in the very proportions of the law are most likely under its exponent."""
    blocks = np.repeat(np.arange(len(counts)), counts)[None]
    assert frequencies.zipf_exponent(blocks) == pytest.approx(exponent, rel=1e-9)


def test_zipf_is_the_maximum_of_scipys_likelihood():
    blocks = np.random.default_rng(0).zipf(1.4, (30, 40)) % 300
    counts = np.sort(np.unique(blocks, return_counts=True)[1])[::-1]
    ranks = np.arange(1, len(counts) + 1)
    best = optimize.minimize_scalar(
        lambda s: -counts @ stats.zipfian.logpmf(ranks, s, len(counts)),
        bounds=(0.1, 4),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert frequencies.zipf_exponent(blocks) == pytest.approx(best.x, rel=1e-5)


def test_zipf_finds_the_exponent_that_made_a_text():
    """Within four standard errors, those of the maximum likelihood: 1 / sqrt(N var(log rank))."""
    count, p = 200_000, stats.zipfian(1.1, 50).pmf(np.arange(1, 51))
    draws = np.random.default_rng(3).choice(50, count, p=p / p.sum())
    logs = np.log(np.arange(1, 51))
    error = 1 / math.sqrt(count * (p @ logs**2 - (p @ logs) ** 2))
    assert abs(frequencies.zipf_exponent(draws[None]) - 1.1) < 4 * error


def test_zipf_at_its_ends():
    assert frequencies.zipf_exponent(np.arange(20)[None]) == pytest.approx(0, abs=1e-9)
    assert math.isnan(frequencies.zipf_exponent(np.zeros((3, 4), int)))
    rare = np.array([[0] * 999_999 + [1]])
    assert 2 ** frequencies.zipf_exponent(rare) == pytest.approx(999_999, rel=1e-6)


def test_divergences_by_hand():
    """Real counts 2 and 1, the text's 3 and 0; smoothed 2.5, 1.5 and 3.5, .5 of 4."""
    kl, js = frequencies.unigram_divergences(np.array([[7, 7, 7]]), np.array([[7, 7, 9]]))
    assert kl == pytest.approx(0.625 * math.log(2.5 / 3.5) + 0.375 * math.log(1.5 / 0.5))
    p, q, middle = (2 / 3, 1 / 3), (1.0, 0.0), (5 / 6, 1 / 6)
    expected = sum(a * math.log(a / m) for a, m in zip(p, middle, strict=True)) / 2
    assert js == pytest.approx(expected + q[0] * math.log(6 / 5) / 2)
    apart = frequencies.unigram_divergences(np.array([[1, 2]]), np.array([[3, 4]]))
    assert apart[1] == pytest.approx(math.log(2))


@given(BLOCKS, BLOCKS)
@settings(deadline=None, max_examples=40)
def test_divergences_are_scipys(blocks, real):
    ids = np.union1d(blocks, real)
    p, q = (np.array([(part == i).sum() for i in ids], float) for part in (real, blocks))
    kl, js = frequencies.unigram_divergences(blocks, real)
    assert kl == pytest.approx(stats.entropy(p + 0.5, q + 0.5), abs=1e-12)
    assert js == pytest.approx(np.nan_to_num(jensenshannon(p, q)) ** 2, abs=1e-9)
    assert frequencies.unigram_divergences(real, real) == (0, 0)


def test_ids_of_any_type_are_told_apart():
    """NumPy takes uint64 and int64 together as floats, in which these two are one."""
    near = np.array([[2**53, 2**53 + 1]])
    kl, js = frequencies.unigram_divergences(near.astype(np.uint64)[:, :1], near[:, 1:])
    assert js == pytest.approx(math.log(2)) and kl > 0


def test_yules_k_by_hand():
    """Counts 2, 1, 1 of 4 tokens: 10^4 (6 - 4) / 16."""
    assert frequencies.yules_k(text("a a b c")) == 1250
    assert frequencies.yules_k(text("a b c")) == 0
    assert frequencies.yules_k(np.zeros((2, 5), int)) == pytest.approx(1e4 * (1 - 1 / 10))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # .667 after "of the people by the people", then a piece of ratio 1; backwards .6 after 5
        ("of the people by the people for the people", 9),
        ("a a a a", 2),
        ("a a a a a", 5 / 2),
        ("a b c d a", 5 / ((1 - 4 / 5) / 0.28)),
        ("a b c", math.nan),
    ],
)
def test_mtld_by_hand(words, expected):
    """The first is the example of McCarthy and Jarvis 2010."""
    assert frequencies.mtld(text(words)) == pytest.approx(expected, nan_ok=True)


def test_a_ratio_at_the_threshold_is_not_below_it():
    """18 of 25 is .72, and so is 126 of 175: with one new token, less than a piece either way."""
    for kinds, length in ((18, 25), (126, 175)):
        order = np.append(np.arange(length) % kinds, 999)
        part = (1 - (kinds + 1) / (length + 1)) / 0.28
        assert frequencies.mtld(order[None]) == pytest.approx((length + 1) / part)


@given(BLOCKS)
@settings(deadline=None, max_examples=40)
def test_counting_plainly_gives_the_same(blocks):
    """In fractions, piece by piece, from lists."""
    tokens = blocks.ravel().tolist()
    counts = Counter(tokens)
    square = sum(i * i * of for i, of in Counter(counts.values()).items())
    expected = 10_000 * Fraction(square - len(tokens), len(tokens) ** 2)
    assert frequencies.yules_k(blocks) == pytest.approx(float(expected))

    def pieces(order):
        found, start = Fraction(0), 0
        for end in range(1, len(order) + 1):
            ratio = Fraction(len(set(order[start:end])), end - start)
            if ratio < Fraction(18, 25):
                found, start = found + 1, end
        left = order[start:]
        return found + ((1 - Fraction(len(set(left)), len(left))) / Fraction(7, 25) if left else 0)

    both = [pieces(tokens), pieces(tokens[::-1])]
    exact = sum(len(tokens) / of for of in both) / 2 if all(both) else math.nan
    assert frequencies.mtld(blocks) == pytest.approx(float(exact), nan_ok=True)
    assert frequencies.different_sequences(blocks) == len(set(map(tuple, blocks.tolist())))


@pytest.mark.parametrize("high", [3, 50, 2**31 - 1])
def test_the_share_of_real_ngrams_by_sets(high):
    rng = np.random.default_rng(high)
    real = rng.integers(high - 3, high + 1, (40, 12))
    made = rng.integers(high - 3, high + 1, (30, 9))
    made[:10, 2:8] = real[5:15, 4:10]

    def grams(blocks, n):
        return [
            tuple(row[at : at + n]) for row in blocks.tolist() for at in range(len(row) - n + 1)
        ]

    for n in (1, 3, 6, 9):
        there = set(grams(real, n))
        found = [gram in there for gram in grams(made, n)]
        assert frequencies.real_ngrams(made, real, n) == pytest.approx(np.mean(found))
    assert frequencies.real_ngrams(real, real) == 1
    assert math.isnan(frequencies.real_ngrams(made, real, 10))
    # The order counts.
    assert frequencies.real_ngrams([[2, 1]], [[1, 2]], 2) == 0


def test_what_is_not_defined_is_left_out():
    names = {"zipf_exponent", "unigram_kl", "unigram_js", "yules_k", "mtld", "different_sequences"}
    real = np.array([[1, 2, 3, 1]])
    assert frequencies.frequency_metrics(real, real).keys() == names
    assert frequencies.frequency_metrics(np.zeros((2, 4), int), real).keys() == names - {
        "zipf_exponent"
    }
    assert frequencies.frequency_metrics(np.array([[1, 2, 3]]), real).keys() == names - {"mtld"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: frequencies.zipf_exponent([[1.5]]), "blocks have shape"),
        (lambda: frequencies.unigram_divergences([[1]], [1]), r"real_blocks have shape \(1,\)"),
        (lambda: frequencies.unigram_divergences([[1]], [[-1]]), "real_blocks contain the id -1"),
        (lambda: frequencies.unigram_divergences([[1]], [[1]], smoothing=0), "smoothing is 0"),
        (lambda: frequencies.real_ngrams([[1]], [[1]], 0), "n is 0"),
        (lambda: frequencies.mtld([[1]], threshold=1.0), "threshold is 1.0"),
        (lambda: frequencies.yules_k([[1], [2, 3]]), "of different lengths"),
    ],
)
def test_what_has_no_meaning_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
