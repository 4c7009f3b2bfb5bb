"""The bytes that each token of a tokenizer stands for."""

import json
import re
from collections.abc import Callable
from typing import Any

_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
# Byte-level tokenizers write the space as this character, others as that one.
_SPACE_OF_BYTES, _SPACE_OF_PIECES = "\u0120", "\u2581"
BYTE_LEVEL, BYTE_FALLBACK = "ByteLevel", "ByteFallback"


def bytes_of(tokenizer: Any, vocabulary: int) -> list[bytes]:
    """The bytes of ids 0 to vocabulary - 1; ids without an entry have none.

    A character may be cut by the end of a token, which is why these are bytes and no text. Added
    tokens, special ones too, stand for their own text.

    Args:
        tokenizer: A `TextTokenizer`. One without `entries` is asked to decode every id behind
            another one, and a token that ends within a character has then the bytes of U+FFFD.
        vocabulary: Ids of the model, at least as many as the tokenizer has.
    """
    if tokenizer.entries is None:
        return _decoded(tokenizer, vocabulary)
    entries = tokenizer.entries()[:vocabulary]
    entries += [None] * (vocabulary - len(entries))
    read = reader_of(kind_of(tokenizer.backend) or _guessed(entries))
    added = added_tokens(tokenizer.backend)
    found = [b"" if entry is None else read(entry) for entry in entries]
    for number in added.keys() & range(vocabulary):
        found[number] = added[number].content.encode("utf-8", "surrogatepass")
    return found


def kind_of(backend: Any) -> str | None:
    """How the entries of a `tokenizers.Tokenizer` stand for bytes: `BYTE_LEVEL`, `BYTE_FALLBACK`.

    None where they do not (WordPiece, whole words), or where there is no such tokenizer.
    """
    decoder = getattr(backend, "decoder", None)
    if decoder is None:
        return None
    state = json.loads(decoder.__getstate__())
    kinds = {part.get("type") for part in state.get("decoders", [state])}
    return next((kind for kind in (BYTE_LEVEL, BYTE_FALLBACK) if kind in kinds), None)


def added_tokens(backend: Any) -> dict[int, Any]:
    """The added tokens of a `tokenizers.Tokenizer` by id, with `content` and `special`."""
    return {} if backend is None else backend.get_added_tokens_decoder()


def reader_of(kind: str) -> Callable[[str], bytes]:
    """The function from an entry that is not added to its bytes."""
    return _from_bytes if kind == BYTE_LEVEL else _from_piece


def _guessed(entries):
    """The kind, by how the entries write a space."""
    of_bytes = sum(_SPACE_OF_BYTES in (entry or "") for entry in entries)
    of_pieces = sum(_SPACE_OF_PIECES in (entry or "") for entry in entries)
    return BYTE_LEVEL if of_bytes >= of_pieces else BYTE_FALLBACK


def _byte_of_character():
    """Which byte each character of a byte-level vocabulary stands for (GPT-2's table)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {
        chr(256 + place): byte for place, byte in enumerate(hidden)
    }


_BYTES = _byte_of_character()


def _from_bytes(entry):
    """An entry with other characters is an added one, and its own text."""
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
