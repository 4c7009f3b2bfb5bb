"""Pages that are written as the site is built, and are not committed."""

import pathlib


def write_page(app, name: str, text: str) -> None:
    """Writes docs/reference/NAME.md if its text changed: Sphinx reads what changed again."""
    path = pathlib.Path(app.srcdir) / "reference" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
