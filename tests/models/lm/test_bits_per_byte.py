"""Bytes of tokens against the texts that they were made of."""

import math

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from collapse_jax.errors import InputError
from collapse_jax.models.lm.bits_per_byte import bits_per_byte, byte_count
from collapse_jax.models.lm.corpus import TextTokenizer, _wrap, load_tokenizer
from collapse_jax.models.lm.token_bytes import bytes_of

TEXTS = ["plain words, twice.", "na\u00efve \u65e5\u672c\u8a9e \U0001f600 \u00bd", " \n\tend "]


@pytest.fixture(scope="module")
def embedded():
    return load_tokenizer("embedded")


def test_byte_level_tokens_are_the_bytes_of_the_text(embedded):
    """Each row begins with </s>, which stands for none."""
    for text, ids in zip(TEXTS, embedded.encode(TEXTS), strict=True):
        assert embedded.special["eos_token"] in ids
        assert byte_count(embedded, np.array(ids)) == len(text.encode())


def test_a_character_cut_by_blocks_is_counted_once(embedded):
    """Decoded alone, each half becomes a replacement mark of three bytes."""
    (ids,) = embedded.encode(["\U0001f600" * 10])
    blocks = np.array(ids[1:])[: len(ids) // 3 * 3].reshape(-1, 3)
    assert blocks.size == 40 - 40 % 3
    assert byte_count(embedded, blocks) == blocks.size  # of no other token than single bytes


def test_sentencepiece_with_bytes_as_a_fallback():
    pieces = {"<unk>": 0, "\u2581a": 1, "b": 2, "<0xE6>": 3, "<0x97>": 4, "<0xA5>": 5, "\u2581": 6}
    made = Tokenizer(models.BPE(pieces, [], unk_token="<unk>", byte_fallback=True))
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer = _wrap("pieces", made, {}, None)
    ids = [1, 2, 3, 4, 5, 6, 2]
    assert tokenizer.decode(ids) == " ab\u65e5 b"
    assert byte_count(tokenizer, np.array(ids)) == len(" ab\u65e5 b".encode()) == 8


def test_an_added_token_is_its_own_text():
    """Its characters are none of a byte-level vocabulary's: this one is two bytes, not one."""
    made = Tokenizer(models.BPE({"a": 0, "\u0120": 1}, []))
    made.decoder = decoders.ByteLevel()
    made.add_tokens(["\u00e9"])
    tokenizer = _wrap("added", made, {}, None)
    assert bytes_of(tokenizer, 4) == [b"a", b" ", "\u00e9".encode(), b""]
    assert byte_count(tokenizer, np.array([0, 1, 2])) == 4


def test_whole_words_are_decoded():
    made = Tokenizer(models.WordLevel({"</s>": 0, "one": 1, "zwei": 2}, unk_token="one"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = _wrap("words", made, {"eos_token": 0}, None)
    assert byte_count(tokenizer, np.array([[0, 1, 2], [1, 0, 1]])) == len("one zwei" + "one one")


def test_without_a_tokenizer_beneath_it_texts_are_decoded():
    letters = TextTokenizer("letters", lambda rows: [], lambda ids: "".join(map(chr, ids)), 300)
    assert byte_count(letters, np.array([[97, 98], [233, 99]])) == 5
    assert byte_count(letters, np.zeros((0, 4), int)) == 0


def test_bits_per_byte_of_a_uniform_model_of_bytes():
    """log 256 nats for each byte are 8 bits, however many bytes there are."""
    assert bits_per_byte(5 * math.log(256), 5) == pytest.approx(8)
    for arguments, says in (((1.0, 0), "byte_count is 0"), ((-1.0, 3), "nats is -1.0")):
        with pytest.raises(InputError, match=says):
            bits_per_byte(*arguments)


def test_what_is_no_token_is_refused(embedded):
    for blocks in ([[0.5]], [[-1]]):
        with pytest.raises(InputError, match="must be integers of at least 0"):
            byte_count(embedded, np.array(blocks))
