"""Names and texts of others, on the terminal and in files: shown, and not obeyed."""

import io
import json
import unicodedata

import pytest

from collapse_jax.app.console import PlainConsole
from collapse_jax.app.terminal import new_console, terminal
from collapse_jax.app.written import Shown, html_text, json_line, markdown_cell
from collapse_jax.errors import DivergenceError, InputError

# Clears the screen, turns text around, goes back in the line, makes a second line.
NASTY = "a\x1b[2Jb\u202ec\rd\be\nf\x00\x9bg:fire:[red]h"
SHOWN = r"a\x1b[2Jb\u202ec\rd\x08e\nf\x00\x9bg:fire:[red]h"


def unseen(text):
    return [character for character in text if unicodedata.category(character) in ("Cc", "Cf")]


@pytest.fixture
def printed():
    """printed(call) -> what a console prints that `call` is given."""

    def run(call):
        file = io.StringIO()
        call(PlainConsole(file=file, soft_wrap=True, markup=False, emoji=False, width=200))
        return file.getvalue()

    return run


def test_a_string_is_one_line_with_its_escapes(printed):
    assert printed(lambda console: console.print(NASTY)) == SHOWN + "\n"
    assert printed(lambda console: console.print("figure:", NASTY)) == f"figure: {SHOWN}\n"


def test_the_console_of_the_commands_is_such_a_one(capsys):
    new_console().print(NASTY)
    assert capsys.readouterr().out == SHOWN + "\n"
    new_console(quiet=True).print(NASTY)
    assert capsys.readouterr().out == ""


def test_cells_titles_and_captions(printed):
    from rich.table import Table
    from rich.text import Text

    def call(console):
        table = Table(NASTY, title=NASTY, caption=NASTY)
        table.add_row(NASTY)
        table.add_row(Text(NASTY))
        console.print(table)
        with console.status(NASTY):
            console.print(Text(NASTY))

    text = printed(call)
    assert set(unseen(text)) <= {"\n"}
    assert text.count(SHOWN) >= 4


def test_colours_of_our_own_stay():
    file = io.StringIO()
    options = {"markup": False, "emoji": False}
    console = PlainConsole(file=file, force_terminal=True, color_system="standard", **options)
    console.print(NASTY, style="bold red", highlight=False)
    assert file.getvalue().startswith("\x1b[1;31m") and SHOWN in file.getvalue()


def test_a_stream_lets_colours_pass():
    stream = io.StringIO()
    shown = Shown(stream)
    assert shown.write("\x1b[1;31mred\x1b[0m\n\x1b[2J\u202e\n") > 0 and not shown.isatty()
    assert stream.getvalue() == "\x1b[1;31mred\x1b[0m\n" + r"\x1b[2J\u202e" + "\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError(NASTY), 2),
        (DivergenceError(NASTY), 1),
        (OSError(NASTY), 1),
        (OSError(2, "No such file", NASTY), 1),
        (MemoryError(NASTY), 1),
    ],
)
def test_an_error_is_one_line(error, code, capsys, monkeypatch):
    monkeypatch.setattr("collapse_jax.app.terminal._quiet", lambda: None)
    with pytest.raises(SystemExit) as stopped, terminal():
        raise error
    line = capsys.readouterr().err
    assert stopped.value.code == code
    assert line.endswith("\n") and unseen(line) == ["\n"] and r"\x1b[2J" in line


def test_a_cell_of_markdown_is_what_was_written():
    assert markdown_cell("a b, naïve: 5 + 3") == "a b, naïve: 5 + 3"
    assert markdown_cell("a|b`c`*d*_e_ <b> [x](y) $z$ ~w~ &lt; \\ f\n g\u2028h") == (
        r"a\|b\`c\`\*d\*\_e\_ \<b\> \[x\](y) \$z\$ \~w\~ \&lt; \\ f g h"
    )
    assert not unseen(markdown_cell(NASTY)) and r"\\x1b\[2J" in markdown_cell(NASTY)


def test_text_of_a_page():
    assert html_text("<script>\u202e&\x1b") == r"&lt;script&gt;\u202e&amp;\x1b"


def test_a_line_of_json_holds_the_same(capsys):
    row = {"text": NASTY + "naïve 模型\u2028 \U000e0041", "n": [1, 2.5, None]}
    line = json_line(row)
    assert json.loads(line) == row and len(line.splitlines()) == 1 and unseen(line) == ["\n"]
    assert "naïve 模型" in line
    assert json_line({"text": "naïve"}) == '{"text": "naïve"}\n'
