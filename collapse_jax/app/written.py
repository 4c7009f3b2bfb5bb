"""Escapes text from other sources for a Markdown cell, HTML, a line of JSON or a stream."""

import html
import json
import re
from typing import Any, TextIO

from collapse_jax.errors import visible

# What Markdown or HTML would interpret: borders of cells, emphasis, code, tags, links and images,
# formulas, entities. The backslash is first, since it is what escapes the others.
_SPECIAL = "\\|*_`<>[]~$&"
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def markdown_cell(text: str) -> str:
    """Returns text for a Markdown cell or heading: one line, displayed literally."""
    text = visible(" ".join(text.split()))
    for special in _SPECIAL:
        text = text.replace(special, "\\" + special)
    return text


def html_text(text: str) -> str:
    """Returns text for an HTML page, displayed literally."""
    return html.escape(visible(text))


def json_line(row: dict[str, Any]) -> str:
    """Returns an object as one line of JSON with a line break, readable in a terminal.

    Letters of every script stay. Control characters are JSON escapes, so that the line has the same
    values.
    """
    text = json.dumps(row, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(
            character if visible(character) == character else json.dumps(character)[1:-1]
            for character in text
        )
    return text + "\n"


class Shown:
    """A stream for a library that prints foreign text: only colours and line breaks pass."""

    def __init__(self, stream: TextIO):
        """Writes to `stream`; all other attributes are those of `stream`."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes `visible` text."""
        parts = _COLOUR.split(text)
        parts[::2] = [visible(part, keep="\n") for part in parts[::2]]
        return self._stream.write("".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
