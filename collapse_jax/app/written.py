"""Text of others in what we write: a cell of Markdown, HTML, a line of JSON, a stream."""

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
    """Text for a Markdown cell or heading: one line, shown as it is written."""
    text = visible(" ".join(text.split()))
    for special in _SPECIAL:
        text = text.replace(special, "\\" + special)
    return text


def html_text(text: str) -> str:
    """Text for an HTML page, shown as it is written."""
    return html.escape(visible(text))


def json_line(row: dict[str, Any]) -> str:
    """An object as one line of JSON that ends in a line break, readable in a terminal.

    Letters of every script stay; what a terminal would obey is escaped as JSON allows it, so that
    the line holds the same values.
    """
    text = json.dumps(row, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(
            character if visible(character) == character else json.dumps(character)[1:-1]
            for character in text
        )
    return text + "\n"


class Shown:
    """A stream to which a library prints text of others: colours and line breaks pass alone."""

    def __init__(self, stream: TextIO):
        """Writes to `stream`, and is like it in everything else."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes `visible` text."""
        parts = _COLOUR.split(text)
        parts[::2] = [visible(part, keep="\n") for part in parts[::2]]
        return self._stream.write("".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
