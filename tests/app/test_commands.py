"""The table of commands: every row leads somewhere, and a new row is a new command."""

import dataclasses
import inspect
import sys
import types
from typing import ClassVar

import pytest

import collapse_jax as cj
from collapse_jax.app.cli import main
from collapse_jax.app.commands import COMMANDS, Command, load
from collapse_jax.app.plots import draw_run
from collapse_jax.runs.settings import KINDS, Settings


@pytest.mark.parametrize("name", COMMANDS)
def test_a_row_leads_to_functions_that_take_what_it_gives(name):
    command = COMMANDS[name]
    settings = ("config", "out") if command.settings else ()
    extra = dataclasses.fields(command.arguments) if command.arguments else ()
    given = [*settings, "console", *(field.name for field in extra)]
    taken = inspect.signature(load(command.run)).parameters
    # One that takes **given makes the dataclass of its arguments again.
    takes_all = any(one.kind is one.VAR_KEYWORD for one in taken.values())
    assert takes_all or set(given) <= set(taken)
    assert list(taken)[: len(settings) + 1] == given[: len(settings) + 1]
    assert command.summary.endswith(".")
    if command.settings:
        assert KINDS[name] is command.settings and command.settings.command == name
        assert list(inspect.signature(load(command.draw)).parameters) == ["folder", "config"]


@pytest.fixture
def greet(monkeypatch):
    """A command that a module of its own brings, with settings and a figure."""

    @dataclasses.dataclass(frozen=True)
    class GreetConfig(Settings):
        """Whom to greet."""

        command: ClassVar[str] = "greet"
        name: str = "world"
        """A name."""

    def run_greet(config, out, console):
        folder = cj.RunFolder.open(out, config)
        folder.write_text("greeting.txt", f"hello, {config.name}")
        console.print("greeted")
        return config.name != "nobody"

    module = types.ModuleType("collapse_jax.app.commands.greet")
    module.run_greet, module.draw = run_greet, lambda folder, config: [folder.path / config.name]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = Command(
        "greet", "Say hello.", "commands.greet:run_greet", GreetConfig, draw="commands.greet:draw"
    )
    monkeypatch.setitem(COMMANDS, "greet", row)
    yield GreetConfig
    del KINDS["greet"]


def test_a_new_row_is_a_new_command(greet, tmp_path, capsys):
    main(["greet", "--name", "you", "--out", str(tmp_path / "run")])
    folder = cj.RunFolder(tmp_path / "run")
    assert folder.config() == greet("you") and capsys.readouterr().out == "greeted\n"
    assert (folder.path / "greeting.txt").read_text() == "hello, you"
    assert draw_run(folder) == [folder.path / "you"]
    with pytest.raises(SystemExit, match="1"):
        main(["greet", "--name", "nobody", "--out", str(tmp_path / "other")])


def test_the_help_has_the_row(greet, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "Say hello." in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["greet", "--help"])
    said = capsys.readouterr().out
    assert all(text in said for text in ("--name STR", "A name.", "Whom to greet.", "runs/greet"))


def test_a_new_row_is_checked_as_the_others(greet, tmp_path, capsys):
    for words, says in (
        (["--nam", "you"], "has no option '--nam'; collapse-jax greet --help lists them"),
        (["--name"], "--name"),
        (["--config", str(tmp_path / "greet.json")], "unknown field 'nam'; did you mean 'name'?"),
    ):
        (tmp_path / "greet.json").write_text('{"command": "greet", "nam": "you"}')
        with pytest.raises(SystemExit, match="2"):
            main(["greet", *words])
        error = capsys.readouterr().err
        assert error.startswith("error: ") and says in error and error.count("\n") == 1
