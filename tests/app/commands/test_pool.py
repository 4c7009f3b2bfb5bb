"""What a lineage reads of the others: how many blocks, which, and in whose tokens."""

import jax
import numpy as np
import pytest

from collapse_jax.app.commands import pool as pool_file
from collapse_jax.app.commands.pool import Pool, Writer, counts_of, root_key_of
from collapse_jax.app.config import LMConfig
from collapse_jax.core.factory import estimator
from collapse_jax.core.types import FitInfo
from collapse_jax.errors import InputError
from collapse_jax.models.lm.corpus import TextTokenizer

KEY, LENGTH = jax.random.key(5), 6


def of_characters(name, per_token):
    """A tokenizer whose tokens are so many characters each, after a token that begins a text."""

    def encode(texts):
        return [
            [0, *(int(text[at : at + per_token], 36) + 1 for at in range(0, len(text), per_token))]
            for text in texts
        ]

    def decode(ids):
        return "".join(np.base_repr(one - 1, 36).zfill(per_token).lower() for one in ids if one)

    return TextTokenizer(name, encode, decode, 36**per_token + 1, identity=name)


ONE, TWO = of_characters("one", 1), of_characters("two", 2)


class Model:
    """The parameters that `Pool` looks at."""

    def __init__(self, fits):
        self.fits = fits


def pool_of(monkeypatch, written, shares, tokenizers, number=0):
    """The blocks that a pool gives: (n) -> blocks [n, length]; and how many it read of whom."""
    texts = dict(enumerate(written))
    asked = []

    def given(writer, chain, generation, one):
        asked.append((chain, generation, one))
        return texts[one]

    monkeypatch.setattr(pool_file, "_written", given)
    writers = [Writer("", tokenizer) for tokenizer in tokenizers]
    one = Pool(number, writers, shares, KEY)
    own = estimator(
        lambda key, params, data: (params, FitInfo.exact()),
        lambda key, params, n: np.full((n, LENGTH), 7, np.int32),
        name="own",
        init=lambda key, data: (),
        traceable=False,
    )
    reading = one.reading(own, 20)
    one.chain = 3
    return lambda n, fits=5: np.asarray(reading.sample(KEY, Model(fits), n)), one, asked


@pytest.mark.parametrize(
    ("shares", "n", "counts"),
    [
        ([0.5, 0.5], 10, [5, 5]),
        ([0.5, 0.5], 11, [6, 5]),
        ([0.8, 0.1, 0.1], 20, [16, 2, 2]),
        ([1 / 3] * 3, 20, [7, 7, 6]),
        ([0.07, 0.93], 100, [7, 93]),
        # 1.2, 1.05 and 0.75: the largest remainder is the smallest share's.
        ([0.4, 0.35, 0.25], 3, [1, 1, 1]),
        ([1.0, 0.0], 3, [3, 0]),
        ([0.0, 0.0, 1.0], 0, [0, 0, 0]),
    ],
)
def test_whole_numbers_of_blocks(shares, n, counts):
    assert counts_of(shares, n) == counts


def test_shares_of_all_texts_without_replacement(monkeypatch):
    texts = [1 + np.arange(20 * LENGTH).reshape(20, LENGTH) + 1000 * k for k in range(3)]
    texts = [text.astype(np.int32) for text in texts]
    sample, _, asked = pool_of(monkeypatch, texts, [0.5, 0.25, 0.25], [ONE] * 3)
    blocks = sample(20)
    writers = blocks[:, 0] // 1000
    assert np.bincount(writers).tolist() == [10, 5, 5]
    assert len({tuple(block) for block in blocks.tolist()}) == 20
    assert {tuple(block) for block in blocks.tolist()} <= {
        tuple(block) for text in texts for block in text.tolist()
    }
    # After five fits the newest model is that of generation 4.
    assert asked == [(3, 4, 1), (3, 4, 2), (3, 4, 0)]
    # The choices in the texts of two writers are not the same.
    chosen = [sorted((blocks[writers == k, 0] % 1000).tolist()) for k in (1, 2)]
    assert chosen[0] != chosen[1]


def test_what_is_read_of_whom_is_observed(monkeypatch):
    texts = [np.zeros((20, LENGTH), np.int32)] * 2
    sample, pool, _ = pool_of(monkeypatch, texts, [0.25, 0.75], [ONE] * 2)
    sample(8)

    class Newest:
        generation, params = np.int32(4), None

    seen = pool.observed(Newest)
    assert (seen["read_of_lineage_0"], seen["read_of_lineage_1"]) == (2, 6)
    assert seen["written_tokens"].shape == (20, LENGTH)
    Newest.generation = np.int32(0)
    assert pool.observed(Newest)["read_of_lineage_1"] == 0


def test_a_text_is_read_in_the_readers_own_tokens(monkeypatch):
    """Another writer's text is the same characters: 60 tokens of one are 30 tokens of two."""
    rng = np.random.default_rng(0)
    there = rng.integers(1, 37, (10, LENGTH)).astype(np.int32)
    own = rng.integers(1, 36**2, (10, LENGTH)).astype(np.int32)
    sample, _, _ = pool_of(monkeypatch, [own, there], [0.5, 0.5], [TWO, ONE])
    blocks = sample(8)
    assert blocks.shape == (8, LENGTH)
    text = TWO.decode(blocks[4:].ravel().tolist())
    pieces = [text[at : at + LENGTH] for at in range(0, len(text), LENGTH)]
    written = {ONE.decode(block.tolist()) for block in there}
    assert len(pieces) == 8 and set(pieces) <= written and len(set(pieces)) == 8


def test_what_a_text_is_short_of_comes_from_its_own(monkeypatch):
    """10 blocks of one character a token are 5 of two, where 7 are wanted."""
    there = np.full((10, LENGTH), 11, np.int32)
    own = 1 + np.arange(10 * LENGTH, dtype=np.int32).reshape(10, LENGTH)
    sample, pool, _ = pool_of(monkeypatch, [own, there], [0.3, 0.7], [TWO, ONE])
    blocks = sample(10)
    assert pool._count == [5, 5]
    assert np.isin(blocks, own).all(1).sum() == 5


def test_a_tokenizer_that_is_not_known_to_be_the_same_is_read_as_text(monkeypatch):
    nameless = ONE._replace(identity="")
    calls = []
    spied = nameless._replace(decode=lambda ids: calls.append(1) or ONE.decode(ids))
    texts = [np.full((10, LENGTH), 11, np.int32)] * 2
    sample, _, _ = pool_of(monkeypatch, texts, [0.5, 0.5], [nameless, spied])
    np.testing.assert_array_equal(sample(10), np.full((10, LENGTH), 11))
    assert calls


def test_keys_of_lineages_are_none_of_the_runs():
    def data(key):
        return tuple(np.asarray(jax.random.key_data(key)).tolist())

    def config(lineage):
        return LMConfig(lineages=3, lineage=lineage, seed=5)

    roots = [data(root_key_of(config(lineage))) for lineage in (None, 0, 1, 2)]
    assert roots[0] == roots[1] == data(KEY) and len(set(roots)) == 3
    chains = {data(jax.random.fold_in(KEY, chain)) for chain in range(100)}
    assert not chains & set(roots)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exchange": 0.5}, "exchange is 0.5 with lineages 1, which reads no other"),
        ({"coupling": (1.0,)}, "coupling is .* with lineages 1"),
        ({"lineage_models": ("embedded",)}, "lineage_models is .* with lineages 1"),
        ({"lineages": 0}, "lineages is 0; it must be at least 1"),
        ({"lineages": 65}, "lineages is 65; it must be at most 64"),
        ({"lineages": 2, "lineage_models": ("a",)}, "lineage_models names 1 model for lineages 2"),
        ({"lineages": 2, "exchange": 1.5}, r"exchange is 1.5; it must be in \[0, 1\]"),
        ({"lineages": 2, "exchange": float("nan")}, "exchange is nan"),
        ({"lineages": 2, "coupling": (1.0, 0.0)}, "coupling has 2 numbers; lineages 2 needs 2 x 2"),
        (
            {"lineages": 2, "coupling": (0.5, 0.5, 0.5, 0.4)},
            "coupling has a row 1 of 0.5 .* = 0.9; it must sum to 1",
        ),
        ({"lineages": 2, "coupling": (1.5, -0.5, 0.0, 1.0)}, "coupling has -0.5 in row 0"),
        ({"lineages": 2, "coupling": (1.0, 0, 0, 1.0), "exchange": 0.1}, "both set who reads whom"),
        ({"lineages": 2, "control": "real"}, "control is real with lineages 2"),
        (
            {"lineages": 2, "real_fraction": 0.1, "real_kept": "batches"},
            "real_kept is batches with lineages 2",
        ),
        ({"lineages": 2, "lineage": 2}, "lineage is 2; it must be from 0 to 1"),
    ],
)
def test_settings_of_pools_that_mean_nothing_are_refused(changes, says):
    with pytest.raises(InputError, match=says) as caught:
        LMConfig(**changes).check()
    assert "\n" not in str(caught.value)


def test_shares():
    def shares(**changes):
        return LMConfig(**changes).shares()

    assert shares(lineages=2) == [[0.5, 0.5], [0.5, 0.5]]
    np.testing.assert_allclose(
        shares(lineages=3, exchange=0.2), np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    )
    assert shares(lineages=2, coupling=(1.0, 0.0, 0.25, 0.75)) == [[1, 0], [0.25, 0.75]]
