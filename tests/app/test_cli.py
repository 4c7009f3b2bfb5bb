"""The command line: help, and one line for every mistake before anything is written.

The exit code is then 2.
"""

import importlib
import json
import shutil
from pathlib import Path

import jax
import pytest

from collapse_jax.app.cli import main
from collapse_jax.core import workflows
from collapse_jax.errors import DivergenceError, InputError
from collapse_jax.models.lm import corpus
from collapse_jax.models.lm.opt import OPT, OPTConfig, config_to_json, init_params
from collapse_jax.models.lm.weights import save_opt
from collapse_jax.runs.folder import RunFolder

# The module, whose name in the package is that of its function.
causal_lm = importlib.import_module("collapse_jax.estimators.causal_lm")
FIXTURE = Path(__file__).parents[1] / "models" / "lm" / "fixtures" / "opt_tiny"
CONFIG = OPTConfig(
    vocab_size=2048,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    ffn_dim=16,
    max_position_embeddings=16,
    dropout=0.0,
)
SIZES = (
    "--block-length 8 --train-blocks 8 --valid-blocks 4 --test-blocks 4 --batch-size 2 --epochs 1 "
    "--seeds 1 --generations 1"
).split()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a model, one whose weights have another shape, and good and bad text files."""
    folder = tmp_path_factory.mktemp("inputs")
    save_opt(folder / "model", OPT(CONFIG), init_params(CONFIG, jax.random.key(0)))
    corpus._train_embedded().save(str(folder / "model" / "tokenizer.json"))
    shutil.copytree(folder / "model", folder / "misshapen")
    (folder / "misshapen" / "config.json").write_text(
        config_to_json(OPTConfig(**(vars(CONFIG) | {"ffn_dim": 32})))
    )
    (folder / "text.txt").write_text("".join(corpus.embedded_corpus().train[:60]))
    (folder / "empty.txt").write_text("")
    (folder / "short.txt").write_text("a\n" * 10)
    (folder / "typo.json").write_text('{"command": "lm", "learnig_rate": 1e-3}')
    (folder / "typed.json").write_text('{"command": "lm", "seeds": "two"}')
    (folder / "simulate.json").write_text('{"command": "simulate"}')
    (folder / "settings.json").write_text(
        json.dumps({"command": "lm", "seed": 7, "corpus": str(folder / "nowhere")})
    )
    return folder


@pytest.fixture
def lm(inputs):
    """The arguments of a run of a second, then those given, which win."""
    base = ["lm", "--corpus", str(inputs / "text.txt"), "--model", str(inputs / "model"), *SIZES]
    return lambda out, *more: [
        *base,
        "--out",
        str(out),
        *(part.replace("INPUTS", str(inputs)) for part in more),
    ]


@pytest.fixture
def stopped(capfd):
    """stopped(arguments, code) -> the one line on stderr with which the program ends."""

    def call(arguments, code=2):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        error = capfd.readouterr().err
        assert caught.value.code == code
        assert error.count("\n") == 1 and error.endswith("\n") and "Traceback" not in error, error
        return error.strip()

    return call


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ([], ["quickstart", "simulate", "lm", "pretrain", "plot"]),
        (["quickstart"], ["--chains", "--out"]),
        (["simulate"], ["--workflow", "--alpha", "--sample-size", "--out"]),
        (
            ["lm"],
            [
                "--preset",
                "--protocol",
                "--corpus",
                "--real-fraction",
                "--generator",
                "--repetition-penalty",
                "--out",
            ],
        ),
        (
            ["pretrain"],
            [
                "--corpus",
                "--tokenizer",
                "--exclude",
                "--hidden-size",
                "--warmup-steps",
                "--held-out",
                "--precision",
                "--out",
            ],
        ),
        (["plot"], ["usage: collapse-jax plot"]),
    ],
)
def test_help(capsys, command, names):
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    said = capsys.readouterr()
    assert caught.value.code == 0 and said.err == ""
    assert all(name in said.out for name in names)


def test_names_are_shown_and_not_obeyed(stopped, tmp_path):
    """A folder whose name clears the screen, forges a second line and turns text around."""
    name = str(tmp_path / "a\x1b[2J\nerror: none\u202e")
    line = stopped(["plot", name])
    assert "\x1b" not in line and "\u202e" not in line and r"a\x1b[2J" in line
    line = stopped(["lm", "--corpus", name, "--model", "random:tiny", "--out", str(tmp_path / "o")])
    assert "\x1b" not in line and "\u202e" not in line


def test_the_help_shows_what_a_settings_file_holds(capsys, tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"command": "lm", "corpus": "a\x1b[2J\u202eb"}))
    with pytest.raises(SystemExit):
        main(["lm", "--config", str(path), "--help"])
    said = capsys.readouterr().out
    assert r"a\x1b[2J\u202eb" in said and "\x1b[2J" not in said and "\u202e" not in said


def test_a_catastrophic_regex_is_one_line(lm, inputs, stopped, tmp_path):
    """On rows of ordinary words that end otherwise than it asks for, in 2^50 ways."""
    folder = tmp_path / "regex"
    shutil.copytree(inputs / "model", folder)
    values = json.loads((folder / "tokenizer.json").read_text())
    pattern = {"Regex": r"([a-z]+\s?)+$"}
    values["pre_tokenizer"] = {
        "type": "Split",
        "pattern": pattern,
        "behavior": "Isolated",
        "invert": False,
    }
    (folder / "tokenizer.json").write_text(json.dumps(values))
    (tmp_path / "text.txt").write_text(("some words without an end " * 3 + "!\n") * 60)
    arguments = ("--model", str(folder), "--corpus", str(tmp_path / "text.txt"))
    line = stopped(lm(tmp_path / "run", *arguments))
    assert f"tokenizer '{folder}' failed (" in line and "regular expression" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--corpus", "INPUTS/nowhere"], "is neither a file nor a folder"),
        (["--corpus", "INPUTS/empty.txt"], "its train split is empty"),
        (["--corpus", "INPUTS/short.txt"], "shorter than one block of 8 tokens"),
        (["--train-blocks", "999999"], "train_blocks is 999999, but the corpus has"),
        (["--model", "INPUTS/nowhere"], "nowhere"),
        (["--model", "random:huge"], "model is 'random:huge'; a random one must be"),
        (["--model", "random:mini"], "has no tokenizer; give tokenizer"),
        (["--model", "INPUTS/misshapen"], "does not fit its config.json"),
        (
            ["--model", str(FIXTURE), "--tokenizer", "embedded"],
            "has 2048 entries, more than the model's vocabulary of 97",
        ),
        (["--tokenizer", "INPUTS"], "holds neither tokenizer.json nor vocab.json"),
        (["--block-length", "9"], "needs 18 positions"),
        (["--block-length", "1"], "block_length is 1; it must be at least 2"),
        (["--generations", "-1"], "generations is -1"),
        (["--seeds", "0"], "seeds is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--train-blocks", "-5"], "train_blocks is -5"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--epochs", "0"], "epochs is 0"),
        (["--learning-rate", "nan"], "learning_rate is nan"),
        (["--dropout", "1.5"], "dropout is 1.5"),
        (["--real-fraction", "2"], "real_fraction is 2.0"),
        (["--preset", "fig1c", "--workflow", "accumulate"], "keeps all real data"),
        (["--beta", "0.5", "--workflow", "accumulate"], "beta is 0.5 with workflow accumulate"),
        (["--preset", "fig1c", "--beta", "1"], "real_fraction + beta is 1.1; it must be at most 1"),
        (["--repetition-penalty", "0"], "repetition_penalty is 0.0"),
        (["--decoding", "sampling", "--temperature", "0"], "temperature is 0.0"),
        (["--decoding", "sampling", "--top-p", "nan"], "top_p is nan"),
        (
            ["--config", "INPUTS/typo.json"],
            "unknown field 'learnig_rate'; did you mean 'learning_rate'?",
        ),
        (["--config", "INPUTS/typed.json"], "seeds is 'two'; it must be of type int"),
        (["--config=INPUTS/simulate.json"], "is a configuration for 'simulate', not for 'lm'"),
        (["--config", "INPUTS/nowhere.json"], "cannot be read as JSON"),
        (["--config", "INPUTS/text.txt"], "cannot be read as JSON"),
        (["--config"], "cannot be read as JSON"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(lm, stopped, tmp_path, more, says):
    text = stopped(lm(tmp_path / "run", *more))
    assert text.startswith("error: ") and says in text
    assert list(tmp_path.iterdir()) == []


def test_a_value_of_the_wrong_type(lm, tmp_path, capfd):
    """The words are tyro's own."""
    for more in (["--generations", "three"], ["--workflow", "mixed"], ["--no-such-flag", "1"]):
        with pytest.raises(SystemExit) as caught:
            main(lm(tmp_path / "run", *more))
        error = capfd.readouterr().err
        assert (
            caught.value.code == 2
            and more[0].strip("-").split("-")[-1] in error
            and "Traceback" not in error
        )
    assert list(tmp_path.iterdir()) == []


def test_shares_that_do_not_add_up(stopped, tmp_path):
    with pytest.raises(InputError, match=r"alpha \+ beta \+ gamma is 0\.9 .* it must be 1"):
        workflows.mix(0.5, 0.2, 0.2)
    with pytest.raises(InputError, match=r"gamma is -0\.5; it must be in \[0, 1\]"):
        workflows.mix(1.5 - 0.5, 0.5, -0.5)
    shares = ["--workflow", "mix", "--alpha", "0.5", "--beta", "0.2", "--gamma", "0.2"]
    assert "alpha + beta + gamma is 0.9" in stopped(
        ["simulate", *shares, "--out", str(tmp_path / "run")]
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sizes", [["--chains", "0"], ["--sample-size", "-3"], ["--generations", "-1"]]
)
def test_sizes_of_a_simulation(stopped, tmp_path, sizes):
    assert f"{sizes[0].strip('-').replace('-', '_')} is {sizes[1]}" in stopped(
        ["simulate", *sizes, "--out", str(tmp_path / "run")]
    )
    assert list(tmp_path.iterdir()) == []


def test_settings_from_a_file_and_from_the_command_line(stopped, inputs, tmp_path):
    """The file's corpus is the default, and the command line wins.

    The next call knows nothing of the file.
    """
    out = ["--model", "random:tiny", "--out", str(tmp_path / "run")]
    file = ["--config", str(inputs / "settings.json")]
    assert "nowhere" in stopped(["lm", *file, *out])
    assert "elsewhere" in stopped(["lm", *file, *out, "--corpus", "elsewhere"])
    assert "nowhere" not in stopped(["lm", *out, "--seed", "-1"])


def test_out_folders_that_are_refused(lm, stopped, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in stopped(lm(tmp_path / "file" / "run"))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "main.tex").write_text("")
    assert "exists and is not a run folder" in stopped(lm(tmp_path / "thesis"))
    assert "has no config.json" in stopped(["plot", str(tmp_path / "thesis")])
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")) == [
        "file",
        "thesis",
        str(Path("thesis", "main.tex")),
    ]


# Runs that stop.


def test_a_loss_that_is_no_number_names_the_step(lm, stopped, tmp_path):
    text = stopped(lm(tmp_path / "run", "--learning-rate", "1e30"), code=1)
    assert "at epoch 0, step 1 (learning rate 1e+30)" in text and text.startswith("stopped: ")
    assert RunFolder(tmp_path / "run").rows() == []


@pytest.mark.slow
def test_finished_generations_are_kept_when_a_later_one_stops(
    lm, stopped, tmp_path, monkeypatch, capfd
):
    fine_tune, fits = causal_lm.fine_tune, []

    def stop_at_the_second(*arguments, **options):
        fits.append(1)
        if len(fits) == 2:
            raise DivergenceError(
                "the loss became nan at epoch 0, step 3 (learning rate 1); try a smaller one"
            )
        return fine_tune(*arguments, **options)

    monkeypatch.setattr(causal_lm, "fine_tune", stop_at_the_second)
    out = tmp_path / "run"
    assert "step 3" in stopped(lm(out), code=1)
    kept = RunFolder(out).rows()
    assert [row["generation"] for row in kept] == [0] and (
        out / "checkpoints" / "chain_0" / "0"
    ).is_dir()
    before = {file.name: file.read_bytes() for file in out.glob("*.*")}
    for seed in ("3", "4"):
        text = stopped(lm(out, "--seed", seed))
        assert "holds a run with other settings" in text and f"seed: 0 there, {seed} here" in text
    assert "another kind (lm)" in stopped(["simulate", "--out", str(out)])
    assert {file.name: file.read_bytes() for file in out.glob("*.*")} == before

    main(lm(out))  # the same again goes on
    rows = RunFolder(out).rows()
    assert rows[0] == kept[0] and [row["generation"] for row in rows] == [0, 1] and len(fits) == 3
    for figure in (out / "figures").iterdir():
        figure.unlink()
    capfd.readouterr()
    main(["plot", str(out)])
    drawn = [Path(line) for line in capfd.readouterr().out.splitlines()]
    assert drawn and all(path.is_file() and path.parent == out / "figures" for path in drawn)


def test_ctrl_c_says_how_to_go_on(lm, stopped, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(causal_lm, "fine_tune", interrupt)
    assert "the same command goes on from there" in stopped(lm(tmp_path / "run"), code=130)
