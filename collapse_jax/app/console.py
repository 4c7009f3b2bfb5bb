"""A console that shows text from other sources and interprets none of it."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from collapse_jax.errors import visible


class PlainConsole(Console):
    """A rich console that escapes every character that would control a terminal.

    Strings, also those in tables, become one line before they are measured. In other texts of rich
    (bars, `Text`), line breaks stay.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """As in `Console`, of `visible` text."""
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As in `Console`; rich's own control codes are segments of another kind, and stay."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield segment._replace(text=visible(segment.text, keep="\n"))
