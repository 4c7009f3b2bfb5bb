"""Settings: config.json is read strictly, and presets fill in what is left open.

Runs are compared setting by setting.
"""

import dataclasses
import inspect
import json

import pytest

from collapse_jax.app.config import (
    TEST_PERPLEXITY,
    LMConfig,
    PretrainConfig,
    QuickstartConfig,
    SimulateConfig,
)
from collapse_jax.runs.settings import KINDS, as_dict, differing_fields, from_dict


def parsed(**values):
    return from_dict({"command": "lm", **values}, "here")


@pytest.mark.parametrize(
    "config",
    [
        LMConfig(),
        LMConfig(
            preset="fig1c",
            tokenizer="embedded",
            epochs=3,
            dropout=0.1,
            real_fraction=0.5,
            learning_rate=1.0,
        ),
        LMConfig(
            protocol="released-code",
            generator="best",
            repetition_penalty=2.0,
            real_kept="drawn",
            beta=0.25,
        ),
        LMConfig(protocol="released-code").resolved(),
        SimulateConfig(),
        SimulateConfig(metrics=("mean", "variance"), workflow="mix", alpha=0.5, gamma=0.5),
        QuickstartConfig(seed=3),
        PretrainConfig(
            corpus="a.txt",
            exclude="b",
            tokenizer="train:300",
            precision="bfloat16",
            gradient_clip=0.0,
        ),
    ],
)
def test_a_configuration_survives_json(config):
    text = json.dumps({"command": config.command} | dataclasses.asdict(config))
    assert from_dict(json.loads(text), "here") == config
    assert KINDS[config.command] is type(config)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("learnig_rate", "learning_rate"),
        ("epoch", "epochs"),
        ("Corpus", "corpus"),
        ("num_beam", "num_beams"),
    ],
)
def test_a_misspelt_field_names_the_nearest(name, nearest, refused):
    assert (
        refused(lambda: parsed(**{name: 1}))
        == f"here: unknown field {name!r}; did you mean {nearest!r}?"
    )


def test_an_unknown_field_lists_the_known_ones(refused):
    text = refused(lambda: parsed(zzz=1))
    assert "unknown field 'zzz'" in text and all(
        field.name in text for field in dataclasses.fields(LMConfig)
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("generations", "9", "of type int"),
        ("generations", 9.0, "of type int"),
        ("generations", True, "of type int"),
        ("generations", None, "of type int"),
        ("learning_rate", "2e-5", "of type float"),
        ("learning_rate", False, "of type float"),
        ("corpus", 5, "of type str"),
        ("corpus", None, "of type str"),
        ("tokenizer", 5, "of type str"),
        ("epochs", 2.5, "of type int"),
        ("dropout", [0.1], "of type float"),
        ("preset", "fig1d", "one of fig1b, fig1c"),
        ("decoding", ["beam"], "one of beam, greedy, sampling"),
        ("protocol", "released_code", "one of paper, released-code"),
        ("generator", "first", "one of best, last"),
        ("real_kept", 0.1, "one of drawn, batches"),
        ("repetition_penalty", "none", "of type float"),
    ],
)
def test_ill_typed_fields(name, value, says, refused):
    text = refused(lambda: parsed(**{name: value}))
    assert text.startswith(f"here: {name} is {value!r}; it must be ") and says in text


def test_whole_numbers_and_null_are_taken_where_they_fit():
    config = parsed(learning_rate=1, dropout=0, tokenizer=None, epochs=None)
    assert config == LMConfig(learning_rate=1.0, dropout=0.0) and isinstance(
        config.learning_rate, float
    )


def test_lists_of_names(refused):
    assert from_dict({"command": "simulate", "metrics": ["mean"]}, "here").metrics == ("mean",)
    for value in ("mean", [1], {"mean": 1}):
        assert "metrics" in refused(from_dict, {"command": "simulate", "metrics": value}, "here")


@pytest.mark.parametrize(
    "values", [{}, {"command": "train"}, {"command": None}, [], "lm", 5, {"generations": 3}]
)
def test_the_command_must_be_known(values, refused):
    text = refused(from_dict, values, "here")
    assert text.startswith("here: 'command' must be one of ") and all(
        name in text for name in KINDS
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generations", -1),
        ("seeds", 0),
        ("seed", -5),
        ("train_blocks", -1),
        ("valid_blocks", -1),
        ("test_blocks", -1),
        ("batch_size", 0),
        ("num_beams", 0),
        ("decode_batch", -2),
        ("block_length", 1),
        ("epochs", 0),
        ("top_k", -1),
        ("learning_rate", float("nan")),
        ("learning_rate", -0.1),
        ("final_learning_rate", float("inf")),
        ("weight_decay", -1.0),
        ("real_fraction", 1.5),
        ("real_fraction", float("nan")),
        ("beta", -0.1),
        ("beta", float("nan")),
    ],
)
def test_values_that_have_no_meaning(name, value, refused):
    assert refused(LMConfig(**{name: value}).check).startswith(f"{name} is {value}; it must be")
    assert f"{name} is {value}" in refused(lambda: parsed(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("warmup_steps", -1),
        ("warmup_steps", 2000),
        ("held_out_windows", -1),
        ("hidden_size", 0),
        ("hidden_size", 126),
        ("num_hidden_layers", 0),
        ("num_attention_heads", 0),
        ("ffn_dim", 0),
        ("max_position_embeddings", 1),
        ("block_length", 1),
        ("block_length", 129),
        ("batch_size", 0),
        ("steps", 0),
        ("evaluate_every", 0),
        ("save_every", 0),
        ("learning_rate", float("nan")),
        ("final_share", 1.5),
        ("final_share", -0.1),
        ("weight_decay", -1.0),
        ("beta1", 1.0),
        ("beta2", -0.1),
        ("gradient_clip", -1.0),
        ("held_out", 0.0),
        ("held_out", 1.0),
        ("held_out", float("nan")),
    ],
)
def test_values_that_have_no_meaning_for_pretraining(name, value, refused):
    PretrainConfig(**{name: getattr(PretrainConfig(), name)}).check()
    assert refused(PretrainConfig(**{name: value}).check).startswith(
        f"{name} is {value}; it must be"
    )


def test_real_data_is_kept_in_one_way_only(refused):
    assert "which keeps all real data" in refused(
        LMConfig(preset="fig1c", workflow="accumulate").check
    )
    LMConfig(preset="fig1c", workflow="accumulate", real_fraction=0.0).check()
    assert "which keeps all earlier data" in refused(
        LMConfig(workflow="accumulate_subsample", beta=0.5).check
    )
    assert (
        refused(LMConfig(preset="fig1c", beta=0.95).check)
        == "real_fraction + beta is 1.05; it must be at most 1"
    )
    LMConfig(preset="fig1c", beta=0.9).check()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"real_kept": "batches"}, "contain no real blocks; give --real-fraction"),
        ({"real_kept": "drawn", "protocol": "released-code"}, "contain no real blocks"),
        ({"real_kept": "batches", "workflow": "accumulate"}, "give --workflow replace with --real"),
        ({"prompts": "start", "temperature": 1e-3}, "temperature is 0.001 with prompts start"),
        ({"prompts": "start", "top_p": 1e-6}, "top_p is 1e-06 with prompts start"),
        ({"prompts": "start", "typical_p": 1e-6}, "give at least 0.01, or --prompts real"),
    ],
)
def test_what_would_be_ignored_is_refused_before_a_run(changes, says, refused):
    if "prompts" in changes:
        changes = {"decoding": "sampling", **changes}
    config = LMConfig(**changes)
    line = refused(config.settings)
    assert says in line and "\n" not in line
    # A folder of such a run, which an earlier version made, can be read.
    from_dict(as_dict(config.resolved()), "here", of_folder=True)


def test_ways_of_keeping_real_blocks_count_where_there_are_some():
    for changes in ({"real_fraction": 0.1}, {"real_blocks": 3}, {"preset": "fig1c"}):
        assert LMConfig(real_kept="batches", **changes).settings().real_in_batches
    # What preset and protocol fill in is nobody's mistake.
    LMConfig(protocol="released-code").resolved().settings()
    start = LMConfig(prompts="start", decoding="sampling", train_on="both", temperature=0.01)
    start.settings()


def test_the_old_name_of_generator_is_refused(refused):
    """A config.json from before it was renamed."""
    assert refused(lambda: parsed(keep="best")).startswith("here: ")


def test_presets_of_the_paper():
    """5 epochs and no real data; 10 epochs and 10 % real data (protocols.md).

    What is given goes before the preset.
    """
    assert (LMConfig().resolved().epochs, LMConfig().resolved().real_fraction) == (5, 0.0)
    fig1c = LMConfig(preset="fig1c").resolved()
    assert (fig1c.epochs, fig1c.real_fraction) == (10, 0.1)
    for preset, real_fraction in (("fig1b", 0.0), ("fig1c", 0.1)):
        released = LMConfig(preset=preset, protocol="released-code").resolved()
        assert (released.epochs, released.real_fraction) == (5, real_fraction)
    given = LMConfig(preset="fig1c", epochs=1, real_fraction=0.0).resolved()
    assert (given.epochs, given.real_fraction) == (1, 0.0) and given.resolved() == given


@pytest.mark.parametrize("preset", ["fig1b", "fig1c"])
def test_where_the_paper_and_the_released_code_differ(preset):
    """The rows of protocols.md in which the two columns differ.

    They are: which epoch goes on, the repetition penalty, how real data is kept, the perplexity
    that is spoken of, and the 10 epochs of Fig. 1c.
    """
    paper, released = (
        LMConfig(preset=preset, protocol=protocol).resolved()
        for protocol in ("paper", "released-code")
    )
    expected = {
        "protocol": ("paper", "released-code"),
        "generator": ("best", "last"),
        "repetition_penalty": (1.0, 3.0),
        "real_kept": ("drawn", "batches"),
    }
    if preset == "fig1c":
        expected["epochs"] = (10, 5)
    one, other = dataclasses.asdict(paper), dataclasses.asdict(released)
    assert {name: (one[name], other[name]) for name in one if one[name] != other[name]} == expected
    assert LMConfig(preset=preset).resolved() == paper
    assert TEST_PERPLEXITY == {"paper": "test_perplexity_mean", "released-code": "test_perplexity"}


def test_what_is_given_goes_before_the_protocol():
    given = {"generator": "best", "repetition_penalty": 1.2, "real_kept": "drawn", "epochs": 7}
    config = LMConfig(protocol="released-code", **given).resolved()
    assert {name: getattr(config, name) for name in given} == given


def test_every_setting_that_the_paper_leaves_open_says_so():
    """The docstring under the field, which the command line's help shows."""
    kinds = [kind for kind in LMConfig.__mro__ if dataclasses.is_dataclass(kind)]
    text = "\n".join(map(inspect.getsource, kinds))
    for name in (
        "corpus",
        "real_fraction",
        "batch_size",
        "learning_rate",
        "final_learning_rate",
        "weight_decay",
        "dropout",
    ):
        doc = text.split(f"\n    {name}: ", 1)[1].split('"""', 2)[1]
        assert "not stated in the paper" in doc.lower() and "released code" in doc, name


def test_defaults_are_the_papers():
    config = LMConfig().resolved()
    assert (config.generations, config.seeds, config.block_length, config.num_beams) == (
        9,
        5,
        64,
        5,
    )
    assert (
        config.batch_size,
        config.learning_rate,
        config.final_learning_rate,
        config.weight_decay,
    ) == (128, 2e-5, 1e-6, 0.01)
    assert (config.repetition_penalty, config.start, config.workflow, config.decoding) == (
        1.0,
        "pretrained",
        "replace",
        "beam",
    )
    assert (config.train_blocks, config.valid_blocks, config.test_blocks, config.model) == (
        0,
        0,
        0,
        "facebook/opt-125m",
    )


def test_metrics_of_each_family():
    assert SimulateConfig().resolved().metrics == ("mean", "variance", "log_variance")
    assert "heterozygosity" in SimulateConfig(family="categorical").resolved().metrics
    SimulateConfig(family="categorical", options=("smoothing=0.5",)).check()
    assert SimulateConfig(metrics=("mean",)).resolved().metrics == ("mean",)


def test_differing_fields_are_named_with_both_values():
    there = LMConfig(seed=1, corpus="a")
    assert differing_fields(there, there) == []
    assert differing_fields(there, dataclasses.replace(there, generations=20, seeds=9)) == []
    assert (
        differing_fields(there, dataclasses.replace(there, epochs=5, real_fraction=0.0)) == []
    )  # what the preset says anyway
    found = differing_fields(there, dataclasses.replace(there, corpus="b", epochs=6))
    assert found == ["corpus: a there, b here", "epochs: 5 there, 6 here"]
