"""Published loops by name: their settings exist, what is given wins, and the docs have them."""

import dataclasses
import json
import math
import pathlib
import re
import subprocess
import sys
import typing

import pytest

from collapse_jax.app import cli
from collapse_jax.app.commands import COMMANDS
from collapse_jax.app.commands import preset_words as words_file
from collapse_jax.app.commands.families import _tables
from collapse_jax.app.config import LMConfig
from collapse_jax.app.config.lm import following
from collapse_jax.app.config.lm.following import open_values
from collapse_jax.app.config.lm.presets import LEFT_TO_BOTH, PRESETS, PROTOCOLS, Preset
from collapse_jax.app.preset_tables import markdown
from collapse_jax.errors import InputError
from collapse_jax.runs.settings import as_dict, from_dict

FIELDS = {field.name: field for field in dataclasses.fields(LMConfig)}
HINTS = typing.get_type_hints(LMConfig)


def lacking(preset):
    """What a preset names and LMConfig does not take."""
    found = set()
    for name, value in PRESETS[preset].settings.items():
        choices = typing.get_args(HINTS.get(name))
        if name not in FIELDS:
            found.add(name)
        elif typing.get_origin(HINTS[name]) is typing.Literal and value not in choices:
            found.add(f"{name}={value}")
    return found


def given(*arguments):
    """The settings that `collapse-jax lm` would run with."""
    ran = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cli, "load", lambda function: lambda config, *others, **more: ran.append(config)
        )
        cli.main(["lm", *arguments])
    return ran[0]


@pytest.fixture
def shown(monkeypatch):
    """Makes ce-llms a loop that this version has all settings of."""
    settings = {
        "block_length": 32, "learning_rate": 1e-3, "dropout": 0.0, "epochs": 3,
        "real_fraction": 0.25, "generator": "last", "decoding": "sampling", "temperature": 0.5,
    }  # fmt: skip
    row = Preset("title", "source", settings)
    monkeypatch.setattr(following, "PRESETS", {**PRESETS, "ce-llms": row})
    return settings


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_names_settings_that_exist(preset):
    assert not lacking(preset)
    config = LMConfig.of_preset(preset)
    config.check()
    resolved = config.resolved()
    assert from_dict(json.loads(json.dumps(as_dict(resolved))), "here") == resolved
    assert {name: getattr(resolved, name) for name in PRESETS[preset].settings} == dict(
        PRESETS[preset].settings
    )
    assert given("--preset", preset).resolved() == resolved


def test_the_choices_are_the_table():
    assert typing.get_args(HINTS["preset"]) == tuple(PRESETS)
    assert set(LEFT_TO_BOTH) == {
        name for name in FIELDS if getattr(LMConfig(), name) != getattr(LMConfig().resolved(), name)
    }
    for row in PRESETS.values():
        assert row.title and row.source
        with pytest.raises(TypeError):
            row.settings["epochs"] = 1


def test_what_the_sources_say_of_lengths_and_steps():
    """Block lengths from the two parts; warm-up as the source's share of its steps, rounded up."""
    rows = {name: dict(row.settings) for name, row in PRESETS.items()}
    for name in ("drayson2025", "blindtissue"):
        row = rows[name]
        assert row["train_on"] == "both"
        assert row["prompt_length"] + row["continuation_length"] == row["block_length"]
    steps = {
        name: row["train_blocks"] / row["batch_size"] / row.get("gradient_accumulation", 1)
        for name, row in rows.items()
        if "train_blocks" in row
    }
    assert rows["blindtissue"]["warmup_steps"] == math.ceil(0.05 * steps["blindtissue"])
    assert rows["ce-llms"]["warmup_steps"] == math.ceil(0.00125 * steps["ce-llms"])
    assert rows["hong-niu"]["warmup_steps"] == max(10, int(0.03 * steps["hong-niu"]))
    kazdan = rows["kazdan2024"]
    batch = kazdan["batch_size"] * kazdan["gradient_accumulation"]
    assert batch == 128 and kazdan["warmup_steps"] == math.ceil(0.05 * (20_324 // batch))
    # hong-niu's 50 and Kazdan's 20 iterations begin with real text, which is generation 0 here.
    assert (rows["hong-niu"]["generations"], kazdan["generations"]) == (50 - 1, 20 - 1)


def test_every_other_loop_says_what_the_protocol_would():
    """So that the protocol of Shumailov et al. decides nothing of how it runs."""
    for name in set(PRESETS) - {"fig1b", "fig1c"}:
        one, other = (open_values(name, protocol) for protocol in PROTOCOLS)
        missing = LEFT_TO_BOTH - set(PRESETS[name].settings)
        # How real blocks are chosen counts where there are any.
        assert missing <= {"real_kept"} and (not missing or one["real_fraction"] == 0), name
        assert {key for key in one if one[key] != other[key]} <= missing


def test_what_is_given_goes_before_the_preset(shown):
    """Also where it is the default of the field."""
    assert LMConfig(preset="ce-llms").resolved() == LMConfig.of_preset("ce-llms").resolved()
    resolved = LMConfig(preset="ce-llms").resolved()
    assert {name: getattr(resolved, name) for name in shown} == shown
    changed = LMConfig.of_preset("ce-llms", block_length=64, learning_rate=2e-5, dropout=None)
    assert (changed.block_length, changed.learning_rate, changed.dropout) == (64, 2e-5, None)
    assert changed.decoding == "sampling"
    assert LMConfig("ce-llms", "paper", "text").block_length == 32  # by place
    line = ("--preset", "ce-llms", "--block-length", "64", "--dropout", "None", "--epochs", "5")
    for arguments in (line, ("--preset=ce-llms", *line[2:]), (*line[2:], *line[:2])):
        config = given(*arguments).resolved()
        assert (config.block_length, config.dropout, config.epochs) == (64, None, 5)
        assert (config.learning_rate, config.decoding) == (1e-3, "sampling")
    assert given("--preset", "fig1c", "--preset", "ce-llms") == given("--preset", "ce-llms")


def test_what_is_given_takes_along_what_it_leaves_without_effect(shown, tmp_path, refused):
    """A temperature of the preset is no reason to refuse beam search, one that is given is."""
    for config in (LMConfig(preset="ce-llms", decoding="beam"), given("--decoding", "beam")):
        assert (config.decoding, config.temperature) == ("beam", 1.0)
        config.check()
    for line in (("--decoding", "beam"), ("--decoding=beam",)):
        config = given("--preset", "ce-llms", *line)
        assert (config.decoding, config.temperature, config.block_length) == ("beam", 1.0, 32)
    text = refused(LMConfig(preset="ce-llms", decoding="beam", temperature=0.5).check)
    assert "temperature is 0.5 with decoding beam" in text
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"command": "lm", "preset": "ce-llms"}))
    assert given("--config", str(file), "--decoding", "beam").temperature == 1.0
    file.write_text(json.dumps({"command": "lm", "decoding": "sampling"}))
    assert given("--config", str(file), "--decoding", "beam").decoding == "beam"
    row = Preset("", "", {"final_learning_rate": 0.5, "warmup_steps": 3, "lora_alpha": 2.0})
    for also, kept in (
        ({"schedule": "constant"}, {"warmup_steps", "lora_alpha"}),
        ({"schedule": "cosine-by-epoch"}, {"final_learning_rate", "lora_alpha"}),
        ({"lora_rank": 0, "schedule": "linear"}, {"final_learning_rate", "warmup_steps"}),
        ({"lora_rank": 4}, {"final_learning_rate", "warmup_steps", "lora_alpha"}),
    ):
        assert {name for name in row.settings if not following._is_ignored(name, also)} == kept


def test_a_settings_file_and_a_preset(shown, tmp_path):
    """What the file holds goes before the preset; it must not be of another one."""
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"command": "lm", "learning_rate": 2e-5}))
    config = given("--config", str(file), "--preset", "ce-llms")
    assert (config.learning_rate, config.block_length) == (2e-5, 32)
    file.write_text(json.dumps({"command": "lm", "preset": "ce-llms", "block_length": 64}))
    config = given("--config", str(file), "--preset", "ce-llms")
    assert (config.learning_rate, config.block_length) == (1e-3, 64)
    main = "from collapse_jax.app.cli import main; main()"
    for option, value in (("preset", "fig1c"), ("protocol", "released-code")):
        file.write_text(json.dumps(as_dict(LMConfig().resolved())))
        said = subprocess.run(
            [sys.executable, "-c", main, "lm", "--config", str(file), f"--{option}", value],
            capture_output=True,
            text=True,
        )
        assert said.returncode == 2 and said.stderr.count("\n") == 1
        assert f"--{option} is {value!r}, but {file} contains settings of {option} " in said.stderr


def test_a_run_folder_of_an_earlier_version(shown):
    """A field that it lacks was the default of the field, whatever the preset says by now."""
    values = as_dict(LMConfig(preset="ce-llms").resolved())
    del values["block_length"]
    assert from_dict(values, "here", of_folder=True).block_length == 64
    assert from_dict(values, "here").block_length == 32


def test_a_run_says_what_it_follows(shown, monkeypatch):
    """What was changed is no longer the loop's, so it is not among what is ours either."""
    assert words_file.preset_words(LMConfig(preset="fig1c", epochs=1).resolved()) == []
    row = following.PRESETS["ce-llms"]._replace(
        left_open=dict.fromkeys(("seeds", "epochs", "block_length"), "ours"),
        not_followed=("pooled text", "its filter"),
    )
    for module in (following, words_file):
        monkeypatch.setattr(module, "PRESETS", {**PRESETS, "ce-llms": row})
    config = LMConfig(preset="ce-llms", epochs=1, seed=5).resolved()
    assert words_file.preset_words(config) == [
        "preset ce-llms: title; changed: epochs 1 (3 in the preset); left open by its source, "
        "our choice: seeds 5, block_length 32",
        "preset ce-llms, not reproduced here: pooled text; its filter",
    ]


def test_the_help_shows_the_values_of_a_preset(shown, capsys):
    with pytest.raises(SystemExit):
        cli.main(["lm", "--preset", "ce-llms", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in (
        "(default: 0.001)",
        "Number of tokens per block. (default: 32)",
        "(default: ce-llms)",
    ):
        assert text in said, text
    assert "fitted to real text. (default: 9)" in said


def test_presets_that_are_none(refused):
    for call in (LMConfig(preset="fig1d").check, lambda: LMConfig.of_preset("fig1d")):
        assert refused(call).startswith("preset is 'fig1d'; it must be one of fig1b, fig1c, ")
    assert "protocol is 'theirs'" in refused(LMConfig(protocol="theirs").check)
    row = Preset("title", "source", {"epochs": 1, "colour": "red"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "PRESETS", {"ce-llms": row})
        text = refused(LMConfig, preset="ce-llms")
    assert text == (
        "preset is 'ce-llms', which sets colour; this version does not have these settings, "
        "so give another preset"
    )


def test_the_docs_have_the_table_of_the_code():
    """Where they differ, put the text of `preset_tables.markdown()` there."""
    text = (pathlib.Path(__file__).parents[2] / "docs" / "presets.md").read_text(encoding="utf-8")
    assert markdown() in text


def test_families_lists_each_in_a_line():
    (rows,) = [rows for title, rows in _tables().items() if "published loops" in title]
    assert [row[0] for row in rows] == list(PRESETS)
    assert all("\n" not in "".join(row) and all(row) for row in rows)


def test_the_help_is_in_groups_that_begin_with_the_preset():
    """In the order of the files in config/lm; nothing heavy is imported for it."""
    code = (
        "import sys\nfrom collapse_jax.app.cli import main\n"
        "try:\n    main(['lm', '--help'])\nfinally:\n"
        "    print('HEAVY', sorted({'jax', 'numpy'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    groups = [line.split()[1] for line in said.splitlines() if line.startswith("╭─")]
    wanted = [
        "preset",
        "text",
        "loop",
        "pool",
        "fit",
        "decoding",
        "measure",
        "run",
        "hardware",
        "track",
    ]
    assert groups == ["options", *wanted]
    assert said.rstrip().endswith("HEAVY []")


def test_the_help_has_a_sentence_and_help_all_the_text(capsys):
    said = {}
    for option in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            cli.main(["lm", option])
        said[option] = " ".join(capsys.readouterr().out.replace("│", " ").split())
    first = 'A folder, a hub name, or "embedded"; by default the model\'s own.'
    assert f"{first} (default: None)" in said["--help"]
    assert f"{first} Another tokenizer must give the same encoding" in said["--help-all"]
    assert len(said["--help"]) < len(said["--help-all"])
    assert "--help-all describes each option in full." in said["--help"]
    assert COMMANDS["lm"].summary in said["--help"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"preset": "drayson2025", "block_length": 64},
            "prompt_length is 256, .* \\(prompt_length 256 is a value of preset drayson2025\\)$",
        ),
        (
            {"preset": "blindtissue", "block_length": 64, "prompt_length": 16},
            "(continuation_length 448, train_on both are values of preset blindtissue)",
        ),
        # What is given is nobody's but the caller's.
        (
            {"preset": "blindtissue", "prompt_length": 513},
            "prompt_length is 513, .* \\(block_length 512 is a value of preset blindtissue\\)$",
        ),
        ({"block_length": 1}, "block_length is 1; it must be at least 2$"),
    ],
)
def test_a_refusal_says_which_of_its_values_are_the_presets(changes, says, refused):
    said = refused(LMConfig(**changes).settings)
    assert says in said or re.search(says, said), said


def test_a_refusal_of_what_was_read_says_so_too():
    config = LMConfig(preset="hong-niu")
    with pytest.raises(InputError) as caught, following.preset_named(config):
        raise InputError("train_blocks is 1024, but the corpus has 92 blocks")
    assert str(caught.value).endswith("(train_blocks 1024 is a value of preset hong-niu)")
