"""The bytes that each token of a tokenizer stands for."""

import re
from typing import Any

_BYTE = re.compile("<0x([0-9A-F]{2})>")
# Byte-level tokenizers write the space as this character, others as that one.
_SPACE_OF_BYTES, _SPACE_OF_PIECES = "\u0120", "\u2581"


def bytes_of(tokenizer: Any, vocabulary: int) -> list[bytes]:
    """The bytes of ids 0 to vocabulary - 1; ids without an entry have none.

    A character may be cut by the end of a token, which is why these are bytes and no text.

    Args:
        tokenizer: A `TextTokenizer`. One without `entries` is asked to decode every id behind
            another one, and a token that ends within a character has then the bytes of U+FFFD.
        vocabulary: Ids of the model, at least as many as the tokenizer has.
    """
    if tokenizer.entries is None:
        return _decoded(tokenizer, vocabulary)
    entries = tokenizer.entries()[:vocabulary]
    entries += [None] * (vocabulary - len(entries))
    of_bytes = sum(_SPACE_OF_BYTES in (entry or "") for entry in entries)
    of_pieces = sum(_SPACE_OF_PIECES in (entry or "") for entry in entries)
    read = _from_bytes if of_bytes >= of_pieces else _from_piece
    return [b"" if entry is None else read(entry) for entry in entries]


def _byte_of_character():
    """Which byte each character of a byte-level vocabulary stands for (GPT-2's table)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {
        chr(256 + place): byte for place, byte in enumerate(hidden)
    }


_BYTES = _byte_of_character()


def _from_bytes(entry):
    """An added token may hold any character, and is then its own text."""
    if all(character in _BYTES for character in entry):
        return bytes(_BYTES[character] for character in entry)
    return entry.encode("utf-8", "surrogatepass")


def _from_piece(entry):
    found = _BYTE.fullmatch(entry)
    if found:
        return bytes([int(found[1], 16)])
    return entry.replace(_SPACE_OF_PIECES, " ").encode("utf-8", "surrogatepass")


def _decoded(tokenizer, vocabulary):
    before = tokenizer.encode(["a"])[0]
    start = tokenizer.decode(before)
    known = min(vocabulary, tokenizer.vocab_size)
    pieces = [tokenizer.decode([*before, i])[len(start) :].encode() for i in range(known)]
    return pieces + [b""] * (vocabulary - known)
