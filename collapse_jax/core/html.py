"""Tables as a notebook shows them."""

import html
from collections.abc import Iterable, Sequence


def html_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    notes: Iterable[str] = (),
) -> str:
    """HTML of a table; all texts are escaped.

    Args:
        head: names of the columns.
        rows: cells of each row.
        caption: a line above it.
        notes: lines below it.
    """

    def line(tag, cells):
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(line("td", row) for row in rows)
    first = f"<p>{html.escape(caption)}</p>" if caption else ""
    last = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<div>{first}<table>{line('th', head)}{body}</table>{last}</div>"
