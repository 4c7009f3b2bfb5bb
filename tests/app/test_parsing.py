"""The command line proposes what exists, lists what it takes, and runs no code out of a file."""

import json

import pytest

from collapse_jax.app.cli import main
from collapse_jax.app.commands import COMMANDS
from collapse_jax.app.commands.simulation import process_of
from collapse_jax.app.config import SimulateConfig
from collapse_jax.app.parsing import _options
from collapse_jax.errors import InputError
from collapse_jax.runs.settings import KINDS


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(capsys, here):
    def call(*arguments):
        capsys.readouterr()
        before = sorted(here.rglob("*"))
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert caught.value.code == 2 and said.err.count("\n") == 1, said.err
        assert sorted(here.rglob("*")) == before
        return said.err.strip()

    return call


def help_of(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_config_where_a_file_is_taken(capsys, command):
    listed = "--config FILE" in help_of(capsys, command)
    assert listed == (COMMANDS[command].settings is not None)


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        ("lm --no-tokenizer", "--tokenizer"),
        ("lm --no-tokeniser x", "--tokenizer"),
        ("lm --no-shard-parameter", "--no-shard-parameters"),
        ("simulate --no-devices", "--devices"),
        ("simulate --no-config", "--config"),
        ("simulate --confg x", "--config"),
        ("simulate --sample_sizes 3", "--sample-size"),
        ("simulate --settings-file x", None),
        ("plot --run x", None),
        ("plot --config x", None),
        ("families --config x", None),
        ("reproduce --ids x", "--list"),
        ("reproduce --show", None),
    ],
)
def test_what_is_proposed_exists(refused, words, proposed):
    command, option = words.split()[:2]
    text = refused(*words.split())
    assert f"{command} has no option '{option.replace('_', '-')}'" in text
    wanted = "" if proposed is None else f" (did you mean '{proposed}'?)"
    assert text.endswith(f"--help lists them{wanted}"), text


def test_every_option_that_may_be_proposed_is_in_the_help(capsys):
    """--no-NAME only of what is true or false."""
    from collapse_jax.app.cli import _arguments_type

    for name, command in COMMANDS.items():
        text = help_of(capsys, name)
        options = list(_options(_arguments_type(command, None)))
        assert options or name in ("plot", "families")
        for option in options:
            assert any(end in text for end in (f"{option} ", f"{option},", f"{option}\n")), option


def test_a_misspelt_option_of_a_family_is_proposed():
    settings = SimulateConfig(family="kde", options=("dim=1", "bandwith=3"))
    with pytest.raises(InputError) as caught:
        process_of(settings.resolve())
    assert str(caught.value).endswith(
        "kde takes dim, bandwidth, scaled, held_out (did you mean 'bandwidth'?)"
    )


def test_config_is_given_once(refused):
    text = refused("simulate", "--config", "a.json", "--config=b.json")
    assert text == "error: --config is given more than once; give it once"


@pytest.fixture
def hostile(here):
    """A folder of Python that leaves a file behind when it is run, and settings that name it."""
    (here / "evil").mkdir()
    (here / "evil" / "entries.py").write_text(
        f"import pathlib\npathlib.Path({str(here / 'ran')!r}).write_text('ran')\n"
    )
    settings = {"command": "reproduce", "registry": str(here / "evil")}
    (here / "settings.json").write_text(json.dumps(settings))
    return here


@pytest.mark.parametrize("more", [["--list"], [], ["--registry", ""], ["--seed", "1"]])
def test_a_settings_file_runs_no_code(refused, hostile, more):
    text = refused("reproduce", "--config", "settings.json", *more)
    assert "settings.json: registry is " in text and "give --registry on the command line" in text
    assert not (hostile / "ran").exists()


def test_the_command_line_may(hostile, capsys):
    with pytest.raises(SystemExit):  # there is no entry in it
        main(["reproduce", "--registry", "evil", "--list"])
    assert (hostile / "ran").exists()


def test_settings_that_name_code_are_known():
    """A new one must be thought of: these are all fields that are paths or names of something."""
    named = {(command, name) for command, kind in KINDS.items() for name in kind.names_code}
    assert named == {("reproduce", "registry")}
