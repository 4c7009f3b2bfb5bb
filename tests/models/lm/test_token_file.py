"""A text as a file of tokens: what is in it, that it is whole or not there, how it is cut, and what
is left out of it.
"""

import json

import numpy as np
import pytest

from collapse_jax.models.lm import token_file
from collapse_jax.models.lm.corpus import TextTokenizer
from collapse_jax.models.lm.token_file import (
    TokenFile,
    Windows,
    cut_windows,
    flat_tokens,
    leave_out_shared,
    read_tokens,
    write_tokens,
)
from collapse_jax.runs.session import Session

BYTES = TextTokenizer(
    "bytes",
    lambda rows: [[2, *row.encode()] for row in rows],
    lambda ids: bytes(ids[1:]).decode(),
    256,
)
ROWS = ["one\n", "two\n", "", "three\n", "", "", "four"]
FROM = {"corpus": [["a.txt", 3, "abc"]], "tokenizer": "train:300"}


def text_of(rows, works=(), tokens=1000):
    return TokenFile(
        np.arange(tokens, dtype=np.uint16), np.array(rows, np.int64), np.array(works, np.int64)
    )


# In and out.


def test_tokens_are_those_of_the_rows(tmp_path):
    seen = []
    session = Session(progress=lambda *now: seen.append(now))
    write_tokens(tmp_path / "t", iter(ROWS), BYTES, FROM, session=session)
    file = read_tokens(tmp_path / "t", FROM)
    flat = [token for row in ROWS for token in (2, *row.encode())]
    assert (
        file.tokens.tolist() == flat
        and file.tokens.dtype == np.uint16
        and isinstance(file.tokens, np.memmap)
    )
    assert file.rows.tolist() == [0, 5, 10, 11, 18, 19, 20]  # 2 and the bytes of each
    assert file.works.tolist() == [11, 19, 20]  # after each blank row
    assert seen == [("encode", len(flat), None)] and flat_tokens(BYTES, ROWS).tolist() == flat
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == [
        "rows.npz",
        "tokens.bin",
        "tokens.json",
    ]
    assert (tmp_path / "t" / "tokens.bin").stat().st_size == 2 * len(flat)


def test_a_large_vocabulary_takes_four_bytes(tmp_path):
    large = BYTES._replace(encode=lambda rows: [[65_536, 70_000]] * len(rows), vocab_size=70_001)
    write_tokens(tmp_path, ROWS, large, FROM)
    file = read_tokens(tmp_path, FROM)
    assert file.tokens.tolist() == [65_536, 70_000] * 7 and file.tokens.dtype == np.uint32
    exact = BYTES._replace(encode=lambda rows: [[65_535]] * len(rows), vocab_size=65_536)
    write_tokens(tmp_path, ROWS, exact, FROM)
    assert read_tokens(tmp_path, FROM).tokens.tolist() == [65_535] * 7


def test_no_more_than_a_batch_of_rows_is_held(tmp_path):
    """Rows are asked for as they are needed: by number, or by characters where they are long."""
    for row, most in (("a", 1000), ("a" * 300_000, 4)):
        asked, sizes = [], []

        def rows(row=row, asked=asked):
            for number in range(2500 if len(row) == 1 else 10):
                asked.append(number)
                yield row

        def encode(batch, asked=asked, sizes=sizes):
            sizes.append((len(asked), len(batch)))
            return [[5]] * len(batch)

        write_tokens(tmp_path, rows(), BYTES._replace(encode=encode), FROM)
        assert [size for _, size in sizes] == [most, most, len(asked) - 2 * most]
        assert [count for count, _ in sizes] == [most, 2 * most, len(asked)]


def test_a_killed_call_leaves_nothing_that_counts(tmp_path):
    def cut_off(rows):
        raise KeyboardInterrupt

    def killed():
        with pytest.raises(KeyboardInterrupt):
            write_tokens(tmp_path, ROWS, BYTES._replace(encode=cut_off), FROM)

    killed()
    assert read_tokens(tmp_path, FROM) is None
    write_tokens(tmp_path, ROWS, BYTES, FROM)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    killed()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("name", "value"), [("corpus", [["a.txt", 3, "abd"]]), ("tokenizer", {"tokenizer.json": "0"})]
)
def test_tokens_of_something_else_are_refused(tmp_path, name, value, refused):
    write_tokens(tmp_path, ROWS, BYTES, FROM)
    assert f"contains tokens of another {name} " in refused(
        read_tokens, tmp_path, FROM | {name: value}
    )
    assert json.loads((tmp_path / "tokens.json").read_text())["made_from"] == FROM


def test_ids_outside_the_vocabulary(tmp_path, refused):
    for ids in ([256], [-1]):
        assert "outside its 256 entries" in refused(
            write_tokens, tmp_path, ROWS, BYTES._replace(encode=lambda rows, ids=ids: [ids]), FROM
        )


# Windows.


@pytest.mark.parametrize(
    ("rows", "works", "share", "cut"),
    [
        ([0, 300, 840, 888, 930], [300, 888], 0.1, 888),  # the work nearest to 900
        ([0, 300, 840, 888, 930], [300, 840, 930], 0.1, 930),  # 70 held out: nearer than 160
        (
            [0, 300, 880, 910],
            [300, 700],
            0.1,
            910,
        ),  # no work gives 50 to 200: the row nearest to 900
        ([0, 300], [300], 0.1, 900),  # no row either
        ([0], [], 0.25, 750),
        ([0, 993], [993], 0.001, 990),  # at least one window, and one whole
        ([0, 4, 985], [4], 0.999, 10),  # and one to train on
    ],
)
def test_where_the_text_is_cut(rows, works, share, cut):
    windows = cut_windows(text_of(rows, works), 10, share)
    assert windows.train.shape == (cut // 10, 10) and windows.held_out.shape == (
        (1000 - cut) // 10,
        10,
    )
    np.testing.assert_array_equal(windows.train.reshape(-1), np.arange(cut // 10 * 10))
    np.testing.assert_array_equal(
        windows.held_out.reshape(-1), cut + np.arange((1000 - cut) // 10 * 10)
    )
    assert not windows.left_out.any() and windows.left_out.shape == (cut // 10,)


def test_two_windows_are_the_least(refused):
    assert "has 19 tokens; 2 windows of block_length 10 are the least" in refused(
        cut_windows, text_of([0], tokens=19), 10, 0.1
    )
    windows = cut_windows(text_of([0], tokens=20), 10, 0.1)
    assert len(windows.train) == len(windows.held_out) == 1


# Another text kept out.


def brute_force(tokens, others, length):
    """Numbers of the windows that a shared run touches, by a set of tuples."""
    run = token_file.SHARED_RUN
    known = {
        tuple(other[i : i + run].tolist()) for other in others for i in range(len(other) - run + 1)
    }
    hits = [i for i in range(len(tokens) - run + 1) if tuple(tokens[i : i + run].tolist()) in known]
    return sorted({place // length for i in hits for place in range(i, i + run)})


@pytest.mark.parametrize("length", [2, 5, 16, 40])
@pytest.mark.parametrize("chunk", [1, 37, 1 << 20])
def test_shared_runs_are_those_of_a_set(monkeypatch, length, chunk):
    """Random tokens with pieces of the others put in, among them runs of 12, 13 and 14, one at each
    end, and one across the others.
    """
    monkeypatch.setattr(token_file, "_RUNS_PER_CHUNK", chunk)
    rng = np.random.default_rng(length)
    tokens, others = (
        rng.integers(0, 4, 2000).astype(np.uint16),
        [rng.integers(0, 4, size) for size in (150, 5, 200)],
    )
    for at, size in ((0, 13), (200, 12), (500, 13), (901, 14), (1500, 40)):
        tokens[at : at + size] = others[0][7 : 7 + size]
    tokens[1200:1220] = np.concatenate([others[0][-10:], others[2][:10]])
    tokens = tokens[: len(tokens) // length * length]
    tokens[-13:] = others[2][-13:]
    windows = Windows(tokens.reshape(-1, length), None, np.zeros(len(tokens) // length, bool))
    found = leave_out_shared(windows, others)
    expected = brute_force(tokens, others, length)
    assert np.flatnonzero(found.left_out).tolist() == expected
    assert 4 < len(expected) < len(tokens) // length and {0, len(tokens) // length - 1} <= set(
        expected
    )
    assert not windows.left_out.any()


def test_nothing_is_shared_with_texts_shorter_than_a_run():
    tokens = np.zeros((4, 10), np.uint16)
    assert not leave_out_shared(
        Windows(tokens, None, np.zeros(4, bool)), [np.zeros(12, int)]
    ).left_out.any()
    assert leave_out_shared(
        Windows(tokens, None, np.zeros(4, bool)), [np.zeros(13, int)]
    ).left_out.all()
    assert not leave_out_shared(
        Windows(tokens[:1], None, np.zeros(1, bool)), [np.zeros(13, int)]
    ).left_out.any()
